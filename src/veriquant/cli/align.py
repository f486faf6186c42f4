"""`veriquant align`: photographs become crops as face networks expect them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import say, table


@app.command(short_help="Align faces in photographs: crops as a network expects them.")
def align(
    photographs: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photographs, nested or flat.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the crops go, in the same folders.")],
    detector: Annotated[
        Path | None,
        typer.Option("--detector", metavar="FILE", help="YuNet's .onnx file, from OpenCV's model zoo (MIT licence)."),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="N|HxW", help="Of the crops in pixels: 112, 160, 112x96.")
    ] = "112",
    crop: Annotated[
        float | None,
        typer.Option(
            "--crop",
            metavar="MARGIN",
            help="Cut the upright square around the face, wider by this share on each side (FaceNet: 0.25), instead "
            "of aligning five points.",
        ),
    ] = None,
    face: Annotated[str, typer.Option("--face", help="Of several: the largest, or the most central.")] = "largest",
    score: Annotated[float, typer.Option("--score", help="Least score of a face, between 0 and 1.")] = 0.7,
    threads: Annotated[int, typer.Option("--threads", min=0, help="0: as many as there are cores.")] = 0,
) -> None:
    """Find the faces in photographs and write aligned crops: what `evaluate`, `quantize` and `train` take.

    \b
    Examples:
      veriquant align photos -o aligned --detector face_detection_yunet_2023mar.onnx
      veriquant align photos -o aligned-160 --detector yunet.onnx --size 160 --crop 0.25
      veriquant align lfw -o lfw-112 --detector yunet.onnx --face central

    A crop is the similarity transform (rotation, one scale, shift) of two eyes, nose and mouth to the ArcFace template,
    at other sizes the same part of the face. alignment.csv lists every image with the faces found in it: box, five
    points, score, which one was cropped, and what became of the image. Stopped at any moment, the same command goes on;
    images that changed are done again. Needs OpenCV: pip install 'veriquant[align]'.
    """  # noqa: D301
    from pydantic import ValidationError

    from veriquant.alignment import AlignSettings, YuNet, align_folder
    from veriquant.alignment.detector import WHERE
    from veriquant.deploy.environment import machine
    from veriquant.errors import VeriQuantError

    try:
        settings = AlignSettings(size=_size(size), margin=crop, face=face, score=score)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        key = {"margin": "crop"}.get(str(first["loc"][0]), str(first["loc"][0]))
        raise VeriQuantError(f"--{key}: {first['msg']}") from error
    if detector is None:
        raise VeriQuantError(f"which detector? {WHERE}")
    found = align_folder(
        photographs, out, YuNet(detector, settings.score), settings, threads or int(machine()["cores"])
    )
    say(f"{settings.rule}; detector: {detector.name}")
    if found.anew:
        say("earlier crops in this folder were of other settings or another detector; they were made anew")
    if found.kept:
        say(f"{found.kept} of {len(found.records)} images had been done before")
    table(("outcome", ("images", "right")), [(name, str(count)) for name, count in found.outcomes.most_common()])
    for outcome in ("no face", "unreadable"):
        names = [record.image for record in found.records if record.outcome == outcome]
        if names:
            say(f"{outcome}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}")
    if found.left_over:
        say(f"{found.left_over} crops of images that are gone still lie in {out}")
    say(f"written: {found.list_file}")


def _size(text: str) -> tuple[int, int]:
    from veriquant.errors import VeriQuantError

    height, _, width = text.lower().replace("×", "x").partition("x")
    if not all(part.isascii() and part.isdigit() for part in (height, width or height)):
        raise VeriQuantError(f"--size {text[:40]}: expected 112 or 112x96 (height x width)")
    return int(height), int(width or height)
