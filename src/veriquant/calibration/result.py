"""`QuantizationResult`: what came out of a recipe: the network, its plan, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veriquant.errors import VeriQuantError
from veriquant.results import Allocation, Layer, StageRecord
from veriquant.simulation.plan import Plan

if TYPE_CHECKING:
    from veriquant.networks.network import Network


@dataclass(frozen=True)
class QuantizationResult:
    """A network under a recipe: the file, what was done to each layer, and what was measured, stage by stage."""

    onnx: bytes = field(repr=False)
    layers: list[Layer] = field(repr=False)
    records: list[StageRecord] = field(default_factory=list, repr=False)
    plan: Plan | None = field(default=None, repr=False)
    """The widths of each quantizer group, where the network was simulated."""
    allocation: Allocation | None = field(default=None, repr=False)
    """How they were chosen, where they were."""
    average_bits: float | None = None
    """Mean width of a weight, mixtures within a layer counted weight by weight; None: what `layers` say."""
    iteration: int | None = None
    """Of an allocation that goes in iterations, the one that this is of, counted from 1."""
    save_pack: Callable[[Path], None] | None = field(default=None, repr=False)
    """Writes the same as a safetensors file for PyTorch, where it was simulated: see `deploy.pack.load_module`."""
    source: Network | None = field(default=None, repr=False)
    """The network that it was made from."""

    @property
    def notes(self) -> list[str]:
        """What a reader must know, in plain words."""
        return [record.sentence for record in self.records]

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """What was measured, by the name of the stage: ``metrics["agreement"]["cosine"]``."""
        return {record.name: dict(record.figures) for record in self.records if record.name != "remark"}

    @property
    def network(self) -> Network:
        """The quantized network, to be evaluated, compared and measured like any other."""
        from dataclasses import replace

        from veriquant.networks.network import network_digest

        if self.source is None:
            raise VeriQuantError("this result does not know the network that it was made from")
        digest = network_digest(self.onnx, self.source.spec)
        return replace(self.source, onnx=self.onnx, digest=digest, module=None, path=None)

    def save(self, path: str | Path) -> Path:
        """Write the network: ``NAME.onnx``, or ``NAME.safetensors`` for PyTorch where it was simulated."""
        from veriquant.files import write_bytes

        path = Path(path)
        if path.suffix == ".safetensors":
            if self.save_pack is None:
                raise VeriQuantError(f"{path}: this recipe makes ONNX files alone; give a name that ends in .onnx")
            self.save_pack(path)
        else:
            write_bytes(path, self.onnx)
        return path
