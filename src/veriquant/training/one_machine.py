"""Processes of one machine that train together: they meet in a file and talk over the loopback device.

PyTorch's usual meeting place, a TCP store, asks the name server for the name of every address it connects to, that of
this machine itself included, and gloo asks for the machine's own. Here nobody is asked, and no port is open to others.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist

if TYPE_CHECKING:
    from lightning_fabric.strategies.ddp import DDPStrategy

#: Of the environment: the folder where the processes meet. Those that the first one starts inherit it.
MEETING = "VERIQUANT_MEETING"
_LOOPBACK = ("lo", "lo0")


def starts_its_own_processes() -> bool:
    """Return whether Fabric starts the processes, all on this machine: not torchrun, nor a cluster's scheduler."""
    from lightning_fabric.plugins.environments.lsf import LSFEnvironment
    from lightning_fabric.plugins.environments.mpi import MPIEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if MEETING in os.environ:
        return True
    starters = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    return "LOCAL_RANK" not in os.environ and not any(starter.detect() for starter in starters)


def one_machine_strategy(*, find_unused_parameters: bool) -> DDPStrategy:
    """Return Fabric's data parallelism over processes that it starts on this machine alone.

    The folder where they meet is made here, before any of them starts, and goes when this process ends.
    """
    from lightning_fabric.strategies.ddp import DDPStrategy

    class OneMachine(DDPStrategy):
        def setup_environment(self) -> None:
            """Meet the other processes; Fabric, which would do so itself, finds that done."""
            if not dist.is_initialized():
                for device in (name for _, name in socket.if_nameindex() if name in _LOOPBACK):
                    os.environ.setdefault("GLOO_SOCKET_IFNAME", device)
                dist.init_process_group(
                    self.process_group_backend or dist.get_default_backend_for_device(self.root_device),
                    init_method=(Path(os.environ[MEETING]) / "processes").as_uri(),
                    rank=self.local_rank,
                    world_size=self.num_processes,
                    timeout=self._timeout,
                )
                atexit.register(dist.destroy_process_group)
            super().setup_environment()

    if MEETING not in os.environ:
        os.environ[MEETING] = folder = tempfile.mkdtemp(prefix="veriquant-processes-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return OneMachine(find_unused_parameters=find_unused_parameters)
