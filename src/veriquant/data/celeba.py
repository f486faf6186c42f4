"""CelebA's layout: all images in one folder, and a list that says who is on them.

The list is ``identity_CelebA.txt``, lines ``000001.jpg 2880``. Archives and mirrors put it and the images in folders of
their own (``Anno/``, ``Img/``) or not; both are found.
"""

from __future__ import annotations

import os
from pathlib import Path

from veriquant.checks import whole_number
from veriquant.data.text import columns, read_lines, shown, wrong
from veriquant.errors import VeriQuantError

LIST = "identity_CelebA.txt"
_LISTS = (LIST, f"Anno/{LIST}")
_FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba")
_IMAGES = tuple(place for folder in _FOLDERS for place in (folder, f"Img/{folder}"))


def identity_list(folder: Path) -> Path:
    """Return the list below the data set's folder; `VeriQuantError` where there is none."""
    return _first(folder, _LISTS, "the list of who is on which image")


def images_folder(folder: Path) -> Path:
    """Return the folder of images, aligned ones if there are any; `VeriQuantError` where there is none."""
    return _first(folder, _IMAGES, "the folder of images")


def read_identities(path: Path) -> dict[str, str]:
    """Return the person of each image, by file name, in the order of the list.

    Raises `VeriQuantError` naming file and line where a line is no ``000001.jpg 2880``, or an image is listed twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        parts = columns(line)
        if len(parts) != 2 or whole_number(parts[1]) is None:
            wrong(path, number, "'filename identity' with a number for identity", shown(line))
        name, person = parts
        if name in found:
            wrong(path, number, "each image once, and a line above has it", name)
        found[name] = person
    return found


def _first(folder: Path, places: tuple[str, ...], what: str) -> Path:
    for place in places:
        if os.path.exists(path := folder / place):
            return path
    raise VeriQuantError(f"training set celeba: {folder} has not {what}; looked for {', '.join(places)}")
