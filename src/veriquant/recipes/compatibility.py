"""What of a recipe's parts cannot go together: each rule names both parts and what to choose instead.

The rules look at what the parts declare of themselves, never at their names, so that a new part is checked as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from veriquant.allocation.sensitivities import SENSITIVITIES
from veriquant.allocation.solvers.budgeted import BudgetConfig
from veriquant.errors import VeriQuantError
from veriquant.recipes.composition import Composition
from veriquant.recovery import PHASES, RECOVERIES, GraphRecovery, RoundingRecovery, TrainingRecovery
from veriquant.recovery.training_run import trains
from veriquant.registry import Registry
from veriquant.schemes import SCHEMES, Scheme
from veriquant.simulation.precision import FLOAT_BITS, Precision

Rule = Callable[[Composition], str | None]


def check_compatible(composition: Composition) -> None:
    """Raise `VeriQuantError` for the first rule that a composition breaks."""
    for rule in _RULES:
        if (broken := rule(composition)) is not None:
            raise VeriQuantError(broken)


def _schemes_are_for_it(c: Composition) -> str | None:
    if SCHEMES.get(c.weights.scheme).fit_weight is None:
        return (
            f"weights.scheme {c.weights.scheme!r} is for activations alone; choose one of "
            f"{_named(lambda scheme: scheme.fit_weight is not None)}"
        )
    if SCHEMES.get(c.activations.scheme).fit_activation is None:
        return (
            f"activations.scheme {c.activations.scheme!r} is for weights alone; choose one of "
            f"{_named(lambda scheme: scheme.fit_activation is not None)}"
        )
    return None


def _ranges_have_a_use(c: Composition) -> str | None:
    if c.weights.ranges is not None and not SCHEMES.get(c.weights.scheme).uses_ranges:
        return (
            f"weights.ranges {c.weights.ranges!r}: scheme {c.weights.scheme!r} fits its levels without a range rule; "
            f"leave it out, or choose one of {_named(lambda s: s.fit_weight is not None and s.uses_ranges)}"
        )
    return None


def _widths_are_given_once(c: Composition) -> str | None:
    for key, value, chooses in (
        ("weights.bits", c.widths.weights, c.solver.chooses_weights),
        ("activations.bits", c.widths.activations, c.solver.chooses_activations),
    ):
        if chooses and value is not None:
            return (
                f"{key} {value}: allocation {c.solver.name!r} chooses these widths; leave it out, or take allocation "
                "'fixed'"
            )
        if not chooses and value is None:
            return f"{key} is missing: allocation {c.solver.name!r} takes it from the recipe; give it 2 to 16"
    return None


def _widths_exist(c: Composition) -> str | None:
    weights, activations = SCHEMES.get(c.weights.scheme), SCHEMES.get(c.activations.scheme)
    if c.plan is not None:
        return None  # checked group by group, where it is followed
    for precision in _precisions(c):
        for kind, scheme, bits in (
            ("weights", weights, precision.weight_bits),
            ("activations", activations, precision.activation_bits),
        ):
            if bits < FLOAT_BITS and bits not in scheme.widths:
                return (
                    f"{precision}: {kind}.scheme {scheme.name!r} has no {bits}-bit levels, which allocation "
                    f"{c.solver.name!r} asks for; it has {_widths(scheme)} bits: choose candidates or bits among them, "
                    "or another scheme"
                )
    return None


def _recoveries_in_order(c: Composition) -> str | None:
    last, phase = None, 0
    for step in c.recovery:
        here = next(place for place, kind in enumerate(PHASES) if isinstance(step.recovery, kind))
        if last is not None and here < phase:
            return (
                f"recovery {step.recovery.name!r} stands behind {last!r}, but acts before it: equalisation comes "
                "first, then rounding, then training; put it in front"
            )
        last, phase = step.recovery.name, here
    names = [step.recovery.name for step in c.recovery if not isinstance(step.recovery, TrainingRecovery)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"recovery {twice!r} stands twice in the list, and acts once: leave one out"
    return None


def _rounding_fits_scheme(c: Composition) -> str | None:
    for recovery, _ in c.rounding_steps:
        if recovery.uniform and not SCHEMES.get(c.weights.scheme).uniform:
            return (
                f"recovery {recovery.name!r} rounds up or down between even levels with one at zero, which "
                f"weights.scheme {c.weights.scheme!r} has not; leave it out, or choose one of "
                f"{_named(lambda scheme: scheme.uniform and scheme.fit_weight is not None)}"
            )
        wide = [p for p in _precisions(c) if recovery.most_bits and recovery.most_bits < p.weight_bits < FLOAT_BITS]
        if wide:
            return (
                f"recovery {recovery.name!r} rounds weights of at most {recovery.most_bits} bits, and {wide[0]} has "
                "wider ones, which lose nothing that it could make up for; leave it out, or give them fewer bits"
            )
    return None


def _something_is_rounded(c: Composition) -> str | None:
    if c.plan is not None or any(p.weight_bits < FLOAT_BITS for p in _precisions(c)):
        return None
    for step in c.recovery:
        if isinstance(step.recovery, RoundingRecovery | TrainingRecovery):
            return (
                f"recovery {step.recovery.name!r}: all weights stay in floating point, so that there is nothing to "
                "recover; give weights.bits 1 to 16, or leave it out"
            )
    return None


def _levels_can_be_trained(c: Composition) -> str | None:
    for recovery, config in c.training_steps:
        learning = config.range_learning
        for kind, name, weights in (("weights", c.weights.scheme, True), ("activations", c.activations.scheme, False)):
            if weights and c.solver.per_weight and learning == "learned":
                continue  # the mixture of widths is what is trained
            if not trains(SCHEMES.get(name), learning, weights=weights):
                fitting = _named(partial(trains, range_learning=learning, weights=weights))
                return (
                    f"levels of {kind}.scheme {name!r} cannot be trained by recovery {recovery.name!r} with "
                    f"range_learning {learning!r}: choose one of {fitting}"
                )
    return None


def _stages_fit_the_allocation(c: Composition) -> str | None:
    training = c.training_steps
    if c.solver.per_weight:
        if SCHEMES.get(c.weights.scheme).mix_widths is None:
            return (
                f"allocation {c.solver.name!r} gives every weight a width of its own, which weights.scheme "
                f"{c.weights.scheme!r} has not; choose one of {_named(lambda scheme: scheme.mix_widths is not None)}"
            )
        if len(training) != 1 or not training[0][0].staged:
            return (
                f"allocation {c.solver.name!r} halves widths after every iteration of training: name one recovery that "
                f"goes in stages, {_staged()}, and no other that trains"
            )
        if c.rounding_steps:
            return (
                f"recovery {c.rounding_steps[0][0].name!r}: allocation {c.solver.name!r} begins from the weights as "
                "they are and rounds by training; leave it out"
            )
        if training[0][1].range_learning == "observed":
            return (
                f"range_learning 'observed' with allocation {c.solver.name!r}: a mixture of widths has levels that are "
                "learned; leave it at 'learned'"
            )
        return None
    for recovery, config in training:
        if not recovery.staged:
            continue
        if len(training) > 1:
            return f"recovery {recovery.name!r} trains in stages of its own: leave the other recoveries that train out"
        if getattr(config, "begin", "previous") == "first":
            return (
                f"recovery {recovery.name!r}: begin 'first' is for iterations of allocation 'magnitude'; stages of "
                "widths go on from one another: leave it out"
            )
        if config.range_learning == "observed":
            return (
                f"recovery {recovery.name!r} with range_learning 'observed': ranges would be frozen in the first "
                "stage; leave it at 'learned', or take recovery 'qat'"
            )
        if c.rounding_steps or c.plan is not None:
            other = f"recovery {c.rounding_steps[0][0].name!r}" if c.rounding_steps else "allocation 'plan'"
            return (
                f"recovery {recovery.name!r} fits the levels of each stage to weights that training has moved, so that "
                f"{other} would have no say in them; take recovery 'qat'"
            )
    return None


def _sensitivity_fits_candidates(c: Composition) -> str | None:
    if not isinstance(c.allocation, BudgetConfig) or not SENSITIVITIES.get(c.allocation.measure).weights_only:
        return None
    widths = {p.activation_bits for p in _precisions(c)}
    if len(widths) > 1:
        return (
            f"sensitivity {c.allocation.measure!r} knows the harm of weights alone, and the candidates differ in "
            f"activations ({', '.join(map(str, sorted(widths)))} bits): name candidates of one width of activations, "
            "such as [W2A8, W4A8, W8A8], or take sensitivity 'sqnr' or 'fit'"
        )
    return None


def _latency_can_be_timed(c: Composition) -> str | None:
    if c.solver.latency(c.allocation) and c.simulated and not c.export.timed:
        return (
            f"a budget of latency needs kernels that can be timed, and target {c.export.name!r} has none: choose "
            "target onnxruntime-x86"
        )
    return None


def _only_files_are_measured(c: Composition) -> str | None:
    if c.simulated:
        if c.solver.solve is None:
            return (
                f"allocation {c.solver.name!r} measures files in the runtime they are for, and target "
                f"{c.export.name!r} is simulated: choose target runtime-kernels, or allocation ilp with candidates "
                "[W8A8, FP32]"
            )
        return None
    if c.solver.solve is not None and c.solver.chooses_weights:
        return (
            f"target {c.export.name!r} simulates nothing that allocation {c.solver.name!r} could choose by: take "
            "allocation islands or fixed, or target onnxruntime-x86"
        )
    wrong = [
        ("weights.scheme", c.weights.scheme, "symmetric"),
        ("activations.scheme", c.activations.scheme, "asymmetric"),
        ("weights.bits", c.weights.bits, 8),
        ("activations.bits", c.activations.bits, 8),
    ]
    for key, found, only in wrong:
        if found != only:
            return (
                f"{key} {found}: target {c.export.name!r} has kernels for {only} alone; choose that, or target "
                "onnxruntime-x86"
            )
    if c.weights.ranges is not None:
        return f"weights.ranges: target {c.export.name!r} scales weights by their extremes; leave it out"
    for step in c.recovery:
        if not isinstance(step.recovery, GraphRecovery):
            return (
                f"recovery {step.recovery.name!r} works on a simulated network, and target {c.export.name!r} simulates "
                "none: leave it out, or choose target onnxruntime-x86"
            )
    return None


def _precisions(c: Composition) -> Iterator[Precision]:
    """Yield the precisions that groups may get."""
    if isinstance(c.allocation, BudgetConfig) and c.export.table is not None:
        yield from c.solver.table(c.allocation, c.export.table).candidates
    elif c.solver.per_weight:
        yield Precision(8, c.widths.activations or FLOAT_BITS)
    elif c.plan is None:
        yield c.widths.precision


def _named(fits: Callable[[Scheme], bool]) -> str:
    return ", ".join(name for name in SCHEMES if fits(SCHEMES.get(name)))


def _staged() -> str:
    registry: Registry[object] = RECOVERIES  # type: ignore[assignment]
    staged = [registry.get(name) for name in registry]
    return " or ".join(repr(each.name) for each in staged if isinstance(each, TrainingRecovery) and each.staged)


def _widths(scheme: Scheme) -> str:
    return (
        f"{scheme.widths[0]} to {scheme.widths[-1]}"
        if isinstance(scheme.widths, range)
        else ", ".join(map(str, scheme.widths))
    )


_RULES: tuple[Rule, ...] = (
    _only_files_are_measured,
    _schemes_are_for_it,
    _ranges_have_a_use,
    _widths_are_given_once,
    _widths_exist,
    _recoveries_in_order,
    _something_is_rounded,
    _rounding_fits_scheme,
    _stages_fit_the_allocation,
    _levels_can_be_trained,
    _sensitivity_fits_candidates,
    _latency_can_be_timed,
)
