"""Folders of images: recursive, in sorted order."""

from __future__ import annotations

import os
from pathlib import Path

from veriquant.checks import cut
from veriquant.errors import VeriQuantError

#: Ends of file names that count as images, in lower case: those of the formats that the front end decodes.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)


def require_folder(directory: Path, what: str) -> Path:
    """Return `directory` if it is a folder, else raise `VeriQuantError` saying what was to be there."""
    if os.path.isdir(directory):
        return directory
    state = "is a file, not a folder" if os.path.exists(directory) else "does not exist"
    raise VeriQuantError(f"{what}: {cut(str(directory))} {state}")


def list_images(directory: Path) -> list[str]:
    """Return the paths of all images below `directory`, relative to it, with ``/``, sorted; may be empty.

    Linked folders are followed, each once. Hidden files and folders (``.name``, such as macOS's ``._image.jpg``) are
    left out.
    """
    require_folder(directory, "folder of images")
    found: list[str] = []
    seen: set[tuple[int, int]] = set()

    def complain(error: OSError) -> None:
        raise VeriQuantError(f"cannot list {error.filename}: {error.strerror or error}") from error

    for place, folders, files in os.walk(directory, onerror=complain, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(os.path.relpath(place, directory)).as_posix()
        prefix = "" if inside == "." else inside + "/"
        found += [
            prefix + name
            for name in files
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)
