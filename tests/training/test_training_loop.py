from __future__ import annotations

import csv
import errno
import io
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from tiny_training import CLASSES, PER_EPOCH, TinySource, resumable_task, tiny_settings, tiny_task
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.training.checkpoint import LAST, epoch_file, read_state, refuse_other_recipe
from veriquant.training.display import display
from veriquant.training.heads import HEADS
from veriquant.training.loop import LoopSettings, train
from veriquant.training.schedule import Schedule
from veriquant.training.settings import make_optimizer
from veriquant.training.task import Recognition, Task

RECIPE = {"data": "tiny", "network": {"family": "mlp", "width": 24}}


def run(folder: Path, task: Task | None = None, source: TinySource | None = None, **settings: Any) -> tuple[Task, Any]:
    task = task or tiny_task()
    history = train(task, TinySource() if source is None else source, tiny_settings(**settings), folder, recipe=RECIPE)
    return task, history


def assert_same_weights(one: Task, other: Task) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def failing(at: int, error: type[BaseException] = RuntimeError) -> Callable[[int], None]:
    def fail(step: int) -> None:
        if step == at:
            raise error

    return fail


# What is learned ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_people_are_learned(head: str, optimizer: str, tmp_path: Path) -> None:
    rate = {"sgd": 0.05, "adamw": 0.01}[optimizer]
    source = TinySource(classes=12)
    task, history = run(tmp_path, tiny_task(head, classes=12), source, epochs=8, optimizer=optimizer, lr=rate)
    assert history.losses[-10:].mean() < 0.5 * history.losses[:3].mean()
    images, labels = next(source.epoch(99))
    with torch.no_grad():
        embeddings = nn.functional.normalize(task.network(images))
    nearest = (embeddings @ nn.functional.normalize(task.head.weight).T).argmax(dim=1)
    assert (nearest == labels).float().mean() > 0.8


def test_the_loop_steps_as_plain_pytorch_does(tmp_path: Path) -> None:
    trained, history = run(tmp_path, clip=0.5)
    task, losses = tiny_task(), []
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.05 if epoch < 2 else 0.05 * 0.1
        for images, labels in TinySource().epoch(epoch):
            optimizer.zero_grad()
            loss = task(images, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(task.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
    assert history.losses.tolist() == losses
    assert_same_weights(trained, task)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_learns_the_same_in_float_weights(precision: str, tmp_path: Path) -> None:
    seen = []

    class Watching(Recognition):
        def loss(self, images: Tensor, labels: Tensor) -> Tensor:
            seen.append(self.network(images).dtype)
            return super().loss(images, labels)

    plain = tiny_task()
    task, mixed = run(tmp_path / "mixed", Watching(plain.network, plain.head), precision=precision)
    _, full = run(tmp_path / "full")
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in task.parameters()} == {torch.float32}
    assert mixed.losses[-5:].mean() == pytest.approx(full.losses[-5:].mean(), rel=0.1)


class Grouped(Task):
    """Two parameters that fall by their learning rate each step, and a third that is frozen from a step on."""

    def __init__(self) -> None:
        super().__init__()
        self.slow, self.fast = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.steps: list[int] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [self.slow], "lr_multiplier": 0.1, "weight_decay": 0.0},
            {"params": [self.fast], "weight_decay": 0.0},
        ]

    def before_step(self, step: int) -> None:
        self.steps.append(step)

    def loss(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.slow + self.fast, "slow": self.slow, "brightness": images.mean()}


def test_groups_have_rates_of_their_own_and_figures_are_kept(tmp_path: Path) -> None:
    task, history = run(tmp_path, Grouped(), epochs=1, momentum=0.0, schedule={"kind": "step", "at": [0.5]})
    assert task.steps == list(range(PER_EPOCH))
    assert task.fast.item() == pytest.approx(-0.05 * (5 + 0.5), rel=1e-5)
    assert task.slow.item() == pytest.approx(-0.005 * (5 + 0.5), rel=1e-5)
    assert history.columns == ("lr", "loss", "slow", "brightness")
    assert history.values[:, 0].tolist() == [0.05] * 5 + [pytest.approx(0.005)] * 5
    assert history.values[1, 2] == pytest.approx(-0.005, rel=1e-5)  # before its step, as the loss
    brightness = [images.mean().item() for images, _ in TinySource().epoch(0)]
    assert history.values[:, 3].tolist() == brightness


def test_optimizer_settings_reach_the_optimizer() -> None:
    groups = make_optimizer(Grouped(), tiny_settings(optimizer="adamw", weight_decay=0.3)).param_groups
    assert [(group["lr"], group["lr_multiplier"], group["weight_decay"]) for group in groups] == [
        (0.05, 0.1, 0.0),
        (0.05, 1.0, 0.0),
    ]
    assert make_optimizer(tiny_task(), tiny_settings(weight_decay=0.3)).param_groups[0]["weight_decay"] == 0.3


# Files ----------------------------------------------------------------------------------------------------------


def test_history_files_hold_every_step_and_epoch(tmp_path: Path) -> None:
    called = []

    def on_epoch(epoch: int) -> dict[str, float]:
        called.append(epoch)
        return {"accuracy": 0.5 + epoch / 10}

    history = train(
        tiny_task(), TinySource(), tiny_settings(epochs=None, steps=25), tmp_path, recipe=RECIPE, on_epoch=on_epoch
    )
    assert called == [1, 2, 3]
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [float(row["loss"]) for row in rows] == history.losses.tolist()
    assert (rows[0]["epoch"], rows[0]["step"]) == ("1", "1")
    assert (rows[-1]["epoch"], rows[-1]["step"]) == ("3", "25")
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert [(epoch["steps"], epoch["accuracy"]) for epoch in epochs] == [(10, 0.6), (10, 0.7), (5, 0.8)]
    assert epochs[1]["loss"] == pytest.approx(history.losses[10:20].mean())


def test_every_epoch_is_kept_when_asked(tmp_path: Path) -> None:
    task, _ = run(tmp_path, keep="epochs", checkpoint_steps=None)
    states = [read_state(tmp_path / epoch_file(epoch)) for epoch in (1, 2, 3)]
    assert [state.step for state in states] == [10, 20, 30]
    assert torch.equal(states[2].model["head.weight"], task.state_dict()["head.weight"])
    assert not torch.equal(states[1].model["head.weight"], states[2].model["head.weight"])


def test_state_is_written_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("veriquant.training.loop.time.monotonic", lambda: now[0])
    written = {}

    def tick(step: int) -> None:
        now[0] += 20.0
        written[step] = read_state(tmp_path / LAST).step if (tmp_path / LAST).exists() else 0

    run(tmp_path, source=TinySource(before=tick), epochs=1, checkpoint_steps=None, checkpoint_minutes=1.5)
    assert list(written.values()) == [0, 0, 0, 0, 0, 5, 5, 5, 5, 5]


# Going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("at", [3, 10, 16, 27])
def test_a_run_that_broke_off_ends_as_one_that_did_not(at: int, optimizer: str, tmp_path: Path) -> None:
    whole, expected = run(tmp_path / "whole", resumable_task(), optimizer=optimizer)
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", resumable_task(), TinySource(before=failing(at)), optimizer=optimizer)
    first_again = []
    source = TinySource(before=first_again.append)
    resumed, history = run(tmp_path / "cut", resumable_task(), source, optimizer=optimizer)
    assert first_again[0] == at // 7 * 7
    assert_same_weights(whole, resumed)
    assert np.array_equal(history.values, expected.values)
    for name in ("history.csv", "history.json"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_another_number_of_threads_is_said_and_noted_not_refused(tmp_path: Path) -> None:
    said: list[str] = []
    for threads, at in ((1, 8), (2, 16), (2, 23), (1, 99)):
        torch.set_num_threads(threads)
        source = TinySource(before=failing(at))
        with suppress(RuntimeError):
            train(tiny_task(), source, tiny_settings(), tmp_path, recipe=RECIPE, say=said.append)
    torch.set_num_threads(2)
    history = train(tiny_task(), TinySource(), tiny_settings(), tmp_path, recipe=RECIPE, say=said.append)
    torch.set_num_threads(1)
    assert history.threads == [1, 2, 1]  # what only looked at a finished run computed nothing
    assert json.loads((tmp_path / "history.json").read_text())["threads"] == [1, 2, 1]
    first, second = (line for line in said if "threads" in line)
    assert "trained on 1 CPU threads so far, now on 2" in first
    assert "OMP_NUM_THREADS=2" in second


def test_figures_of_epochs_survive_a_resumption(tmp_path: Path) -> None:
    def accuracy(epoch: int) -> dict[str, float]:
        return {"accuracy": epoch / 10}

    settings = tiny_settings()
    with pytest.raises(RuntimeError):
        train(tiny_task(), TinySource(before=failing(25)), settings, tmp_path, recipe=RECIPE, on_epoch=accuracy)
    history = train(tiny_task(), TinySource(), settings, tmp_path, recipe=RECIPE, on_epoch=accuracy)
    assert [epoch["accuracy"] for epoch in history.epochs] == [0.1, 0.2, 0.3]


def test_a_finished_run_is_read_not_trained_again(tmp_path: Path) -> None:
    task, expected = run(tmp_path)
    again, history = run(tmp_path, source=TinySource(before=failing(0)))
    assert_same_weights(task, again)
    assert np.array_equal(history.values, expected.values)


def test_a_finished_run_may_lie_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    task, _ = run(tmp_path / "done")
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", source=TinySource(before=failing(15)))
    # As on a file system that is mounted for reading, where even root writes nothing.
    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    monkeypatch.setattr("tempfile.mkstemp", refuses)
    assert_same_weights(task, run(tmp_path / "done")[0])
    for unfinished in ("cut", "new"):
        with pytest.raises(VeriQuantError, match="cannot write into"):
            run(tmp_path / unfinished, source=TinySource(before=failing(0)))


def test_ctrl_c_finishes_the_step_and_keeps_it(tmp_path: Path) -> None:
    def press(step: int) -> None:
        if step == 12:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", resumable_task(), TinySource(before=press), checkpoint_steps=None)
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_state(tmp_path / "cut" / LAST).step == 13
    resumed, _ = run(tmp_path / "cut", resumable_task())
    whole, _ = run(tmp_path / "whole", resumable_task())
    assert_same_weights(whole, resumed)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def press(step: int) -> None:
        if step == 12:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source=TinySource(before=press))
    assert read_state(tmp_path / LAST).step == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.01}, r"training\.lr was 0\.05, now it is 0\.01"),
        ({"schedule": {}}, r"training\.schedule\.at was \[2\.0\], now it is \[\]"),
        ({"epochs": 4}, r"training\.epochs was 3, now it is 4"),
    ],
)
def test_other_settings_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(VeriQuantError, match=message):
        run(tmp_path, **changes)


def test_settings_that_change_no_number_may_change(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", source=TinySource(before=failing(15)))
    task, _ = run(tmp_path / "cut", checkpoint_steps=3, keep="epochs", checkpoint_minutes=None)
    assert_same_weights(task, run(tmp_path / "whole")[0])


def test_the_first_differing_key_is_named_with_both_values() -> None:
    old = {"b": {"x": 1, "y": [1, 2]}, "a": 1.0, "d": {}}
    refuse_other_recipe(Path("f"), old, json.loads(json.dumps(old)))
    for new, message in (
        ({**old, "b": {"x": 1, "y": [1, 3]}}, r"b\.y was \[1, 2\], now it is \[1, 3\]"),
        ({**old, "c": None, "d": 3}, "c was absent, now it is null"),
        ({"b": old["b"], "d": {}}, r"a was 1\.0, now it is absent"),
        ({**old, "d": {"z": 1}}, r"d was \{\}, now it is absent"),
    ):
        with pytest.raises(VeriQuantError, match=message):
            refuse_other_recipe(Path("f"), old, new)


def test_another_set_of_images_is_refused(tmp_path: Path) -> None:
    class Longer(TinySource):
        def __len__(self) -> int:
            return PER_EPOCH + 1

    run(tmp_path)
    with pytest.raises(VeriQuantError, match="batches_per_epoch was 10, now it is 11"):
        run(tmp_path, source=Longer())


# What goes wrong ------------------------------------------------------------------------------------------------


class Exploding(Recognition):
    """A loss that is no number in one step of the third epoch."""

    calls = 0

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        return super().loss(images, labels) * (math.nan if self.calls == 25 else 1.0)


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_state(tmp_path: Path) -> None:
    plain = tiny_task()
    with pytest.raises(
        VeriQuantError, match=r"the loss is nan at step 25 of 30 \(epoch 3\); the last good state is in"
    ):
        run(tmp_path, Exploding(plain.network, plain.head))
    state = read_state(tmp_path / LAST)
    assert state.step == 21
    assert all(bool(value.isfinite().all()) for name, value in state.model.items() if "weight" in name)
    resumed, _ = run(tmp_path)
    assert_same_weights(resumed, run(tmp_path / "whole")[0])


def test_weights_that_are_no_numbers_are_never_kept(tmp_path: Path) -> None:
    class BadSlope(Recognition):
        def before_step(self, step: int) -> None:
            if step == 13:  # the step before a write: the loss has no time to show it
                self.head.weight.register_hook(lambda slope: slope * math.inf)

    plain = tiny_task()
    with pytest.raises(VeriQuantError, match="a weight is no longer finite at step 14 of 30"):
        run(tmp_path, BadSlope(plain.network, plain.head))
    assert read_state(tmp_path / LAST).step == 7


def test_a_run_that_fails_at_once_says_that_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match="no state had been written yet"):
        run(tmp_path, lr=1e30)


def test_labels_out_of_range_are_named_before_they_reach_the_device(tmp_path: Path) -> None:
    class Wrong(TinySource):
        def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels in super().epoch(number, start):
                yield images, labels + CLASSES

    with pytest.raises(VeriQuantError, match="is out of range: the head has 40 classes"):
        run(tmp_path, source=Wrong())


@pytest.mark.parametrize("batches", [0, 11])
def test_missing_batches_are_told(batches: int, tmp_path: Path) -> None:
    class Miscounting(TinySource):
        def __len__(self) -> int:
            return batches

    message = "no batches" if batches == 0 else "ended at step 10 instead of 11"
    with pytest.raises(VeriQuantError, match=message):
        run(tmp_path, source=Miscounting())


@pytest.mark.parametrize("damage", ["cut", "other", "text"])
def test_a_damaged_state_is_told(damage: str, tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    path = tmp_path / LAST
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("nothing of the kind")
    else:
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(VeriQuantError, match=r"last\.safetensors: damaged, or not the state of a training run"):
        run(tmp_path, epochs=1)


def test_a_state_of_another_network_is_told(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    other = Recognition(nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), tiny_task().head)
    with pytest.raises(
        VeriQuantError, match=r"does not fit what is trained now \(.*\); remove the folder to train from"
    ):
        run(tmp_path, other, epochs=1)


def test_without_fabric_the_error_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(VeriQuantError, match=r"pip install 'veriquant\[train\]'"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accelerator": "abacus"}, "cannot train with accelerator 'abacus'"),
        ({"precision": "16-mixed"}, "'16-mixed' needs a GPU"),
    ],
)
def test_devices_that_are_not_there_are_told(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match=message):
        run(tmp_path, **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either 'epochs' or 'steps'"),
        ({"epochs": 1, "steps": 1}, "either 'epochs' or 'steps'"),
        ({"epochs": 1, "learning_rate": 1}, "learning_rate"),
        ({"epochs": 1, "devices": 0}, "at least one device"),
        ({"epochs": 1, "schedule": {"kind": "step"}}, "'at' belongs to kind 'step'"),
        ({"epochs": 1, "schedule": {"at": [3]}}, "'at' belongs to kind 'step'"),
        ({"epochs": 1, "schedule": {"kind": "step", "at": [4, 3]}}, "moments must ascend"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoopSettings.model_validate(settings)


def test_precision_may_be_a_number_as_yaml_gives_it() -> None:
    assert LoopSettings.model_validate({"epochs": 1, "precision": 32}).precision == "32"


# Schedules and the display --------------------------------------------------------------------------------------


def test_step_decay_of_the_source() -> None:
    eyes = Schedule(kind="step", at=(8, 15))
    of_epoch = [eyes.multiplier(100 * epoch + 99, 2000, 100) for epoch in range(20)]
    assert of_epoch == pytest.approx([1.0] * 8 + [0.1] * 7 + [0.01] * 5)
    assert eyes.multiplier(800, 2000, 100) == pytest.approx(0.1)
    faces = Schedule(kind="step", at=(100_000, 160_000), unit="steps")
    edges = [faces.multiplier(step, 180_000, 11_000) for step in (99_999, 100_000, 159_999, 160_000)]
    assert edges == pytest.approx([1, 0.1, 0.1, 0.01])


def test_a_moment_within_an_epoch_falls_on_its_step() -> None:
    schedule = Schedule(kind="step", at=(0.1,))
    assert [schedule.multiplier(step, 90, 30) for step in (2, 3)] == pytest.approx([1.0, 0.1])


def test_cosine_goes_down_half_a_wave() -> None:
    schedule = Schedule(kind="cosine", floor=0.1)
    course = [schedule.multiplier(step, 100, 10) for step in range(101)]
    assert course[0] == 1.0
    assert course[50] == pytest.approx(0.55)
    assert course[100] == pytest.approx(0.1)
    assert all(late < early for early, late in pairwise(course))


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_warm_up_rises_linearly_and_then_leaves_the_schedule_alone(kind: str) -> None:
    warm, cold = Schedule(kind=kind, warmup=2), Schedule(kind=kind)
    shares = [warm.multiplier(step, 100, 10) / cold.multiplier(step, 100, 10) for step in range(100)]
    assert shares == pytest.approx([min(1.0, (step + 1) / 20) for step in range(100)])


def test_lines_tell_epoch_loss_and_time_left() -> None:
    said: list[str] = []
    with display(10, 30, 3, said.append) as show:
        for step in range(11, 31):
            show(step, (step - 1) // 10 + 1, 2.5)
    assert len(said) == 2  # at the first step and the last: what lies between went by faster than half a minute
    assert said[0].startswith("epoch 2 of 3, step 11 of 30: loss 2.5, ")
    assert said[0].endswith(" left")
    assert said[1].startswith("epoch 3 of 3, step 30 of 30: loss 2.5, ")
    assert said[1].endswith("done")
    with display(0, 1, 1, said.append, part="iteration 2 of 12") as show:
        show(1, 1, 2.5)
    assert said[2].startswith("iteration 2 of 12, epoch 1 of 1, step 1 of 1: ")


@pytest.mark.parametrize("hidden", [False, True])
def test_a_terminal_shows_a_bar_with_the_loss(hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr("veriquant.training.display.Console", lambda stderr: terminal)
    with display(10, 30, 3, None, part="iteration 4", hidden=hidden) as show:
        show(12, 2, 2.5)
    told = all(part in screen.getvalue() for part in ("iteration 4, epoch 2 of 3", "12/30", "loss 2.5"))
    assert told is not hidden
