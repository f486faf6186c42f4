"""`CalibratedModel`: a simulated network whose quantizers are fitted on some images and which is measured on others."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from veriquant.calibration.config import ActivationsConfig, CalibrationConfig, WeightsConfig
from veriquant.calibration.layer_records import planned_layers
from veriquant.calibration.prepare import GraphStep, fit_and_check, prepare
from veriquant.data.calibration import Calibration
from veriquant.deploy.pack import pack_planned, save_module
from veriquant.deploy.runtimes import open_embedder
from veriquant.metrics.directions import likeness
from veriquant.metrics.sqnr import noise_ratios, sqnr_db
from veriquant.networks.input_stamp import stamped
from veriquant.networks.network import Network
from veriquant.progress import working
from veriquant.results import Layer, StageRecord, remark
from veriquant.simulation import (
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


@dataclass
class CalibratedModel:
    """A simulated network with fitted quantizers, and the images that check what becomes of it."""

    network: Network
    simulation: Simulation
    quantizers: QuantizerCache
    fit: Tensor
    """The images that ranges were set on, standardised, float32 (n, …)."""
    check: Tensor
    """Others that nothing was set on, float32 (m, …)."""
    reference: npt.NDArray[np.float32]
    """Full-precision embeddings of the check images, float32 (m, dim)."""
    equalise: str = "none"
    """How channels were equalised before."""
    rounding: Literal["nearest", "adaround"] = "nearest"
    bias_correction: bool = False
    rounding_settings: dict[str, Any] = field(default_factory=dict)
    """By recovery: the settings of those that say how weights are rounded."""
    records: list[StageRecord] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def costs(self) -> Costs:
        """Return what precisions cost in this network."""
        return Costs(self.simulation)

    @property
    def recovery(self) -> str:
        """Return how weights are rounded, in words."""
        return f"{self.rounding}{', bias corrected' if self.bias_correction else ''}"

    @property
    def rounding_key(self) -> str:
        """Return how weights are rounded, with all settings: what a sensitivity list is kept under."""
        return json.dumps(self.rounding_settings, sort_keys=True)

    def noise(self, precisions: Mapping[str, Precision]) -> float:
        """Return the mean noise-to-signal ratio of the embeddings of the check images under an assignment."""
        return self.noise_under(self.quantizers.change(precisions, codes=True))[0]

    def noise_under(self, change: QuantizationConfig) -> tuple[float, float]:
        """Return mean noise-to-signal ratio and SQNR in dB of the check images' embeddings under a change."""
        ratios = noise_ratios(self.reference, self.simulation.embed(self.check, change))
        return float(ratios.mean()), sqnr_db(ratios)

    def plan(self, precisions: Mapping[str, Precision]) -> Plan:
        """Return an assignment as a plan."""
        return self.quantizers.plan(precisions).model_copy(
            update={
                "equalise": self.equalise,
                "rounding": self.rounding,
                "bias_correction": self.bias_correction,
            }
        )

    def file(self, plan: Plan) -> bytes:
        """Return the ONNX file of the network under a plan: weights in their own bits, its input specification."""
        return stamped(pack_planned(self.simulation, self.quantizers, plan), self.network.spec)

    def pack_saver(self, plan: Plan) -> Callable[[Path], None]:
        """Return what writes the network under a plan as a safetensors file for PyTorch."""
        return partial(save_module, simulation=self.simulation, fitted=self.quantizers, plan=plan)

    def agreement(self, content: bytes, plan: Plan) -> StageRecord:
        """Compare the file's embeddings in ONNX Runtime with the simulated ones, over the check images."""
        embedder = open_embedder(content, self.network.spec, runtime="onnxruntime", threads=os.cpu_count() or 1)
        size = embedder.max_batch or 8
        pixels = self.check.contiguous().numpy()
        found = np.concatenate([embedder(pixels[i : i + size]) for i in range(0, len(pixels), size)])
        simulated = self.simulation.embed(self.check, self.quantizers.planned(plan))
        alike = likeness(simulated, found)
        cosine = "none" if alike.mean is None else "{cosine:.6f} (least {least_cosine:.6f})"
        return StageRecord(
            stage="export",
            name="agreement",
            template="the file in ONNX Runtime: {sqnr_db:.2f} dB signal to quantization noise; cosine to the "
            f"simulation {cosine} over {{images}} images{alike.remark}",
            figures={
                "sqnr_db": sqnr_db(noise_ratios(self.reference, found)),
                "cosine": alike.mean,
                "least_cosine": alike.least,
                "images": alike.images,
            },
        )

    def layers(self, plan: Plan, noise: Mapping[str, float] | None = None) -> list[Layer]:
        """Return the layers of the user's network under a plan; `noise`: by group, of each quantized alone."""
        return planned_layers(self.network.onnx, self.simulation, plan, noise or {})


def calibrate_model(
    network: Network,
    calibration: Calibration,
    table: KernelTable,
    *,
    images: CalibrationConfig | None = None,
    weights: WeightsConfig | None = None,
    activations: ActivationsConfig | None = None,
    graph_steps: Sequence[GraphStep] = (),
    split: tuple[int, int] | None = None,
) -> CalibratedModel:
    """Prepare, simulate and fit a network for the kernels of `table`.

    `graph_steps`: recoveries that rewrite the float graph first. `split`: of the images so many set ranges and so many
    behind them check; by default as many as `images` says, or in that proportion. Raises `VeriQuantError` where the
    network cannot be simulated, or images are missing.
    """
    started = time.perf_counter()
    images, weights = images or CalibrationConfig(), weights or WeightsConfig()
    activations = activations or ActivationsConfig()
    fit, check = fit_and_check(calibration, network, *(split or (images.images, images.check_images)))
    prepared = prepare(network, fit, steps=graph_steps, prelu="PRelu" not in table.fused)
    with working("building the simulated network"):
        simulation = simulate_graph(prepared.graph, network, table)
    pixels = as_images(fit)
    quantizers = QuantizerCache(
        simulation,
        observe(simulation, pixels),
        weight_scheme=weights.scheme,
        activation_scheme=activations.scheme,
        ranges=activations.ranges,
        weight_ranges=weights.ranges,
    )
    checked = as_images(check)
    records = [
        remark("prepare", f"target {table.name}: {table.summary}"),
        StageRecord(
            stage="calibrate",
            name="ranges",
            template="ranges by {ranges} over {images} of {source}; {check_images} others to check",
            figures={
                "ranges": activations.ranges,
                "images": len(fit),
                "source": calibration.note,
                "check_images": len(check),
            },
        ),
        *(remark("prepare", note) for note in prepared.notes),
    ]
    equalise = next((step.variant for step in graph_steps if step.name == "equalise"), "none")
    model = CalibratedModel(
        network, simulation, quantizers, pixels, checked, simulation.embed(checked), equalise, records=records
    )
    model.seconds["preparation"] = time.perf_counter() - started
    return model


def checked_plan(model: CalibratedModel, plan: Plan) -> Plan:
    """Return `plan` as it is, if it is one for this network; note where it was made for other weights."""
    check_plan(plan, model.simulation)
    if plan.digest != model.simulation.digest:
        model.records.append(
            remark(
                "allocate",
                f"the plan was made for {plan.network} with other weights; its groups are this network's, so it is "
                "used",
            )
        )
    return plan
