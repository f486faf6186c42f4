"""What a target computes in: which widths exist for which operation, and which operations its kernels carry along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from veriquant.registry import Registry
from veriquant.simulation.precision import Precision

_ACTIVATIONS = ("Relu", "Clip", "PRelu", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh")


@dataclass(frozen=True)
class KernelTable:
    """The kernels of a target.

    `candidates`: the widths that a search chooses from, the highest first: that is its baseline. `only`: for an ONNX
    operator, the widths that its kernels have, where they are fewer. `fused`: operators that a kernel applies to its
    result before it is quantized: no quantizer stands in front of them. `integer_kernels`: whether a packed file should
    be laid out for the runtime's integer kernels, or compute the simulation's very numbers.
    """

    name: str
    summary: str
    candidates: tuple[Precision, ...]
    fused: tuple[str, ...]
    only: Mapping[str, tuple[Precision, ...]] = field(default_factory=dict)
    integer_kernels: bool = False

    def widths(self, operator: str) -> tuple[Precision, ...]:
        """Return the candidates that `operator` has a kernel for."""
        own = self.only.get(operator)
        return self.candidates if own is None else tuple(each for each in self.candidates if each in own)


def _precisions(text: str) -> tuple[Precision, ...]:
    return tuple(Precision.parse(each) for each in text.split())


TARGETS: Registry[KernelTable] = Registry("target")
TARGETS.add(
    "generic",
    KernelTable(
        "generic",
        "W8A16, W8A8 and W4A8 for every operation, activation functions inside the kernels (Pandey et al., Table 1)",
        _precisions("W8A16 W8A8 W4A8"),
        _ACTIVATIONS,
    ),
)
TARGETS.add(
    "wide",
    KernelTable(
        "wide",
        "eight pairs of 4, 6, 8 and 16 bits for every operation (Pandey et al., Table 2)",
        _precisions("W8A16 W8A8 W6A8 W8A6 W6A6 W4A6 W6A4 W4A4"),
        _ACTIVATIONS,
    ),
)
_X86_FLOAT = _precisions("FP32 W8A32")
TARGETS.add(
    "onnxruntime-x86",
    KernelTable(
        "onnxruntime-x86",
        "ONNX Runtime on x86: 8-bit integer kernels or floating point, weights stored in 8 or 4 bits",
        (*_X86_FLOAT, *_precisions("W8A8 W4A8")),
        ("Relu", "Clip"),
        dict.fromkeys(("PRelu", "HardSwish", "HardSigmoid", "Tanh", "Softmax", "LayerNormalization"), _X86_FLOAT),
        integer_kernels=True,
    ),
)
