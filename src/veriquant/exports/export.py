"""`Export`: a registered kind of file: whose kernels it is laid out for, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass

from veriquant.config import Config, NoSettings
from veriquant.registry import Registry
from veriquant.simulation.targets import KernelTable


@dataclass(frozen=True)
class Export:
    """One registered target of a recipe.

    `table`: the kernels that the network is simulated for, and its file packed for in its own bits (`deploy.pack`).
    None: nothing is simulated; files are built for the runtime's kernels and measured there (`runtime_kernels`).
    """

    name: str
    summary: str
    config: type[Config] = NoSettings
    table: KernelTable | None = None

    @property
    def timed(self) -> bool:
        """Whether its kernels can be timed group by group, which a budget of latency needs."""
        return self.table is not None and self.table.integer_kernels


EXPORTS: Registry[Export] = Registry("export target")
