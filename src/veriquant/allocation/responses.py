"""What a network answers when one quantizer group alone is quantized: the engine under every sensitivity list.

The plain way runs the whole network for every entry. Here
- everything before the changed group is computed once: the search walks through the network, and branches off a copy
  for a group where its first quantizer stands;
- all candidates of a group run as one batch, each part of it with its own weights and quantizers, wherever the images
  lie along the first axis;
- images go in pieces whose largest tensor stays in the processor's caches, several pieces at a time, one a thread.

The numbers are those of the plain way up to the order of floating-point sums.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from veriquant.simulation.pool import one_thread_each
from veriquant.simulation.precision import Precision
from veriquant.simulation.quantizer_cache import QuantizerCache
from veriquant.simulation.simulation import as_images
from veriquant.simulation.steps import Env, Program, QuantizationConfig, Steps

Embeddings = npt.NDArray[np.float32]
Candidates = Mapping[str, Sequence[Precision]]

#: The largest tensor of a piece, all candidates together: what two cores' caches hold of it.
_PIECE_BYTES = 8 << 20
_LARGEST_PIECE = 32
#: Images whose state is held at once: a few hundred megabytes for a large network.
BLOCK = 64


@dataclass(frozen=True)
class Response:
    """A group's embeddings under each of its candidates, (images, dim) float32 each."""

    group: str
    embeddings: Mapping[Precision, Embeddings]


def distinct(
    fitted: QuantizerCache, group: str, candidates: Sequence[Precision]
) -> dict[tuple[int, int], list[Precision]]:
    """Return the candidates by what they change: without weights, W4A8 and W8A8 are one."""
    members = fitted.simulation.groups[group]
    found: dict[tuple[int, int], list[Precision]] = {}
    for each in candidates:
        key = (each.weight_bits if members.weights else 0, each.activation_bits if members.activations else 0)
        found.setdefault(key, []).append(each)
    return found


def responses(
    fitted: QuantizerCache,
    images: Tensor,
    candidates: Candidates,
    *,
    threads: int | None = None,
    done: Callable[[str], bool] = lambda group: False,
) -> Iterator[Response]:
    """Yield each group's embeddings under its candidates, in the network's order.

    `images`: standardised, float32, (n, …), at most `BLOCK` of them for a large network. `threads`: pieces at a time,
    by default one a core. `done` tells of a group whose response is known already: it is skipped.
    """
    steps = fitted.simulation.steps
    images = as_images(images)
    jobs = [_Job.of(fitted, group, each) for group, each in candidates.items() if each and not done(group)]
    jobs.sort(key=lambda job: job.first)
    state = _State(steps, images, [job.program for job in jobs])
    with one_thread_each(threads or os.cpu_count() or 1) as pool:
        waiting: list[tuple[_Job, list[Future[Tensor]]]] = []
        for job in jobs:
            state.advance_to(job.first)
            waiting.append((job, [pool.submit(job.run, steps, piece) for piece in job.pieces(state)]))
            # Pieces that wait hold on to the state that they begin with: never more than a few groups' worth.
            while len(waiting) > 2:
                yield _collected(*waiting.pop(0))
        for job, futures in waiting:
            yield _collected(job, futures)


@dataclass(frozen=True)
class _Job:
    """One group: where its first quantizer stands, and a change for every distinct candidate."""

    group: str
    names: Sequence[Sequence[Precision]]
    changes: Sequence[QuantizationConfig]
    first: int
    head: Mapping[str, int]
    program: Program
    together: bool
    """Whether the images lie along the first axis wherever the candidates differ, so that one batch holds them all."""

    @classmethod
    def of(cls, fitted: QuantizerCache, group: str, candidates: Sequence[Precision]) -> _Job:
        by_change = distinct(fitted, group, candidates)
        changes = [fitted.change({group: each[0]}) for each in by_change.values()]
        steps = fitted.simulation.steps
        tensors = {name for change in changes for name in change.activations}
        operations = {name for change in changes for name in change.weights}
        # A quantizer acts on what a step has made, so the step after it is the first to differ.
        places = [steps.names[name] + 1 for name in tensors] + [steps.operations[name] for name in operations]
        first = min(places, default=steps.count)
        head = {name: steps.names[name] for name in tensors if steps.names[name] < first}
        differing = [steps.names[name] for name in tensors] + [steps.reads(name) for name in operations]
        together = all(index == steps.input or steps.batched[index] for index in differing)
        return cls(group, list(by_change.values()), changes, first, head, steps.program(first), together)

    def pieces(self, state: _State) -> Iterator[Env]:
        """Yield the state to begin with for each piece of the images."""
        fitting = _PIECE_BYTES // max(1, self.program.bytes * len(self.changes))
        size = max(1, min(_LARGEST_PIECE, fitting))
        for start in range(0, state.count, size):
            yield state.piece(self.program, start, start + size)

    def run(self, steps: Steps, piece: Env) -> Tensor:
        """Return the embeddings of a piece, one candidate after the other: (candidates · images, dim)."""
        with torch.inference_mode():
            if not self.together:
                return torch.cat([self._finish(steps, dict(piece), [change]) for change in self.changes])
            env = {
                i: torch.cat([value] * len(self.changes)) if steps.is_stacked(i, value) else value
                for i, value in piece.items()
            }
            return self._finish(steps, env, self.changes)

    def _finish(self, steps: Steps, env: Env, changes: Sequence[QuantizationConfig]) -> Tensor:
        if not self.program.divisible:
            return steps.finish(steps.program(0), env, changes)
        for name, index in self.head.items():
            env[index] = steps.quantize(name, env[index], changes)
        return steps.finish(self.program, env, changes)


class _State:
    """The full-precision network as far as it has been computed, for all images."""

    def __init__(self, steps: Steps, images: Tensor, programs: Sequence[Program]) -> None:
        self._steps = steps
        self._images = images
        self.count = len(images)
        self._env = steps.start(images)
        self._at = 0
        self._last_use = steps.last_uses()
        for program in programs:
            for index in program.live:
                self._last_use[index] = max(self._last_use.get(index, 0), program.first)

    def advance_to(self, first: int) -> None:
        """Compute all steps before `first`, and let go of what nothing needs from there on."""
        with torch.inference_mode():
            while self._at < first:
                self._steps.advance(self._at, self._env, [QuantizationConfig()])
                self._at += 1
        for index in [i for i in self._env if self._last_use.get(i, 0) < first and i not in self._steps.constants]:
            del self._env[index]

    def piece(self, program: Program, start: int, stop: int) -> Env:
        """Return what `program` begins with, for some of the images."""
        constants = self._steps.constants
        if not program.divisible:
            return {self._steps.input: self._images[start:stop], **constants}
        env = {i: self._env[i] for i in program.live}
        return {
            **{i: value[start:stop] if self._steps.is_stacked(i, value) else value for i, value in env.items()},
            **constants,
        }


def _collected(job: _Job, futures: Sequence[Future[Tensor]]) -> Response:
    parts = [future.result().float() for future in futures]
    stacked = [part.reshape(len(job.changes), -1, part.shape[-1]) for part in parts]
    embeddings = torch.cat(stacked, dim=1).numpy()
    return Response(
        job.group,
        {precision: embeddings[i] for i, names in enumerate(job.names) for precision in names},
    )
