"""`fixed`: one precision for the whole network, or a plan made by hand: what a mixed plan is compared with."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.networks.network import Network
from veriquant.quantization.method import METHODS, Method, QuantizationContext, QuantizationResult
from veriquant.quantization.simulated import SimulatedSettings, calibrate_model, checked_plan, settings_of
from veriquant.simulation import Plan, load_plan
from veriquant.simulation.precision import Precision


class FixedSettings(SimulatedSettings):
    """`precision` for every quantizer group, such as W6A8; or a `plan`, the path of a JSON file, which takes its place.

    A plan brings target, schemes, ranges, rounding and equalisation with it.
    """

    precision: str = "W8A8"
    plan: Plan | None = Field(default=None)

    @field_validator("precision")
    @classmethod
    def _precision(cls, value: str) -> str:
        return str(Precision.parse(value))

    @field_validator("plan", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        plan = load_plan(value) if isinstance(value, str) else value
        if isinstance(plan, Plan) and plan.trained:
            raise VeriQuantError(
                f"plan {value if isinstance(value, str) else plan.network}: describes a network that was trained "
                f"({plan.trained}), which its widths alone do not make again; use the file that training made, or take "
                "'trained' out of its 'note' to give these widths without training"
            )
        return plan


def _run(
    network: Network, settings: FixedSettings, calibration: Calibration | None, target: QuantizationContext
) -> QuantizationResult:
    assert calibration is not None
    if settings.plan is not None:
        bench = calibrate_model(network, settings_of(settings.plan, settings), calibration)
        plan = checked_plan(bench, settings.plan)
    else:
        bench = calibrate_model(network, settings, calibration)
        plan = bench.plan(dict.fromkeys(bench.simulation.groups, Precision.parse(settings.precision)))
    content = bench.file(plan)
    noise, sqnr = bench.noise_under(bench.fitted.planned(plan))
    precisions = plan.precisions()
    bench.notes.append(
        f"{sqnr:.1f} dB signal to quantization noise at the output over {len(bench.check)} images (noise {noise:.2e}); "
        f"relative BOPs {bench.costs.relative_bops(precisions):.3f}, {bench.costs.average_bits(precisions):.2f} bits a "
        f"weight, nominal {bench.costs.nominal_bytes(precisions) / 1e6:.3f} MB, on disk {len(content) / 1e6:.3f} MB"
    )
    bench.notes.append(bench.agreement(content, plan))
    return QuantizationResult(content, bench.layers(plan), bench.notes, plan=plan, save_pack=bench.pack_saver(plan))


METHODS.add(
    "fixed",
    Method(
        "fixed",
        "one precision everywhere, or a plan made by hand; simulated, then packed in its own bits",
        FixedSettings,
        _run,
        lambda settings: settings.images + settings.check_images,
        plans=True,
    ),
)
