"""Batches for training: decoded, augmented and standardised on worker processes, the same ones whoever does it.

Batch b of epoch e is a function of (seed, e, b) alone. The order of an epoch is one permutation drawn from (seed, e);
what is done to an image is drawn from (seed, e, image). So neither the number of workers, nor where an epoch is taken
up again, nor how many devices share a batch changes a number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from veriquant.data.training_set import TrainingSet
from veriquant.errors import VeriQuantError
from veriquant.frontends.images import FrontEndStats, Pixels, decode, normalise
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import InputSpec
from veriquant.training.augment import Augmentation, Pipeline
from veriquant.training.workers import arrangement, starting

#: What separates the two streams of random numbers.
_ORDER, _IMAGE = 1, 2
#: Batches that each worker has ready or in hand.
_AHEAD = 2
#: Seconds within which the news of a dead process arrives.
_SIGNAL = 1.0

Place = tuple[int, int]
"""(epoch, batch)."""
Loaded = tuple[Tensor, Tensor, FrontEndStats]


@dataclass(frozen=True)
class _Failure:
    """What went wrong in a worker: torch would send an exception home with its traceback in its message."""

    message: str


class Batches:
    """The batches of a training set: images float32 (b, channels, height, width) by `spec`, labels int64.

    `batch_size` counts the images of a batch over all `world_size` processes; process `rank` gets its slice of each
    (equal slices where the size divides, else they differ by one image). Images are decoded as evaluation decodes them,
    mirrored where the set says so, augmented, and standardised; channels come first whatever the layout of `spec`.

    With `workers` > 0 that is done in so many processes, kept from epoch to epoch and ended by `close` or with the
    object; 0 does it in this one. They are no forks of this process and never see its script, whatever it has loaded
    and whether or not it asks for its ``__name__``; the training set goes to them by pickling. `pinned` puts batches
    into page-locked memory, from which a GPU copies while it computes. An image that cannot be read or decoded raises
    `VeriQuantError` naming it, from a worker too. `stats` counts what the front end had to alter in the images given so
    far.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        spec: InputSpec,
        batch_size: int,
        *,
        seed: int,
        workers: int = 0,
        augmentation: Augmentation | None = None,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
        pinned: bool = False,
    ) -> None:
        if batch_size < world_size:
            raise VeriQuantError(
                f"the batch size must be at least {world_size}, an image a process; found {batch_size}"
            )
        if workers < 0 or seed < 0:
            raise VeriQuantError(f"workers and seed must not be negative, found {workers} and {seed}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        self.stats = FrontEndStats()
        self.batch_size = batch_size
        self._batches = _Batches(
            training_set,
            spec.model_copy(update={"layout": "NCHW"}),
            batch_size,
            seed,
            (augmentation or Augmentation()).pipeline(),
            rank,
            world_size,
        )
        count = len(training_set)
        self._length = count // batch_size if drop_last else -(-count // batch_size)
        if not self._length:
            raise VeriQuantError(
                f"training set {training_set.name} has {count} images, fewer than a batch of {batch_size}; "
                "take smaller batches"
            )
        self._places = _Places()
        self._workers, self._pinned = workers, pinned
        self._loader: DataLoader[Loaded | _Failure] | None = None
        self._turn = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._length

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of the batches `start`, `start` + 1, … of epoch `number`.

        One epoch at a time: to ask for another ends the one before, and to go on with that is an error.
        """
        if number < 0 or not 0 <= start <= self._length:
            raise ValueError(f"epoch {number} from batch {start}: an epoch has the batches 0 to {self._length - 1}")
        self._turn += 1
        return self._follow(self._turn, [(number, batch) for batch in range(start, self._length)])

    def plain(self, chosen: npt.NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield some images of the set with their labels, in order, not augmented, in batches of this process's own."""
        batches = replace(self._batches, augment=Augmentation().pipeline())
        for start in range(0, len(chosen), self._batches.batch_size):
            loaded = batches.of(0, chosen[start : start + self._batches.batch_size])
            if isinstance(loaded, _Failure):
                raise VeriQuantError(loaded.message)
            yield loaded[:2]

    def close(self) -> None:
        """End the epoch and the worker processes; another epoch would start new ones."""
        self._turn += 1
        self._loader = None

    def _follow(self, turn: int, places: list[Place]) -> Iterator[tuple[Tensor, Tensor]]:
        source: Iterator[Loaded | _Failure] | None = None
        for _ in places:
            if turn != self._turn:
                raise RuntimeError("this epoch was ended by a later one, or by close()")
            source = source or self._source(places)
            loaded = _next(source) if self._workers else next(source)
            if loaded is None:
                source = None  # what still holds the other workers: they end with close()
                self.close()
                raise VeriQuantError(
                    "a worker process that loads images was killed, most often for want of memory (or of /dev/shm); "
                    "take fewer workers or smaller batches"
                )
            if isinstance(loaded, _Failure):
                source = None  # the error's traceback must not keep workers that close() is to end
                raise VeriQuantError(loaded.message)
            images, labels, stats = loaded
            self.stats.add(stats)
            yield images, labels

    def _source(self, places: list[Place]) -> Iterator[Loaded | _Failure]:
        if not self._workers:
            return map(self._batches.__getitem__, places)
        self._places.now = places
        if self._loader is None:
            self._loader = DataLoader(
                self._batches,
                batch_size=None,
                sampler=self._places,
                num_workers=self._workers,
                collate_fn=_as_it_is,
                prefetch_factor=_AHEAD,
                persistent_workers=True,
                pin_memory=self._pinned,
                # its own, else each epoch would draw from torch's generator, and models with dropout not resume alike
                generator=torch.Generator(),
                **arrangement(__name__),
            )
        with starting(f"training set {self._batches.training_set.name}"):
            return iter(self._loader)


class _Places(Sampler[Place]):
    """The batches that workers are to make now; changed from epoch to epoch, while the workers stay."""

    def __init__(self) -> None:
        self.now: list[Place] = []

    def __iter__(self) -> Iterator[Place]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


@dataclass
class _Batches(Dataset[Loaded | _Failure]):
    """Makes the batch of any (epoch, batch); what a worker process gets (torch lets it compute on one thread)."""

    training_set: TrainingSet
    spec: InputSpec
    batch_size: int
    seed: int
    augment: Pipeline
    rank: int
    world_size: int
    _order: tuple[int, npt.NDArray[np.int64]] | None = field(default=None, init=False)

    def __getitem__(self, place: Place) -> Loaded | _Failure:
        epoch, batch = place
        whole = self._permutation(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        first, end = (len(whole) * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return self.of(epoch, whole[first:end])

    def of(self, epoch: int, chosen: npt.NDArray[np.int64]) -> Loaded | _Failure:
        """Return a batch of chosen images."""
        stats = FrontEndStats()
        pixels = np.empty((len(chosen), *self.spec.size, 3), dtype=np.uint8)
        try:
            for number, index in enumerate(chosen.tolist()):
                pixels[number] = self._image(epoch, index, stats)
        except VeriQuantError as error:
            return _Failure(str(error))
        labels = self.training_set.labels[chosen]
        return torch.from_numpy(normalise(pixels, self.spec)), torch.from_numpy(labels), stats

    def _image(self, epoch: int, index: int, stats: FrontEndStats) -> Pixels:
        content = self.training_set.read(index)
        sample = Sample(self.training_set.where(index), content=content)
        pixels = decode(sample, self.spec.size, stats, grey=self.spec.color == "GREY")
        if self.training_set.mirrored(index):
            pixels = pixels[:, ::-1]
        return self.augment(pixels, np.random.default_rng((_IMAGE, self.seed, epoch, index)))

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of an epoch; each worker draws it itself and keeps one, so that nothing large is sent."""
        if self._order is None or self._order[0] != epoch:
            draw = np.random.default_rng((_ORDER, self.seed, epoch))
            self._order = epoch, draw.permutation(len(self.training_set))
        return self._order[1]


def _next(source: Iterator[Loaded | _Failure]) -> Loaded | _Failure | None:
    """Return what comes next from workers, None where one of them is dead."""
    try:
        return next(source)
    except (RuntimeError, OSError, EOFError) as error:
        if str(error).startswith("Caught "):  # by which torch carries an exception of our code out of a worker
            raise
        if not _tells_of_death(error):
            raise VeriQuantError(
                f"images cannot be had from worker processes ({type(error).__name__}: {' '.join(str(error).split())}); "
                "take fewer workers, or workers: 0 to load them in this process"
            ) from error
        if not isinstance(error, RuntimeError):
            # torch's RuntimeError follows, out of a signal handler: it had better come here than anywhere
            with suppress(RuntimeError):
                time.sleep(_SIGNAL)
    return None


def _tells_of_death(error: Exception) -> bool:
    """Return whether it is of a dead worker: torch says so, or the pipe or the socket to it is broken."""
    if isinstance(error, RuntimeError):
        # "... exited unexpectedly" and "... is killed by signal"
        return str(error).startswith("DataLoader worker (pid")
    gone = isinstance(error, FileNotFoundError) and error.filename is None  # a socket, no file that anybody named
    return gone or isinstance(error, ConnectionError | EOFError)


def _as_it_is(loaded: Any) -> Any:
    return loaded
