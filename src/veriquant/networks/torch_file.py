"""What `torch.save` wrote, read as data: tensors are built, other objects are not, and no code of the file runs.

`torch.load` with ``weights_only=True`` builds tensors and plain containers and stops at the first other object: the
``argparse.Namespace`` of a training script, Lightning's hyper-parameters, a NumPy number, a whole pickled module.
Here each such class stands for an empty placeholder, which takes in the object's attributes and calls nothing, so that
the weights beside it, or inside a pickled module, can be had. What torch itself never admits (``os``, ``sys``, builtins
such as ``eval``) is refused.
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veriquant.errors import VeriQuantError
from veriquant.networks.file_faults import file_fault

#: More kinds of objects than these are in no checkpoint that somebody trained.
_MOST_PLACEHOLDERS = 200
#: Their objects restore themselves from tuples, which an `OrderedDict` cannot take in.
_OPAQUE_MODULES = ("numpy.", "functools.")


@dataclass(frozen=True)
class TorchFile:
    """The content of a file, and the classes and functions whose objects were left placeholders."""

    content: object
    placeholders: tuple[str, ...]


class _Opaque:
    """Stands for an object of the file that is not built. Attributes end up in ``__dict__`` or nowhere."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


class _Attributes(OrderedDict[Any, Any]):
    """Stands for the class of an object with attributes or items: what is made of it is a plain `OrderedDict`.

    torch's reader fills items into that type alone, and attributes into its ``__dict__``.
    """

    def __new__(cls, *_: object, **__: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def read_torch_file(path: Path) -> TorchFile:
    """Read what `torch.save` wrote; `VeriQuantError` names a file that is damaged, hostile or of another kind."""
    import torch

    if damage := file_fault(path):
        raise VeriQuantError(f"{path}: {damage}; get it again")
    placeholders: dict[str, type] = {}
    while True:
        stand_ins: list[Any] = [(kind, name) for name, kind in placeholders.items()]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
                warnings.simplefilter("ignore")
                return TorchFile(torch.load(path, map_location="cpu", weights_only=True), tuple(placeholders))
        except Exception as error:  # torch.load on arbitrary bytes raises nearly anything
            name = _unknown_class(str(error))
            if name is None or name in placeholders or len(placeholders) >= _MOST_PLACEHOLDERS:
                raise VeriQuantError(f"{path}: {_why_refused(str(error), type(error).__name__)}") from error
            base = _Opaque if name.startswith(_OPAQUE_MODULES) else _Attributes
            placeholders[name] = type(name.rpartition(".")[2], (base,), {})


def _unknown_class(message: str) -> str | None:
    """Return the class or function at which torch stopped, None where it stopped for another reason or for builtins."""
    refused = re.search(r"Unsupported global: GLOBAL (\S+)", message)
    return refused[1] if refused and "." in refused[1] else None


def _why_refused(message: str, kind: str) -> str:
    """Return, in a user's words, why `torch.load` refused a file."""
    advice = (
        "and VeriQuant runs no code out of a file; where you trust it, load it yourself and write "
        "torch.save(model.state_dict(), ...)"
    )
    if refused := re.search(r"GLOBAL (\S+)", message):
        return f"holds more than tensors ({refused[1][:80]}), {advice}"
    if re.search("Can only|unrecognized function", message):
        return f"holds objects that cannot be read as data, {advice}"
    detail = message.rsplit("WeightsUnpickler error:", 1)[-1].strip().split("\n")[0].split(". ")[0]
    if " " not in detail:
        detail = f"{kind} {detail}".strip()
    return f"damaged, or no PyTorch checkpoint ({detail[:120]}); get it again"
