"""Opening Lightning Fabric: one device or many, and the precision."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from veriquant.errors import VeriQuantError
from veriquant.training.settings import LoopSettings
from veriquant.training.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def require_fabric() -> None:
    """Raise `VeriQuantError` where Lightning Fabric is not installed."""
    try:
        import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise VeriQuantError("training needs Lightning Fabric: pip install 'veriquant[train]'") from error


def open_fabric(settings: LoopSettings, task: Task) -> Fabric:
    """Return Fabric, launched: with several devices, from here on every process runs the same program.

    Raises `VeriQuantError` where Fabric is not installed, or where this machine does not have what the settings want.
    """
    require_fabric()
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    from veriquant.training.one_machine import one_machine_strategy, starts_its_own_processes

    # It tells of every process and precision at the level of information.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    skips = settings.devices != 1 and task.skips_parameters

    def fabric_with(strategy: str | DDPStrategy) -> Fabric:
        return Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            precision=settings.precision,
            strategy=strategy,
        )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 16 bit on the CPU, which is refused below
            fabric = fabric_with("ddp_find_unused_parameters_true" if skips else "auto")
            if isinstance(fabric.strategy, DDPStrategy) and starts_its_own_processes():
                fabric = fabric_with(one_machine_strategy(find_unused_parameters=skips))
    except (ValueError, RuntimeError) as error:
        raise VeriQuantError(
            f"cannot train with accelerator {settings.accelerator!r}, devices {settings.devices!r}, precision "
            f"{settings.precision!r} here: {' '.join(str(error).split())}"
        ) from error
    if settings.precision == "16-mixed" and fabric.device.type == "cpu":
        raise VeriQuantError("precision '16-mixed' needs a GPU; on the CPU take 'bf16-mixed' or '32'")
    fabric.launch()
    return fabric
