"""Listed images, found on disk: lists name images with or without an ending, and copies spell names differently.

A list and the folder that it speaks of seldom come from one hand. `ListedImages` finds a listed image

1. under exactly the path that the list gives;
2. under any ending that counts as an image, in upper or lower case: lists in LFW's layout give none, and an aligned or
   converted copy has another than the publisher's;
3. where folders or files hold the same letters in another Unicode normal form: file names copied from macOS hold an
   accent as a character of its own (NFD), text files hold it in one with its letter (NFC).

What is exactly as listed wins, then what differs least, so that the choice never depends on the order of a folder.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from veriquant.data.folder import IMAGE_SUFFIXES
from veriquant.errors import VeriQuantError

#: Which image is meant where the list gives no ending and several fit: the usual endings first.
_USUAL = (".jpg", ".jpeg", ".png")


def same_letters(text: str) -> str:
    """Return `text` in the one Unicode normal form (NFC) in which names that look alike are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def without_ending(name: str) -> str:
    """Return the name of an image without its ending; a name that has none of an image stays as it is."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in IMAGE_SUFFIXES else name


def other_ending(key: str, path: Path) -> bool:
    """Return whether a list gives an image another ending than the file has; a list that gives none does not."""
    wanted = PurePosixPath(key).suffix.lower()
    return wanted in IMAGE_SUFFIXES and wanted != path.suffix.lower()


class ListedImages:
    """The images below a folder as lists name them; folders are listed once, and only where they are asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._images: dict[str, dict[str, list[str]]] = {}
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, key: str) -> Path | None:
        """Return the image that a list calls `key`, with slashes or backslashes in it; None where there is none."""
        path = PurePosixPath(key.replace("\\", "/"))
        wanted = os.path.splitext(path.name)[1].lower()
        exact = self.root / path
        if wanted in IMAGE_SUFFIXES and os.path.isfile(exact):
            return exact
        for folder in self._places(path):
            if name := self._nearest(folder, path.name, wanted):
                return Path(folder) / name
        return None

    def find_all(self, keys: Iterable[str]) -> dict[str, Path]:
        """Return the images that are there, by key, in the order of `keys`.

        A file whose ending is not the listed one stands for one listed name alone: where it is listed itself, or two
        lines differ in nothing but their endings, it is none of the others, and those are missing.
        """
        found = {key: path for key in keys if (path := self.find(key)) is not None}
        own = {path for key, path in found.items() if not other_ending(key, path)}
        asked: dict[Path, set[str]] = {}
        for key, path in found.items():
            if other_ending(key, path):
                asked.setdefault(path, set()).add(same_letters(key))
        contested = {path for path, names in asked.items() if path in own or len(names) > 1}
        return {key: path for key, path in found.items() if path not in contested or not other_ending(key, path)}

    def _places(self, path: PurePosixPath) -> Iterator[str]:
        """Yield the folders that may be meant: the one that is spelt as listed, then others of the same letters."""
        exact = os.path.join(self.root, *path.parent.parts)
        if os.path.isdir(exact):
            yield exact
        if path.is_absolute():
            return
        places = [os.fspath(self.root)]
        for part in path.parent.parts:
            if part == "..":
                places = [os.path.join(place, part) for place in places]
            else:
                places = [
                    os.path.join(place, name)
                    for place in places
                    for name in self._listing(place)[1].get(same_letters(part), ())
                ]
        yield from (place for place in places if place != exact)

    def _nearest(self, folder: str, name: str, wanted: str) -> str | None:
        """Return the image in `folder` whose name differs least from the listed one, None where all are others."""
        fitting = self._listing(folder)[0].get(same_letters(without_ending(name)), ())
        return min(fitting, key=lambda there: _difference(there, name, wanted), default=None)

    def _listing(self, folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return the images of a folder by their names without ending, and its folders, letters in one normal form."""
        if folder not in self._images:
            images: dict[str, list[str]] = {}
            folders: dict[str, list[str]] = {}
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
                            images.setdefault(same_letters(without_ending(entry.name)), []).append(entry.name)
                        elif entry.is_dir():
                            folders.setdefault(same_letters(entry.name), []).append(entry.name)
            except (FileNotFoundError, NotADirectoryError):
                pass  # nothing is listed there
            except OSError as error:
                raise VeriQuantError(f"cannot list {folder}: {error.strerror or error}") from error
            self._images[folder], self._folders[folder] = images, folders
        return self._images[folder], self._folders[folder]


def _difference(there: str, name: str, wanted: str) -> tuple[bool, bool, int, bool, str]:
    """Return how far a file's name is from the listed one, for sorting: ending, letters, how usual, case."""
    stem, ending = os.path.splitext(there)
    lower = ending.lower()
    usual = _USUAL.index(lower) if lower in _USUAL else len(_USUAL)
    return lower != wanted, stem != without_ending(name), usual, ending != lower, there
