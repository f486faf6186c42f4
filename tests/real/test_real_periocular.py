"""The real eyes in UFPR-Periocular's layout: every protocol and fold is what its lists say."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from veriquant.benchmarks import load_benchmark
from veriquant.data.ufpr import FOLDS, PROTOCOLS, is_left, list_file, pair_files, read_list, subject
from veriquant.evaluation import evaluate
from veriquant.evaluation.evaluate import count_comparisons
from veriquant.metrics import Options
from veriquant.networks import load_network

pytestmark = pytest.mark.real

#: images and people tested, comparisons of each kind, by protocol and fold; counted with `wc` and `cut` in the lists
COUNTS = {
    **{("closed_world", fold): (3000, 500, 3000) for fold in FOLDS},
    **{(name, fold): (3340, 167, 15030) for name in ("open_world", "open_world_valopen") for fold in (1, 2)},
    **{(name, 3): (3320, 166, 14940) for name in ("open_world", "open_world_valopen")},
}


@pytest.fixture(scope="module")
def eyes(real: Path) -> Path:
    return real / "periocular" / "cfp-eyes"


@pytest.mark.parametrize(("protocol", "fold"), COUNTS)
def test_a_fold_is_what_its_lists_say(eyes: Path, protocol: str, fold: int) -> None:
    images, people, each_kind = COUNTS[protocol, fold]
    found = load_benchmark(f"ufpr:{eyes}:{protocol}:{fold}")
    assert count_comparisons(found) == {"genuine": each_kind, "impostor": each_kind, "total": 2 * each_kind}
    assert (len(found.samples), len(np.unique(found.persons))) == (images, people)
    assert sum(sample.mirrored for sample in found.samples) == images // 2
    (path,) = pair_files(eyes, protocol, fold)
    names = [sample.name for sample in found.samples]
    lines = [
        f"{names[probe]} {names[reference]} {genuine:d}"
        for probe, reference, genuine in zip(found.right, found.left, found.genuine, strict=True)
    ]
    assert lines == path.read_text().splitlines()
    # people are the lists', whatever eye: genuine within one, impostors across two
    assert np.array_equal(found.persons[found.left] == found.persons[found.right], found.genuine)


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_is_in_which_list(eyes: Path, protocol: str, fold: int) -> None:
    lists = {part: read_list(list_file(eyes, protocol, fold, part)) for part in ("train", "val", "test")}
    people = {part: {subject(eye.name) for eye in found} for part, found in lists.items()}
    for one, other in combinations(lists, 2):
        assert not {eye.name for eye in lists[one]} & {eye.name for eye in lists[other]}
        shared = people[one] & people[other]
        if protocol == "closed_world":
            assert shared == people[one] == people[other]
        elif protocol == "open_world" and other == "val":
            assert shared == people["train"] == people["val"]
        else:
            assert not shared
    for found in lists.values():
        assert sum(is_left(eye.name) for eye in found) * 2 == len(found)


def test_a_network_for_faces_knows_something_of_eyes(real: Path, eyes: Path) -> None:
    network = load_network(f"{real}/networks/mobileface-v2/mobileface-v2.onnx")
    found = evaluate(network, load_benchmark(f"ufpr-all:{eyes}:open_world_valopen:1:val"), options=Options(resamples=0))
    assert found.comparisons["total"] == 1120 * 1119 // 2
    # far from a network for eyes (chance: an AUC of 0.5, and 19 mates among 1,119 images)
    assert 0.6 < found.metrics["auc"].value < 0.9
    assert found.metrics["rank-1"].value > 10 * 19 / 1119
