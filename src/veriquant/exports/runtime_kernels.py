"""`runtime-kernels`: a file for the integer kernels of the runtime that it is for, measured there as deployed.

1. The network is rewritten into an equal one that the runtime's integer kernels can run (`rewrites`), and the channels
   between its layers are equalised on unlabelled images, which removes most of the damage at no cost.
2. Every combination of integer types that could suit the processor is built, opened in the runtime that it is for, and
   measured there, embeddings and time: an x86 without VNNI saturates some of them, and no emulation shows that.
3. What is left in floating point the allocation says (`allocation.solvers.islands`).

Nothing is measured on the images that set the ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import NodeProto
from pydantic import field_validator

from veriquant.calibration.config import CalibrationConfig
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.prepare import GraphStep, fit_and_check, prepare
from veriquant.config import Config
from veriquant.data.calibration import Calibration
from veriquant.deploy.environment import has_integer_dot_product, instruction_sets
from veriquant.deploy.latency import measure_latency
from veriquant.deploy.runtimes import open_embedder
from veriquant.deploy.sessions import embeddings_of
from veriquant.errors import VeriQuantError
from veriquant.exports.export import EXPORTS, Export
from veriquant.exports.float_weights import store_in_eight_bits
from veriquant.exports.histograms import Range, collect_histograms
from veriquant.exports.operations import FUSED, operations
from veriquant.exports.qdq import Kernels, insert_qdq
from veriquant.metrics.directions import likeness, mean_cosine
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import WEIGHTED, Array, Graph
from veriquant.progress import working
from veriquant.results import Latency, StageRecord, remark
from veriquant.schemes import activation_range

_KERNELS = {
    "U8S8": Kernels("QUInt8", "QInt8", "full"),
    "U8S8-paired": Kernels("QUInt8", "QInt8", "paired"),
    "U8S8-reduced": Kernels("QUInt8", "QInt8", "reduced"),
    "U8U8": Kernels("QUInt8", "QUInt8", "full"),
    "S8S8": Kernels("QInt8", "QInt8", "full"),
}


@dataclass(frozen=True)
class RuntimeLayout:
    """What a runtime's integer kernels take: where quantizers stand, and what happens to PReLU.

    `fused`: operators that its kernels apply on the way out.
    """

    rewrite_prelu: bool
    fused_outputs: bool
    fused: tuple[str, ...]


#: ONNX Runtime makes an integer layer of one whose input and output are both quantized, and has no integer PReLU.
#: OpenVINO carries any activation function into the layer before it; a quantizer in between would only cost.
_LAYOUTS = {
    "onnxruntime": RuntimeLayout(rewrite_prelu=True, fused_outputs=False, fused=FUSED),
    "openvino": RuntimeLayout(rewrite_prelu=False, fused_outputs=True, fused=(*FUSED, "PRelu")),
}
#: A combination this much less faithful than the best is not taken, however fast.
_TOLERATED_COSINE = 0.001
_TIMED_ROUNDS = 15
_PROBE_IMAGES = 16


class RuntimeKernelsConfig(Config):
    """Which integer types are tried."""

    kernels: tuple[str, ...] = ()
    """By name: U8S8, U8S8-paired, U8S8-reduced, U8U8, S8S8; empty: those that suit the processor."""

    @field_validator("kernels")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in _KERNELS:
                raise VeriQuantError(f"unknown integer kernels {name!r}; there are: {', '.join(_KERNELS)}")
        return value


@dataclass
class RuntimeNetwork:
    """A network rewritten for a runtime's kernels, with what is measured on it."""

    network: Network
    config: RuntimeKernelsConfig
    context: QuantizationContext
    layout: RuntimeLayout
    graph: Graph
    ranges: dict[str, Range]
    rule: str
    """The range rule."""
    fit: npt.NDArray[np.float32]
    check: npt.NDArray[np.float32]
    reference: Array
    edges: set[str]
    operations: dict[str, list[NodeProto]]
    records: list[StageRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Built:
    """A file that was built, opened in its runtime and measured there."""

    content: bytes
    kernels: Kernels
    cosine: float
    kept: tuple[str, ...]
    stored: frozenset[str]
    """The nodes that compute in float with weights stored in 8 bits."""
    remark: str
    """What must be known beside the cosine."""


def prepare_for_runtime(
    network: Network,
    calibration: Calibration,
    context: QuantizationContext,
    config: RuntimeKernelsConfig,
    *,
    images: CalibrationConfig,
    ranges: str,
    graph_steps: Sequence[GraphStep],
) -> RuntimeNetwork:
    """Return the network rewritten for a runtime's integer kernels, its ranges by rule `ranges`.

    Raises `VeriQuantError` for a runtime whose kernels are not known.
    """
    if context.runtime not in _LAYOUTS:
        raise VeriQuantError(f"int8 knows no kernels of {context.runtime}; there are: {', '.join(_LAYOUTS)}")
    fit, check = fit_and_check(calibration, network, images.images, images.check_images)
    layout = _LAYOUTS[context.runtime]
    prepared = prepare(network, fit, steps=graph_steps, prelu=layout.rewrite_prelu)
    graph = prepared.graph
    notes = [f"laid out for the integer kernels of {context.runtime}; another runtime may run this file slower"]
    notes += [f"ranges by {ranges} over {len(fit)} of {calibration.note}; {len(check)} others to check"]
    notes += prepared.notes
    edges = _edges(graph)
    with working("ranges of the activations"):
        found = _ranges(graph, fit, ranges, edges)
    return RuntimeNetwork(
        network,
        config,
        context,
        layout,
        graph,
        found,
        ranges,
        fit,
        check,
        embeddings_of(network.onnx, check),
        edges,
        operations(graph, layout.fused),
        [remark("prepare", note) for note in notes],
    )


def _edges(graph: Graph) -> set[str]:
    """Return the nodes before the first and after the last layer with weights: normalisation of input and output."""
    weighted = {n.name for n in graph.nodes if n.op_type in WEIGHTED and graph.weight(n) is not None}
    producers = graph.producers()
    after: set[str] = set()
    for node in graph.nodes:
        sources = [producers[name].name for name in node.input if name in producers]
        if node.name in weighted or any(source in after for source in sources):
            after.add(node.name)
    before: set[str] = set()
    users = graph.consumers()
    for node in reversed(graph.nodes):
        followers = [user.name for name in node.output for user in users.get(name, [])]
        if node.name in weighted or any(follower in before for follower in followers):
            before.add(node.name)
    return {node.name for node in graph.nodes if node.name not in after or node.name not in before}


def _ranges(graph: Graph, fit: npt.NDArray[np.float32], rule: str, edges: Collection[str]) -> dict[str, Range]:
    tensors = {graph.input}
    for node in graph.nodes:
        if node.name not in edges:
            tensors.update(name for name in node.input if name and name not in graph.constants)
            tensors.update(name for name in node.output if name)
    floats = _float_tensors(graph, tensors)
    histograms = collect_histograms(graph, sorted(floats - {graph.input, graph.output}), fit)
    ranges = {name: activation_range(histogram, 8, rule) for name, histogram in histograms.items()}
    # The input is pixels: every value counts, and its extremes are known to be met.
    ranges[graph.input] = (float(fit.min()), float(fit.max()))
    embeddings = embeddings_of(graph.to_bytes(), fit)
    ranges[graph.output] = (float(embeddings.min()), float(embeddings.max()))
    return ranges


def _float_tensors(graph: Graph, names: Collection[str]) -> set[str]:
    """Leave out tensors of shapes and indices."""
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in graph.to_model().graph.value_info}
    return {name for name in names if kinds.get(name, 1) == 1}


def best_kernels(work: RuntimeNetwork) -> Built:
    """Build with every combination of integer types that could suit, and take the fastest of the faithful ones."""
    exact = has_integer_dot_product()
    # Paired weights cost next to nothing where products are exact, and the file is then right on every other processor.
    names = work.config.kernels or (("U8S8-paired",) if exact else ("U8S8-paired", "U8U8", "U8S8"))
    candidates = {name: build(work, _KERNELS[name], ()) for name in names}
    times = _times(work, {name: built.content for name, built in candidates.items()})
    best = max(built.cosine for built in candidates.values())
    # Full U8S8 without VNNI is measured to show what it does here; a face that saturates it may always come later.
    safe = [name for name in names if exact or name != "U8S8"] or list(names)
    faithful = [name for name in safe if candidates[name].cosine >= best - _TOLERATED_COSINE] or safe
    chosen = min(faithful, key=lambda name: times[name].median_ms)
    listed = "; ".join(
        f"{built.kernels.name}: cosine {built.cosine:.4f}, {times[name].median_ms:.1f} ms"
        for name, built in candidates.items()
    )
    sets = ", ".join(instruction_sets()) or "unknown"
    vnni = "adds 8-bit products exactly" if exact else "saturates U8S8 products (no VNNI)"
    work.records.append(
        StageRecord(
            stage="export",
            name="kernels",
            template="kernels {kernels}, the fastest of the faithful ones in {runtime} on this processor ({sets}), "
            "which {products}. With everything quantized: {tried}",
            figures={
                "kernels": candidates[chosen].kernels.name,
                "runtime": work.context.runtime,
                "sets": sets,
                "products": vnni,
                "tried": listed,
                "cosine": candidates[chosen].cosine,
            },
        )
    )
    return candidates[chosen]


def build(work: RuntimeNetwork, kernels: Kernels, kept: Sequence[str]) -> Built:
    """Build a file with the operations in `kept` in floating point, and measure its embeddings in the runtime."""
    with working(f"building {kernels.name}, {len(kept)} operations in floating point"):
        in_float = work.edges | {node.name for name in kept for node in work.operations[name]}
        content = insert_qdq(
            work.graph, work.ranges, kernels, keep_float=in_float, fused_outputs=work.layout.fused_outputs
        )
        content, stored = store_in_eight_bits(content, in_float)
        embedder = open_embedder(content, work.network.spec, runtime=work.context.runtime, threads=work.context.threads)
        size = embedder.max_batch or 16
        embeddings = np.concatenate([embedder(work.check[i : i + size]) for i in range(0, len(work.check), size)])
    found = likeness(work.reference, embeddings)
    return Built(content, kernels, found.mean or 0.0, tuple(kept), frozenset(stored), found.remark)


def fidelity_record(work: RuntimeNetwork, built: Built) -> StageRecord:
    """Return how near the file's embeddings are to full precision, as deployed."""
    figures: dict[str, float | int | str | None] = {
        "cosine": built.cosine,
        "images": len(work.check),
        "kept": len(built.kept),
    }
    kept = "{kept} operations in floating point" if built.kept else "every layer in integers"
    template = f"mean cosine to full precision {{cosine:.4f}} over {{images}} images{built.remark}, {kept}"
    if work.context.runtime == "onnxruntime":
        few = work.check[:_PROBE_IMAGES]
        figures["first"] = len(few)
        figures["plain"] = mean_cosine(work.reference[: len(few)], embeddings_of(built.content, few, optimised=False))
        figures["deployed"] = mean_cosine(work.reference[: len(few)], embeddings_of(built.content, few))
        template += "; the first {first}: {plain:.4f} with graph optimisations off, {deployed:.4f} as deployed"
    return StageRecord(stage="export", name="fidelity", template=template, figures=figures)


def time_record(work: RuntimeNetwork, built: Built) -> StageRecord:
    """Return the file's time beside full precision's, both run in turns."""
    times = _times(work, {"fp32": work.network.onnx, "int8": built.content})
    ratio, (low, high) = times["int8"].ratio_to_reference, times["int8"].ratio_ci95 or (np.nan, np.nan)
    word = "faster than FP32" if high < 1 else "SLOWER than FP32" if low > 1 else "as fast as FP32 within the noise"
    return StageRecord(
        stage="export",
        name="time",
        template="{verdict} in {runtime}: {ms:.1f} ms against {fp32_ms:.1f} ms a face, ratio {ratio:.2f} (95 % "
        "interval {low:.2f} to {high:.2f}; {threads} thread(s), batch 1)",
        figures={
            "verdict": word,
            "runtime": work.context.runtime,
            "ms": times["int8"].median_ms,
            "fp32_ms": times["fp32"].median_ms,
            "ratio": ratio,
            "low": low,
            "high": high,
            "threads": work.context.threads,
        },
    )


def _times(work: RuntimeNetwork, files: Mapping[str, bytes]) -> dict[str, Latency]:
    embedders = {
        name: open_embedder(content, work.network.spec, runtime=work.context.runtime, threads=work.context.threads)
        for name, content in files.items()
    }
    found = measure_latency(embedders, reference=next(iter(embedders)), batches=(1,), rounds=_TIMED_ROUNDS)
    return {name: rows[0] for name, rows in found.items()}


EXPORTS.add(
    "runtime-kernels",
    Export(
        "runtime-kernels",
        "8-bit integer kernels of ONNX Runtime or OpenVINO, chosen by measuring embeddings and time in the runtime",
        RuntimeKernelsConfig,
    ),
)
