"""`veriquant sensitivity`: which quantizer groups harm the embeddings, and by how much at each width."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import Input, Output, check_writable, literal, parse_input, parse_settings, say, table

if TYPE_CHECKING:
    from veriquant.allocation import Problem, SensitivityList
    from veriquant.calibration.model import CalibratedModel

_SHOWN = 12
#: Settings of recipes that a list has no use for: they choose from it, or have an option of their own here.
_OF_PHASE_2 = (
    "budget",
    "search",
    "allocation",
    "metric",
    "check_images",
    "images",
    "sensitivity_images",
    "target",
    "solver",
)


@app.command(short_help="Which layers are to blame: the harm of each quantizer group alone.")
def sensitivity(
    network: Annotated[str, typer.Argument(help="An .onnx file, FAMILY:CHECKPOINT or a registered name.")],
    calibration: Annotated[
        str, typer.Option("--calibration", "-c", metavar="DIR", help="A folder of unlabelled images, nested or flat.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="LIST.json", help="Where the whole list goes.")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="Whose kernels: generic, wide or onnxruntime-x86.")
    ] = "generic",
    images: Annotated[int, typer.Option("--images", min=1, help="How many images the list is measured on.")] = 64,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="What the list is sorted by: sqnr, fit or hessian.")
    ] = "sqnr",
    front: Annotated[
        Path | None,
        typer.Option("--front", metavar="FRONT.json", help="Also the Pareto front of relative BOPs and noise."),
    ] = None,
    points: Annotated[int, typer.Option("--points", min=2, help="How many points of the front.")] = 20,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of recipe `mixed`: ranges, rounding, equalise, …"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of images.")] = 0,
    input: Input = None,
    output: Output = None,
) -> None:
    """Quantize each group of tensors alone, at each width that the target has, and measure the embeddings' noise.

    \b
    Examples:
      veriquant sensitivity face.onnx --calibration photos -o list.json
      veriquant sensitivity face.onnx -c photos --target wide --front front.json

    SQNR is the signal to quantization noise ratio at the network's output in dB: below some 20 dB a group costs
    recognition, above 40 dB it does not show. No labels are needed. The list is kept in the user's cache folder (or
    $VERIQUANT_CACHE): the same question is answered at once, and a stopped run goes on where it was.
    """  # noqa: D301
    from veriquant.allocation import build_problem
    from veriquant.allocation.solver import AllocationRequest
    from veriquant.allocation.solvers.budgeted import BudgetConfig, measured
    from veriquant.caches.sensitivity_store import measure_cached
    from veriquant.calibration.context import QuantizationContext
    from veriquant.calibration.usable import usable
    from veriquant.errors import VeriQuantError
    from veriquant.files import write_json
    from veriquant.networks import load_network
    from veriquant.places import Places
    from veriquant.recipes import load_recipe
    from veriquant.recipes.pipeline import calibrate
    from veriquant.study.inputs import calibration_set

    asked = parse_settings(set_ or [])
    places = Places().reads("NETWORK", network).reads("--calibration", calibration).reads("--set", asked)
    places.writes("--out", out).writes("--front", front).check()
    for path in (out, front):
        if path is not None:
            check_writable(path)
    if useless := [key for key in asked if key.rpartition(".")[2] in _OF_PHASE_2]:
        raise VeriQuantError(
            f"--set {useless[0]}: a sensitivity list does not depend on it, or has an option for it; what can be set "
            "are candidates, weight_scheme, activation_scheme, ranges, rounding, bias_correction and equalise"
        )
    loaded = load_network(network, parse_input(input), output=output)
    given = {"target": target, "images": images, "check_images": 1, "metric": by, "sensitivity_images": images}
    recipe = load_recipe("mixed", name="sensitivity", overrides={**given, **asked})
    composition = recipe.composition
    assert composition is not None
    assert isinstance(composition.allocation, BudgetConfig)
    if composition.training_steps:
        raise VeriQuantError("--set recovery: a list is measured before anything trains; leave training out")
    if composition.judged:
        raise VeriQuantError(f"--by {by}: needs a benchmark; take it in a recipe (--set allocation.sensitivity={by})")
    samples = calibration_set(calibration, images + 1, seed)
    say(f"calibration: {samples.note}")
    samples, left_out = usable(samples, loaded)
    for note in left_out:
        say(f"note: {note}")
    model, _ = calibrate(loaded, composition, samples)
    request = AllocationRequest(model, composition.widths, QuantizationContext(), measure_cached)
    found = measured(request, composition.allocation)
    _print(found, model)
    if out is not None:
        write_json(out, found.model_dump(mode="json"))
        say(f"{out}: {len(found.entries)} entries")
    if front is not None:
        _front(build_problem(model.costs, found), front, points)


def _print(found: SensitivityList, model: CalibratedModel) -> None:
    from veriquant.allocation.sensitivity import order

    widths = list(dict.fromkeys(entry.precision for entry in found.entries))
    groups = found.by_group()
    worst = sorted(groups, key=lambda name: min(order(entry) for entry in groups[name].values()))
    say(
        f"{found.network}, target {found.target}: {len(groups)} quantizer groups, {len(found.entries)} entries on "
        f"{found.samples} images in {found.seconds:.1f} s; everything else in full precision"
    )
    rows = []
    for name in worst[:_SHOWN]:
        members = model.simulation.groups[name]
        by_width = {str(precision): entry.sqnr for precision, entry in groups[name].items()}
        others = len(members.operations) - 1
        rows.append(
            (
                literal(name) + (f" and {others} more" if others else ""),
                f"{sum(model.simulation.weighted(each).weight.numel() for each in members.weights):,}",
                *(f"{by_width[width]:.1f}" if width in by_width else "" for width in widths),
            )
        )
    table(("worst groups", ("weights", "right"), *((f"{width} dB", "right") for width in widths)), rows)
    if len(worst) > _SHOWN:
        say(f"… and {len(worst) - _SHOWN} more, less harmful")


def _front(problem: Problem, path: Path, points: int) -> None:
    import math

    from veriquant.allocation import front
    from veriquant.files import write_json

    found = front(problem, "bops", points=points)
    rows = [(f"{point.cost:.4f}", f"{-10 * math.log10(max(point.noise, 1e-14)):.2f}") for point in found]
    table((("relative BOPs", "right"), ("predicted SQNR dB", "right")), rows, title="Pareto front")
    content = [
        {
            "relative_bops": point.cost,
            "predicted_noise": point.noise,
            "groups": {group: str(precision) for group, precision in point.assignment.items()},
        }
        for point in found
    ]
    write_json(path, {"kind": "veriquant-front", "points": content})
    say(f"{path}: {len(found)} points")
