"""CFP: celebrities from the front and in profile; FF compares frontal faces, FP frontal with profile."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import Literal

from veriquant.benchmarks.assemble import assemble, folder_of
from veriquant.benchmarks.base import Benchmark
from veriquant.benchmarks.kinds import BENCHMARKS, BenchmarkKind
from veriquant.data.cfp import read_cfp
from veriquant.data.folder import require_folder
from veriquant.errors import VeriQuantError

_WHAT = {"FF": "Frontal faces are compared with frontal faces", "FP": "Frontal faces are compared with profiles"}


def load_cfp(split: Literal["FF", "FP"], argument: str, allow_missing: bool = False) -> Benchmark:
    """Read one split of a CFP folder."""
    kind = f"cfp-{split.lower()}"
    folder = folder_of(argument, kind)
    protocol = require_folder(folder / "Protocol", f"benchmark {kind}")
    return assemble(
        read_cfp(protocol, split),
        name=f"CFP-{split}",
        source=f"{kind}:{argument}",
        protocol=f"{_WHAT[split]}; the threshold for each fold of the protocol is chosen on the others.",
        list_file=protocol,
        root=folder,
        allow_missing=allow_missing,
        person_of=_person,
        persons_note="persons are the numbers of CFP's folders",
    )


def _person(key: str) -> str:
    parts = PurePosixPath(key).parts
    if len(parts) < 3:
        raise VeriQuantError(f"CFP image {key}: expected a path such as Data/Images/001/frontal/01.jpg")
    return parts[-3]


def _register(split: Literal["FF", "FP"], summary: str) -> None:
    name = f"cfp-{split.lower()}"
    layout = "a folder with Protocol/ (Pair_list_F.txt, Pair_list_P.txt, Split/) and Data/Images/001/frontal/01.jpg"
    BENCHMARKS.add(name, BenchmarkKind(name=name, summary=summary, layout=layout, load=partial(load_cfp, split)))


_register("FF", "CFP frontal-frontal: 7,000 comparisons in ten folds")
_register("FP", "CFP frontal-profile: 7,000 comparisons in ten folds, the harder one")
