"""`TrainingRun`: one network is trained, its best epoch kept and exported, and what came of it written down.

A run has a folder of its own::

    last.safetensors, history.csv, history.json   the loop's: its state, and the figures of every step and epoch
    best.safetensors                              the weights of the best epoch: the network FAMILY:best.safetensors
    network.onnx                                  the same network with its input specification
    result.json                                   a `TrainingResult`, written when all is done
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from veriquant.benchmarks import load_benchmark
from veriquant.data.training_set import TrainingSet, load_training_set
from veriquant.deploy import machine, open_embedder, versions
from veriquant.errors import VeriQuantError
from veriquant.files import file_digest, json_digest, write_bytes, write_json
from veriquant.frontends.images import image_batches
from veriquant.frontends.sample import Sample
from veriquant.locks import locked
from veriquant.networks import Network, load_network
from veriquant.report import numbers
from veriquant.study.best import BestEpoch
from veriquant.study.units import Say
from veriquant.study.validation import ModuleEmbedder, Validation
from veriquant.training.checkpoint import LAST, plain
from veriquant.training.config import RunEntry, TrainingConfig
from veriquant.training.growing_margin import GrowingMargin
from veriquant.training.loader import Batches
from veriquant.training.loop import History, OnEpoch, train
from veriquant.training.start import seeded, start_network

BEST, NETWORK, RESULT = "best.safetensors", "network.onnx", "result.json"
#: What stands before a metric of the validation in the history of epochs.
VALIDATED = "validation "
#: So many images are given to the ONNX file and to the module, whose embeddings must be so near, relative to their
#: length.
_COMPARED, _NEAR = 8, 1e-3
_MOST_WORKERS = 8


class TrainingResult(BaseModel):
    """What a finished run was and what it gave: ``result.json``. Rates are fractions."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["veriquant-training"] = "veriquant-training"
    name: str
    network: dict[str, Any]
    """family, arguments, parameters, dim, input, digest (of the ONNX file and its input)."""
    data: dict[str, Any]
    """source, name, note, digest, images, people; altered: what the front end changed in the last session's images."""
    run: str
    """Digest of `recipe`."""
    recipe: dict[str, Any]
    """All that the outcome depends on; a folder that was begun with another one is refused."""
    epochs: list[dict[str, Any]]
    """Means over the steps of each epoch, ``seconds``, and where it was validated ``validation <metric>``."""
    best: dict[str, Any]
    """epoch: whose weights were kept; selected_by, value: why; both None where nothing was validated."""
    validated_on: str | None
    validation: dict[str, float]
    """Every metric of the best epoch on the images held out; empty where nothing was validated."""
    onnx_deviation: float
    """Greatest distance of an embedding by the ONNX file, in ONNX Runtime, from the module's, over its length."""
    seconds: float
    """Of training and validating; what a killed session did in vain is not counted."""
    threads: list[int] = []
    """PyTorch's on the CPU, in each session where they were others than before: numbers depend on them in the last
    bits. Empty on a GPU, and in results that are older than this note."""
    machine: dict[str, Any]
    versions: dict[str, str]


class TrainingRun:
    """One network to train; raises `VeriQuantError` where something that it needs cannot be read or does not fit."""

    def __init__(self, config: TrainingConfig, entry: RunEntry, folder: Path, say: Say) -> None:
        self.name, self.folder = entry.name, folder
        self._config = config
        self._say: Say = lambda line: say(f"{entry.name}: {line}")
        self._data = load_training_set(entry.data)
        self._say(f"{self._data.name}: {self._data.note}")
        self._validation: Validation | None = None
        if entry.validation is not None:
            self._validation = Validation(load_benchmark(entry.validation), config.select)
            self._validation.refuse_trained_on(self._data)
        self._start = start_network(config.network, config.input, config.seed)
        with seeded(config.seed, "head"):
            self._head = config.head.make(self._start.dim, self._data.classes)
        self._steps_per_epoch = max(1, len(self._data) // config.batch_size)
        self._recipe = self._all_that_matters()
        whole = {**self._recipe, "training": config.loop_settings().decisive()}
        self._best = BestEpoch(folder / BEST, json_digest(whole), self._start, self._validation)

    def kept(self) -> TrainingResult | None:
        """Return the result that the folder holds, if this very run is done."""
        try:
            result = TrainingResult.model_validate_json((self.folder / RESULT).read_bytes())
        except (OSError, ValidationError):
            return None
        there = all((self.folder / name).is_file() for name in (BEST, NETWORK))
        told = {"epoch", "selected_by", "value"} <= set(result.best) and {"images", "people"} <= set(result.data)
        whole = there and told and bool(result.epochs) and "loss" in result.epochs[-1]
        return result if whole and result.run == self._best.run else None

    def follow(self) -> None:
        """Train as a process that is not the first of several: it writes nothing."""
        self._train(None)

    def run(self) -> TrainingResult:
        """Train from the start or from where the run was cut off; write the networks and the result."""
        with locked(self.folder):
            if (self.folder / LAST).exists():
                self._best.restore()
            history, altered = self._train(self._epoch_ends())
            self._finish_best(history)
            network = self._exported()
            result = self._result(history, altered, network)
            write_bytes(self.folder / NETWORK, network.onnx)
            write_json(self.folder / RESULT, result.model_dump(mode="json"))
        return result

    def _all_that_matters(self) -> dict[str, Any]:
        """Return what the outcome depends on, beside the loop's settings, as plain data."""
        config, start = self._config, self._start
        checkpoint = config.network.checkpoint
        validation = None
        if self._validation is not None:
            validation = {
                "digest": self._validation.benchmark.digest,
                "select": self._validation.select,
                "every": config.validate_every,
            }
        recipe = {
            "task": "recognition",
            "network": {"family": start.family, "arguments": start.arguments},
            "checkpoint": None if checkpoint is None else file_digest(checkpoint),
            "input": start.spec.model_dump(mode="json", exclude={"origin"}),
            "data": {"name": self._data.name, "digest": self._data.digest, "people": self._data.classes},
            "augmentation": config.augmentation.model_dump(mode="json"),
            "head": {
                "name": config.head.name,
                "scale": self._head.scale,
                "margin": self._head.margin,
                "sample": config.head.sample,
                "margin_growth": config.head.margin_growth,
            },
            "batch_size": config.batch_size,
            "validation": validation,
        }
        return plain(recipe)

    def _train(self, on_epoch: OnEpoch | None) -> tuple[History, str]:
        """Return the history, and what was altered in the images of this session, in words."""
        config = self._config
        made: list[Batches] = []

        def batches(rank: int, processes: int) -> Batches:
            made.append(
                Batches(
                    self._data,
                    self._start.spec,
                    config.batch_size,
                    seed=config.seed,
                    workers=_workers(config.workers),
                    augmentation=config.augmentation,
                    rank=rank,
                    world_size=processes,
                    pinned=torch.cuda.is_available() and config.loop.accelerator != "cpu",
                )
            )
            return made[0]

        growing = round(config.head.margin_growth * self._steps_per_epoch)
        task = GrowingMargin(self._start.module, self._head, growing)
        try:
            history = train(
                task,
                batches,
                config.loop_settings(),
                self.folder,
                recipe=self._recipe,
                on_epoch=on_epoch,
                say=self._say,
            )
        finally:
            for source in made:
                source.close()
        return history, made[0].stats.note()

    def _epoch_ends(self) -> OnEpoch:
        """Return what is done after each epoch: it is timed, now and then validated, and kept if it is the best."""
        config = self._config
        epochs = -(-config.loop.total_steps(self._steps_per_epoch) // self._steps_per_epoch)
        began = time.monotonic()

        def ends(epoch: int) -> dict[str, float]:
            nonlocal began
            found: dict[str, float] = {}
            if self._validation is not None and (epoch % config.validate_every == 0 or epoch == epochs):
                found = self._validated(epoch, epochs)
            now = time.monotonic()
            seconds, began = now - began, now
            return {"seconds": seconds, **{f"{VALIDATED}{name}": value for name, value in found.items()}}

        return ends

    def _validated(self, epoch: int, epochs: int) -> dict[str, float]:
        assert self._validation is not None
        start, select = self._start, self._validation.select
        found = self._validation(start.module, start.spec, start.dim, self._config.batch_size)
        best = self._best.offer(epoch, found)
        unit = " %" if numbers.is_percent(select) else ""
        shown = f"{numbers.label(select)} {numbers.metric_value(select, found[select])}{unit}"
        before = "the best so far" if best else f"best: epoch {self._best.epoch}"
        self._say(f"epoch {epoch} of {epochs} on images held out: {shown}, {before}")
        return found

    def _finish_best(self, history: History) -> None:
        """See that the best epoch's weights are there; without a validation they are the last ones."""
        if self._validation is None:
            self._best.keep(len(history.epochs), {})
            return
        key = f"{VALIDATED}{self._validation.select}"
        self._best.refuse_lost({epoch["epoch"]: epoch[key] for epoch in history.epochs if key in epoch})

    def _exported(self) -> Network:
        """Return the best epoch's network, read back from its file."""
        network = load_network(f"{self._start.family}:{self.folder / BEST}")
        return replace(network, name=self.name)

    def _result(self, history: History, altered: str, network: Network) -> TrainingResult:
        config, data, start = self._config, self._data, self._start
        assert network.module is not None
        deviation = onnx_deviation(network, data)
        if not deviation <= _NEAR:
            raise VeriQuantError(
                f"{self.folder / BEST}: its ONNX form gives other embeddings than the network itself (they differ by "
                f"{deviation:.1e} of their length); another version of PyTorch or of ONNX Runtime may help"
            )
        return TrainingResult(
            name=self.name,
            run=self._best.run,
            network={
                "family": start.family,
                "arguments": start.arguments,
                "parameters": sum(parameter.numel() for parameter in network.module.parameters()),
                "dim": network.dim,
                "input": network.spec.model_dump(mode="json"),
                "digest": network.digest,
            },
            data={
                "source": data.source,
                "name": data.name,
                "note": data.note,
                "digest": data.digest,
                "images": len(data),
                "people": data.classes,
                "altered": altered,
            },
            recipe={**self._recipe, "training": config.loop_settings().decisive()},
            epochs=history.epochs,
            best={
                "epoch": self._best.epoch,
                "selected_by": None if self._validation is None else self._validation.select,
                "value": self._best.value,
            },
            validated_on=None if self._validation is None else self._validation.benchmark.source,
            validation=self._best.figures,
            onnx_deviation=deviation,
            seconds=sum(epoch.get("seconds", 0.0) for epoch in history.epochs),
            threads=history.threads,
            machine=machine(),
            versions=versions(),
        )


def onnx_deviation(network: Network, data: TrainingSet) -> float:
    """Return how far the embeddings of a few images by the ONNX form, in ONNX Runtime, are from the module's.

    The greatest distance of two embeddings of an image, relative to the module's length.
    """
    assert network.module is not None
    few = [
        Sample(data.where(index), content=data.read(index), mirrored=data.mirrored(index))
        for index in range(min(_COMPARED, len(data)))
    ]
    batch = next(image_batches(few, network.spec, len(few)))
    exported = open_embedder(network.onnx, network.spec)(batch).astype(np.float64)
    module = ModuleEmbedder(network.module, network.spec, network.dim)(batch).astype(np.float64)
    return float((np.linalg.norm(exported - module, axis=1) / np.linalg.norm(module, axis=1)).max())


def _workers(wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    return max(0, min(_MOST_WORKERS, int(machine()["cores"]) - 1))
