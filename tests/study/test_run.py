from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_world import picture, study_text

from veriquant.deploy.environment import machine
from veriquant.errors import VeriQuantError
from veriquant.files import json_digest
from veriquant.networks import load_network
from veriquant.recipes import shipped_recipes
from veriquant.results import StudyResult
from veriquant.study import parse_study, read_result, run_study


def run(
    world: Path, out: Path, recipes: str = "[int8-dynamic, int8-static]", more: str = ""
) -> tuple[StudyResult, list[str]]:
    """Run a small study; return its result and what it said."""
    said: list[str] = []
    result = run_study(parse_study(study_text(world, recipes, more), "test"), out=out, say=said.append)
    return result, said


def computed(said: list[str]) -> list[str]:
    return [line for line in said if line.startswith("[") and "already there" not in line]


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small study has run."""
    out = tmp_path_factory.mktemp("done")
    run(world, out)
    return out


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(done, tmp_path / "out"))


def test_a_study_is_whole(world, tmp_path):
    result, said = run(world, tmp_path)
    assert result == read_result(tmp_path)
    (network,) = result.networks
    assert [variant.name for variant in network.variants] == ["fp32", "int8-dynamic", "int8-static"]
    assert [variant.reference for variant in network.variants] == [True, False, False]
    assert network.parameters > 0
    for variant in network.variants:
        artefact = tmp_path / variant.artefact
        assert artefact.stat().st_size == variant.size_bytes
        assert load_network(artefact).spec.size == load_network(world / "tiny.onnx").spec.size
        assert [each.batch for each in variant.latency] == [1]
        (evaluation,) = variant.evaluations.values()
        assert evaluation.metrics["accuracy"].value is not None
        assert evaluation.metrics["accuracy"].ci95 is not None
        if not variant.reference:
            (differences,) = variant.differences.values()
            assert "accuracy" in {each.metric for each in differences}
            (compatibility,) = variant.compatibility.values()
            assert len(compatibility.cells) == 4
    reference, given = (onnx.load(path) for path in (tmp_path / network.variants[0].artefact, world / "tiny.onnx"))
    assert reference.graph == given.graph
    assert result.calibration["images"] == 8
    assert result.machine == machine()
    assert not result.synthetic
    assert sum(line.startswith("[") for line in said) == 3 + 3 + 3 + 1


def test_a_second_run_computes_nothing_and_says_the_same(world, copied):
    before = read_result(copied)
    again, said = run(world, copied)
    assert computed(said) == []
    assert again.networks == before.networks
    assert again.seconds == pytest.approx(before.seconds)


def test_an_added_recipe_computes_only_itself(world, copied):
    _, said = run(world, copied, "[int8-dynamic, int8-static, fp32-fast]")
    assert all("fp32-fast" in line or "latency" in line for line in computed(said))
    assert any("fp32-fast" in line for line in computed(said))


def test_a_renamed_network_is_not_computed_again(world, copied):
    text = study_text(world).replace(f'["{world}/tiny.onnx"]', f'[{{source: "{world}/tiny.onnx", name: other}}]')
    said: list[str] = []
    result = run_study(parse_study(text, "test"), out=copied, say=said.append)
    assert computed(said) == []
    (evaluation,) = result.networks[0].variants[1].evaluations.values()
    assert evaluation.network["name"] == "other"
    assert (copied / "artefacts" / "other-fp32.onnx").exists()


def test_other_margins_and_resamples_leave_the_embeddings_alone(world, copied):
    _, said = run(world, copied, more="margin: 0.02")
    assert {line.split("] ")[1].split(":")[0] for line in computed(said)} == {"figures"}


def test_a_changed_setting_is_computed_again(world, copied):
    recipes = "[int8-dynamic, {recipe: int8-static, settings: {reduce_range: true}}]"
    _, said = run(world, copied, recipes)
    assert any("int8-static" in line for line in computed(said))
    assert not any("int8-dynamic" in line and "latency" not in line for line in computed(said))


def test_a_changed_image_is_noticed(world, tmp_path):
    mine = Path(shutil.copytree(world, tmp_path / "world"))
    run(mine, tmp_path / "out", "[int8-dynamic]")
    (mine / "lfw" / "P_1" / "P_1_0001.jpg").write_bytes(picture(77, 1))
    _, said = run(mine, tmp_path / "out", "[int8-dynamic]")
    kinds = {line.split("] ")[1].split(":")[0] for line in computed(said)}
    assert kinds == {"embeddings", "figures"}


def test_a_damaged_entry_is_computed_again_and_said(world, copied):
    victim = max((copied / "store" / "embeddings").glob("*.npy"), key=lambda path: path.name)
    content = bytearray(victim.read_bytes())
    content[-3] ^= 255
    victim.write_bytes(content)
    before = read_result(copied)
    result, said = run(world, copied)
    assert len(computed(said)) == 1
    assert "damaged" in result.settings["notes"][0]
    assert [v.evaluations for v in result.networks[0].variants] != []
    for old, new in zip(before.networks[0].variants, result.networks[0].variants, strict=True):
        assert {k: e.metrics for k, e in old.evaluations.items()} == {k: e.metrics for k, e in new.evaluations.items()}


def forge(entry: Path, content: bytes | None, facts: object) -> None:
    """Replace what an entry of the store holds, its hashes put right; None keeps the content, or the facts."""
    record = json.loads(entry.read_bytes())
    (body,) = (path for path in entry.parent.glob(f"{entry.stem}.*") if path != entry)
    if content is not None:
        body.write_bytes(content)
    if facts is not None:
        record["facts"] = facts
    record["digest"] = hashlib.sha256(body.read_bytes()).hexdigest()
    record["facts_digest"] = json_digest(record["facts"])
    entry.write_text(json.dumps(record))


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


FORGERIES = {
    "nothing": (b"", None),
    "an empty list": (b"[]", None),
    "an empty object": (b"{}", None),
    "nested lists": (b"[" * 100_000, None),
    "other numbers": (saved(np.zeros((3, 4), np.float32)), None),
    "numbers of another type": (saved(np.zeros((96, 16))), None),
    "no numbers": (saved(np.full((96, 16), np.nan, np.float32)), None),
    "no facts": (None, {}),
    "facts that are none": (None, {"seconds": "long", "seconds_total": None, "layers": 7, "stats": [], "plan": 1}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_entries_are_computed_again_and_said(world, copied, forgery):
    entries = sorted((copied / "store").rglob("*.json"))
    kinds = {entry.parent.name for entry in entries}
    assert kinds == {"artefacts", "embeddings", "figures", "comparisons", "latency"}
    for entry in entries:
        forge(entry, *FORGERIES[forgery])
    before = read_result(copied)
    result, said = run(world, copied)
    noted = {note.split("the stored ")[1].split()[0] for note in result.settings["notes"] if "damaged" in note}
    assert noted == kinds
    assert sum("is damaged: it is computed again" in line for line in said) == len(entries)
    for old, new in zip(before.networks[0].variants, result.networks[0].variants, strict=True):
        assert {k: e.metrics for k, e in old.evaluations.items()} == {k: e.metrics for k, e in new.evaluations.items()}


def test_images_of_a_benchmark_are_never_calibrated_on(world, tmp_path):
    text = study_text(world, "[int8-static]").replace(f"{world}/photos", f"{world}/lfw")
    result = run_study(parse_study(text, "test"), out=tmp_path, say=lambda line: None)
    assert "left out" in result.calibration["images of benchmarks"]
    assert "left out" in result.calibration["choice"][0]


@pytest.mark.parametrize(
    ("recipes", "more", "words"),
    [
        ("[int8-dynamic, int8-dynamic]", "", "two recipes are called 'int8-dynamic'"),
        ("[int9]", "", "unknown recipe 'int9'"),
        ("[{recipe: int8-static, settings: {no_such: 1}}]", "", "no_such"),
        ("[int8-dynamic]", "runtime: onnxrutime", "did you mean 'onnxruntime'"),
        ("[int8-dynamic]", "runtime: pytorch", "cannot run quantized networks"),
        ("[int8-dynamic]", "verdict_metric: rank-7", "no benchmark of network 'tiny' gives 'rank-7'"),
    ],
)
def test_what_cannot_be_done_is_said(world, tmp_path, recipes, more, words):
    with pytest.raises(VeriQuantError) as caught:
        run(world, tmp_path, recipes, more)
    assert words in str(caught.value)


def test_every_image_against_every_other(world, tmp_path):
    people = Path(shutil.copytree(world / "lfw", tmp_path / "people"))
    (people / "pairs.txt").unlink()
    text = study_text(world, "[int8-dynamic]").replace(f"lfw:{world}/lfw", f"folder:{people}")
    result = run_study(parse_study(text, "test"), out=tmp_path / "out", say=lambda line: None)
    (evaluation,) = result.networks[0].variants[1].evaluations.values()
    assert evaluation.comparisons["total"] == 96 * 95 // 2
    assert result.settings["verdict_metric"] == "tar@far=1e-1"


def test_calibration_that_is_missing_is_said_before_any_work(world, tmp_path):
    text = "\n".join(line for line in study_text(world, "[int8-static]").splitlines() if "calibration" not in line)
    with pytest.raises(VeriQuantError, match="'calibration'"):
        run_study(parse_study(text, "test"), out=tmp_path, say=lambda line: None)
    assert not (tmp_path / "artefacts").exists()


def test_a_failure_keeps_what_was_done(world, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise VeriQuantError("the clock has stopped")

    with monkeypatch.context() as patch:
        patch.setattr("veriquant.study.timing.measure_latency", fails)
        with pytest.raises(VeriQuantError, match=r"the clock has stopped.*what is done so far is kept") as caught:
            run(world, tmp_path, "[int8-dynamic]")
        assert "tiny · latency" in str(caught.value)
    _, said = run(world, tmp_path, "[int8-dynamic]")
    assert [line.split("] ")[1].split(":")[0] for line in computed(said)] == ["latency"]


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_other_runtimes(world, tmp_path, runtime):
    pytest.importorskip("openvino")
    result, _ = run(world, tmp_path, "[fp32-fast]", f"runtime: {runtime}")
    assert {variant.runtime for variant in result.networks[0].variants} <= {"onnxruntime", "openvino"}
    if runtime == "auto":
        assert "is the fastest" in result.settings["notes"][0]
        _, said = run(world, tmp_path, "[fp32-fast]", "runtime: auto")
        assert computed(said) == []


@pytest.mark.parametrize("recipe", sorted(shipped_recipes()))
def test_every_shipped_recipe_runs_in_a_study(world, tmp_path, recipe):
    more = f"training_set: 'folder:{world}/people'" if shipped_recipes()[recipe].labelled() else ""
    result, _ = run(world, tmp_path, f"[{recipe}]", more)
    assert result.networks[0].variants[-1].name == recipe


SLOW = """
import sys, time
import veriquant.study.embeddings as embeddings
from veriquant.study import run_study
embeddings.BLOCK = 8                        # several blocks, so that a kill falls among them
true_embed = embeddings.embed
def slow(*args, **kwargs):
    time.sleep(float(sys.argv[3]))
    return true_embed(*args, **kwargs)
embeddings.embed = slow
run_study(sys.argv[1], out=sys.argv[2])
"""


def test_a_killed_study_goes_on_where_it_was(world, tmp_path):
    """Kill the process itself, with SIGKILL, at several moments; what was finished is never computed again."""
    out, file = tmp_path / "out", tmp_path / "study.yaml"
    file.write_text(study_text(world, "[int8-dynamic]"))

    def start(pause: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SLOW, str(file), str(out), str(pause)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def entries() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (out / "store").rglob("*.json")}

    seen: dict[Path, int] = {}
    kills = 0
    for wanted in (2, 5, 9):  # kill once so many entries are there
        process = start(0.25)
        while process.poll() is None and len(entries() if out.exists() else {}) < wanted:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        assert not (out / "results.json").exists() or process.returncode == 0
        now = entries()
        assert all(now.get(path, at) == at for path, at in seen.items()), "an entry was computed twice"
        seen = {**seen, **now}
    assert kills == 3
    last = start(0.0)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    now = entries()
    assert all(now.get(path, at) == at for path, at in seen.items()), "an entry was computed twice"
    assert not list((out / "store").rglob("*.tmp"))
    assert not list((out / "store" / "blocks").iterdir())
    fresh, _ = run(world, tmp_path / "fresh", "[int8-dynamic]")
    for one, other in zip(read_result(out).networks[0].variants, fresh.networks[0].variants, strict=True):
        assert one.digest == other.digest
        assert one.differences == other.differences
        assert {k: e.metrics for k, e in one.evaluations.items()} == {
            k: e.metrics for k, e in other.evaluations.items()
        }
