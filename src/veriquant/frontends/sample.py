"""`Sample`: one image as a benchmark or a calibration set names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from veriquant.errors import VeriQuantError


@dataclass(frozen=True)
class Sample:
    """One image: a file, or encoded bytes that came out of a container, under the name that errors use."""

    name: str
    path: Path | None = None
    content: bytes | None = field(default=None, repr=False)
    mirrored: bool = False
    """The network is shown the left-right mirror image of what is stored, such as a left eye among right ones."""

    @property
    def where(self) -> str:
        """The file that the user can look at: the path where there is one, else the name."""
        return self.name if self.path is None else str(self.path)

    def read(self) -> bytes:
        """Return the encoded image; a file that cannot be read raises `VeriQuantError` naming it."""
        if self.content is not None:
            return self.content
        if self.path is None:
            raise ValueError(f"sample {self.name!r} has neither a path nor content")
        try:
            with open(self.path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise VeriQuantError(f"cannot read image {self.path}: {error.strerror or error}") from error
