"""Whatever is wrong with what the user gives: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
from command_line import on_a_full_disk
from small_world import study_text, tiny_network


@pytest.fixture
def mine(world: Path, tmp_path: Path) -> Path:
    """A world of this test's own, to be spoilt."""
    return Path(shutil.copytree(world, tmp_path / "world"))


def evaluating(world: Path, *more: object, network: str = "tiny.onnx") -> list[object]:
    return ["evaluate", world / network, "-b", f"lfw:{world}/lfw", "--resamples", 0, *more]


def test_truncated_jpeg(mine, fails, tmp_path):
    victim = mine / "lfw" / "P_2" / "P_2_0001.jpg"
    victim.write_bytes(victim.read_bytes()[:200])
    line = fails(*evaluating(mine, "--out", tmp_path / "r.json"))
    assert "P_2_0001.jpg" in line
    assert "truncated" in line
    assert not (tmp_path / "r.json").exists()


def test_missing_image(mine, fails):
    (mine / "lfw" / "P_3" / "P_3_0002.jpg").unlink()
    assert "P_3_0002" in fails(*evaluating(mine))


def test_missing_image_may_be_allowed_and_is_counted(mine, cli):
    (mine / "lfw" / "P_3" / "P_3_0002.jpg").unlink()
    code, out, _ = cli(*evaluating(mine, "--allow-missing"))
    assert code == 0
    assert "skipped: 1" in out


def test_short_block_in_pairs(mine, fails):
    pairs = mine / "lfw" / "pairs.txt"
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:-3]) + "\n")
    assert "pairs.txt" in fails(*evaluating(mine))


def test_hostile_pickle_executes_nothing(world, fails, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/executed",))

    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([Hostile()], [True])))
    line = fails("evaluate", world / "tiny.onnx", "-b", f"bin:{tmp_path}/lfw.bin")
    assert "lfw.bin" in line
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("verb", ["evaluate", "inspect", "quantize"])
def test_onnx_cut_in_half(mine, fails, verb, tmp_path):
    whole = (mine / "tiny.onnx").read_bytes()
    (mine / "half.onnx").write_bytes(whole[: len(whole) // 2])
    arguments = {
        "evaluate": evaluating(mine, network="half.onnx"),
        "inspect": ["inspect", mine / "half.onnx"],
        "quantize": ["quantize", mine / "half.onnx", "-r", "int8-dynamic", "-o", tmp_path / "o.onnx"],
    }[verb]
    assert "half.onnx" in fails(*arguments)
    assert not (tmp_path / "o.onnx").exists()


def test_onnx_with_two_outputs(mine, cli, fails):
    """Which is taken is said, and another can be named (short rows are rarely embeddings)."""
    tiny_network(mine / "two.onnx", outputs=2)
    code, out, _ = cli(*evaluating(mine, network="two.onnx"))
    assert code == 0
    assert "output 'flat' is taken for the embedding; left aside: 'embedding'" in out
    code, out, _ = cli(*evaluating(mine, "--output", "embedding", network="two.onnx"))
    assert code == 0
    assert "output 'embedding' is taken for the embedding; left aside: 'flat'" in out
    line = fails(*evaluating(mine, "--output", "embeding", network="two.onnx"))
    assert "'embeding'" in line
    assert "'embedding'" in line


def test_checkpoint_of_another_architecture(world, fails, tmp_path):
    import torch

    from veriquant.networks.mobilefacenet import MobileFaceNet

    torch.save(MobileFaceNet(width=0.25).state_dict(), tmp_path / "other.pt")
    line = fails("inspect", f"mobilefacenet-foamliu:{tmp_path}/other.pt")
    assert "other.pt" in line
    assert "mobilefacenet" in line


def test_empty_calibration_folder(world, fails, tmp_path):
    (tmp_path / "empty").mkdir()
    line = fails(
        "quantize", world / "tiny.onnx", "-r", "int8-static", "-c", tmp_path / "empty",
        "-o", tmp_path / "o.onnx",
    )  # fmt: skip
    assert "no images" in line
    assert not (tmp_path / "o.onnx").exists()


def test_no_calibration_at_all(world, fails, tmp_path):
    line = fails("quantize", world / "tiny.onnx", "-r", "int8-static", "-o", tmp_path / "o.onnx")
    assert "--calibration" in line


@pytest.mark.parametrize("verb", ["quantize", "evaluate", "study"])
def test_disk_full_while_writing(world, tmp_path, verb):
    pytest.importorskip("resource")
    file, out = tmp_path / "s.yaml", tmp_path / "out"
    file.write_text(study_text(world, "[fp32-fast]"))
    before = b"what was there before"
    out.mkdir()
    (out / "o.onnx").write_bytes(before)
    (out / "r.json").write_bytes(before)
    arguments = {
        "quantize": ["quantize", world / "tiny.onnx", "-r", "fp32-fast", "-o", out / "o.onnx"],
        "evaluate": evaluating(world, "--out", out / "r.json"),
        "study": ["study", file, "--out", out],
    }[verb]
    line = on_a_full_disk(2000, *arguments)
    assert "cannot write" in line
    assert (out / "o.onnx").read_bytes() == before
    assert (out / "r.json").read_bytes() == before
    assert not list(out.rglob("*.tmp"))
    for entry in (out / "store").rglob("*.onnx"):
        assert entry.stat().st_size == (world / "tiny.onnx").stat().st_size
    assert not (out / "results.json").exists()


def test_unknown_yaml_key(world, fails, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(study_text(world, more="resample: 3"))
    line = fails("study", file)
    assert "unknown key 'resample' (did you mean 'resamples'?)" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study", "nothing.yaml"], "nothing.yaml"),
        (["inspect", "nothing.onnx"], "nothing.onnx"),
        (["inspect", "mobilefacent:x.pt"], "did you mean 'mobilefacenet'"),
        (["inspect", "{world}/tiny.onnx", "--input", "arcfac"], "unknown input convention 'arcfac'"),
        (["inspect", "{world}/tiny.onnx", "--input", "{{sizes: 3}}"], "did you mean 'size'"),
        (["inspect", "{world}/tiny.onnx", "--input", "{{size: [64, 64]}}"], "correct its size"),
        (["evaluate", "{world}/tiny.onnx", "-b", "lfv:x"], "did you mean 'lfw'"),
        (["evaluate", "{world}/tiny.onnx", "-b", "lfw:nothing"], "nothing"),
        (["evaluate", "{world}/tiny.onnx", "-b", "lfw:{world}/lfw", "--far", "3"], "far"),
        (["evaluate", "{world}/tiny.onnx", "-b", "lfw:{world}/lfw", "--runtime", "tensorrt"], "unknown runtime"),
        (["evaluate", "{world}/tiny.onnx", "-b", "lfw:{world}/lfw", "--runtime", "pytorch"], "no PyTorch form"),
        (["evaluate", "{world}/tiny.onnx", "-b", "lfw:{world}/lfw", "--out", "{world}"], "it is a folder"),
        (
            ["evaluate", "{world}/tiny.onnx", "-b", "lfw:{world}/lfw", "--out", "{world}/tiny.onnx/r.json"],
            "cannot write",
        ),
        (["quantize", "{world}/tiny.onnx", "-r", "int9", "-o", "o.onnx"], "unknown recipe 'int9'"),
        (["quantize", "{world}/tiny.onnx", "-r", "int8-dynamic", "--set", "nonsense", "-o", "o.onnx"], "key=value"),
        (
            ["quantize", "{world}/tiny.onnx", "-r", "int8-dynamic", "-o", "{world}/tiny.onnx"],
            "would overwrite what is read",
        ),
    ],
)
def test_what_is_not_there_is_named(world, monkeypatch, fails, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = (world / "tiny.onnx").read_bytes()
    assert words in fails(*(each.format(world=world) for each in arguments))
    assert (world / "tiny.onnx").read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_a_report_needs_results(world, fails, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(study_text(world))
    assert "no results" in fails("study", file, "--out", tmp_path / "out", "--report-only")


def test_damaged_results_are_said(world, fails, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(study_text(world))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text('{"kind": "veriquant-study"')
    line = fails("study", file, "--out", tmp_path / "out", "--report-only")
    assert "results.json is damaged" in line
