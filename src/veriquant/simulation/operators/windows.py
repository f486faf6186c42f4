"""Where the windows of convolutions and pools lie: ONNX's attributes as (begin, end) for every axis."""

from __future__ import annotations

from dataclasses import dataclass

from veriquant.simulation.operators.site import Site


@dataclass(frozen=True)
class Windows:
    """The windows over the axes after the channels, first axis first."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @property
    def symmetric(self) -> bool:
        """Whether every axis is padded alike at both ends."""
        return all(begin == end for begin, end in self.padding)

    @property
    def begin(self) -> tuple[int, ...]:
        """The padding before every axis."""
        return tuple(begin for begin, _ in self.padding)

    @property
    def flat_padding(self) -> tuple[int, ...]:
        """The padding as `torch.nn.functional.pad` takes it: last axis first."""
        return tuple(n for pair in reversed(self.padding) for n in pair)


def windows(site: Site, kernel: tuple[int, ...]) -> Windows:
    """Return the windows of a convolution or pool; raise `VeriQuantError` where they cannot be simulated."""
    axes = len(kernel)
    if axes not in (1, 2):
        raise site.error(f"it has {axes} axes besides batch and channels, and only 1 or 2 can be simulated")
    stride = tuple(site.attribute("strides", [1] * axes))
    dilation = tuple(site.attribute("dilations", [1] * axes))
    mode = site.choice("auto_pad", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if mode == "NOTSET":
        pads = site.attribute("pads", [0] * 2 * axes)
        padding = tuple(zip(pads[:axes], pads[axes:], strict=True))
    elif mode == "VALID":
        padding = ((0, 0),) * axes
    else:
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple(_same(site, axis, reach[axis], stride[axis], mode == "SAME_UPPER") for axis in range(axes))
    return Windows(kernel, stride, dilation, padding)


def _same(site: Site, axis: int, reach: int, stride: int, upper: bool) -> tuple[int, int]:
    """Return the padding that makes ceil(length / stride) windows (ONNX, Conv, auto_pad)."""
    shape = site.shape()
    length = shape[axis + 2] if shape is not None else None
    if length is not None:
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
    elif stride == 1:
        total = reach - 1
    else:
        raise site.error("its padding depends on the input's size (attribute auto_pad), which is not known beforehand")
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)
