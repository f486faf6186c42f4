"""A training that takes a second or two: a few drawn people, the narrowest MobileFaceNet at 32 pixels."""

from __future__ import annotations

from pathlib import Path

from small_world import SIDE, picture

PEOPLE, TRAINED_ON, HELD_OUT = 8, 6, 4


def people_folders(folder: Path) -> Path:
    """Write ``people/`` to train on and ``held-out/`` to validate on: the same people in other images."""
    for person in range(PEOPLE):
        for image in range(TRAINED_ON + HELD_OUT):
            part = "people" if image < TRAINED_ON else "held-out"
            place = folder / part / f"p{person}" / f"{image}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture(person, image))
    return folder


def training_text(folder: Path, more: str = "") -> str:
    """Return the YAML of a training on the folders of `folder`; lines of `more` replace those with the same key."""
    lines = {
        "network": f"{{family: mobilefacenet, size: {SIDE}, embedding: 16, width: 0.125}}",
        "data": f"folder:{folder}/people",
        "validate": f"folder:{folder}/held-out",
        "head": "{name: cosface, scale: 16, margin: 0.1}",
        "loop": "{epochs: 3, lr: 0.05, accelerator: cpu, checkpoint_steps: 4}",
        "batch_size": "16",
        "workers": "0",
    }
    for line in filter(None, more.splitlines()):
        key, _, value = line.partition(": ")
        lines[key] = value
    return "".join(f"{key}: {value}\n" for key, value in lines.items() if value != "none")


def training_file(folder: Path, more: str = "", name: str = "small.yaml") -> Path:
    file = folder / name
    file.write_text(training_text(folder, more))
    return file
