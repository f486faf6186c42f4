"""The machine and the library versions that a figure was measured with."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Instruction sets that decide which integer kernels a runtime has, as Linux names them.
_TELLING = (
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "avx_vnni_int8",
    "amx_int8",
    "asimddp",
    "i8mm",
)
_LIBRARIES = ("veriquant", "numpy", "scipy", "onnx", "onnxruntime", "openvino", "torch", "pillow")


@cache
def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets of this processor that matter to integer kernels; empty where they are unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            flags = set(value.split())
            return tuple(name for name in _TELLING if name in flags)
    return ()


def has_integer_dot_product() -> bool:
    """Return whether the processor adds products of 8-bit integers without saturating at 16 bits (VNNI and kin)."""
    exact = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"}
    return bool(exact.intersection(instruction_sets()))


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, instruction sets, system and Python version of this machine."""
    return {
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1),
        "memory_gb": _memory_gb(),
        "instruction_sets": list(instruction_sets()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": sys.version.split()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on; those not installed are left out."""
    found = {"python": sys.version.split()[0]}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None
