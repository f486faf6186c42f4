"""Label-free training through the recipes: what comes out is a file, better than calibration alone, and resumes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_world import tiny_network

from veriquant.caches.folder import cache_folder
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.input_batches import input_batches
from veriquant.calibration.result import QuantizationResult
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.data.digest import samples_digest
from veriquant.data.training_set import calibration_from, load_training_set
from veriquant.deploy.pack import load_module
from veriquant.deploy.sessions import embeddings_of
from veriquant.errors import VeriQuantError
from veriquant.locks import locked
from veriquant.networks import Network, load_network
from veriquant.recipes import load_recipe
from veriquant.recipes.pipeline import calibrate
from veriquant.recovery.training_session import TrainingSession, _centres, _task, open_session
from veriquant.simulation.trainable import Trainable

FEW = {"images": 8, "check_images": 6, "train_images": 40, "batch_size": 8}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(tiny_network(tmp_path_factory.mktemp("net") / "tiny.onnx"))


@pytest.fixture(scope="module")
def photos(world: Path) -> Calibration:
    return load_calibration(world / "photos", 46)


def made(recipe: str, network: Network, photos: Calibration, **settings: object) -> QuantizationResult:
    return load_recipe(recipe, overrides={**FEW, **settings}).apply(network, photos, QuantizationContext())


def test_training_beats_calibration_on_images_it_never_saw(network: Network, photos: Calibration) -> None:
    found = made("qat-w2a8", network, photos, epochs=8, lr=3e-3)
    measured = found.metrics["qat"]
    assert measured["after_db"] > measured["before_db"]
    assert len(found.onnx) < len(network.onnx)
    assert {group.weight_bits for group in found.plan.groups.values() if group.weight_bits} == {2}


def test_observed_ranges_are_frozen_and_packed(network: Network, photos: Calibration) -> None:
    found = made("qat-w4a8", network, photos, precision="W8A8", epochs=5, levels="observed", weight_scheme="asymmetric")
    assert found.metrics["qat"]["after_db"] > 20
    assert "observed" in found.plan.note["trained"]


def test_the_file_is_the_network_that_was_trained(network: Network, photos: Calibration, tmp_path: Path) -> None:
    found = made("qat-w4a8", network, photos, epochs=2)
    assert found.metrics["agreement"]["least_cosine"] > 0.9999
    again = made("qat-w4a8", network, photos, epochs=2)
    assert again.onnx == found.onnx


def test_iterations_go_down_to_two_bits_and_any_of_them_resumes(network: Network, photos: Calibration) -> None:
    settings = {"iterations": 4, "epochs": 1, "first_epochs": 2}
    found = made("iterative-2bit", network, photos, **settings)
    told = [note for note in found.notes if note.startswith("iteration ")]
    averages = [float(note.split(": ")[1].split(" bits")[0]) for note in told]
    assert averages == [8.0, 6.0, pytest.approx(5.0, abs=0.75), 2.0]
    half = made("iterative-2bit", network, photos, **settings, until=6.0)
    assert [note.split(";")[0] for note in half.notes if note.startswith("iteration ")] == [
        note.split(";")[0] for note in told[:2]
    ]
    assert len(found.onnx) < len(half.onnx) < len(network.onnx)


def test_an_iteration_begins_where_it_is_told_to(network: Network, photos: Calibration) -> None:
    settings = {"iterations": 3, "epochs": 1, "first_epochs": 1}
    one, other = (made("iterative-2bit", network, photos, **settings, begin=begin) for begin in ("previous", "first"))
    told = [[note for note in found.notes if note.startswith("iteration ")] for found in (one, other)]
    # The first iteration is the same, and so is the choice of weights for the second; what follows differs.
    assert told[0][0] == told[1][0]
    assert told[0][2] != told[1][2]
    assert "from the weights of the one before" in "".join(one.notes)
    assert "from the 8-bit weights of the first" in "".join(other.notes)


def test_the_last_iteration_may_be_longer_and_the_others_are_not_trained_again(
    network: Network, photos: Calibration
) -> None:
    settings = {"iterations": 3, "epochs": 1, "first_epochs": 2}
    one = made("iterative-2bit", network, photos, **settings, last_epochs=1)
    folders = set((cache_folder("training")).iterdir())
    other = made("iterative-2bit", network, photos, **settings, last_epochs=2)
    assert len(set((cache_folder("training")).iterdir()) - folders) == 1
    told = [[note.split("; ")[1] for note in found.notes if note.startswith("iteration ")] for found in (one, other)]
    assert [note.split()[0] for note in told[0]] == ["2", "1", "1"]
    assert [note.split()[0] for note in told[1]] == ["2", "1", "2"]


def test_training_begins_where_the_best_calibration_ends(network: Network, photos: Calibration) -> None:
    starts = []
    for settings in ({}, {"rounding": "adaround", "bias_correction": True}):
        # A rate that moves nothing: what comes out is what training began with.
        found = made("qat-w4a8", network, photos, precision="W3A8", epochs=1, lr=1e-12, **settings)
        measured = found.metrics["qat"]
        assert measured["after_db"] == pytest.approx(measured["before_db"], abs=0.11)
        starts.append(measured["after_db"])
    assert starts[1] > starts[0] + 0.5
    with pytest.raises(VeriQuantError, match="leave it out"):
        made("iterative-2bit", network, photos, rounding="adaround")


def test_levels_that_cannot_learn_are_refused_by_name(network: Network, photos: Calibration) -> None:
    with pytest.raises(VeriQuantError, match="'kmeans' cannot be trained by recovery 'qat' with range_learning 'obs"):
        made("qat-w4a8", network, photos, weight_scheme="kmeans", levels="observed")
    with pytest.raises(VeriQuantError, match="'midrise' cannot be trained by recovery 'qat' with range_learning 'obs"):
        made("qat-w2a8", network, photos, levels="observed")


@pytest.mark.parametrize(
    ("recipe", "settings", "told"),
    [
        ("qat-w4a8", {"precision": "W32A8"}, "'qat': all weights stay in floating point, so that there is nothing"),
        ("qat-w4a8", {"precision": "fp32"}, "'qat': all weights stay in floating point"),
        ("qat-w2a8", {"rounding": "adaround"}, "with one at zero, which weights.scheme 'midrise' has not"),
        ("qat-w4a8", {"rounding": "adaround", "precision": "W16A16"}, "at most 8 bits, and W16A16 has wider ones"),
        ("qat-w4a8", {"scale": 64}, "which loss 'teacher' has not"),
        ("iterative-2bit", {"margin": 0.5}, "which loss 'teacher' has not"),
        ("qat-w4a8", {"loss": "arcface", "distance": "squared"}, "leave it out with loss 'arcface'"),
        ("qat-w4a8", {"observe": 0.1}, "learned levels are never frozen"),
        ("iterative-2bit", {"levels": "observed"}, "a mixture of widths has levels that are learned"),
        ("kolf-iterative", {"observe": 0.5}, "learned levels are never frozen"),
        ("iterative-2bit", {"weight_scheme": "midrise"}, "a width of its own, which weights.scheme 'midrise' has not"),
    ],
)
def test_what_would_be_recorded_and_change_nothing_is_refused(
    recipe: str, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(VeriQuantError, match=told):
        load_recipe(recipe, overrides=settings)


def test_a_recipe_with_a_head_can_do_without_names() -> None:
    bare = {"loss": "teacher", "scale": None, "margin": None}
    assert load_recipe("kolf-fixed-w8a8", overrides=bare).labelled() is False


def test_a_mixture_in_a_stock_runtime_is_what_was_simulated(
    network: Network, photos: Calibration, tmp_path: Path
) -> None:
    found = made("iterative-2bit", network, photos, iterations=12, until=4.9, epochs=1, first_epochs=1)
    assert found.metrics["agreement"]["least_cosine"] > 0.9999
    images = np.random.default_rng(0).uniform(-1, 1, network.spec.batch_shape(2)).astype(np.float32)
    embeddings = embeddings_of(found.onnx, images)
    found.save_pack(tmp_path / "net.safetensors")
    loaded = load_module(tmp_path / "net.safetensors")(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(loaded, embeddings, rtol=1e-5, atol=1e-5 * np.abs(embeddings).max())


def test_with_labels_people_are_told_apart(network: Network, photos: Calibration, world: Path) -> None:
    people = load_training_set(f"folder:{world / 'lfw'}")
    recipe = load_recipe("qat-w4a8", overrides={**FEW, "loss": "arcface", "epochs": 3})
    found = recipe.apply(network, photos, QuantizationContext(training_set=people))
    assert any(f"arcface on {people.classes} people" in note for note in found.notes)
    with pytest.raises(VeriQuantError, match="training set"):
        recipe.apply(network, photos, QuantizationContext())


def test_class_vectors_are_looked_for_once(
    network: Network, photos: Calibration, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = load_training_set(f"folder:{world / 'people'}")
    recipe = load_recipe("qat-w4a8", overrides={**FEW, "loss": "arcface", "epochs": 1})
    found = recipe.apply(network, photos, QuantizationContext(training_set=people))

    def looks(*args: object) -> None:
        raise AssertionError("the run has class vectors in its state")

    monkeypatch.setattr("veriquant.recovery.training_session._centres", looks)
    assert recipe.apply(network, photos, QuantizationContext(training_set=people)).onnx == found.onnx


def test_people_without_images_keep_a_drawn_class_vector(network: Network, photos: Calibration, world: Path) -> None:
    people = load_training_set(f"folder:{world / 'people'}")
    sparse = replace(people, labels=2 * people.labels, classes=2 * people.classes)
    settings = {"loss": "arcface", "images": 8, "check_images": 3}
    given = session_of(network, photos, QuantizationContext(training_set=sparse), **settings)
    heads = [
        _task(given, Trainable(given.model.simulation, {}, {}), begun=False).head.weight.detach() for _ in range(2)
    ]
    assert torch.equal(*heads)
    lengths = heads[0].norm(dim=1)
    expected = 0.01 * network.dim**0.5
    torch.testing.assert_close(lengths[::2], torch.full((people.classes,), expected))
    assert bool(((lengths[1::2] > expected / 3) & (lengths[1::2] < 3 * expected)).all())


def test_the_iterations_of_a_run_look_for_class_vectors_once(
    network: Network, photos: Calibration, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = load_training_set(f"folder:{world / 'people'}")
    looks: list[TrainingSession] = []
    monkeypatch.setattr(
        "veriquant.recovery.training_session._centres", lambda *given: looks.append(given[0]) or _centres(*given)
    )
    settings = {**FEW, "loss": "arcface", "iterations": 3, "epochs": 1, "first_epochs": 1, "last_epochs": 1}
    recipe = load_recipe("iterative-2bit", overrides=settings)
    assert recipe.apply(network, photos, QuantizationContext(training_set=people)).iteration == 3
    assert len(looks) == 1


def test_few_images_make_one_batch_and_too_few_are_told_in_one_line(
    network: Network, photos: Calibration, world: Path
) -> None:
    found = made("qat-w4a8", network, load_calibration(world / "photos", 6), epochs=1)
    assert any(note.startswith("only 5 images") for note in found.notes)
    for few in (1, 2):
        with pytest.raises(VeriQuantError, match=r"photos gives \d images?; at least 3 are needed") as caught:
            made("qat-w4a8", network, load_calibration(world / "photos", few))
        assert "\n" not in str(caught.value)


def session_of(
    network: Network, photos: Calibration, context: QuantizationContext | None = None, **settings: object
) -> TrainingSession:
    composition = load_recipe("qat-w4a8", overrides=settings).composition
    assert composition is not None
    model, split = calibrate(network, composition, photos)
    assert split is not None
    config = composition.training_steps[0][1]
    return open_session(model, config, photos, split, context or QuantizationContext())


@pytest.mark.parametrize("batch", [None, 2])
def test_with_few_images_none_that_checks_is_trained_on(batch: int | None, world: Path, tmp_path: Path) -> None:
    """A network of fixed batch size leaves out what does not fill its last batch, so that other images check."""
    model = onnx.load(world / "tiny.onnx")
    if batch is not None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(model, tmp_path / "net.onnx")
    network, few = load_network(tmp_path / "net.onnx"), load_calibration(world / "photos", 11)
    found = session_of(network, few, equalise="none")
    everything = np.arange(len(found.training_set))
    trained = torch.cat([images for images, _ in found.batches.plain(everything)])
    nearest = (found.model.check[:, None] - trained[None]).abs().flatten(2).amax(2).amin(1)
    assert float(nearest.min()) > 0
    assert found.checked == f"{len(found.model.check)} images that it never saw"


def test_with_enough_images_each_has_its_place(network: Network, photos: Calibration) -> None:
    found = session_of(network, photos, images=5, check_images=3)
    pixels = torch.cat([torch.from_numpy(batch) for batch in input_batches(photos, network, 12, 4)])
    assert torch.equal(found.model.fit, pixels[:5])
    assert torch.equal(found.model.check, pixels[9:])
    assert found.training_set.digest == samples_digest(photos.samples[:9])


@pytest.mark.parametrize("recipe", ["qat-w4a8", "iterative-2bit"])
def test_images_that_check_and_are_trained_on_are_counted(recipe: str, network: Network, world: Path) -> None:
    people = load_training_set(f"folder:{world / 'people'}")
    more = {"first_epochs": 1, "iterations": 1} if recipe == "iterative-2bit" else {}
    settings = {**FEW, "loss": "arcface", "epochs": 1, **more}
    found = load_recipe(recipe, overrides=settings).apply(
        network, calibration_from(people, 16), QuantizationContext(training_set=people)
    )
    told = " ".join(found.notes)
    assert "over 4 images, 4 of which it was trained on" in told
    assert "never saw" not in told


@pytest.mark.parametrize("recipe", ["qat-w4a8", "iterative-2bit"])
def test_training_is_kept_for_these_very_images(
    recipe: str, network: Network, photos: Calibration, world: Path
) -> None:
    more = {"first_epochs": 1, "iterations": 1} if recipe == "iterative-2bit" else {}
    made(recipe, network, photos, epochs=1, **more)
    other = load_calibration(world / "photos", 46, seed=1)
    found = made(recipe, network, other, epochs=1, **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERIQUANT_CACHE", str(world / "another-cache"))
        assert made(recipe, network, other, epochs=1, **more).onnx == found.onnx


@pytest.mark.parametrize("recipe", ["qat-w4a8", "iterative-2bit"])
def test_no_worker_outlives_a_training_that_fails(
    recipe: str, network: Network, photos: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[int] = []

    def fails(*args: object) -> None:
        at_work.append(len(active_children()))
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr("veriquant.training.loop._Run._end_epoch", fails)
    before = len(active_children())
    with pytest.raises(RuntimeError, match="disk") as caught:
        made(recipe, network, photos, epochs=1, workers=1)
    assert at_work == [before + 1]
    # The error is still at hand, and with its traceback all that the run had made.
    assert caught.tb is not None
    assert len(active_children()) == before


@pytest.mark.parametrize(
    ("where", "other"),
    [("veriquant.recovery.training_session.import_digest", lambda *rooms: "other"), ("torch.__version__", "0.0.1")],
)
def test_what_other_code_or_another_pytorch_trained_is_not_taken(
    where: str, other: object, network: Network, photos: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = cache_folder("training")
    made("qat-w4a8", network, photos, epochs=1)
    made("qat-w4a8", network, photos, epochs=1)
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(where, other)
    made("qat-w4a8", network, photos, epochs=1)
    assert len(list(kept.iterdir())) == 2


def test_a_training_is_one_runs_at_a_time_and_a_finished_one_can_be_read_by_all(
    network: Network, photos: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made("qat-w4a8", network, photos, epochs=1)
    (folder,) = (cache_folder("training")).iterdir()
    with locked(folder):
        with pytest.raises(VeriQuantError, match=f"another run of this very training is at work in {folder}; wait"):
            made("qat-w4a8", network, photos, epochs=1)
        # Where nothing can be written nobody trains, and there is nothing to hold.
        monkeypatch.setattr(os, "access", lambda *args, **more: False)
        assert made("qat-w4a8", network, photos, epochs=1).onnx == found.onnx


def test_it_stops_after_the_iteration_that_is_asked_for_and_keeps_those_before(
    network: Network, photos: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"iterations": 3, "epochs": 1, "first_epochs": 1}
    whole = made("iterative-2bit", network, photos, **settings)
    assert (whole.iteration, whole.average_bits) == (3, 2)

    def trains(*args: object, **kwargs: object) -> None:
        raise AssertionError("an iteration that was trained is trained again")

    monkeypatch.setattr("veriquant.training.loop._Run._one_step", trains)
    second = made("iterative-2bit", network, photos, **settings, stop_after=2)
    assert (second.iteration, second.average_bits) == (2, pytest.approx(6, abs=0.01))
    told = [[note for note in each.notes if note.startswith("iteration ")] for each in (whole, second)]
    assert told[0][:2] == told[1]
    with pytest.raises(VeriQuantError, match="stop_after 4: there are 3 iterations"):
        made("iterative-2bit", network, photos, **settings, stop_after=4)


def test_a_training_tells_how_far_it_is(network: Network, photos: Calibration) -> None:
    lines: list[str] = []
    load_recipe("qat-w4a8", overrides={**FEW, "epochs": 2}).apply(
        network, photos, QuantizationContext(say=lines.append)
    )
    steps = [line.split("step ")[1].split(":")[0] for line in lines if "step " in line]
    assert steps[0].startswith("1 of ")
    first, last = steps[-1].split(" of ")
    assert first == last
    assert "done" in lines[-1]


def test_iterations_tell_which_they_are(network: Network, photos: Calibration) -> None:
    lines: list[str] = []
    settings = {**FEW, "iterations": 2, "epochs": 1, "first_epochs": 1}
    load_recipe("iterative-2bit", overrides=settings).apply(network, photos, QuantizationContext(say=lines.append))
    told = [line.split(", epoch")[0] for line in lines if ", epoch" in line]
    assert list(dict.fromkeys(told)) == ["iteration 1 of 2, 8.00 bits", "iteration 2 of 2, 2.00 bits"]


def _changed(path: Path, change) -> None:
    """Write a state again with its tensors and its JSON changed."""
    with safe_open(path, "pt") as file:
        (key,) = file.metadata()
        rest = json.loads(file.metadata()[key])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, rest)
    save_file(tensors, path, metadata={key: json.dumps(rest)})


STATES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "empty": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: _changed(path, lambda tensors, rest: rest.clear()),
    "step of another type": lambda path: _changed(path, lambda tensors, rest: rest.update(step="all")),
    "step beyond the end": lambda path: _changed(path, lambda tensors, rest: rest.update(step=10**9)),
    "epochs of another type": lambda path: _changed(path, lambda tensors, rest: rest.update(epochs=[1, 2])),
    "recipe of another type": lambda path: _changed(path, lambda tensors, rest: rest.update(recipe=7)),
    "weights of another shape": lambda path: _changed(
        path, lambda tensors, rest: tensors.update({name: value[..., None] for name, value in tensors.items()})
    ),
    "figures of another shape": lambda path: _changed(
        path, lambda tensors, rest: tensors.update(history=tensors["history"][:, :1].clone())
    ),
    "weights missing": lambda path: _changed(
        path, lambda tensors, rest: [tensors.pop(name) for name in list(tensors) if name.startswith("model.")]
    ),
}


@pytest.mark.parametrize("damage", STATES)
def test_a_kept_training_that_was_damaged_is_done_again_and_said(
    damage: str, network: Network, photos: Calibration, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = made("qat-w4a8", network, photos, epochs=1)
    (state,) = cache_folder("training").glob("*/last.safetensors")
    STATES[damage](state)
    capsys.readouterr()
    assert made("qat-w4a8", network, photos, epochs=1).onnx == expected.onnx
    assert "trained again from the start" in capsys.readouterr().err
