"""`veriquant train`: what it prints, and one line for whatever is wrong."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from command_line import Cli, complaint
from training_world import people_folders, training_file, training_text
from ufpr_folder import ufpr_folder

from veriquant.training.config import load_training, parse_training

EXAMPLE = Path(__file__).parents[2] / "examples" / "train-cfp-eyes.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people_folders(tmp_path_factory.mktemp("training"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A folder of this test's own, to be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def refused(cli: Cli, file: Path, out: Path) -> str:
    """Run a training that cannot be; return its one line of complaint."""
    line = complaint(*cli("train", file, "--out", out))
    assert not list(out.rglob("result.json"))
    return line


def test_help_teaches_by_example(cli: Cli) -> None:
    code, out, _ = cli("train", "--help")
    assert code == 0
    assert "Examples:" in out
    assert "\b" not in out
    example = out.partition("explains every key):")[2].partition("Examples:")[0]
    config = parse_training("\n".join(line.strip() for line in example.splitlines()), "the help")
    assert config.loop.epochs == 20


def test_train_evaluate_and_train_again(cli: Cli, folder: Path, tmp_path: Path) -> None:
    file = training_file(folder, "loop: {epochs: 2, lr: 0.05, accelerator: cpu}")
    code, out, err = cli("train", file, "--out", tmp_path / "out")
    assert code == 0, err
    assert "48 images of 8 people" in err
    assert "loss" in err
    assert re.search(r"epoch 2 of 2 on images held out: EER \d+\.\d\d %, ", err)
    assert "best epoch" in out
    network = tmp_path / "out" / "run" / "network.onnx"
    assert str(network) in out
    again = cli("train", file, "--out", tmp_path / "out")
    assert again[0] == 0
    assert "done already" in again[2]
    assert again[1] == out
    for name in (network, f"mobilefacenet:{network.parent}/best.safetensors"):
        code, out, err = cli("evaluate", name, "-b", f"folder:{folder}/held-out", "--resamples", 0)
        assert code == 0, err
        assert "EER" in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("netwrok: 3", "unknown key 'netwrok' (did you mean 'network'?)"),
        ("validat: 3", "unknown key 'validat' (did you mean 'validate'?)"),
        ("network: {family: mobilefacnet}", "did you mean 'mobilefacenet'"),
        ("network: {family: mobilefacenet, sise: 112}", "takes no 'sise' (did you mean 'size'?)"),
        ("network: {family: mobilefacenet, size: 100}", "size must be a multiple of 16, not 100"),
        ("network: {family: mobilefacenet, checkpoint: nothing.pt}", "nothing.pt: no such checkpoint"),
        ("input: arcfac", "key 'input'"),
        ("head: {name: arcfac}", "did you mean 'arcface'"),
        ("head: {name: arcface, margin: 9}", "margin is 9.0, expected 0 to 1.571"),
        ("head: {name: arcface, scal: 9}", "unknown key 'head.scal' (did you mean 'scale'?)"),
        ("augmentation: flop", "did you mean 'flip'"),
        ("augmentation: {flip: 2}", "key 'augmentation.flip'"),
        ("loop: {lr: 0.1}", "either 'epochs' or 'steps'"),
        ("loop: {epochs: 1, learning_rate: 0.1}", "unknown key 'loop.learning_rate'"),
        ("loop: {epochs: 1, schedule: {kind: step, att: [1]}}", "unknown key 'loop.schedule.att' (did you mean 'at'?)"),
        ("loop: {epochs: 1, seed: 4}", "'seed' stands at the top"),
        ("batch_size: 1", "key 'batch_size'"),
        ("batch_size: 64", "48 images, fewer than a batch of 64"),
        ("data: folder:nothing", "nothing does not exist"),
        ("data: people", "unknown kind of training set 'people'"),
        ("data: images:FOLDER/people", "without labels"),
        ("data: none", "either 'data', for one network, or 'runs', for several"),
        ("data: none\nruns: [{name: a/b, data: folder:x}]", "key 'runs.0.name'"),
        ("data: none\nruns: [{name: a, data: folder:x, dta: 1}]", "unknown key 'runs.0.dta' (did you mean 'data'?)"),
        (
            "data: none\nvalidate: none\nruns: [{name: a, data: folder:x}, {name: a, data: folder:x}]",
            "two runs are called 'a'",
        ),
        ("validate: lfw:FOLDER", "a model is never chosen by a list to test on"),
        ("validate: ufpr:FOLDER:open_world:1", "a model is never chosen by a list to test on"),
        ("validate: ufpr-all:FOLDER:open_world:1", "a model is never chosen by a list to test on"),
        ("validate: folder:FOLDER/people", "48 of the 48 images of folder:FOLDER/people are trained on"),
        ("select: accuracy", "gives no 'accuracy'"),
        ("data: folder:${NOT_THERE}", "environment variable 'NOT_THERE', which is not set"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(
    cli: Cli, folder: Path, tmp_path: Path, more: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = training_file(folder, more.replace("FOLDER", str(folder)))
    line = refused(cli, file, tmp_path / "out")
    assert words.replace("FOLDER", str(folder)) in line
    assert file.name in line or "error: run: " in line


def test_one_person_alone_is_refused(cli: Cli, folder: Path, tmp_path: Path) -> None:
    for person in list((folder / "people").iterdir())[1:]:
        shutil.rmtree(person)
    assert "1 person; to learn who is who takes at least two" in refused(cli, training_file(folder), tmp_path / "out")


def test_a_damaged_image_is_named(cli: Cli, folder: Path, tmp_path: Path) -> None:
    victim = folder / "people" / "p3" / "2.jpg"
    victim.write_bytes(victim.read_bytes()[:100])
    assert "p3/2.jpg is truncated or damaged" in refused(cli, training_file(folder), tmp_path / "out")


def test_a_loss_that_is_no_number_names_the_step(cli: Cli, folder: Path, tmp_path: Path) -> None:
    more = "loop: {epochs: 3, lr: 1.0e+30, accelerator: cpu}\nvalidate: none"
    line = refused(cli, training_file(folder, more), tmp_path / "out")
    assert "the loss is" in line
    assert "at step" in line


def test_labels_of_a_fold_are_its_lists(cli: Cli, folder: Path, tmp_path: Path) -> None:
    eyes = ufpr_folder(tmp_path / "eyes")
    listed = eyes / "experimentalProtocol" / "open_world" / "train_fold1.txt"
    listed.write_text(listed.read_text().replace("0101S1I02R.jpg 202", "0101S1I02R.jpg x"))
    line = refused(cli, training_file(folder, f"data: ufpr:{eyes}:open_world:1"), tmp_path / "out")
    assert "train_fold1.txt" in line
    assert "line 3" in line


def test_a_missing_file_is_named(cli: Cli, tmp_path: Path) -> None:
    assert "cannot read training" in refused(cli, tmp_path / "nothing.yaml", tmp_path / "out")


def test_the_example_is_the_sources_training_but_for_head_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIQUANT_REAL", "/real")
    config = load_training(EXAMPLE)
    assert config.network.family == "mobilefacenet"
    assert config.head.name == "arcface"
    assert "#   head: {name: arcface, scale: 64, margin: 1.0}" in EXAMPLE.read_text().splitlines()
    loop = config.loop_settings()
    assert (loop.optimizer, loop.lr, loop.momentum, loop.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert config.batch_size == 32
    rates = [loop.schedule.multiplier(epoch, loop.epochs, 1) for epoch in range(loop.epochs)]
    assert rates == pytest.approx([1.0] * 8 + [0.1] * 4 + [0.01] * 2)
    folds = [(protocol, fold) for protocol in ("closed_world", "open_world") for fold in (1, 2, 3)]
    assert [run.data for run in config.each()] == [f"ufpr:/real/periocular/cfp-eyes:{p}:{f}" for p, f in folds]
    for run in config.each():
        assert run.validation == run.data.replace("ufpr:", "ufpr-all:") + ":val"


def test_the_shape_of_a_training(folder: Path) -> None:
    (lone,) = parse_training(training_text(folder), "x").each()
    assert lone.name == "run"
    assert lone.data == f"folder:{folder}/people"
