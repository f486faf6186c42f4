"""The pipeline: prepare → calibrate → allocate → recover → export, with the parts that a recipe names."""

from __future__ import annotations

import time

from veriquant.allocation.solver import Allocated, AllocationRequest
from veriquant.allocation.solvers.islands import IslandsConfig, keep_in_float, why_kept
from veriquant.allocation.solvers.record import provenance
from veriquant.caches.sensitivity_store import measure_cached
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.layer_records import quantized_layers
from veriquant.calibration.model import CalibratedModel, calibrate_model
from veriquant.calibration.result import QuantizationResult
from veriquant.data.calibration import Calibration
from veriquant.exports.runtime_kernels import (
    RuntimeKernelsConfig,
    best_kernels,
    fidelity_record,
    prepare_for_runtime,
    time_record,
)
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import operation
from veriquant.recipes.composition import Composition
from veriquant.recovery.training_run import Trained, TrainingRequest
from veriquant.recovery.training_session import Split
from veriquant.results import StageRecord


def quantize_composed(
    network: Network, composition: Composition, calibration: Calibration, context: QuantizationContext
) -> QuantizationResult:
    """Quantize a network with the parts of a composition, which go together (`recipes.compatibility`)."""
    if not composition.simulated:
        return _measured_in_runtime(network, composition, calibration, context)
    model, split = calibrate(network, composition, calibration)
    allocated = allocate(model, composition, context)
    trained = recover(model, allocated, composition, calibration, split, context)
    return export(model, allocated, trained)


def calibrate(
    network: Network, composition: Composition, calibration: Calibration
) -> tuple[CalibratedModel, Split | None]:
    """Prepare the graph, simulate it, fit its quantizers, and say how weights are rounded.

    Second: where something trains, which images train and which check.
    """
    trainings = [config for _, config in composition.training_steps]
    split = Split.of(calibration, composition.calibration, trainings[0]) if trainings else None
    assert composition.export.table is not None
    model = calibrate_model(
        network,
        calibration if split is None else split.calibration(calibration),
        composition.solver.table(composition.allocation, composition.export.table),
        images=composition.calibration,
        weights=composition.weights,
        activations=composition.activations,
        graph_steps=composition.graph_steps,
        split=None if split is None else (split.fit, split.checks),
    )
    names = [recovery.name for recovery, _ in composition.rounding_steps]
    for recovery, config in composition.rounding_steps:
        recovery.attach(model, config, [name for name in names if name != recovery.name])
        model.rounding_settings[recovery.name] = config.plain()
    return model, split


def allocate(model: CalibratedModel, composition: Composition, context: QuantizationContext) -> Allocated:
    """Give every quantizer group its widths."""
    assert composition.solver.solve is not None
    started = time.perf_counter()
    request = AllocationRequest(model, composition.widths, context, measure_cached)
    allocated = composition.solver.solve(request, composition.allocation)
    model.seconds["allocation"] = time.perf_counter() - started
    return allocated


def recover(
    model: CalibratedModel,
    allocated: Allocated,
    composition: Composition,
    calibration: Calibration,
    split: Split | None,
    context: QuantizationContext,
) -> Trained | None:
    """Train the network under its allocation, by each recovery that trains in turn; None: none does."""
    trained: Trained | None = None
    plain = composition.plain()
    for number, (recovery, config) in enumerate(composition.training_steps):
        assert split is not None
        started = time.perf_counter()
        key = {
            **{section: plain[section] for section in ("calibration", "weights", "activations", "export")},
            "rounding": model.rounding_settings,
            "prepared": [[step.name, step.variant] for step in composition.graph_steps],
            "precisions": {name: str(each) for name, each in allocated.precisions.items()},
            "plan": None if allocated.plan is None else allocated.plan.model_dump(mode="json"),
            "before": [config.decisive() for _, config in composition.training_steps[:number]],
        }
        student = None if trained is None else trained.student
        request = TrainingRequest(model, allocated, calibration, split, context, key, student)
        trained = recovery.train(request, config)
        model.records += trained.records
        model.seconds[recovery.name] = time.perf_counter() - started
    return trained


def export(model: CalibratedModel, allocated: Allocated, trained: Trained | None) -> QuantizationResult:
    """Write the file, compare it with the simulation, and say what it is."""
    precisions = allocated.precisions if trained is None else trained.precisions
    plan = allocated.plan or model.plan(precisions)
    if trained is not None:
        plan = plan.model_copy(update={"note": trained.note})
    content = allocated.content if trained is None else None
    content = content or model.file(plan)
    noise, sqnr = model.noise_under(model.quantizers.planned(plan))
    record = allocated.record
    if record is not None:
        note = {**provenance(record), **plan.note}
        if trained is not None:  # the record is of the choice, which was made before
            note["sqnr_db"] = round(sqnr, 3)
            record = record.model_copy(update={"file_bytes": len(content)})
        plan = plan.model_copy(update={"note": note})
    costs = model.costs
    average = (
        costs.average_bits(precisions) if trained is None else trained.average_bits or costs.average_bits(precisions)
    )
    model.records += [
        StageRecord(
            stage="export",
            name="file",
            template="{sqnr_db:.1f} dB signal to quantization noise at the output over {images} images (noise "
            "{noise:.2e}); relative BOPs {relative_bops:.3f}, {average_bits:.2f} bits a weight, nominal "
            "{nominal_mb:.3f} MB, on disk {file_mb:.3f} MB",
            figures={
                "sqnr_db": sqnr,
                "images": len(model.check),
                "noise": noise,
                "relative_bops": costs.relative_bops(precisions),
                "average_bits": average,
                "nominal_mb": costs.nominal_bytes(precisions) / 1e6,
                "file_mb": len(content) / 1e6,
            },
        ),
        model.agreement(content, plan),
    ]
    layers = model.layers(plan, allocated.noise)
    if trained is not None and trained.by_layer:
        layers = [
            layer.model_copy(update={"weight_bits": trained.by_layer[layer.name]})
            if layer.name in trained.by_layer
            else layer
            for layer in layers
        ]
    return QuantizationResult(
        content,
        layers,
        model.records,
        plan=plan,
        allocation=record,
        average_bits=None if trained is None else trained.average_bits,
        iteration=None if trained is None else trained.iteration,
        save_pack=model.pack_saver(plan),
        source=model.network,
    )


def _measured_in_runtime(
    network: Network, composition: Composition, calibration: Calibration, context: QuantizationContext
) -> QuantizationResult:
    """Build files for the runtime's integer kernels, measured there, and leave in float what the allocation says."""
    assert isinstance(composition.export_config, RuntimeKernelsConfig)
    work = prepare_for_runtime(
        network,
        calibration,
        context,
        composition.export_config,
        images=composition.calibration,
        ranges=composition.activations.ranges,
        graph_steps=composition.graph_steps,
    )
    built = best_kernels(work)
    errors: dict[str, float] = {}
    if isinstance(composition.allocation, IslandsConfig):
        built, errors = keep_in_float(work, built, composition.allocation, measure_cached)
    work.records += [fidelity_record(work, built), time_record(work, built)]
    kept = {operation(node.name): why_kept(name, errors) for name in built.kept for node in work.operations[name]}
    kept |= {
        operation(name): "before the first or after the last layer with weights: nothing to gain" for name in work.edges
    }
    stored = {operation(name) for name in built.stored}
    layers = quantized_layers(network.onnx, work.graph, kept, errors, stored)
    return QuantizationResult(built.content, layers, work.records, source=network)
