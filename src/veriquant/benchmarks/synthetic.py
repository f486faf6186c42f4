"""`demo:`: the embedded default, synthetic faces of people that no training or calibration has seen."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from veriquant.benchmarks.base import Benchmark, Sample
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.calibration import Calibration
from veriquant.data.digest import samples_digest
from veriquant.demo.faces import SPLIT_PEOPLE, VERSION, Pixels, draw, identity_seed, uniform
from veriquant.errors import VeriQuantError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Size:
    """How large a synthetic benchmark is; people are shared out evenly among the folds."""

    people: int
    images: int
    """Pictures of each person."""
    folds: int
    pairs: int
    """Genuine comparisons in a fold, and as many impostor comparisons."""


#: By what follows ``demo:``.
SIZES: dict[str, Size] = {"": Size(200, 6, 10, 300), "small": Size(60, 5, 10, 60)}


def demo_benchmark(location: str = "") -> Benchmark:
    """Draw the benchmark ``demo:`` or, with `location` ``small``, ``demo:small``: the same at every call."""
    if location not in SIZES:
        raise VeriQuantError(f"demo:{location}: no such synthetic benchmark; write demo: or demo:small")
    size = SIZES[location]
    samples = tuple(
        Sample(f"person-{person:03d}-{image}.bmp", content=_encode(draw(identity_seed("evaluation", person), image)))
        for person in range(size.people)
        for image in range(size.images)
    )
    left, right, genuine, folds = _comparisons(size)
    persons = np.repeat(np.arange(size.people, dtype=np.int64), size.images)
    arrays = (left, right, genuine.astype(np.int64), folds, persons)
    return Benchmark(
        name="demo" if not location else f"demo-{location}",
        source=f"demo:{location}",
        protocol=(
            f"Synthetic faces that VeriQuant draws itself ({size.people} invented people, {size.images} pictures of "
            f"each, no real data) are compared one with one; each of {size.folds} folds has {size.pairs} genuine and "
            f"{size.pairs} impostor comparisons of people who are in no other fold, nor in what the demo's network was "
            "trained or calibrated on, and its threshold is chosen on the others."
        ),
        samples=samples,
        left=left,
        right=right,
        genuine=genuine,
        folds=folds,
        persons=persons,
        digest=samples_digest(samples, f"demo {VERSION}".encode(), *(a.astype("<i8").tobytes() for a in arrays)),
        synthetic=True,
    )


def demo_calibration(images: int = 500, seed: int = 0) -> Calibration:
    """Draw `images` unlabelled synthetic faces, one a person, of people in neither the benchmark nor the training."""
    if images < 1:
        raise VeriQuantError(f"a calibration set needs at least 1 image, {images} were asked for")
    if seed < 0:
        raise VeriQuantError(f"the seed of a synthetic calibration set must be 0 or more, found {seed}")
    people = (uniform(images, 6, seed) * SPLIT_PEOPLE).astype(np.int64)
    samples = tuple(
        Sample(f"calibration-{image:04d}.bmp", content=_encode(draw(identity_seed("calibration", person), image)))
        for image, person in enumerate(people.tolist())
    )
    return Calibration(
        source="demo: (synthetic faces drawn by VeriQuant)",
        samples=samples,
        seed=seed,
        digest=samples_digest(samples, f"demo {VERSION}".encode()),
        requested=images,
        available=SPLIT_PEOPLE,
    )


def _encode(pixels: Pixels) -> bytes:
    """Return the image as a BMP file: lossless, and the same bytes whatever compressor is installed."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="BMP")
    return file.getvalue()


def _comparisons(size: Size) -> tuple[Ints, Ints, npt.NDArray[np.bool_], Ints]:
    """Choose the comparisons of each fold at random, none twice, among all that its own people allow."""
    in_fold = size.people // size.folds
    person = np.repeat(np.arange(in_fold), size.images)
    first, second = np.triu_indices(in_fold * size.images, 1)
    same = person[first] == person[second]
    left, right = [], []
    for fold in range(size.folds):
        order = np.argsort(uniform(len(first), 7, fold), kind="stable")
        chosen = np.concatenate((order[same[order]][: size.pairs], order[~same[order]][: size.pairs]))
        left.append(first[chosen] + fold * in_fold * size.images)
        right.append(second[chosen] + fold * in_fold * size.images)
    genuine = np.tile(np.repeat([True, False], size.pairs), size.folds)
    folds = np.repeat(np.arange(size.folds, dtype=np.int64), 2 * size.pairs)
    return np.concatenate(left).astype(np.int64), np.concatenate(right).astype(np.int64), genuine, folds


def _load(argument: str, allow_missing: bool = False) -> Benchmark:
    return demo_benchmark(argument)


BENCHMARKS.add(
    "demo",
    BenchmarkKind(
        name="demo",
        summary="synthetic faces that VeriQuant draws itself, to try everything out: says nothing about real faces",
        layout="nothing on disk; 'demo:small' is a fifth of it",
        load=_load,
        argument="",
    ),
)
