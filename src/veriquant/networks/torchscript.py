"""TorchScript files, opened without running anything of them that this package has not looked at.

`torch.jit.load` reads data and compiles the file's source; both are done by PyTorch's own interpreter, without Python.
It runs code of the file in one place, the ``__setstate__`` of an object, and objects of C++ classes (quantized layers)
restore themselves too. A file with either is refused *before* it is loaded. What is left is a graph, and every node of
it, with all that it calls inlined, must be in the list of `torch_operators` before it is run or exported: functions of
tensors and numbers, none of which reads, writes or reaches anything. PyTorch's reader itself is trusted as much as that
of ONNX files is.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from veriquant.errors import VeriQuantError
from veriquant.networks.torch_operators import script_kind_allowed

#: What in a file's source or data means that loading it would run code.
_RUNS = {
    b"__setstate__": "objects that restore themselves by code of the file",
    b"torch.classes": "objects of C++ classes, such as layers that are quantized already",
}


def open_torchscript(path: Path) -> tuple[Any, tuple[int, ...] | None]:
    """Return the module of a TorchScript file, on the CPU and evaluating, and the shape of its example input, if kept.

    Raises `VeriQuantError` for files that are damaged, or that hold anything but a function of tensors.
    """
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        records = reader.get_all_records()
        for name in records:
            if name.startswith("code/") or name.endswith(".pkl"):
                content = reader.get_record(name)
                for mark, what in _RUNS.items():
                    if mark in content:
                        raise VeriQuantError(
                            f"{path}: a TorchScript file with {what}; VeriQuant runs no code out of a file: "
                            "export the network (in floating point) to ONNX"
                        )
        shape = _example_shape(reader.get_record("traced_inputs.pkl")) if "traced_inputs.pkl" in records else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: Any = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            graph = module.inlined_graph
    except VeriQuantError:
        raise
    except Exception as error:  # the reader raises RuntimeError for nearly everything
        detail = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise VeriQuantError(f"{path}: damaged, or no whole TorchScript file ({detail}); get it again") from error
    if foreign := sorted({kind for kind in _kinds(graph) if not script_kind_allowed(kind)}):
        raise VeriQuantError(
            f"{path}: its program uses {', '.join(foreign[:3])[:120]}, which is no function of tensors that VeriQuant "
            "lets a file run; export the network to ONNX"
        )
    return module, shape


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield str(node.kind())
        for inner in node.blocks():
            yield from _kinds(inner)


def _example_shape(content: bytes) -> tuple[int, ...] | None:
    """Return the shape of the first tensor in the pickle of a traced module's inputs, told from its instructions."""
    numbers: list[int] = []
    inside = False
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name == "MARK":
                numbers, inside = [], True
            elif code.name.startswith(("BININT", "LONG", "INT")) and isinstance(argument, int):
                numbers.append(argument)
            elif code.name == "TUPLE" and inside:
                if len(numbers) == 4 and all(0 < number < 1 << 16 for number in numbers):
                    return tuple(numbers)
                inside = False
            elif code.name not in ("BINPUT", "LONG_BINPUT"):
                inside = False
    except Exception:  # a damaged example is no example
        return None
    return None
