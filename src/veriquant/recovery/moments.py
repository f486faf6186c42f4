"""`InputMoments`: the moments of what an operation's weight is multiplied by: all that layer-wise recovery needs.

The squared error that a changed weight causes at a layer's output is a quadratic form in the Gram matrix of its inputs,
E‖ΔW·x‖² = Σ over outputs of Δw·E[x·xᵀ]·Δwᵀ, and the error of the mean is ΔW·E[x]. So both are collected once, in full
precision, and every width is then rounded and corrected without images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.progress import working
from veriquant.simulation.pool import one_thread_each
from veriquant.simulation.simulation import BATCH, Simulation
from veriquant.simulation.steps import QuantizationConfig, check_finite
from veriquant.simulation.weighted import Convolution, Weighted

#: Inputs of a weight beyond this many are cut into equal parts, whose correlations with one another are left out:
#: a Gram matrix of all 25,088 inputs of a face network's last layer would take 2.5 GB.
WIDEST = 1152
#: Input vectors at most for an operation, over all images: several for each row of the widest Gram matrix.
SAMPLES = 16384
#: Sums kept side by side, by a thread each. As many on any machine: the order of adding, and so how weights are
#: rounded, must not depend on the number of cores.
_LANES = 2


@dataclass(frozen=True)
class InputMoments:
    """The moments of the inputs x that the rows of a weight meet; x of a convolution is a patch, its padding included.

    A weight (outputs, …) has `groups` groups of outputs, which see inputs of their own, (inputs,) each; `parts` cuts
    these inputs further (see `WIDEST`).
    """

    gram: Tensor
    """E[x·xᵀ], float32, (groups · parts, inputs/parts, inputs/parts)."""
    mean: Tensor
    """E[x], float32, (groups, inputs)."""
    samples: int
    """How many x of each group were seen."""

    @property
    def groups(self) -> int:
        """The number of groups of outputs that see the same inputs."""
        return len(self.mean)

    @property
    def parts(self) -> int:
        """The number of parts that the inputs of a group are cut into."""
        return len(self.gram) // self.groups

    def blocks(self, weight: Tensor) -> Tensor:
        """Return a weight (outputs, …) as its Gram matrices meet it: (groups · parts, outputs/groups, inputs/parts)."""
        rows = weight.reshape(self.groups, len(weight) // self.groups, self.parts, -1)
        return rows.movedim(2, 1).flatten(0, 1)

    def whole(self, blocks: Tensor, shape: Iterable[int]) -> Tensor:
        """Return what `blocks` took apart, as a weight of `shape`."""
        return blocks.reshape(self.groups, self.parts, *blocks.shape[1:]).movedim(1, 2).reshape(tuple(shape))

    def centred(self) -> Tensor:
        """Return the covariances, shaped as `gram`: what is left of the error once the bias makes up for its mean."""
        mean = self.mean.reshape(len(self.gram), -1)
        return self.gram - mean.unsqueeze(2) * mean.unsqueeze(1)

    def mean_output(self, weight: Tensor) -> Tensor:
        """Return the mean of what a weight (outputs, …) computes from these inputs, (outputs,)."""
        return torch.einsum("gri,gi->gr", weight.reshape(self.groups, -1, self.mean.shape[1]), self.mean).flatten()


def collect_moments(
    simulation: Simulation, images: Tensor, operations: Iterable[str] | None = None, *, samples: int = SAMPLES
) -> dict[str, InputMoments]:
    """Return the input moments of `operations` (default: all that have weights), by name, in full precision.

    `images`: standardised, float32, (n, channels, height, width). Of the positions of a convolution, or the rows of a
    product, some are drawn at random, the same in every run, so that an operation sees at most about `samples` inputs.
    Raises `VeriQuantError` for no image, or for one that holds NaN.
    """
    if not len(images):
        raise VeriQuantError("no calibration image: inputs cannot be observed; name a folder with some hundred images")
    check_finite(images, "calibration images")
    every = (name for group in simulation.groups.values() for name in group.weights)
    chosen = list(every if operations is None else operations)
    limit = max(1, samples // len(images))
    lanes = [{name: _Sums(simulation.weighted(name), limit, lane) for name in chosen} for lane in range(_LANES)]

    def fill(lane: int) -> None:
        uses = {name: each.add for name, each in lanes[lane].items()}
        for first in range(lane * BATCH, len(images), _LANES * BATCH):
            _visit(simulation, images[first : first + BATCH], uses)

    with working("inputs of the layers"), one_thread_each(_LANES) as pool:
        list(pool.map(fill, range(_LANES)))
    return {name: _moments([lane.pop(name) for lane in lanes]) for name in chosen}


def _visit(simulation: Simulation, batch: Tensor, uses: Mapping[str, Callable[[Tensor], None]]) -> None:
    """Run a batch, and hand each operation's input to its use."""
    steps = simulation.steps
    due: dict[int, list[str]] = {}
    for name in uses:
        due.setdefault(steps.operations[name], []).append(name)
    program = steps.program(0)
    parts = [QuantizationConfig()]
    with torch.inference_mode():
        env = steps.start(batch)
        for position, index in enumerate(program.order):
            for name in due.get(index, ()):
                uses[name](env[steps.reads(name)])
            steps.advance(index, env, parts)
            for dead in program.dying.get(position, ()):
                env.pop(dead, None)


class _Sums:
    """Sums of x and x·xᵀ over the inputs of one operation; at most `limit` for an image."""

    def __init__(self, module: Weighted, limit: int, seed: int) -> None:
        self._module = module
        self._limit = limit
        self._generator = torch.Generator().manual_seed(seed)
        self._groups = module.groups if isinstance(module, Convolution) else 1
        inputs = module.weight[0].numel()
        self._parts = parts_of(inputs)
        size = inputs // self._parts
        self.gram = torch.zeros(self._groups * self._parts, size, size)
        self.sum = torch.zeros(self._groups, inputs)
        self.count = 0

    def add(self, x: Tensor) -> None:
        if isinstance(self._module, Convolution):
            seen = patches(x.float(), self._module, self._draw)
        else:
            rows = x.float().reshape(len(x), -1, x.shape[-1])
            seen = rows[:, self._draw(rows.shape[1])].reshape(1, -1, x.shape[-1])
        self.count += seen.shape[1]
        self.sum += seen.sum(dim=1)
        blocks = seen.reshape(*seen.shape[:2], self._parts, -1).movedim(2, 1).flatten(0, 1)
        self.gram += blocks.mT @ blocks

    def _draw(self, positions: int) -> Tensor:
        if positions <= self._limit:
            return torch.arange(positions)
        return torch.randperm(positions, generator=self._generator)[: self._limit]


def _moments(sums: list[_Sums]) -> InputMoments:
    count = sum(each.count for each in sums)
    gram, total = sums[0].gram, sums[0].sum
    for other in sums[1:]:
        gram += other.gram
        total += other.sum
    return InputMoments(gram.div_(count), total.div_(count), count)


def parts_of(inputs: int) -> int:
    """Return the least number of equal parts, none beyond `WIDEST`, that so many inputs can be cut into."""
    return next(parts for parts in range(-(-inputs // WIDEST), inputs + 1) if inputs % parts == 0)


def patches(x: Tensor, module: Convolution, draw: Callable[[int], Tensor]) -> Tensor:
    """Return what a convolution multiplies its weight by: (groups, patches, inputs of a group), patch by patch.

    `x`: (n, channels, height, width), or without height for one axis. `draw` chooses from a number of positions, the
    same for every image of the batch; a patch is ordered as ``weight[0].flatten()`` is.
    """
    padded = F.pad(x, module.padded or [n for begin in reversed(module.padding) for n in (begin, begin)])
    kernel = module.weight.shape[2:]
    lengths = [
        (length - (size - 1) * dilation - 1) // stride + 1
        for length, size, dilation, stride in zip(padded.shape[2:], kernel, module.dilation, module.stride, strict=True)
    ]
    # A view of all patches, (n, channels, *positions, *kernel): no number is copied before it is chosen.
    steps = padded.stride()
    view = padded.as_strided(
        (*padded.shape[:2], *lengths, *kernel),
        (
            *steps[:2],
            *(step * stride for step, stride in zip(steps[2:], module.stride, strict=True)),
            *(step * dilation for step, dilation in zip(steps[2:], module.dilation, strict=True)),
        ),
    )
    places: tuple[Tensor, ...] = torch.unravel_index(draw(math.prod(lengths)), lengths)
    index: tuple[slice | Tensor, ...] = (slice(None), slice(None), *places)
    chosen = view[index]  # (n, channels, positions, *kernel)
    by_group = chosen.reshape(len(x), module.groups, -1, chosen.shape[2], math.prod(kernel))
    # (n, groups, channels of a group, positions, kernel) -> (groups, n · positions, channels · kernel)
    return by_group.permute(1, 0, 3, 2, 4).flatten(3).flatten(1, 2)
