from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401 - that it is loaded is what workers must not mind
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from strange_images import Deadly, Telling
from torch import Tensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from veriquant.data.record_io import write_records
from veriquant.data.training_set import TrainingSet, load_training_set
from veriquant.errors import VeriQuantError
from veriquant.frontends import InputSpec, Sample, image_batches
from veriquant.training.augment import AUGMENTATIONS, PRESETS, Augmentation, Chance
from veriquant.training.loader import Batches

SPEC = InputSpec(size=(12, 10), mean=(127.5, 120.0, 110.0), std=(128.0, 60.0, 50.0), color="BGR")
COUNT = 22
STRONG = Augmentation.model_validate(dict.fromkeys(Augmentation.model_fields, 0.7))

Got = list[tuple[Tensor, Tensor]]


def picture(seed: int, size: tuple[int, int] = (12, 10)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    root = tmp_path_factory.mktemp("faces")
    for index in range(COUNT):
        path = root / f"p{index % 4}" / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(index))
    return load_training_set(f"folder:{root}")


@pytest.fixture(scope="module")
def crew(faces: TrainingSet) -> Iterator[Batches]:
    """Two workers for all tests: they live as long as the object."""
    batches = Batches(faces, SPEC, 4, seed=3, workers=2, augmentation=STRONG)
    yield batches
    batches.close()


def same(first: Got, second: Got) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)
    )


def alone(faces: TrainingSet, **more: int | bool) -> Batches:
    return Batches(faces, SPEC, 4, **{"seed": 3, "augmentation": STRONG, **more})


def test_shapes_and_length(faces: TrainingSet) -> None:
    batches = alone(faces)
    got = list(batches.epoch(0))
    assert len(got) == len(batches) == COUNT // 4
    for images, labels in got:
        assert (images.shape, images.dtype) == ((4, 3, 12, 10), torch.float32)
        assert (labels.shape, labels.dtype) == ((4,), torch.int64)
    assert batches.stats.images == 20


def test_every_image_once_an_epoch_as_evaluation_sees_it(faces: TrainingSet) -> None:
    """Without augmentation: the same numbers as the evaluation's own front end gives."""
    samples = [Sample(faces.where(index), content=faces.read(index)) for index in range(COUNT)]
    expected = np.concatenate(list(image_batches(samples, SPEC, 8)))
    for layout in ("NCHW", "NHWC"):
        spec = SPEC.model_copy(update={"layout": layout})
        got = list(Batches(faces, spec, 4, seed=1, drop_last=False).epoch(2))
        images, labels = torch.cat([a for a, _ in got]).numpy(), torch.cat([b for _, b in got]).numpy()
        order = [int(np.flatnonzero((expected == image).all((1, 2, 3)))[0]) for image in images]
        assert sorted(order) == list(range(COUNT))
        assert order != sorted(order)
        np.testing.assert_array_equal(labels, faces.labels[order])


def test_workers_change_nothing(faces: TrainingSet, crew: Batches) -> None:
    for epoch in (0, 1):
        assert same(list(crew.epoch(epoch)), list(alone(faces).epoch(epoch)))
    assert crew.stats.images >= 40


def test_workers_of_a_system_without_a_fork_server_change_nothing(
    faces: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    batches = alone(faces, workers=1)
    got = list(batches.epoch(0))
    batches.close()
    assert same(got, list(alone(faces).epoch(0)))


def test_workers_are_no_forks_of_this_process(
    faces: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime's threads do not survive a fork, and abort it; but the folder at hand is the same."""
    assert {"onnxruntime", "pytest"} <= set(sys.modules)
    monkeypatch.chdir(tmp_path)
    batches = alone(replace(faces, images=Telling(faces.images)), workers=1)
    with pytest.raises(VeriQuantError, match="loaded") as told:
        list(batches.epoch(0))
    batches.close()
    assert str(told.value) == f"loaded: [], in {tmp_path}"


SCRIPT = """
import multiprocessing, os, signal, sys
from dataclasses import replace
from veriquant.data.encoded_images import FileImages
from veriquant.data.training_set import load_training_set
from veriquant.errors import VeriQuantError
from veriquant.frontends import InputSpec
from veriquant.training.loader import Batches

class Own(FileImages):
    pass

def batches(images):
    return Batches(images, InputSpec(size=(12, 10)), 4, seed=0, workers=1)

signal.signal(signal.SIGINT, lambda number, frame: None)
print("begins", flush=True)
faces = load_training_set(sys.argv[1])
crew = batches(faces)
print(len(list(crew.epoch(0))))
own = replace(faces, images=Own(faces.images.folder, faces.images.names, faces.images.ends))
try:
    list(batches(own).epoch(0))
except VeriQuantError as error:
    print(error)
sys.stdout.flush()
assert multiprocessing.active_children()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_script_needs_no_guard(faces: TrainingSet, tmp_path: Path) -> None:
    """Workers run it no second time, are started whatever Ctrl-C does meanwhile, and end when it is killed."""
    (tmp_path / "script.py").write_text(SCRIPT)
    script = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", faces.source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "begins\n"
    for _ in range(5):
        time.sleep(0.2)
        os.killpg(script.pid, signal.SIGINT)
    out, err = script.communicate(timeout=60)  # they end when every process has let go of them
    assert script.returncode == -signal.SIGKILL
    assert "Traceback" not in err  # Python itself warns of the semaphores of what was killed
    batches, error = out.splitlines()
    assert batches == str(COUNT // 4)
    assert "cannot be sent to worker processes" in error
    assert "Own" in error
    assert "module of their own" in error


def test_an_epoch_is_taken_up_again(faces: TrainingSet, crew: Batches) -> None:
    whole = list(alone(faces).epoch(1))
    for start in range(len(whole) + 1):
        assert same(list(alone(faces).epoch(1, start)), whole[start:])
    next(crew.epoch(0))  # left half-way, its batches in the workers' hands
    assert same(list(crew.epoch(1, 2)), whole[2:])


def test_epochs_and_seeds_differ(faces: TrainingSet) -> None:
    first = list(alone(faces).epoch(0))
    assert not same(first, list(alone(faces).epoch(1)))
    assert not same(first, list(alone(faces, seed=4).epoch(0)))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_share_each_batch(faces: TrainingSet, world_size: int, drop_last: bool) -> None:
    whole = list(alone(faces, drop_last=drop_last).epoch(0))
    shares = [
        list(alone(faces, rank=rank, world_size=world_size, drop_last=drop_last).epoch(0)) for rank in range(world_size)
    ]
    together = [
        (torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))
        for parts in zip(*shares, strict=True)
    ]
    assert same(together, whole)
    sizes = [[len(labels) for _, labels in share] for share in shares]
    assert np.ptp(sizes, axis=0).max() <= 1


def test_torch_s_own_random_numbers_are_left_alone(crew: Batches) -> None:
    before = torch.get_rng_state()
    list(crew.epoch(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_epoch_at_a_time(faces: TrainingSet, crew: Batches) -> None:
    for batches in (crew, alone(faces)):
        old = batches.epoch(0)
        next(old)
        new = list(batches.epoch(1))
        with pytest.raises(RuntimeError, match="ended by a later one"):
            next(old)
        assert same(new, list(alone(faces).epoch(1)))


def test_left_eyes_are_mirrored(tmp_path: Path) -> None:
    (tmp_path / "periocularCropped").mkdir()
    (tmp_path / "experimentalProtocol" / "open_world").mkdir(parents=True)
    names = [f"000{person}S1I01{side}.jpg" for person in (1, 2) for side in "LR"]
    for name in names:
        (tmp_path / "periocularCropped" / name).write_bytes(picture(int(name[3])))
    lines = "".join(f"{name} {number} -1 -1\n" for number, name in enumerate(names))
    (tmp_path / "experimentalProtocol" / "open_world" / "train_fold1.txt").write_text(lines)
    eyes = load_training_set(f"ufpr:{tmp_path}:open_world:1")
    ((images, labels),) = Batches(eyes, SPEC, 4, seed=0).epoch(0)
    for person in (0, 1):
        one, other = images[labels == person]  # the same picture in both files, one of them mirrored on reading
        assert torch.equal(one, other.flip(-1))
        assert not torch.equal(one, other)


def test_images_of_another_size_are_counted(tmp_path: Path) -> None:
    write_records(tmp_path, lambda index: picture(index, (20, 20)), [0, 0, 1, 1])
    batches = Batches(load_training_set(f"rec:{tmp_path}"), SPEC, 4, seed=0)
    ((images, _),) = batches.epoch(0)
    assert images.shape == (4, 3, 12, 10)
    assert batches.stats.note() == "of 4 images 4 resized (width×height: 4 of 20×20)"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "rec"])
def test_a_damaged_image_is_named(tmp_path: Path, workers: int, kind: str) -> None:
    bodies = [picture(0), b"no image", picture(2), picture(3)]
    if kind == "rec":
        write_records(tmp_path, bodies.__getitem__, [0, 0, 1, 1])
        name = r"train\.rec, record 2 at byte \d+ is not an image: its 8 bytes"
    else:
        for index, body in enumerate(bodies):
            (tmp_path / f"p{index // 2}").mkdir(exist_ok=True)
            (tmp_path / f"p{index // 2}" / f"{index}.png").write_bytes(body)
        name = r"p0/1\.png is not an image: its 8 bytes"
    batches = Batches(load_training_set(f"{kind}:{tmp_path}"), SPEC, 4, seed=0, workers=workers)
    with pytest.raises(VeriQuantError, match=name) as caught:
        list(batches.epoch(0))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    batches.close()


def test_a_killed_worker_is_told_of(faces: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch looks after its workers every 5 seconds
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    batches = Batches(replace(faces, images=Deadly(faces.images, signal.SIGKILL)), SPEC, 1, seed=0, workers=2)
    with pytest.raises(VeriQuantError, match="a worker process that loads images was killed"):
        list(batches.epoch(0))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "was killed, most often for want of memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "was killed, most often for want"),
        (ConnectionResetError(104, "Connection reset by peer"), "was killed, most often for want of memory"),
        (FileNotFoundError(2, "No such file or directory"), "was killed, most often for want of memory"),
        (EOFError(), "was killed, most often for want of memory"),
        (RuntimeError("Too many open files. Communication\nis lost"), r"\(RuntimeError: Too many open files\. Commu"),
        (RuntimeError("Pin memory thread exited unexpectedly"), "Pin memory thread exited unexpectedly.*workers: 0"),
        (OSError(28, "No space left on device"), r"\(OSError: \[Errno 28\] No space left on device\); take fewer"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "No such file or directory: 'a.png'"),
    ],
)
def test_only_the_dead_are_told_of_as_killed(
    faces: TrainingSet, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[object]:
        raise error
        yield

    monkeypatch.setattr("veriquant.training.loader._SIGNAL", 0.0)
    batches = Batches(faces, SPEC, 4, seed=0, workers=1)
    monkeypatch.setattr(batches, "_source", fails)
    with pytest.raises(VeriQuantError, match=told) as caught:
        list(batches.epoch(0))
    assert "\n" not in str(caught.value)


def test_ctrl_c_leaves_workers_at_work(faces: TrainingSet) -> None:
    """It reaches every process of the terminal; the parent, which finishes its step, still needs them."""
    batches = Batches(replace(faces, images=Deadly(faces.images, signal.SIGINT)), SPEC, 4, seed=0, workers=2)
    assert same(list(batches.epoch(0)), list(Batches(faces, SPEC, 4, seed=0).epoch(0)))
    batches.close()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": 0}, "batch size must be at least 1"),
        ({"batch_size": 2, "world_size": 3}, "batch size must be at least 3, an image a process"),
        ({"batch_size": COUNT + 1}, rf"has {COUNT} images, fewer than a batch of {COUNT + 1}"),
        ({"workers": -1}, "must not be negative, found -1 and 0"),
        ({"seed": -1}, "must not be negative, found 0 and -1"),
    ],
)
def test_impossible_settings(faces: TrainingSet, more: dict[str, int], message: str) -> None:
    with pytest.raises(VeriQuantError, match=message):
        Batches(faces, SPEC, **{"batch_size": 4, "seed": 0, **more})


def test_impossible_places(faces: TrainingSet) -> None:
    for epoch, start in ((-1, 0), (0, -1), (0, 6)):
        with pytest.raises(ValueError, match="an epoch has the batches 0 to 4"):
            alone(faces).epoch(epoch, start)
    with pytest.raises(ValueError, match="rank 2 of 2 processes"):
        alone(faces, rank=2, world_size=2)


def pixels(seed: int = 0, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(32, 24), (1, 1), (3, 40)])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_every_augmentation_keeps_shape_and_repeats(name: str, size: tuple[int, int], strength: float) -> None:
    change = AUGMENTATIONS.get(name)
    image = pixels(size=size)
    kept = image.copy()
    for seed in range(20):
        found = change(image, strength, np.random.default_rng(seed))
        assert (found.shape, found.dtype) == (image.shape, np.uint8)
        np.testing.assert_array_equal(found, change(image, strength, np.random.default_rng(seed)))
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize("name", ["jitter", "low_resolution", "blur"])
def test_strength_zero_is_nothing(name: str) -> None:
    image = pixels()
    for seed in range(5):
        np.testing.assert_array_equal(AUGMENTATIONS.get(name)(image, 0.0, np.random.default_rng(seed)), image)


@pytest.mark.parametrize("name", ["crop", "jitter", "low_resolution", "blur"])
def test_strength_is_strength(name: str) -> None:
    """The stronger, the further from the image, on average."""
    image = pixels()

    def distance(strength: float) -> float:
        found = [AUGMENTATIONS.get(name)(image, strength, np.random.default_rng(seed)) for seed in range(60)]
        return float(np.mean([np.abs(one.astype(float) - image).mean() for one in found]))

    assert distance(0.2) < distance(0.6) < distance(1.0)


def test_what_flip_grey_and_crop_do() -> None:
    image, draw = pixels(), np.random.default_rng(0)
    np.testing.assert_array_equal(AUGMENTATIONS.get("flip")(image, 0, draw), image[:, ::-1])
    found = AUGMENTATIONS.get("grey")(image, 0, draw)
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found - luma[..., None]).max() <= 1
    # a crop of a ramp is a ramp: within its range, and never falling
    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    for seed in range(30):
        part = AUGMENTATIONS.get("crop")(ramp, 0.8, np.random.default_rng(seed)).astype(int)
        assert (np.diff(part, axis=1) >= 0).all()
        assert part.min() >= 0
        assert part.max() <= 230


def test_settings_name_every_augmentation() -> None:
    assert sorted(Augmentation.model_fields) == list(AUGMENTATIONS)
    assert {"none", "flip"} <= set(PRESETS)


def test_probabilities_are_kept() -> None:
    image = pixels()
    pipeline = PRESETS.get("flip").pipeline()
    draw = np.random.default_rng(0)
    flipped = sum(not np.array_equal(pipeline(image, draw), image) for _ in range(400))
    assert 150 < flipped < 250
    assert PRESETS.get("none").pipeline()(image, draw) is image
    sure = Augmentation(flip=1, grey=1).pipeline()(image, draw)
    np.testing.assert_array_equal(sure, AUGMENTATIONS.get("grey")(image, 0, draw)[:, ::-1])


def test_settings_as_people_write_them() -> None:
    found = Augmentation.model_validate(
        {"crop": 0.2, "blur": {"probability": 1}, "jitter": {"strength": 0.1, "probability": 1}}
    )
    assert found.crop == Chance(probability=0.2, strength=Augmentation().crop.strength)
    assert found.blur == Chance(probability=1, strength=Augmentation().blur.strength)
    assert found.jitter == Chance(probability=1, strength=0.1)
    assert Augmentation.model_validate(found.model_dump()) == found
    for wrong in (
        {"crops": 0.2},
        {"crop": 1.5},
        {"flip": True},
        {"crop": True},
        {"crop": {"often": 1}},
        {"grey": -1},
        3,
    ):
        with pytest.raises(ValidationError):
            Augmentation.model_validate(wrong)
