"""`int8`, the recipe that a user should ship: integer kernels where they pay, floating point where integers lose.

1. The network is rewritten into an equal one that the runtime's integer kernels can run (`rewrites`), and the channels
   between its layers are equalised on unlabelled images (`equalise`), which removes most of the damage at no cost.
2. Ranges are those of least squared error (`ranges`).
3. Every combination of integer types that could suit the processor is built, opened in the runtime that it is for, and
   measured there, embeddings and time: an x86 without VNNI saturates some of them, and no emulation shows that.
4. If the embeddings are not yet faithful enough, each operation is quantized alone (`sensitivity`), and the fewest of
   the worst are left in floating point that reach the target.

Nothing is measured on the images that set the ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import NodeProto
from pydantic import Field

from veriquant.data.calibration import Calibration
from veriquant.deploy.environment import has_integer_dot_product, instruction_sets
from veriquant.deploy.latency import measure_latency
from veriquant.deploy.runtimes import open_embedder
from veriquant.deploy.sessions import embeddings_of
from veriquant.errors import VeriQuantError
from veriquant.metrics.directions import likeness, mean_cosine
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import WEIGHTED, Array, Graph, operation
from veriquant.progress import working
from veriquant.quantization.float_weights import store_in_eight_bits
from veriquant.quantization.layers import quantized_layers
from veriquant.quantization.method import METHODS, Method, QuantizationContext, QuantizationResult, Settings
from veriquant.quantization.prepare import fit_and_check, prepare
from veriquant.quantization.qdq import Kernels, insert_qdq
from veriquant.quantization.ranges import Range, collect_histograms
from veriquant.quantization.sensitivity import FUSED, operation_errors, operations
from veriquant.results import Latency
from veriquant.schemes import activation_range

_KERNELS = {
    "U8S8": Kernels("QUInt8", "QInt8", "full"),
    "U8S8-paired": Kernels("QUInt8", "QInt8", "paired"),
    "U8S8-reduced": Kernels("QUInt8", "QInt8", "reduced"),
    "U8U8": Kernels("QUInt8", "QUInt8", "full"),
    "S8S8": Kernels("QInt8", "QInt8", "full"),
}


@dataclass(frozen=True)
class _Layout:
    """What a runtime's integer kernels take: where quantizers stand, and what happens to PReLU.

    `fused`: operators that its kernels apply on the way out.
    """

    rewrite_prelu: bool
    fused_outputs: bool
    fused: tuple[str, ...]


#: ONNX Runtime makes an integer layer of one whose input and output are both quantized, and has no integer PReLU.
#: OpenVINO carries any activation function into the layer before it; a quantizer in between would only cost.
_LAYOUTS = {
    "onnxruntime": _Layout(rewrite_prelu=True, fused_outputs=False, fused=FUSED),
    "openvino": _Layout(rewrite_prelu=False, fused_outputs=True, fused=(*FUSED, "PRelu")),
}
#: A combination this much less faithful than the best is not taken, however fast.
_TOLERATED_COSINE = 0.001
_TIMED_ROUNDS = 15
_PROBE_IMAGES = 16


class Int8Settings(Settings):
    """How `int8` goes about it; the defaults are meant for every network.

    `target_cosine`: mean cosine to the full-precision embeddings, measured in the runtime on images that set no range;
    operations are left in floating point until it is reached. `most_in_float`: at most this share of the operations.
    `kernels`: integer types to try, by name; empty: those that suit the processor.
    """

    images: int = Field(default=128, ge=1)
    check_images: int = Field(default=64, ge=1)
    ranges: str = Field(default="mse", pattern="^(minmax|percentile|mse|entropy)$")
    equalise: bool = True
    target_cosine: float = Field(default=0.997, gt=0, lt=1)
    most_in_float: float = Field(default=0.3, ge=0, le=1)
    kernels: tuple[str, ...] = ()


@dataclass
class _Work:
    """What the steps hand on to one another."""

    network: Network
    settings: Int8Settings
    target: QuantizationContext
    layout: _Layout
    graph: Graph
    ranges: dict[str, Range]
    fit: npt.NDArray[np.float32]
    check: npt.NDArray[np.float32]
    reference: Array
    edges: set[str]
    operations: dict[str, list[NodeProto]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Built:
    """A file that was built, opened in its runtime and measured there."""

    content: bytes
    kernels: Kernels
    cosine: float
    kept: tuple[str, ...]
    stored: frozenset[str]
    """The nodes that compute in float with weights stored in 8 bits."""
    remark: str
    """What must be known beside the cosine."""


def _run(
    network: Network, settings: Int8Settings, calibration: Calibration | None, target: QuantizationContext
) -> QuantizationResult:
    assert calibration is not None
    if target.runtime not in _LAYOUTS:
        raise VeriQuantError(f"int8 knows no kernels of {target.runtime}; there are: {', '.join(_LAYOUTS)}")
    work = _prepare(network, settings, calibration, target)
    built = _best_kernels(work)
    errors: dict[str, float] = {}
    if built.cosine < settings.target_cosine:
        errors = _errors(work)
        built = _keep_worst_in_float(work, built, errors)
    work.notes.append(_fidelity_note(work, built))
    work.notes.append(_time_note(work, built))
    kept = {operation(node.name): _why_kept(name, errors) for name in built.kept for node in work.operations[name]}
    kept |= {
        operation(name): "before the first or after the last layer with weights: nothing to gain" for name in work.edges
    }
    stored = {operation(name) for name in built.stored}
    return QuantizationResult(
        built.content, quantized_layers(network.onnx, work.graph, kept, errors, stored), work.notes
    )


def _prepare(network: Network, settings: Int8Settings, calibration: Calibration, target: QuantizationContext) -> _Work:
    fit, check = fit_and_check(calibration, network, settings.images, settings.check_images)
    layout = _LAYOUTS[target.runtime]
    equalisation = "activations" if settings.equalise else "none"
    prepared = prepare(network, fit, equalisation=equalisation, prelu=layout.rewrite_prelu)
    graph = prepared.graph
    notes = [f"laid out for the integer kernels of {target.runtime}; another runtime may run this file slower"]
    notes += [f"ranges by {settings.ranges} over {len(fit)} of {calibration.note}; {len(check)} others to check"]
    notes += prepared.notes
    edges = _edges(graph)
    with working("ranges of the activations"):
        ranges = _ranges(graph, fit, settings.ranges, edges)
    reference = embeddings_of(network.onnx, check)
    return _Work(
        network,
        settings,
        target,
        layout,
        graph,
        ranges,
        fit,
        check,
        reference,
        edges,
        operations(graph, layout.fused),
        notes,
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


def _best_kernels(work: _Work) -> _Built:
    """Build with every combination of integer types that could suit, and take the fastest of the faithful ones."""
    exact = has_integer_dot_product()
    # Paired weights cost next to nothing where products are exact, and the file is then right on every other processor.
    names = work.settings.kernels or (("U8S8-paired",) if exact else ("U8S8-paired", "U8U8", "U8S8"))
    unknown = [name for name in names if name not in _KERNELS]
    if unknown:
        raise VeriQuantError(f"unknown integer kernels {unknown[0]!r}; there are: {', '.join(_KERNELS)}")
    candidates = {name: _build(work, _KERNELS[name], ()) for name in names}
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
    work.notes.append(
        f"kernels {candidates[chosen].kernels.name}, the fastest of the faithful ones in {work.target.runtime} on this "
        f"processor ({sets}), which {vnni}. With everything quantized: {listed}"
    )
    return candidates[chosen]


def _build(work: _Work, kernels: Kernels, kept: Sequence[str]) -> _Built:
    with working(f"building {kernels.name}, {len(kept)} operations in floating point"):
        in_float = work.edges | {node.name for name in kept for node in work.operations[name]}
        content = insert_qdq(
            work.graph, work.ranges, kernels, keep_float=in_float, fused_outputs=work.layout.fused_outputs
        )
        content, stored = store_in_eight_bits(content, in_float)
        embedder = open_embedder(content, work.network.spec, runtime=work.target.runtime, threads=work.target.threads)
        size = embedder.max_batch or 16
        embeddings = np.concatenate([embedder(work.check[i : i + size]) for i in range(0, len(work.check), size)])
    found = likeness(work.reference, embeddings)
    return _Built(content, kernels, found.mean or 0.0, tuple(kept), frozenset(stored), found.remark)


def _errors(work: _Work) -> dict[str, float]:
    computing = {
        name: nodes for name, nodes in work.operations.items() if not work.edges.issuperset(node.name for node in nodes)
    }
    return operation_errors(
        work.network,
        work.graph,
        computing,
        work.fit,
        work.check,
        ranges=work.settings.ranges,
        fused=work.layout.fused,
    )


def _keep_worst_in_float(work: _Work, built: _Built, errors: Mapping[str, float]) -> _Built:
    """Leave the fewest of the worst operations in floating point that reach the target: by doubling, then by halves."""
    worst = sorted(errors, key=lambda name: -errors[name])
    limit = int(len(worst) * work.settings.most_in_float)
    best, failing = built, 0
    passing: _Built | None = None
    while passing is None and failing < limit:
        tried = _build(work, built.kernels, worst[: min(2 * failing + 2, limit)])
        if tried.cosine >= work.settings.target_cosine:
            passing = tried
        else:
            failing = len(tried.kept)
            best = max(best, tried, key=lambda one: one.cosine)
    if passing is None:
        work.notes.append(
            f"the target cosine of {work.settings.target_cosine} was not reached with {limit} of {len(worst)} "
            f"operations in floating point: {best.cosine:.4f} is the best found"
        )
        return best
    while len(passing.kept) - failing > 1:
        tried = _build(work, built.kernels, worst[: (failing + len(passing.kept)) // 2])
        if tried.cosine >= work.settings.target_cosine:
            passing = tried
        else:
            failing = len(tried.kept)
    return passing


def _why_kept(name: str, errors: Mapping[str, float]) -> str:
    rank = sorted(errors, key=lambda other: -errors[other]).index(name) + 1
    return f"quantized alone it costs a noise-to-signal ratio of {errors[name]:.1e}, the {_ordinal(rank)} most harmful"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _fidelity_note(work: _Work, built: _Built) -> str:
    kept = f"{len(built.kept)} operations in floating point" if built.kept else "every layer in integers"
    note = f"mean cosine to full precision {built.cosine:.4f} over {len(work.check)} images{built.remark}, {kept}"
    if work.target.runtime == "onnxruntime":
        few = work.check[:_PROBE_IMAGES]
        plain = mean_cosine(work.reference[: len(few)], embeddings_of(built.content, few, optimised=False))
        deployed = mean_cosine(work.reference[: len(few)], embeddings_of(built.content, few))
        note += f"; the first {len(few)}: {plain:.4f} with graph optimisations off, {deployed:.4f} as deployed"
    return note


def _time_note(work: _Work, built: _Built) -> str:
    times = _times(work, {"fp32": work.network.onnx, "int8": built.content})
    ratio, (low, high) = times["int8"].ratio_to_reference, times["int8"].ratio_ci95 or (np.nan, np.nan)
    word = "faster than FP32" if high < 1 else "SLOWER than FP32" if low > 1 else "as fast as FP32 within the noise"
    return (
        f"{word} in {work.target.runtime}: {times['int8'].median_ms:.1f} ms against {times['fp32'].median_ms:.1f} ms a "
        f"face, ratio {ratio:.2f} (95 % interval {low:.2f} to {high:.2f}; {work.target.threads} thread(s), batch 1)"
    )


def _times(work: _Work, files: Mapping[str, bytes]) -> dict[str, Latency]:
    embedders = {
        name: open_embedder(content, work.network.spec, runtime=work.target.runtime, threads=work.target.threads)
        for name, content in files.items()
    }
    found = measure_latency(embedders, reference=next(iter(embedders)), batches=(1,), rounds=_TIMED_ROUNDS)
    return {name: rows[0] for name, rows in found.items()}


METHODS.add(
    "int8",
    Method(
        "int8",
        "the default: equalised, rewritten for integer kernels, measured as deployed, harmful operations left in float",
        Int8Settings,
        _run,
        lambda settings: settings.images + settings.check_images,
    ),
)
