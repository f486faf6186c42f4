"""Bad data and settings of `quantize` recipes that train, and of `train`: one line, nothing lost."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from command_line import Cli, Fails, on_a_full_disk

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from small_world import picture
from training_world import PEOPLE, people_folders, training_file

from veriquant.data.record_io import write_records
from veriquant.training.checkpoint import LAST, read_state

FEW = {"epochs": 1, "train_images": 40, "batch_size": 8, "check_images": 6, "images": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return people_folders(tmp_path / "world")


@pytest.fixture
def pack(folder: Path) -> Path:
    """A RecordIO pack of the same people."""
    write_records(
        folder / "rec", lambda index: picture(index % PEOPLE, index // PEOPLE), [i % PEOPLE for i in range(48)]
    )
    return folder / "rec"


def quantizing(world: Path, out: Path, *more: object, images: str = "photos") -> list[object]:
    few = [part for key, value in FEW.items() for part in ("--set", f"{key}={value}")]
    return ["quantize", world / "tiny.onnx", "-r", "qat-w4a8", "--images", world / images, "-o", out, *few, *more]


def test_a_plan_of_what_was_trained_is_not_taken_for_it(cli: Cli, fails: Fails, world: Path, tmp_path: Path) -> None:
    """Its widths alone would give the calibrated network under the trained one's name."""
    plan = tmp_path / "plan.json"
    code, said, errors = cli(*quantizing(world, tmp_path / "o.onnx", "--plan", plan))
    assert code == 0, errors
    assert "what was trained is in o.onnx alone" in " ".join(said.split())
    line = fails("quantize", world / "tiny.onnx", "--plan", plan, "-c", world / "photos", "-o", tmp_path / "p.onnx")
    assert "plan.json: describes a network that was trained" in line
    assert not (tmp_path / "p.onnx").exists()


def test_a_number_of_images_is_in_plain_digits(fails: Fails, world: Path, tmp_path: Path) -> None:
    for images in ("²", "00"):
        line = fails("quantize", world / "tiny.onnx", "--images", images, "-o", tmp_path / "o.onnx")
        assert images in line


# Images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [0, 1])
def test_too_few_images(fails: Fails, world: Path, tmp_path: Path, images: int) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for photo in sorted((world / "photos").iterdir())[:images]:
        shutil.copy(photo, few)
    line = fails(*quantizing(world, tmp_path / "o.onnx", images=str(few)))
    assert str(few) in line
    assert ["no images", "at least 3 are needed"][images] in line
    assert not (tmp_path / "o.onnx").exists()


def test_a_damaged_image_among_good_ones(fails: Fails, cli: Cli, world: Path, tmp_path: Path) -> None:
    """Mended, the same command goes on."""
    mine = Path(shutil.copytree(world / "photos", tmp_path / "photos"))
    whole = (mine / "3.jpg").read_bytes()
    (mine / "3.jpg").write_bytes(whole[:90])
    line = fails(*quantizing(world, tmp_path / "o.onnx", images=str(mine)))
    assert "photos/3.jpg is truncated or damaged (90 bytes)" in line
    assert "object at 0x" not in line
    assert not (tmp_path / "o.onnx").exists()
    (mine / "3.jpg").write_bytes(whole)
    assert cli(*quantizing(world, tmp_path / "o.onnx", images=str(mine)))[0] == 0


# People ---------------------------------------------------------------------------------------------------------


def test_a_loss_with_names_needs_names(fails: Fails, world: Path, tmp_path: Path) -> None:
    line = fails(*quantizing(world, tmp_path / "o.onnx", "--set", "loss=arcface"))
    assert "'arcface' learns who is who: name a training set (--training-set folder:DIR" in line
    assert "--set loss=teacher, which needs no names" in line
    line = fails(*quantizing(world, tmp_path / "o.onnx", "-r", "kolf-fixed-w8a8"))
    assert "--set loss=teacher --set scale=null --set margin=null, which needs no names" in line


@pytest.mark.parametrize(
    ("training_set", "words"),
    [
        ("foldr:x", "unknown kind of training set 'foldr' (did you mean 'folder'?)"),
        ("{folder}/people", "expected kind:path (for a folder of people folder:{folder}/people)"),
        ("folder:{folder}/nowhere", "{folder}/nowhere does not exist"),
        ("images:{folder}/people", "images without labels tell nobody apart"),
    ],
)
def test_training_sets_that_are_none(
    fails: Fails, world: Path, folder: Path, tmp_path: Path, training_set: str, words: str
) -> None:
    named = ["--training-set", training_set.format(folder=folder)]
    line = fails(*quantizing(world, tmp_path / "o.onnx", "--set", "loss=arcface", *named))
    assert words.format(folder=folder) in line
    assert not (tmp_path / "o.onnx").exists()


def test_a_training_set_that_nothing_looks_at_is_said(cli: Cli, world: Path, folder: Path, tmp_path: Path) -> None:
    code, out, err = cli(*quantizing(world, tmp_path / "o.onnx", "--training-set", f"folder:{folder}/people"))
    assert code == 0, err
    assert "--training-set has no effect" in out


def test_people_of_one_image_each_are_said(cli: Cli, world: Path, folder: Path, tmp_path: Path) -> None:
    for image in (folder / "people").rglob("*.jpg"):
        if image.stem != "0":
            image.unlink()
    named = ["--set", "loss=arcface", "--training-set", f"folder:{folder}/people"]
    code, out, err = cli(*quantizing(world, tmp_path / "o.onnx", *named))
    assert code == 0, err
    assert "training set: 8 images of 8 people, each with a single image: what a person's images have in common" in out
    code, _, err = cli("train", training_file(folder, "batch_size: 8"), "-o", tmp_path / "out")
    assert code == 0, err
    assert "each with a single image" in err


def test_one_person_of_one_image_among_others(cli: Cli, folder: Path, tmp_path: Path) -> None:
    for image in sorted((folder / "people" / "p0").iterdir())[1:]:
        image.unlink()
    code, _, err = cli("train", training_file(folder), "-o", tmp_path / "out")
    assert code == 0, err
    assert "43 images of 8 people, 1 of them with a single image." in err


# Packs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.5, 0.9999])
def test_a_truncated_pack(fails: Fails, world: Path, folder: Path, pack: Path, tmp_path: Path, kept: float) -> None:
    content = (pack / "train.rec").read_bytes()
    (pack / "train.rec").write_bytes(content[: int(len(content) * kept)])
    lines = [
        fails("train", training_file(folder, f"data: rec:{pack}"), "-o", tmp_path / "out"),
        fails(*quantizing(world, tmp_path / "o.onnx", "--set", "loss=arcface", "--training-set", f"rec:{pack}")),
    ]
    for line in lines:
        assert f"{pack}/train.rec is truncated" in line
        assert "copy the file again" in line
    assert not (tmp_path / "o.onnx").exists()


def test_labels_that_are_out_of_range(fails: Fails, world: Path, folder: Path, pack: Path, tmp_path: Path) -> None:
    (pack / "property").write_text("5,32,32\n")
    lines = [
        fails("train", training_file(folder, f"data: rec:{pack}"), "-o", tmp_path / "out"),
        fails(*quantizing(world, tmp_path / "o.onnx", "--set", "loss=arcface", "--training-set", f"rec:{pack}")),
    ]
    for line in lines:
        assert f"{pack}/train.rec, record 31: expected a label from 0 to 4 (property says 5 people), found 5" in line


# Runs -----------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_leaves_the_last_good_state(fails: Fails, folder: Path, tmp_path: Path) -> None:
    more = "loop: {epochs: 3, lr: 1.0e+30, accelerator: cpu, checkpoint_steps: 1}\nvalidate: none"
    line = fails("train", training_file(folder, more), "-o", tmp_path / "out")
    kept = tmp_path / "out" / "run" / LAST
    assert "at step 2 of 9 (epoch 1)" in line
    assert f"the last good state is in {kept}" in line
    state = read_state(kept)
    assert state.step == 1
    assert all(value.isfinite().all() for value in state.model.values())


def test_another_recipe_is_refused_and_nothing_changes(cli: Cli, fails: Fails, folder: Path, tmp_path: Path) -> None:
    assert cli("train", training_file(folder), "-o", tmp_path / "out")[0] == 0
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    line = fails("train", training_file(folder, "batch_size: 8"), "-o", tmp_path / "out")
    assert f"{tmp_path}/out/run/{LAST}: this run was begun with another recipe: batch_size was 16, now it is 8" in line
    assert "give the old value to go on, or name another folder" in line
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == files


def test_folders_that_take_no_files(
    fails: Fails, world: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found before the first step."""
    (tmp_path / "file").write_text("in the way of a folder")
    line = fails("train", training_file(folder), "-o", tmp_path / "file")
    assert f"cannot write into {tmp_path}/file/run" in line
    monkeypatch.setattr("veriquant.training.loop._Run.rest_of_epoch", lambda *arguments: pytest.fail("it trained"))
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "file"))
    line = fails(*quantizing(world, tmp_path / "o.onnx"))
    assert f"cannot write into {tmp_path}/file/training/" in line
    assert "name another folder" in line


@pytest.mark.parametrize("verb", ["train", "quantize", "pack"])
def test_disk_full(world: Path, folder: Path, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "o.safetensors"
    out.write_bytes(b"what was there before")
    limit, arguments = {
        "train": (100_000, ["train", training_file(folder), "-o", tmp_path / "out"]),
        "quantize": (10_000, quantizing(world, out)),
        "pack": (3_000, ["quantize", world / "tiny.onnx", "-r", "fixed", "--images", world / "photos", "-o", out]),
    }[verb]
    line = on_a_full_disk(limit, *arguments)
    assert f"cannot write {out if verb == 'pack' else tmp_path}" in line
    assert "File too large" in line
    assert "nothing was changed" in line
    assert out.read_bytes() == b"what was there before"
    assert not list(tmp_path.rglob("*.tmp"))
