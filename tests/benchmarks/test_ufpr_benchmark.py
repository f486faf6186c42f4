from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_world import tiny_network
from ufpr_folder import IMAGES, PEOPLE, eye_name, pair_lines, ufpr_folder

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.cli.main import main
from veriquant.data.digest import samples_digest
from veriquant.data.ufpr import PROTOCOLS, is_left, subject
from veriquant.deploy import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.evaluation import embed, evaluate
from veriquant.evaluation.evaluate import count_comparisons
from veriquant.frontends.images import FrontEndStats, decode, image_batches, mirror
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import InputSpec
from veriquant.metrics import Options
from veriquant.metrics.scores import paired_cosines
from veriquant.networks import load_network
from veriquant.study import parse_study, run_study

SPEC = InputSpec(size=(32, 32), color="RGB", mean=(0, 0, 0), std=(1, 1, 1), layout="NCHW", origin="test")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ufpr_folder(tmp_path_factory.mktemp("sets") / "eyes")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_network(tmp_path_factory.mktemp("network") / "tiny.onnx")


@pytest.fixture(scope="module")
def listed(eyes: Path) -> Benchmark:
    return load_benchmark(f"ufpr:{eyes}:open_world:1")


def test_the_listed_pairs_of_a_fold(eyes: Path, listed: Benchmark) -> None:
    names = [sample.name for sample in listed.samples]
    assert len(names) == PEOPLE * IMAGES * 2
    pairs = [
        (names[right], names[left], bool(genuine))
        for left, right, genuine in zip(listed.left, listed.right, listed.genuine, strict=True)
    ]
    lines = [line.split() for file in pair_lines(range(1, PEOPLE + 1)).values() for line in file]
    # the reference is the enrolled side
    assert pairs == [(a, b, label == "1") for a, b, label in lines if label == "1" or subject(a) != subject(b)]
    assert count_comparisons(listed) == {"genuine": 4 * PEOPLE, "impostor": 4 * PEOPLE, "total": 8 * PEOPLE}
    assert listed.persons_note.endswith(
        f"both eyes one person; {PEOPLE} listed impostor pairs of one person are left out"
    )
    assert listed.name == "eyes open_world fold 1"
    assert listed.source == f"ufpr:{eyes}:open_world:1"
    assert listed.search
    assert listed.far == (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    assert listed.folds is None
    assert "nobody tested was trained on" in listed.protocol


def test_left_eyes_are_mirrored_and_both_eyes_are_one_person(eyes: Path, listed: Benchmark) -> None:
    for benchmark in (listed, load_benchmark(f"ufpr-all:{eyes}:open_world:1")):
        people = {}
        for sample, person in zip(benchmark.samples, benchmark.persons.tolist(), strict=True):
            assert sample.mirrored == is_left(sample.name)
            assert people.setdefault(subject(sample.name), person) == person
        assert len(set(people.values())) == PEOPLE


def test_a_mirrored_sample_is_decoded_mirrored(eyes: Path) -> None:
    path = eyes / "periocularCropped" / eye_name(1, 1, "L")
    plain, turned = Sample("a", path), Sample("a", path, mirrored=True)
    for size in (None, (32, 32), (20, 12)):
        assert np.array_equal(decode(turned, size), decode(plain, size)[:, ::-1])
    stats = FrontEndStats()
    (batch,) = image_batches([plain, turned], SPEC, 2, stats=stats)
    assert np.array_equal(batch[1:], mirror(batch[:1], "NCHW"))
    assert not np.array_equal(batch[0], batch[1])
    assert stats.note() == "of 2 images 1 mirrored"
    assert samples_digest([plain]) != samples_digest([turned])


def test_every_test_image_against_every_other(eyes: Path) -> None:
    found = load_benchmark(f"ufpr-all:{eyes}:open_world:1")
    each = 2 * IMAGES
    total = PEOPLE * each * (PEOPLE * each - 1) // 2
    genuine = PEOPLE * each * (each - 1) // 2
    assert found.all_pairs
    assert count_comparisons(found) == {"genuine": genuine, "impostor": total - genuine, "total": total}
    assert load_benchmark(f"ufpr-all:{eyes}:open_world:1:test").digest == found.digest
    validated = load_benchmark(f"ufpr-all:{eyes}:open_world:1:val")
    assert {subject(sample.name) for sample in validated.samples} == {"0103", "0104"}
    assert validated.name == "eyes open_world fold 1, validation, all pairs"
    assert "never tested" in validated.protocol


def test_the_digest_covers_pairs_and_images_and_not_the_place(tmp_path: Path, listed: Benchmark) -> None:
    folder = ufpr_folder(tmp_path / "elsewhere")
    text = f"ufpr:{folder}:open_world:1"
    assert load_benchmark(text).digest == listed.digest
    pairs = folder / "experimentalProtocol" / "open_world" / "test_pairs" / "fold1" / "intra.txt"
    kept = pairs.read_text()
    pairs.write_text("".join(kept.splitlines(keepends=True)[1:]))
    assert load_benchmark(text).digest != listed.digest
    pairs.write_text(kept)
    crops = folder / "periocularCropped"
    (crops / eye_name(1, 1, "R")).write_bytes((crops / eye_name(2, 1, "R")).read_bytes())
    assert load_benchmark(text).digest != listed.digest


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_says_who_is_tested(tmp_path: Path, protocol: str) -> None:
    found = load_benchmark(f"ufpr:{ufpr_folder(tmp_path, protocol, 3)}:{protocol}:3")
    assert PROTOCOLS[protocol].split(",")[0] in found.protocol
    assert found.name.endswith(f"{protocol} fold 3")
    assert found.protocol.endswith(".")


def test_missing_images(tmp_path: Path, listed: Benchmark) -> None:
    folder = ufpr_folder(tmp_path / "eyes")
    gone = eye_name(1, 1, "L")
    (folder / "periocularCropped" / gone).unlink()
    for kind in ("ufpr", "ufpr-all"):
        with pytest.raises(
            VeriQuantError, match=rf"1 of the 72 images that .*test_fold1\.txt lists are missing .*{gone}"
        ):
            load_benchmark(f"{kind}:{folder}:open_world:1")
    found = load_benchmark(f"ufpr:{folder}:open_world:1", allow_missing=True)
    assert found.skipped == (gone,)
    names = [sample.name for sample in found.samples]
    before = [sample.name for sample in listed.samples]
    assert names == [name for name in before if name != gone]
    assert [(names[a], names[b]) for a, b in zip(found.left, found.right, strict=True)] == [
        (before[a], before[b])
        for a, b in zip(listed.left, listed.right, strict=True)
        if gone not in (before[a], before[b])
    ]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "{0}",
            "expected ufpr:DIR:PROTOCOL:FOLD, such as ufpr:{0}:open_world:1; protocols: closed_world, open_world, ",
        ),
        (
            "{0}:open_world",
            "each fold has its own trained network, so it is a benchmark of its own; name one of 1, 2, 3, ",
        ),
        ("{0}:open_world:4", "expected ufpr:DIR:PROTOCOL:FOLD"),
        ("{0}:open:1", "expected ufpr:DIR:PROTOCOL:FOLD"),
        ("{0}:open_world:1:val", "expected ufpr:DIR:PROTOCOL:FOLD"),
        ("{0}/none:open_world:1", "none does not exist"),
        ("{0}:closed_world:1", "closed_world does not exist"),
        ("{0}:open_world:2", "test_fold2.txt"),
    ],
)
def test_what_is_written_wrong_is_told(eyes: Path, argument: str, message: str) -> None:
    with pytest.raises(VeriQuantError) as caught:
        load_benchmark("ufpr:" + argument.format(eyes))
    assert message.format(eyes) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fold_with_nothing_to_compare(tmp_path: Path) -> None:
    folder = ufpr_folder(tmp_path / "eyes")
    (folder / "experimentalProtocol" / "open_world" / "test_pairs" / "fold1" / "inter.txt").unlink()
    with pytest.raises(VeriQuantError, match="no impostor comparison is left"):
        load_benchmark(f"ufpr:{folder}:open_world:1")
    (folder / "experimentalProtocol" / "open_world" / "test_fold1.txt").write_text(f"{eye_name(1, 1, 'R')} 2 -1 -1\n")
    with pytest.raises(VeriQuantError, match="1 images of 1 persons"):
        load_benchmark(f"ufpr-all:{folder}:open_world:1")


def test_both_paths_search_alike(eyes: Path, listed: Benchmark, network: Path) -> None:
    loaded = load_network(network)
    options = Options(far=(0.1,), resamples=0)
    found = evaluate(loaded, listed, options=options).metrics
    implied = evaluate(loaded, load_benchmark(f"ufpr-all:{eyes}:open_world:1"), options=options).metrics
    for name in ("rank-1", "rank-5"):
        assert found[name].value == implied[name].value
    assert found["rank-1"].value == 1


def test_mirroring_brings_the_two_eyes_together(listed: Benchmark, network: Path) -> None:
    loaded = load_network(network)
    embedder = open_embedder(loaded.onnx, loaded.spec, threads=1)

    def between_eyes(samples: tuple[Sample, ...]) -> np.ndarray:
        rows = embed(samples, embedder).embeddings
        return paired_cosines(rows[::2], rows[1::2])  # each image of a right eye is followed by that of the left

    mirrored = between_eyes(listed.samples)
    stored = between_eyes(tuple(replace(sample, mirrored=False) for sample in listed.samples))
    assert mirrored.min() > 0.99  # they are drawn as mirror images and differ by JPEG alone
    assert (stored < mirrored).all()


def test_the_command_line_gives_the_source_s_figures(
    eyes: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> dict:
        out = tmp_path / "result.json"
        given = ["veriquant", "evaluate", str(network), "-b", f"ufpr:{eyes}:open_world:1", "--out", str(out), *more]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        return json.loads(out.read_text())

    result = run("--resamples", "50", "--threads", "1")
    names = ["auc", "eer", "rank-1", "rank-5", *(f"fnmr@fmr=1e-{power}" for power in range(2, 7))]
    assert set(names) <= set(result["metrics"])
    assert result["metrics"]["rank-1"]["ci95"] is not None
    # 48 impostor comparisons support none of the points, and this is what is said
    assert {result["metrics"][name]["support"] for name in names[4:]} == {"none"}
    assert "48 impostor comparisons cannot support FMR 1e-6" in " ".join(capsys.readouterr().out.split())
    assert "fnmr@fmr=1e-6" not in run("--resamples", "0", "--threads", "1", "--far", "0.1")["metrics"]


def test_a_study_takes_it(eyes: Path, network: Path, tmp_path: Path) -> None:
    text = f"""
networks: ["{network}"]
recipes: [int8-dynamic]
benchmarks: ["ufpr:{eyes}:open_world:1"]
latency: null
far: [0.1]
resamples: 20
"""
    (found,) = run_study(parse_study(text, "test"), out=tmp_path, say=lambda _: None).networks
    reference, variant = found.variants
    assert reference.evaluations["eyes open_world fold 1"].metrics["rank-1"].value is not None
    told = {each.metric: each for each in variant.differences["eyes open_world fold 1"]}
    assert told["rank-1"].verdict != "not supported"
