"""Images that are tested and images that teach: what is recognised, and what is said where nothing can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.data.record_io import write_records
from veriquant.data.training_set import load_training_set
from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample
from veriquant.study.train_test_overlap import files_tested, left_out, none_trained_on, refuse_tested


@pytest.fixture
def people(world: Path) -> Benchmark:
    return load_benchmark(f"folder:{world}/people")


def in_a_container(benchmark: Benchmark) -> Benchmark:
    samples = tuple(Sample(sample.name, content=sample.read()) for sample in benchmark.samples)
    return replace(benchmark, name="packed", samples=samples)


def test_files_under_other_names_are_recognised(world: Path, people: Benchmark, tmp_path: Path) -> None:
    for file in (world / "people").rglob("*.jpg"):
        linked = tmp_path / "linked" / file.relative_to(world / "people")
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.symlink_to(file)
    taught = load_training_set(f"folder:{tmp_path / 'linked'}")
    assert len(files_tested([people])) == len(taught)
    with pytest.raises(VeriQuantError, match=rf"key 'training_set': {len(taught)} images of folder:.* are compared by"):
        refuse_tested("training_set", taught, people)


def test_images_in_containers_are_not_recognised_and_that_is_said(
    world: Path, people: Benchmark, tmp_path: Path
) -> None:
    contents = [sample.read() for sample in people.samples]
    write_records(tmp_path / "pack", contents.__getitem__, list(np.arange(len(contents)) // 2))
    pack, files = load_training_set(f"rec:{tmp_path / 'pack'}"), load_training_set(f"folder:{world}/people")
    refuse_tested("training_set", pack, people)
    assert "may be among them" in none_trained_on(pack, [people])
    refuse_tested("training_set", files, in_a_container(people))
    assert none_trained_on(files, [in_a_container(people)]).startswith("none but perhaps those of packed")
    assert none_trained_on(files, []) == "none"


def test_what_was_left_out_is_said_as_far_as_it_is_known(people: Benchmark) -> None:
    samples = list(people.samples)
    assert left_out(samples, []) == "left out"
    assert left_out(samples, [in_a_container(people)]).startswith("left out; those of packed")
    assert left_out(list(in_a_container(people).samples), [people]).startswith("may be among them")
