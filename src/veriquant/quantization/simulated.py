"""What the methods that simulate have in common: settings, a network with fitted quantizers, the file at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator
from torch import Tensor

from veriquant.allocation.sensitivity import noise_ratios, sqnr_db
from veriquant.checks import explain
from veriquant.data.calibration import Calibration
from veriquant.deploy.pack import pack_planned, save_module
from veriquant.deploy.runtimes import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.metrics.directions import likeness
from veriquant.networks.input_stamp import stamped
from veriquant.networks.network import Network
from veriquant.progress import working
from veriquant.quantization.layers import planned_layers
from veriquant.quantization.method import Settings
from veriquant.quantization.prepare import fit_and_check, prepare
from veriquant.recovery import AdaRound, BiasCorrection, collect_moments
from veriquant.results import Layer
from veriquant.schemes import RULES, SCHEMES
from veriquant.simulation import (
    TARGETS,
    Costs,
    KernelTable,
    Plan,
    QuantizerCache,
    Simulation,
    check_plan,
    observe,
    simulate_graph,
)
from veriquant.simulation.precision import Precision
from veriquant.simulation.simulation import as_images
from veriquant.simulation.steps import QuantizationConfig

Equalise = Literal["none", "activations", "weights"]
Rounding = Literal["nearest", "adaround"]


class SimulatedSettings(Settings):
    """What every simulated method may be told.

    `images` set ranges and sensitivity and round weights; `check_images`, others, measure what comes out. `target`: a
    kernel table. Schemes and range rules by name. `equalise`: of channels between layers, by the ranges of activations
    or of weights. `rounding`: of weights, to the nearest level or by AdaRound.
    """

    images: int = Field(default=128, ge=1)
    check_images: int = Field(default=64, ge=1)
    target: str = "generic"
    weight_scheme: str = "symmetric"
    activation_scheme: str = "asymmetric"
    ranges: str = "mse"
    equalise: Equalise = "activations"
    rounding: Rounding = "nearest"
    bias_correction: bool = False

    @field_validator("target")
    @classmethod
    def _target(cls, value: str) -> str:
        return TARGETS.get(value).name

    @field_validator("weight_scheme", "activation_scheme")
    @classmethod
    def _scheme(cls, value: str) -> str:
        return SCHEMES.get(value).name

    @field_validator("ranges")
    @classmethod
    def _rule(cls, value: str) -> str:
        RULES.get(value)
        return value


@dataclass
class CalibratedModel:
    """A simulated network on the bench: fitted on some images, measured on others."""

    network: Network
    settings: SimulatedSettings
    simulation: Simulation
    fitted: QuantizerCache
    fit: Tensor
    check: Tensor
    reference: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    notes: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def costs(self) -> Costs:
        """Return what precisions cost in this network."""
        return Costs(self.simulation)

    @property
    def recovery(self) -> str:
        """Return how weights are rounded, in words."""
        corrected = ", bias corrected" if self.settings.bias_correction else ""
        return f"{self.settings.rounding}{corrected}"

    def noise(self, precisions: Mapping[str, Precision]) -> float:
        """Return the mean noise-to-signal ratio of the embeddings of the check images under an assignment."""
        return self.noise_under(self.fitted.change(precisions, codes=True))[0]

    def noise_under(self, change: QuantizationConfig) -> tuple[float, float]:
        """Return mean noise-to-signal ratio and SQNR in dB of the check images' embeddings under a change."""
        ratios = noise_ratios(self.reference, self.simulation.embed(self.check, change))
        return float(ratios.mean()), sqnr_db(ratios)

    def plan(self, precisions: Mapping[str, Precision]) -> Plan:
        """Return an assignment as a plan with these settings."""
        settings = self.settings
        return self.fitted.plan(precisions).model_copy(
            update={
                "equalise": settings.equalise,
                "rounding": settings.rounding,
                "bias_correction": settings.bias_correction,
            }
        )

    def file(self, plan: Plan) -> bytes:
        """Return the ONNX file of the network under a plan: weights in their own bits, its input specification."""
        return stamped(pack_planned(self.simulation, self.fitted, plan), self.network.spec)

    def pack_saver(self, plan: Plan) -> Callable[[Path], None]:
        """Return what writes the network under a plan as a safetensors file for PyTorch."""
        return partial(save_module, simulation=self.simulation, fitted=self.fitted, plan=plan)

    def agreement(self, content: bytes, plan: Plan) -> str:
        """Say how the file's embeddings in ONNX Runtime compare with the simulated ones, over the check images."""
        embedder = open_embedder(content, self.network.spec, runtime="onnxruntime", threads=os.cpu_count() or 1)
        size = embedder.max_batch or 8
        pixels = self.check.contiguous().numpy()
        found = np.concatenate([embedder(pixels[i : i + size]) for i in range(0, len(pixels), size)])
        simulated = self.simulation.embed(self.check, self.fitted.planned(plan))
        alike = likeness(simulated, found)
        cosines = "none" if alike.mean is None else f"{alike.mean:.6f} (least {alike.least:.6f})"
        sqnr = sqnr_db(noise_ratios(self.reference, found))
        return (
            f"the file in ONNX Runtime: {sqnr:.2f} dB signal to quantization noise; cosine to the simulation "
            f"{cosines} over {alike.images} images{alike.remark}"
        )

    def layers(self, plan: Plan, noise: Mapping[str, float] | None = None) -> list[Layer]:
        """Return the layers of the user's network under a plan; `noise`: by group, of each quantized alone."""
        return planned_layers(self.network.onnx, self.simulation, plan, noise or {})


def calibrate_model(
    network: Network,
    settings: SimulatedSettings,
    calibration: Calibration,
    table: KernelTable | None = None,
    split: tuple[int, int] | None = None,
) -> CalibratedModel:
    """Prepare, simulate and fit a network, for `table` or the target's kernels.

    `split`: of the images so many set ranges and so many behind them check; by default as many as the settings say, or
    in that proportion. Raises `VeriQuantError` where the network cannot be simulated, or images are missing.
    """
    started = time.perf_counter()
    fit, check = fit_and_check(calibration, network, *(split or (settings.images, settings.check_images)))
    table = table or TARGETS.get(settings.target)
    prepared = prepare(network, fit, equalisation=settings.equalise, prelu="PRelu" not in table.fused)
    with working("building the simulated network"):
        simulation = simulate_graph(prepared.graph, network, table)
    pixels = as_images(fit)
    fitted = QuantizerCache(
        simulation,
        observe(simulation, pixels),
        weight_scheme=settings.weight_scheme,
        activation_scheme=settings.activation_scheme,
        ranges=settings.ranges,
    )
    if settings.rounding == "adaround" or settings.bias_correction:
        moments = collect_moments(simulation, pixels)
        correct = BiasCorrection(moments, simulation) if settings.bias_correction else None
        corrected = () if correct is None else correct.operations
        fitted.recover = AdaRound(moments, corrected=corrected) if settings.rounding == "adaround" else None
        fitted.correct = correct
    checked = as_images(check)
    notes = [f"target {table.name}: {table.summary}"]
    notes += [f"ranges by {settings.ranges} over {len(fit)} of {calibration.note}; {len(check)} others to check"]
    notes += prepared.notes
    bench = CalibratedModel(network, settings, simulation, fitted, pixels, checked, simulation.embed(checked), notes)
    bench.seconds["preparation"] = time.perf_counter() - started
    return bench


def settings_of(plan: Plan, settings: SimulatedSettings) -> SimulatedSettings:
    """Return the settings that a plan was made with, all else as in `settings`; `VeriQuantError` names a wrong one."""
    names = ("target", "weight_scheme", "activation_scheme", "ranges", "equalise", "rounding", "bias_correction")
    try:
        return type(settings).model_validate({**settings.model_dump(), **{name: getattr(plan, name) for name in names}})
    except ValidationError as error:
        raise VeriQuantError(f"the plan for {plan.network}: {explain(error)}") from error


def checked_plan(bench: CalibratedModel, plan: Plan) -> Plan:
    """Return `plan` as it is, if it is one for this network; note where it was made for other weights."""
    check_plan(plan, bench.simulation)
    if plan.digest != bench.simulation.digest:
        bench.notes.append(
            f"the plan was made for {plan.network} with other weights; its groups are this network's, so it is used"
        )
    return plan
