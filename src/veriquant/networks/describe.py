"""What there is to choose from: families and pretrained networks, for the command line and the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from veriquant.networks.families import FAMILIES, Arguments
from veriquant.networks.pretrained import PRETRAINED


@dataclass(frozen=True)
class Description:
    """One line of ``veriquant networks``."""

    name: str
    kind: Literal["family", "pretrained"]
    parameters: int | None
    """None where the checkpoint is not in this installation."""
    input: str
    """Size, colours and value range in words."""
    embedding: int | None
    summary: str
    citation: str


def describe() -> list[Description]:
    """Return every family, with its default arguments, and every pretrained network."""
    lines = []
    for name in FAMILIES:
        family = FAMILIES.get(name)
        embedding = int(family.defaults["embedding"])
        lines.append(
            Description(
                name=name,
                kind="family",
                parameters=family.parameters(),
                input=family.spec.origin,
                embedding=embedding,
                summary=family.summary,
                citation=family.citation,
            )
        )
    lines.extend(_pretrained(name) for name in PRETRAINED)
    return lines


def _pretrained(name: str) -> Description:
    from veriquant.networks.checkpoints import load_checkpoint

    entry = PRETRAINED.get(name)
    family = FAMILIES.get(entry.family)
    arguments: Arguments | None = None
    spec = family.spec
    if entry.file.is_file():
        checkpoint = load_checkpoint(entry.file)
        arguments = family.defaults | family.infer(checkpoint.shapes()) | checkpoint.metadata.arguments
        spec = checkpoint.metadata.input or spec
    return Description(
        name=name,
        kind="pretrained",
        parameters=None if arguments is None else family.parameters(**arguments),
        input=spec.origin,
        embedding=None if arguments is None else int(arguments["embedding"]),
        summary=entry.summary if arguments else f"{entry.summary} (not in this installation)",
        citation=entry.citation,
    )
