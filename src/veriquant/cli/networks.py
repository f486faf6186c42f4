"""`veriquant networks`: families that checkpoints load into, and networks that a name alone brings."""

from __future__ import annotations

from veriquant.cli.app import app
from veriquant.cli.screen import literal, say, table


@app.command(short_help="What can be written as NETWORK.")
def networks() -> None:
    """List network families and registered networks.

    \b
    Examples of what can be written as NETWORK:
      face.onnx                     any ONNX network with one image input and one embedding output
      mobilefacenet:weights.pt      a family and a checkpoint (.pt, .pth, .safetensors)
      demo-mobilefacenet            a registered name
    """  # noqa: D301
    from veriquant.networks import describe

    rows = [
        (
            line.name if line.kind == "pretrained" else f"{line.name}:CHECKPOINT",
            "–" if line.parameters is None else f"{line.parameters:,}",
            "–" if line.embedding is None else str(line.embedding),
            literal(line.input),
            literal(line.summary),
        )
        for line in describe()
    ]
    table(("network", ("parameters", "right"), ("embedding", "right"), "input", "what"), rows)
    say("Besides these, any .onnx file with one image input and one embedding output.")
