"""`veriquant train`: a recognition network, from scratch or from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import literal, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriquant.study.train import Trained


@app.command(short_help="Train a network, from scratch or from a checkpoint.")
def train(
    file: Annotated[Path, typer.Argument(metavar="TRAINING.yaml", help="The training's YAML file.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where results go; else out/<name>.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="RUN", help="A run to do, of several; may be repeated.")
    ] = None,
) -> None:
    """Train a recognition network in full precision; the same command goes on with what was cut off.

    \b
    Example of TRAINING.yaml (examples/train-cfp-eyes.yaml in the repository explains every key):
      network: {family: mobilefacenet, size: 64, embedding: 128}
      data: folder:people                  # people/NAME/IMAGE.jpg; or rec:DIR, cfp:DIR, ufpr:DIR:PROTOCOL:FOLD
      validate: folder:held-out            # other images: the best epoch is chosen by them
      select: eer
      head: {name: arcface, scale: 64, margin: 0.5}
      augmentation: flip                   # or adaface, none, or the operations
      loop: {epochs: 20, lr: 0.1, schedule: {kind: step, at: [8, 15]}}
      batch_size: 32

    \b
    Examples:
      veriquant train training.yaml
      veriquant train training.yaml --out results/monday
      veriquant train folds.yaml --only closed-1 --only closed-2
      veriquant evaluate out/training/run/network.onnx --benchmark lfw:DIR

    Each run's folder gets network.onnx and best.safetensors (the best epoch; the last one without 'validate'),
    result.json, history.csv, history.json, and last.safetensors: stopped at any moment, the same command goes on from
    there and comes to the same numbers: on the CPU to the last bit where it has as many threads as before (set
    OMP_NUM_THREADS; result.json holds them), on a GPU as far as its kernels repeat themselves.

    A fold of the example's, 2,300 steps of 32 images, takes 25 minutes on a core, minutes on a GPU; the time left
    is shown. A model is never chosen by a list to test on: 'validate' refuses those.

    Training needs Lightning Fabric: pip install 'veriquant[train]'.
    """  # noqa: D301
    from veriquant.study.train import run_training

    trained = run_training(file, out=out, only=tuple(only or ()))
    if trained:
        _summary(trained)


def _summary(trained: Sequence[Trained]) -> None:
    """Print what each run came to."""
    from veriquant.report import numbers

    selected = trained[0].result.best["selected_by"]
    figure = f"{numbers.label(selected)}{numbers.unit(selected)}" if selected else "held out"
    rows = []
    for each in trained:
        found = each.result
        value = found.best["value"]
        rows.append(
            (
                literal(found.name),
                numbers.count(found.data["images"]),
                numbers.count(found.data["people"]),
                str(len(found.epochs)),
                f"{found.epochs[-1]['loss']:.4g}",
                str(found.best["epoch"]),
                numbers.NONE if value is None else numbers.metric_value(selected, value),
                numbers.duration(found.seconds),
                literal(str(each.folder / "network.onnx")),
            )
        )
    columns = ["images", "people", "epochs", "last loss", "best epoch", f"{figure}, held out", "time"]
    table(("run", *((column, "right") for column in columns), "network"), rows)
