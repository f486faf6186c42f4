"""The state of a training run in one safetensors file: what it needs to go on as if it had never been cut off.

Tensors stand as ``model.<name>``, ``optimizer.<number>.<name>`` and ``history``; everything else is JSON in the file's
metadata. One file, written beside the last one and then put in its place: there is always a whole one. Nothing in it is
executed. The generators' states are not in it, because the loop seeds them anew for every step from the seed and the
step's number (`loop.seed_step`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from veriquant.checks import parse_json
from veriquant.errors import VeriQuantError
from veriquant.files import atomic_tensors_path

#: The file in a run's folder that the run resumes from.
LAST = "last.safetensors"
_KEY = "veriquant-training"
_ABSENT = object()


@dataclass(frozen=True)
class State:
    """A training run after `step` steps."""

    step: int
    recipe: dict[str, Any]
    """What the run is, as plain data: a run with another recipe does not go on from here."""
    model: dict[str, Any]
    """The task's state dict."""
    optimizer: dict[int, dict[str, Any]]
    """What the optimizer remembers of each parameter, by the parameter's number."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """The gradient scaler's state under 16-bit mixed precision."""
    history: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    """The figures of each step, float64 (steps, columns)."""
    columns: tuple[str, ...] = ()
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """The figures of each epoch that is over."""
    threads: tuple[int, ...] = ()
    """`History.threads`; a state that was written before it had them has none."""


def epoch_file(epoch: int) -> str:
    """Return the name of the file that keeps the state after epoch `epoch`, counted from 1."""
    return f"epoch-{epoch:04d}.safetensors"


def write_state(path: Path, state: State) -> None:
    """Write a state to `path`, atomically."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {"history": state.history.contiguous()}
    plain: dict[str, Any] = {}
    for name, value in _entries(state):
        if isinstance(value, Tensor):
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        else:
            plain[name] = value
    rest = {
        "step": state.step,
        "recipe": state.recipe,
        "scaler": state.scaler,
        "columns": state.columns,
        "epochs": state.epochs,
        "threads": state.threads,
        "plain": plain,
    }
    with atomic_tensors_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(rest)})


def _entries(state: State) -> Iterator[tuple[str, Any]]:
    for name, value in state.model.items():
        yield f"model.{name}", value
    for number, memory in state.optimizer.items():
        for name, value in memory.items():
            yield f"optimizer.{number}.{name}", value


class DamagedStateError(VeriQuantError):
    """The file of a run's state cannot be used: it is damaged, or of something else. Nothing was taken over from it."""


def read_state(path: Path) -> State:
    """Read a state, its tensors on the CPU; raise `DamagedStateError` where the file is damaged or something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            rest = parse_json((file.metadata() or {})[_KEY])
            entries = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _assembled(entries, rest)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedStateError(
            f"{path}: damaged, or not the state of a training run ({type(error).__name__}: {_first_line(error)}); put "
            "back a whole one, or remove it to train from the start"
        ) from error


def _assembled(entries: dict[str, Any], rest: dict[str, Any]) -> State:
    history = entries.pop("history")
    model: dict[str, Any] = {}
    optimizer: dict[int, dict[str, Any]] = {}
    for name, value in {**entries, **rest["plain"]}.items():
        room, inner = name.split(".", 1)
        if room == "model":
            model[inner] = value
        else:
            number, key = inner.split(".", 1)
            optimizer.setdefault(int(number), {})[key] = value
    step, columns, epochs = int(rest["step"]), tuple(map(str, rest["columns"])), list(rest["epochs"])
    if step < 0 or history.dtype != torch.float64 or history.shape != (step, len(columns)):
        raise ValueError(f"figures of shape {tuple(history.shape)} for {step} steps and {len(columns)} columns")
    if step and "loss" not in columns:
        raise ValueError("figures without a loss")
    if not all(isinstance(each, dict) and {"epoch", "steps", *columns} <= set(each) for each in epochs):
        raise ValueError("epochs that are none")
    return State(
        step=step,
        recipe=dict(rest["recipe"]),
        model=model,
        optimizer=optimizer,
        scaler=dict(rest["scaler"]),
        history=history,
        columns=columns,
        epochs=epochs,
        threads=tuple(map(int, rest.get("threads", ()))),
    )


def misfit(state: State, model: Mapping[str, Any], parameters: Sequence[Tensor], steps: int) -> str | None:
    """Return why a state cannot be that of a run of `steps` steps, None where it can.

    `model`: the task's state dict as it is; `parameters`: what its optimizer moves, in order.
    """
    if state.step > steps:
        return f"it is of step {state.step}, and there are {steps}"
    wanted, found = ({name: _shape(value) for name, value in each.items()} for each in (model, state.model))
    if other := sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name)):
        return f"{other[0]!r} is {found.get(other[0], 'missing')}, expected {wanted.get(other[0], 'none such')}"
    for number, memory in state.optimizer.items():
        if not 0 <= number < len(parameters):
            return f"it remembers parameter {number} of {len(parameters)}"
        shapes = {_shape(value) for value in memory.values() if isinstance(value, Tensor) and value.ndim}
        if not shapes <= {_shape(parameters[number])}:
            return f"what it remembers of parameter {number} is of another shape"
    return None


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as it comes back from a file: JSON's types only."""
    made: dict[str, Any] = json.loads(json.dumps(recipe, allow_nan=False))
    return made


def refuse_other_recipe(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `VeriQuantError` naming the first key, in alphabetical order, at which two recipes differ."""
    before, now = dict(_leaves(old)), dict(_leaves(new))
    for key in sorted({*before, *now}):
        was, wanted = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if was is _ABSENT or wanted is _ABSENT or was != wanted:
            raise VeriQuantError(
                f"{path}: this run was begun with another recipe: {key} was {_shown(was)}, now it is {_shown(wanted)}; "
                "give the old value to go on, or name another folder (or remove this one) to begin anew"
            )


def _leaves(recipe: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; an empty mapping is a value."""
    for key, value in recipe.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120]
