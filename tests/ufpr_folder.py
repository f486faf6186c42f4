"""A small data set in UFPR-Periocular's layout: drawn eyes, a left one the mirror image of the right one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps
from small_world import picture

PEOPLE = 12
IMAGES = 3


def eye_name(person: int, image: int, side: str) -> str:
    return f"{person:04d}S1I{image:02d}{side}.jpg"


def list_lines(people: Sequence[int], images: Sequence[int] = range(1, IMAGES + 1)) -> list[str]:
    return [
        f"{eye_name(person, image, side)} {2 * person + (side == 'L')} -1 -1"
        for person in people
        for image in images
        for side in "RL"
    ]


def pair_lines(people: Sequence[int]) -> dict[str, list[str]]:
    """Return genuine pairs within an eye and impostor pairs: with the next person, and of one person's two eyes."""
    others = [*people[1:], people[0]]
    intra, inter = [], []
    for person, other in zip(people, others, strict=True):
        for side in "RL":
            intra.append(f"{eye_name(person, 1, side)} {eye_name(person, 2, side)} 1")
            intra.append(f"{eye_name(person, 3, side)} {eye_name(person, 1, side)} 1")
            inter.append(f"{eye_name(person, 1, side)} {eye_name(other, 2, side)} 0")
            inter.append(f"{eye_name(person, 2, side)} {eye_name(other, 3, side)} 0")
        inter.append(f"{eye_name(person, 1, 'R')} {eye_name(person, 2, 'L')} 0")
    return {"inter.txt": inter, "intra.txt": intra}


def ufpr_folder(folder: Path, protocol: str = "open_world", fold: int = 1, images: bool = True) -> Path:
    """Write one fold of one protocol: `PEOPLE` tested, numbered from 1; two trained on; two to validate."""
    tested, trained, validated = range(1, PEOPLE + 1), (101, 102), (103, 104)
    place = folder / "experimentalProtocol" / protocol
    pairs = place / "test_pairs" / f"fold{fold}"
    pairs.mkdir(parents=True)
    for part, people in (("test", tested), ("train", trained), ("val", validated)):
        (place / f"{part}_fold{fold}.txt").write_text("\n".join(list_lines(people)) + "\n")
    for name, lines in pair_lines(tested).items():
        (pairs / name).write_text("\n".join(lines) + "\n")
    if images:
        crops = folder / "periocularCropped"
        crops.mkdir()
        for person in (*tested, *trained, *validated):
            for image in range(1, IMAGES + 1):
                right = Image.open(io.BytesIO(picture(person, image)))
                right.save(crops / eye_name(person, image, "R"), quality=95)
                ImageOps.mirror(right).save(crops / eye_name(person, image, "L"), quality=95)
    return folder
