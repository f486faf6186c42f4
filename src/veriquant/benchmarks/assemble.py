"""What every protocol shares: from listed pairs and found files to a `Benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from veriquant.benchmarks.base import Benchmark
from veriquant.data.digest import samples_digest
from veriquant.data.folder import require_folder
from veriquant.data.listed_images import ListedImages, other_ending, same_letters
from veriquant.data.pair import Pair
from veriquant.errors import VeriQuantError
from veriquant.files import given_path, json_digest
from veriquant.frontends.sample import Sample

FOLDS = 10


def folder_of(argument: str, kind: str) -> Path:
    """Return the folder that the user named after the colon, or raise `VeriQuantError`."""
    return require_folder(given_path(argument), f"benchmark {kind}")


def best_root(roots: Iterable[Path], keys: Sequence[str]) -> Path:
    """Return the folder that holds most of the images called `keys` (a sample of them); the first among equals."""
    some = keys[:: max(1, len(keys) // 50)]

    def hits(root: Path) -> int:
        images = ListedImages(root)
        return sum(images.find(key) is not None for key in some)

    return max(roots, key=hits)


def listed(pairs: Sequence[Pair]) -> list[str]:
    """Return the images that pairs name, each once, in the order in which they first occur."""
    return list(dict.fromkeys(key for pair in pairs for key in (pair.left, pair.right)))


def find_images(
    keys: Sequence[str], root: Path, list_file: Path, allow_missing: bool
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the images called `keys` that are there below `root`, by key, and the keys of those that are missing.

    Raises `VeriQuantError` where some are missing, unless `allow_missing`, and where all are.
    """
    found = ListedImages(root).find_all(keys)
    missing = [key for key in keys if key not in found]
    if missing and (not allow_missing or not found):
        few = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        advice = ", or leave out their comparisons with --allow-missing" if found else ""
        raise VeriQuantError(
            f"{len(missing)} of the {len(keys)} images that {list_file} lists are missing in {root}: {few}; "
            f"check the folder{advice}"
        )
    return found, tuple(missing)


def with_other_endings(protocol: str, found: Mapping[str, Path]) -> str:
    """Return the sentence on a protocol, and how many of its images have another ending than the list gives."""
    count = sum(other_ending(key, path) for key, path in found.items())
    return f"{protocol} {count} of its images have another ending than the list gives." if count else protocol


def require_both_kinds(genuine: npt.NDArray[np.bool_], list_file: Path) -> None:
    """Raise `VeriQuantError` unless there are genuine and impostor comparisons."""
    if genuine.all() or not genuine.any():
        side = "impostor" if genuine.all() else "genuine"
        raise VeriQuantError(f"{list_file}: no {side} comparison is left, and a benchmark needs both kinds")


def assemble(
    pairs: Sequence[Pair],
    *,
    name: str,
    source: str,
    protocol: str,
    list_file: Path,
    root: Path,
    allow_missing: bool,
    person_of: Callable[[str], str] | None,
    persons_note: str,
) -> Benchmark:
    """Find the images of `pairs` below `root` and return the benchmark.

    `person_of` gives a person's name from an image's key; None: persons are inferred from the genuine comparisons.
    A genuine comparison of two differently named persons joins them; `persons_note` then says how often.
    """
    found, missing = find_images(listed(pairs), root, list_file, allow_missing)
    kept = [pair for pair in pairs if pair.left in found and pair.right in found]
    numbers: dict[Path, int] = {}
    index = {key: numbers.setdefault(found[key], len(numbers)) for key in listed(kept)}
    samples = tuple(Sample(_name(path, root), path) for path in numbers)
    genuine = np.array([pair.genuine for pair in kept], dtype=np.bool_)
    require_both_kinds(genuine, list_file)
    left = np.array([index[pair.left] for pair in kept], dtype=np.int64)
    right = np.array([index[pair.right] for pair in kept], dtype=np.int64)
    if person_of is None:
        persons = joined(len(samples), left[genuine], right[genuine])
    else:
        persons, doubt = _named_persons(index, len(samples), person_of, left, right, genuine)
        persons_note += doubt
    return finish(
        name=name,
        source=source,
        protocol=with_other_endings(protocol, found),
        samples=samples,
        left=left,
        right=right,
        genuine=genuine,
        folds=_folds(kept),
        persons=persons,
        skipped=missing,
        persons_known=person_of is not None,
        persons_note=persons_note,
    )


def finish(
    *,
    name: str,
    source: str,
    protocol: str,
    samples: tuple[Sample, ...],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    genuine: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64] | None,
    persons: npt.NDArray[np.int64],
    skipped: tuple[str, ...] = (),
    persons_known: bool = True,
    persons_note: str = "",
    all_pairs: bool = False,
    search: bool = False,
    far: tuple[float, ...] = (),
) -> Benchmark:
    """Return the benchmark with its digest over the images' names and contents, comparisons, folds and persons."""
    stated: dict[str, object] = {"folds": folds is not None, "all_pairs": all_pairs, "skipped": list(skipped)}
    settings = json_digest(stated | ({"search": True} if search else {}))
    arrays = [array.astype("<i8").tobytes() for array in (left, right, genuine, persons)]
    if folds is not None:
        arrays.append(folds.astype("<i8").tobytes())
    return Benchmark(
        name=name,
        source=source,
        protocol=protocol,
        samples=samples,
        left=left,
        right=right,
        genuine=genuine,
        folds=folds,
        persons=persons,
        digest=samples_digest(samples, settings.encode(), *arrays),
        skipped=skipped,
        persons_known=persons_known,
        persons_note=persons_note,
        all_pairs=all_pairs,
        search=search,
        far=far,
    )


def joined(count: int, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a person for each of `count` samples, so that the two sides of every comparison given are one person."""
    links = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def contiguous_folds(genuine: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
    """Cut comparisons into ten folds in the order of the file; None unless each has comparisons of both kinds."""
    cuts = np.array_split(np.arange(len(genuine)), FOLDS)
    if not all(len(cut) and genuine[cut].any() and not genuine[cut].all() for cut in cuts):
        return None
    return np.repeat(np.arange(FOLDS, dtype=np.int64), [len(cut) for cut in cuts])


def interleaved_folds(genuine: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
    """Put a tenth of the genuine and a tenth of the impostor comparisons in each fold; None where they are too few."""
    folds = np.empty(len(genuine), dtype=np.int64)
    for kind in (genuine, ~genuine):
        count = int(kind.sum())
        if count < FOLDS:
            return None
        folds[kind] = np.arange(count) * FOLDS // count
    return folds


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _folds(pairs: Sequence[Pair]) -> npt.NDArray[np.int64] | None:
    folds = [pair.fold for pair in pairs]
    return None if None in folds else np.array(folds, dtype=np.int64)


def _named_persons(
    index: dict[str, int],
    count: int,
    person_of: Callable[[str], str],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    genuine: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], str]:
    numbers: dict[str, int] = {}
    persons = np.empty(count, dtype=np.int64)
    for key, sample in index.items():
        persons[sample] = numbers.setdefault(same_letters(person_of(key)), len(numbers))
    same = persons[left] == persons[right]
    doubt = ""
    if torn := int((genuine & ~same).sum()):
        merged = joined(len(numbers), persons[left[genuine]], persons[right[genuine]])
        persons = merged[persons]
        doubt += f"; {torn} genuine comparisons join differently named persons, who count as one"
    if contrary := int((~genuine & same).sum()):
        doubt += f"; {contrary} impostor comparisons are of one person by name, and are kept as the protocol has them"
    return persons, doubt
