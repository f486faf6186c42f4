"""The Python face: quantize a network with a recipe, and compare two networks on a benchmark.

::

    import veriquant as vq

    network, benchmark = vq.load_network("demo-mobilefacenet"), vq.load_benchmark("demo:small")
    made = vq.quantize(network, "int8", calibration="demo:")
    vq.compare(network, made, on=benchmark).plot()
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from veriquant.benchmarks.base import Benchmark
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.result import QuantizationResult
from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.evaluation.embedding import embed
from veriquant.evaluation.evaluate import compare as compare_embeddings
from veriquant.evaluation.evaluate import independent_batch, options_for
from veriquant.evaluation.judge import Judge
from veriquant.metrics import Options
from veriquant.networks.network import Network
from veriquant.recipes import Recipe, load_recipe
from veriquant.recipes.recipe import recipe_with
from veriquant.results import Compatibility, Difference
from veriquant.study.inputs import calibration_set

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from veriquant.data.training_set import TrainingSet


def load_calibration(source: str, images: int = 200, seed: int = 0) -> Calibration:
    """Choose calibration images: from a folder, a training set such as ``ufpr:DIR:open_world:1``, or ``demo:``."""
    return calibration_set(source, images, seed)


def quantize(
    network: Network,
    recipe: str | Recipe = "int8",
    *,
    calibration: str | Calibration | None = None,
    settings: Mapping[str, Any] | None = None,
    benchmark: Benchmark | None = None,
    training_set: TrainingSet | None = None,
    runtime: str = "onnxruntime",
    threads: int = 1,
    seed: int = 0,
) -> QuantizationResult:
    """Quantize a network with a recipe.

    `recipe`: a shipped name, a ``.yaml`` file or a `Recipe`; `settings` change single ones of its settings, as
    ``--set`` does. `calibration`: images, or where `load_calibration` finds them. `benchmark`: what a task budget is
    evaluated on; `training_set`: people, for losses that learn who is who. Raises `VeriQuantError` for what is missing
    or cannot be.
    """
    if isinstance(recipe, Recipe):
        chosen = recipe_with(recipe, recipe.name, settings or {})
    else:
        chosen = load_recipe(recipe, overrides=settings)
    wanted = chosen.calibration_images()
    images = load_calibration(calibration, wanted, seed) if isinstance(calibration, str) and wanted else None
    if isinstance(calibration, Calibration):
        images = calibration
    judge = None if benchmark is None else Judge(benchmark)
    return chosen.apply(network, images, QuantizationContext(runtime, threads, judge, training_set))


@dataclass(frozen=True)
class NetworkComparison:
    """What a network loses against another on one benchmark: paired differences with their intervals and verdicts."""

    reference: str
    variant: str
    benchmark: str
    differences: list[Difference]
    compatibility: Compatibility
    """Whether old and new templates may be mixed, and at which threshold."""

    def __getitem__(self, metric: str) -> Difference:
        """Return the difference of one metric, such as ``accuracy``; `VeriQuantError` names those there are."""
        for each in self.differences:
            if each.metric == metric:
                return each
        raise VeriQuantError(f"no difference of {metric!r}; there are: {', '.join(d.metric for d in self.differences)}")

    def __repr__(self) -> str:
        lines = [f"{self.variant} against {self.reference} on {self.benchmark}:"]
        return "\n".join([*lines, *(f"  {each.sentence}" for each in self.differences)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(each.metric)}</td><td>{_signed(each.value)}</td><td>{_interval(each)}</td>"
            f"<td>{each.verdict}</td></tr>"
            for each in self.differences
        )
        title = html.escape(f"{self.variant} against {self.reference} on {self.benchmark}")
        return (
            f"<table><caption>{title}</caption><tr><th>metric</th><th>difference</th><th>95 % interval</th>"
            f"<th>verdict</th></tr>{rows}</table>"
        )

    def plot(self) -> Figure:
        """Draw the differences with their intervals and the margins within which they count as no worse."""
        from plotly.graph_objects import Figure, Scatter

        shown = [each for each in self.differences if each.value is not None and each.ci95 is not None]
        figure = Figure()
        for each in shown:
            assert each.value is not None
            assert each.ci95 is not None
            figure.add_trace(
                Scatter(
                    x=[each.value],
                    y=[each.metric],
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": [each.ci95[1] - each.value],
                        "arrayminus": [each.value - each.ci95[0]],
                    },
                    mode="markers",
                    name=each.verdict,
                    hovertext=each.sentence,
                    showlegend=False,
                )
            )
        figure.add_vline(x=0, line_dash="dot")
        figure.update_layout(
            title=f"{self.variant} against {self.reference} on {self.benchmark}",
            xaxis_title="difference, 95 % interval",
        )
        return figure


def compare(
    reference: Network | QuantizationResult,
    variant: Network | QuantizationResult,
    *,
    on: Benchmark,
    runtime: str = "onnxruntime",
    threads: int = 1,
    flip: bool = False,
    options: Options | None = None,
    far: float = 1e-3,
    margin: float = 0.005,
) -> NetworkComparison:
    """Compare two networks on the same comparisons of a benchmark, people resampled jointly.

    `margin`: how much worse still counts as no worse; `far`: the operating point at which old and new templates are
    mixed. `options`: what is computed, by default the usual at the benchmark's own operating points.
    """
    networks = [each.network if isinstance(each, QuantizationResult) else each for each in (reference, variant)]
    names = (networks[0].name, networks[1].name if networks[1].name != networks[0].name else "quantized")
    options = options or options_for(on, Options())
    found = [_embeddings(network, on, runtime, threads, flip) for network in networks]
    compared = compare_embeddings(
        on, found[0], found[1], options, margins={"*": margin}, far=far, margin=margin, names=names
    )
    return NetworkComparison(names[0], names[1], on.name, compared.differences, compared.compatibility)


def _embeddings(network: Network, benchmark: Benchmark, runtime: str, threads: int, flip: bool) -> Any:
    from veriquant.deploy.runtimes import open_embedder

    embedder = open_embedder(network.onnx, network.spec, runtime=runtime, threads=threads, module=network.module)
    if independent_batch(network.onnx):
        return embed(benchmark.samples, embedder, flip=flip, batch_size=1).embeddings
    return embed(benchmark.samples, embedder, flip=flip).embeddings


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _interval(each: Difference) -> str:
    return "–" if each.ci95 is None else f"{each.ci95[0]:+.4f} … {each.ci95[1]:+.4f}"
