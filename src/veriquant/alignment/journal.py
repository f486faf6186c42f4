"""The journal of an alignment: one line an image, written as soon as its crop is there, so that a run can go on.

The first line says what was asked for; a line of another run's settings tells nothing. A last line that was cut off by
a kill is dropped. The journal lies beside the crops as ``.alignment.jsonl``; the list that people read is made of it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from veriquant.errors import VeriQuantError
from veriquant.files import atomic_path

JOURNAL = ".alignment.jsonl"
LIST = "alignment.csv"
Outcome = Literal["aligned", "aligned, one of several faces", "no face", "unreadable"]
_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


class Found(BaseModel):
    """One face as the journal keeps it; numbers in pixels of the upright image."""

    model_config = ConfigDict(frozen=True)

    box: tuple[float, float, float, float]
    points: tuple[tuple[float, float], ...]
    score: float


class Record(BaseModel):
    """What became of one image; `image` and `crop` are paths below the folders, `chosen` a place in `faces`."""

    model_config = ConfigDict(frozen=True)

    image: str
    stamp: tuple[int, int]
    """Bytes and time of change of the image: another one of the same name is aligned anew."""
    outcome: Outcome
    crop: str | None = None
    crop_bytes: int = 0
    faces: tuple[Found, ...] = ()
    chosen: int | None = None
    reason: str = ""


class Journal:
    """Records of earlier runs with the same settings, and a file that takes more of them."""

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.path = folder / JOURNAL
        self.records: dict[str, Record] = {}
        #: Crops that this or another run wrote, whatever its settings.
        self.own: set[str] = set()
        self.anew = False
        self._read(settings)
        self._file: IO[str] = self._open(settings)

    def _read(self, settings: dict[str, object]) -> None:
        try:
            lines = self.path.read_text("utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise VeriQuantError(f"cannot read {self.path}: {error.strerror or error}") from error
        same = False
        for line in lines:
            try:
                content = json.loads(line)
                if isinstance(content, dict) and "settings" in content:
                    same = content["settings"] == settings
                    continue
                record = Record.model_validate(content)
            except (ValueError, ValidationError):
                continue  # a line that was cut off
            if record.crop is not None:
                self.own.add(record.crop)
            if same:
                self.records[record.image] = record
            else:
                self.records.pop(record.image, None)
                self.anew = True

    def _open(self, settings: dict[str, object]) -> IO[str]:
        try:
            file = open(self.path, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            file.write("\n" + json.dumps({"settings": settings}, sort_keys=True) + "\n")
            file.flush()
        except OSError as error:
            raise VeriQuantError(f"cannot write {self.path}: {error.strerror or error}") from error
        return file

    def add(self, record: Record) -> None:
        """Keep a record, at once."""
        self.records[record.image] = record
        try:
            self._file.write(json.dumps(record.model_dump(mode="json"), ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise VeriQuantError(f"cannot write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """End the file."""
        self._file.close()


def write_list(folder: Path, records: Iterable[Record]) -> Path:
    """Write the list of images: a row for each face found, and one for each image without; return its path.

    Points are named by where the image shows them. `chosen` is 1 for the face that was cropped.
    """
    columns = ["image", "outcome", "crop", "faces", "chosen", "score", "x", "y", "width", "height"]
    columns += [f"{point}_{axis}" for point in _POINTS for axis in "xy"] + ["reason"]
    final = folder / LIST
    with (
        atomic_path(final) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        for record in records:
            head = [record.image, record.outcome, record.crop or "", len(record.faces)]
            for place, face in enumerate(record.faces):
                numbers = [*face.box, *(value for point in face.points for value in point)]
                shown = [f"{value:.2f}" for value in numbers]
                writer.writerow([*head, int(place == record.chosen), f"{face.score:.4f}", *shown, record.reason])
            if not record.faces:
                writer.writerow([*head, "", "", *[""] * 14, record.reason])
    return final


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes with a file: its bytes and its time of change in nanoseconds."""
    state = os.stat(path)
    return state.st_size, state.st_mtime_ns
