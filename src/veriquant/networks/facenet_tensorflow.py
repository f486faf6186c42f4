"""FaceNet's weights in TensorFlow's layout: the names and axes of davidsandberg/facenet, under facenet-pytorch's names.

Its checkpoints are found dumped, variable by variable, into files of PyTorch or safetensors:
``InceptionResnetV1/Repeat/block35_1/Branch_1/Conv2d_0b_3x3/weights``, kernels of shape (h, w, inputs, outputs), and
batch-norms without a scale (``gamma``), which is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROOT = "InceptionResnetV1"
_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3", "4b_3x3")
#: The convolutions of each branch, in order.
_Branches = tuple[tuple[str, ...], ...]
_BLOCK35: _Branches = (("1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3", "0c_3x3"))
_BLOCK17: _Branches = (("1x1",), ("0a_1x1", "0b_1x7", "0c_7x1"))
_BLOCK8: _Branches = (("1x1",), ("0a_1x1", "0b_1x3", "0c_3x1"))
_MIXED6A: _Branches = (("1a_3x3",), ("0a_1x1", "0b_3x3", "1a_3x3"))
_MIXED7A: _Branches = (("0a_1x1", "1a_3x3"), ("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_3x3", "1a_3x3"))
_BLOCKS: tuple[tuple[str, str, _Branches, bool], ...] = (
    *((f"Repeat/block35_{n + 1}", f"repeat_1.{n}", _BLOCK35, True) for n in range(5)),
    ("Mixed_6a", "mixed_6a", _MIXED6A, False),
    *((f"Repeat_1/block17_{n + 1}", f"repeat_2.{n}", _BLOCK17, True) for n in range(10)),
    ("Mixed_7a", "mixed_7a", _MIXED7A, False),
    *((f"Repeat_2/block8_{n + 1}", f"repeat_3.{n}", _BLOCK8, True) for n in range(5)),
    ("Block8", "block8", _BLOCK8, True),
)
_NORM = {"beta": "bias", "gamma": "weight", "moving_mean": "running_mean", "moving_variance": "running_var"}


def from_tensorflow(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return a checkpoint of TensorFlow's layout with its network under facenet-pytorch's names; None for any other.

    The network's tensors come behind `ROOT` and a dot; all others keep their names.
    """
    import torch

    names = dict(variable_names())
    found: dict[str, Tensor] = {}
    translated = 0
    for name, tensor in tensors.items():
        variable = name.removesuffix(":0").replace(".", "/")
        variable = variable[variable.find(f"{ROOT}/") :]
        own = names.get(variable)
        if own is None:
            found[name] = tensor
            continue
        translated += 1
        axes = (3, 2, 0, 1) if tensor.ndim == 4 else tuple(reversed(range(tensor.ndim)))
        found[f"{ROOT}.{own}"] = tensor.permute(axes).contiguous()
    if translated < len(names) / 2:
        return None
    for name in list(found):
        if name.endswith(".running_var"):
            scale = name.removesuffix("running_var") + "weight"
            found.setdefault(scale, torch.ones_like(found[name]))
    return found


def variable_names() -> Iterator[tuple[str, str]]:
    """Yield the name of each variable in TensorFlow and in facenet-pytorch."""
    for name in _STEM:
        yield from _convolution(f"Conv2d_{name}", f"conv2d_{name.partition('_')[0]}")
    for theirs, ours, branches, joined in _BLOCKS:
        for number, branch in enumerate(branches):
            for place, name in enumerate(branch):
                own = f"{ours}.branch{number}" + ("" if len(branch) == 1 else f".{place}")
                yield from _convolution(f"{theirs}/Branch_{number}/Conv2d_{name}", own)
        if joined:
            yield f"{ROOT}/{theirs}/Conv2d_1x1/weights", f"{ours}.conv2d.weight"
            yield f"{ROOT}/{theirs}/Conv2d_1x1/biases", f"{ours}.conv2d.bias"
    yield f"{ROOT}/Bottleneck/weights", "last_linear.weight"
    yield from _norm("Bottleneck", "last_bn")


def _convolution(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{ROOT}/{theirs}/weights", f"{ours}.conv.weight"
    yield from _norm(theirs, f"{ours}.bn")


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for variable, own in _NORM.items():
        yield f"{ROOT}/{theirs}/BatchNorm/{variable}", f"{ours}.{own}"
