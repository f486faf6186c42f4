"""Networks that a name alone brings: a family and a checkpoint inside the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veriquant.errors import VeriQuantError
from veriquant.registry import Registry

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint that ships with the package."""

    name: str
    family: str
    file: Path
    summary: str
    citation: str

    def checkpoint(self) -> Path:
        """Return the path of the checkpoint, or raise where the installation lacks it."""
        if not self.file.is_file():
            raise VeriQuantError(
                f"network {self.name!r}: its checkpoint {self.file} is not in this installation; install veriquant "
                "again, from a wheel or a full checkout"
            )
        return self.file


PRETRAINED: Registry[Pretrained] = Registry("pretrained network")

PRETRAINED.add(
    "demo-mobilefacenet",
    Pretrained(
        name="demo-mobilefacenet",
        family="mobilefacenet",
        file=_PACKAGE / "demo" / "mobilefacenet-demo.safetensors",
        summary="narrow MobileFaceNet trained on synthetic identities, to try everything out; no use on real faces",
        citation="trained by the veriquant project on images that it draws itself",
    ),
)
