"""`veriquant quantize`: one network under one recipe becomes one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import (
    Input,
    Output,
    Runtime,
    check_writable,
    literal,
    parse_input,
    parse_settings,
    say,
    table,
)

if TYPE_CHECKING:
    from veriquant.data.training_set import TrainingSet
    from veriquant.recipes import Recipe
    from veriquant.results import Layer

_SHOWN = 12


@app.command(short_help="Make a smaller network with a recipe.")
def quantize(
    network: Annotated[str, typer.Argument(help="An .onnx file, FAMILY:CHECKPOINT or a registered name.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT.onnx", help="The file to write; OUT.safetensors: for PyTorch (load_module)."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="A name that `veriquant recipes` lists, or a .yaml file; by default int8."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", "-c", metavar="DIR", help="A folder of unlabelled images, nested or flat."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", "-b", help="For mixed: bops=0.5, bytes=1.2MB, latency=0.5x or 'eer<=0.01'."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", metavar="PLAN.json", help="With --recipe: where its plan is written. Without: the plan to follow."
        ),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", metavar="KIND:PATH", help="What a task budget is evaluated on.")
    ] = None,
    training_set: Annotated[
        str | None,
        typer.Option(
            "--training-set", metavar="KIND:PATH", help="Images of known people, for --set loss=arcface: folder:DIR, …"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value for one of its settings.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="N|DIR", help="How many; by default what the recipe asks for. Or DIR as --calibration."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of images.")] = 0,
    runtime: Runtime = "onnxruntime",
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads it will run on; recipes that measure use as many.")
    ] = 1,
    input: Input = None,
    output: Output = None,
) -> None:
    """Quantize a network with a recipe and write an ONNX file that carries its input specification.

    \b
    Examples:
      veriquant quantize face.onnx --calibration photos -o face-int8.onnx
      veriquant quantize face.onnx --recipe int8-dynamic -o face-dynamic.onnx
      veriquant quantize face.onnx -r int8-static -c photos --set reduce_range=true -o face-static.onnx
      veriquant quantize face.onnx -r mixed --budget bops=0.5 -c photos --plan plan.json -o face-mixed.onnx
      veriquant quantize face.onnx -r mixed --budget 'tar@far=1e-3>=0.975' --benchmark lfw:DIR -c photos -o face.onnx
      veriquant quantize face.onnx --plan plan.json -c photos -o face-mixed.onnx
      veriquant quantize face.onnx -r qat-w4a8 --images photos -o face-w4.onnx
      veriquant quantize face.onnx -r iterative-2bit --images photos -o face-w2.onnx
      veriquant quantize face.onnx -r kolf-fixed-w8a8 -c photos --training-set folder:people -o face-w8.onnx

    Some hundred images of the kind that the network will see are enough, some thousand for recipes that train; they
    need no labels, unless --set loss=arcface (cosface, adaface) is to learn from those of a training set.

    Recipes that train: on one core qat-w4a8 takes a MobileFaceNet a quarter of an hour, iterative-2bit an hour or
    so; --set epochs=N and --set train_images=N say how long. A GPU is used where there is one. Their state lies in
    $VERIQUANT_CACHE, else ~/.cache/veriquant: stopped at any moment, the same command goes on from there. They need:
    pip install 'veriquant[train]'.

    What was left in floating point, and why, is printed. How much recognition was lost `veriquant
    evaluate` or a study tells.
    """  # noqa: D301
    from veriquant.benchmarks import load_benchmark
    from veriquant.calibration.context import QuantizationContext
    from veriquant.deploy.runtimes import RUNTIMES, choose_runtime
    from veriquant.errors import VeriQuantError
    from veriquant.evaluation.judge import Judge
    from veriquant.frontends.unaligned import looks_unaligned
    from veriquant.networks import load_network
    from veriquant.networks.onnx_file import network_of_onnx
    from veriquant.places import Places
    from veriquant.recipes import load_recipe
    from veriquant.study.inputs import calibration_set
    from veriquant.study.units import to_stderr

    calibration, count = _images(calibration, images)
    overrides = parse_settings(set_ or [])
    follows = plan is not None and recipe is None
    if follows:
        overrides["plan"] = str(plan)
    if budget is not None:
        overrides["budget"] = budget
    places = Places().reads("NETWORK", network).reads("--recipe", recipe).reads("--calibration", calibration)
    places.reads("--benchmark", benchmark).reads("--training-set", training_set)
    places = places.reads("--plan", plan) if follows else places.writes("--plan", plan)
    places.reads("--set", overrides).writes("--out", out).check()
    chosen = load_recipe(recipe or ("fixed" if follows else "int8"), overrides=overrides)
    places.reads("a setting of the recipe", chosen.model_dump()).check()
    if plan is not None and not follows:
        if not chosen.plans():
            raise VeriQuantError(f"recipe {chosen.name!r} makes no plan, so --plan {plan} has nothing to hold")
        check_writable(plan)
    if runtime != "auto":
        RUNTIMES.get(runtime)
    spec = parse_input(input)
    if runtime == "pytorch":
        raise VeriQuantError("--runtime pytorch: the file will be ONNX; name the runtime that it is for")
    wanted = chosen.calibration_images()
    if wanted and calibration is None:
        raise VeriQuantError(
            f"recipe {chosen.name!r} needs calibration images: name a folder of unlabelled images (--calibration DIR)"
        )
    if training_set is None:
        _refuse_nameless(chosen)
    loaded = load_network(network, spec, output=output)
    check_writable(out)
    for_torch = out.suffix == ".safetensors"
    if for_torch and not chosen.plans():
        raise VeriQuantError(
            f"recipe {chosen.name!r} makes ONNX files alone: name one that ends in .onnx, or take a recipe that "
            "simulates (such as fixed, mixed or qat-w4a8)"
        )
    if runtime == "auto":
        choice = choose_runtime(loaded.onnx, loaded.spec, threads=threads)
        say(choice.sentence)
        runtime = choice.runtime
    samples = None
    if wanted and calibration is not None:
        samples = calibration_set(calibration, count or wanted, seed)
        say(f"calibration: {samples.note}")
        if line := looks_unaligned(samples.samples, loaded.spec):
            say(f"note: {line}")
    elif calibration is not None:
        say(f"note: recipe {chosen.name} looks at no images; --calibration has no effect")
    judge = None if benchmark is None else Judge(load_benchmark(benchmark))
    people = None if training_set is None else _people(chosen, training_set)
    made = chosen.apply(loaded, samples, QuantizationContext(runtime, threads, judge, people, to_stderr))
    network_of_onnx(made.onnx, loaded.spec, name=out.stem, source=str(out))  # what is written runs
    made.save(out)
    before, after = len(loaded.onnx), out.stat().st_size
    say(f"{out}: {before / 1e6:.2f} MB → {after / 1e6:.2f} MB ({after / before:.1%} of the size)")
    _layers(made.layers)
    for note in made.notes:
        say(f"note: {note}")
    if made.plan is not None and plan is not None and not follows:
        made.plan.save(plan)
        back = (
            f"for the reader; what was trained is in {out.name} alone"
            if made.plan.trained
            else "edit it and give it back with --plan alone"
        )
        say(f"{plan}: the plan, {len(made.plan.groups)} groups; {back}")


def _images(calibration: str | None, images: str | None) -> tuple[str | None, int | None]:
    """Return the folder of images and how many, of which `images` may be either."""
    from veriquant.checks import whole_number
    from veriquant.errors import VeriQuantError

    if images is None:
        return calibration, None
    if count := whole_number(images):
        return calibration, count
    if calibration is not None:
        raise VeriQuantError(
            f"--images {images}: --calibration {calibration} names the folder already; what is wanted here is a number "
            "above 0"
        )
    if images.strip("0") == "" or images.startswith("-"):
        raise VeriQuantError(f"--images {images}: expected a number above 0, or a folder of images")
    return images, None


def _refuse_nameless(recipe: Recipe) -> None:
    """Raise `VeriQuantError` where a recipe learns from the names of people and none are given."""
    from veriquant.errors import VeriQuantError

    for config in recipe.trainings():
        if config.labelled:
            heads = (f" --set {key}=null" for key in ("scale", "margin") if getattr(config, key) is not None)
            raise VeriQuantError(
                f"recipe {recipe.name!r} with loss {config.loss!r} learns who is who: name a training set "
                "(--training-set folder:DIR, with a folder for each person), or --set loss=teacher"
                f"{''.join(heads)}, which needs no names"
            )


def _people(recipe: Recipe, training_set: str) -> TrainingSet | None:
    """Return the training set of ``--training-set``, where the recipe learns from labels."""
    from veriquant.data.training_set import load_training_set
    from veriquant.errors import VeriQuantError

    if not recipe.labelled():
        say(f"note: recipe {recipe.name} learns from no names; --training-set has no effect")
        return None
    people = load_training_set(training_set)
    if people.classes < 2:
        raise VeriQuantError(
            f"--training-set {training_set}: images without labels tell nobody apart; name a kind with people, such as "
            "folder:DIR"
        )
    say(f"training set: {people.note}")
    return people


def _layers(layers: list[Layer]) -> None:
    kept = [layer for layer in layers if layer.kept_float]
    if not layers:
        return
    say(f"{len(layers) - len(kept)} of {len(layers)} operations quantized, {len(kept)} left in floating point")
    kept.sort(key=lambda layer: (layer.error is None, -(layer.error or 0), -layer.macs))
    rows = [
        (
            literal(layer.name),
            layer.operation,
            f"{layer.parameters:,}",
            "" if layer.error is None else f"{layer.error:.2e}",
            literal(layer.reason),
        )
        for layer in kept[:_SHOWN]
    ]
    if rows:
        columns = ("left in floating point", "operation", ("parameters", "right"), ("error alone", "right"), "why")
        table(columns, rows)
    if len(kept) > _SHOWN:
        say(f"… and {len(kept) - _SHOWN} more")
