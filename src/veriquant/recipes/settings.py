"""Changing single settings of a recipe: ``recovery.qat.epochs``, or ``epochs`` where only one part has such a setting.

Names that settings had before recipes were compositions are understood too.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from veriquant.allocation.solvers import SOLVERS
from veriquant.baselines import BASELINES
from veriquant.calibration.config import ActivationsConfig, CalibrationConfig, WeightsConfig
from veriquant.config import Config, split_part
from veriquant.errors import VeriQuantError
from veriquant.exports import EXPORTS
from veriquant.recovery import PHASES, RECOVERIES
from veriquant.simulation.precision import FLOAT_BITS, Precision

Document = dict[str, Any]

#: Sections that are replaced or added to as a whole, or by their keys.
SECTIONS = ("calibration", "weights", "activations", "allocation", "recovery", "export")


def with_settings(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """Return a recipe's document with single settings changed; raise `VeriQuantError` for a name that is none.

    A whole section may be replaced or added to too: ``weights={scheme: kmeans}``, ``recovery=[equalise, adaround]``.
    """
    changed = deepcopy(dict(document))
    for key, value in changes.items():
        _change(changed, key, value)
    return changed


def _change(document: Document, key: str, value: Any) -> None:
    if document.get("baseline") is not None:
        _change_baseline(document, key, value)
        return
    section, dot, rest = key.partition(".")
    if dot and section in SECTIONS:
        _change_path(document, section, rest, value)
    elif section in SECTIONS and not (isinstance(value, str) and key in _OLD):
        _change_section(document, section, value)
    elif key in _OLD:
        _OLD[key](document, value)
    else:
        places = [place for place, config in _places(document) if key in config.model_fields]
        if not places:
            raise VeriQuantError(_unknown(document, key))
        if len(places) > 1:
            listed = " or ".join(f"{place}.{key}" for place in places)
            raise VeriQuantError(f"setting {key!r} stands in several parts of the recipe: say {listed}")
        section, _, rest = f"{places[0]}.{key}".partition(".")
        _change_path(document, section, rest, value)


def _change_section(document: Document, section: str, value: Any) -> None:
    if section == "recovery":
        document["recovery"] = list(value) if isinstance(value, (list, tuple)) else [value]
    elif section == "allocation" and isinstance(value, Mapping) and "solver" in value:
        document["allocation"] = dict(value)
    elif isinstance(value, Mapping):
        document[section] = {**(document.get(section) or {}), **value}
    else:
        raise VeriQuantError(f"{section}={str(value)[:100]}: expected keys and values, as in {section}={{key: value}}")


def _change_path(document: Document, section: str, rest: str, value: Any) -> None:
    if section == "recovery":
        name, dot, key = rest.partition(".")
        recovery = RECOVERIES.get(name)
        if not dot:
            raise VeriQuantError(f"recovery.{name}: expected a setting of it, as in recovery.{name}.KEY=VALUE")
        settings = _recovery(document, recovery.name)
        if settings is None:
            raise VeriQuantError(
                f"recovery.{name}.{key}: the recipe has no recovery {name!r}; give the whole list, as in "
                f"--set 'recovery=[{name}]'"
            )
        _assign(settings, key, value)
    elif section == "allocation" and rest == "solver":
        document["allocation"] = {**_common(document, str(value)), "solver": value}
    elif section == "allocation" and rest.startswith("sensitivity."):
        allocation = document.setdefault("allocation", {})
        name, settings = split_part(allocation.get("sensitivity", "sqnr"), "allocation.sensitivity", "sensitivity")
        path = rest.removeprefix("sensitivity.").removeprefix(f"{name}.")
        _assign(settings, path, value)
        allocation["sensitivity"] = {name: settings}
    else:
        _assign(document.setdefault(section, {}), rest, value)


def _common(document: Document, solver: str) -> Document:
    """Return the settings of the allocation that another solver has too."""
    fields = SOLVERS.get(solver).config.model_fields
    return {key: value for key, value in (document.get("allocation") or {}).items() if key in fields}


def _assign(settings: Document, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for key in way:
        inner = settings.get(key)
        settings[key] = settings = dict(inner) if isinstance(inner, Mapping) else {}
    settings[last] = value


def _recovery(document: Document, name: str) -> Document | None:
    """Return the settings of a recovery in the list, to be changed in place; None: it is not in it."""
    listed = document.get("recovery") or []
    for place, each in enumerate(listed):
        found, settings = split_part(each, f"recovery.{place}", "recovery")
        if found == name:
            listed[place] = {found: settings}
            return settings
    return None


def _places(document: Mapping[str, Any]) -> Iterator[tuple[str, type[Config]]]:
    """Yield every part of a recipe that has settings, and their model."""
    yield "calibration", CalibrationConfig
    yield "weights", WeightsConfig
    yield "activations", ActivationsConfig
    yield "allocation", SOLVERS.get(str((document.get("allocation") or {}).get("solver", "fixed"))).config
    for place, each in enumerate(document.get("recovery") or ()):
        name, _ = split_part(each, f"recovery.{place}", "recovery")
        yield f"recovery.{name}", RECOVERIES.get(name).config
    yield "export", EXPORTS.get(str((document.get("export") or {}).get("target", "generic"))).config


def setting_names(document: Mapping[str, Any]) -> list[str]:
    """Return the full names of all settings of a recipe."""
    if document.get("baseline") is not None:
        name, _ = split_part(document["baseline"], "baseline", "baseline")
        return list(BASELINES.get(name).config.model_fields)
    return [f"{place}.{key}" for place, config in _places(document) for key in config.model_fields]


def _change_baseline(document: Document, key: str, value: Any) -> None:
    name, settings = split_part(document["baseline"], "baseline", "baseline")
    config = BASELINES.get(name).config
    key = key.removeprefix("baseline.").removeprefix(f"{name}.")
    if key not in config.model_fields:
        raise VeriQuantError(_unknown(document, key))
    document["baseline"] = {name: {**settings, key: value}}


def _unknown(document: Mapping[str, Any], key: str) -> str:
    names = setting_names(document)
    last = {name.rpartition(".")[2]: name for name in names}
    near = difflib.get_close_matches(key, [*names, *last], n=1)
    hint = f" (did you mean {last.get(near[0], near[0])!r}?)" if near else ""
    return f"unknown key {key!r}{hint}; the settings are: {', '.join(names) or 'none'}"


# ------------------------------------------------------------------------------------------------- names of before


def _set_precision(document: Document, value: Any) -> None:
    precision = Precision.parse(str(value))
    for section, bits in (("weights", precision.weight_bits), ("activations", precision.activation_bits)):
        document[section] = {**(document.get(section) or {}), "bits": bits if bits < FLOAT_BITS else "float"}


def _set_step(name: str, document: Document, settings: Any) -> None:
    """Put a recovery into the list where its phase is, or take it out where `settings` is None."""
    kept = [each for each in document.get("recovery") or [] if split_part(each, "recovery", "recovery")[0] != name]
    if settings is not None:
        kept.append({name: settings} if settings else name)

    def phase(each: Any) -> int:
        recovery = RECOVERIES.get(split_part(each, "recovery", "recovery")[0])
        return next(place for place, kind in enumerate(PHASES) if isinstance(recovery, kind))

    document["recovery"] = sorted(kept, key=phase)


def _set_equalise(document: Document, value: Any) -> None:
    if isinstance(value, bool):
        value = "activations" if value else "none"
    if value not in ("none", "activations", "weights"):
        raise VeriQuantError(f"key 'equalise': expected none, activations or weights, found {str(value)[:100]!r}")
    by = {} if value == "activations" else {"by": value}
    _set_step("equalise", document, None if value == "none" else by)


def _set_rounding(document: Document, value: Any) -> None:
    if value not in ("nearest", "adaround"):
        raise VeriQuantError(f"key 'rounding': expected nearest or adaround, found {str(value)[:100]!r}")
    _set_step("adaround", document, {} if value == "adaround" else None)


def _set_bias_correction(document: Document, value: Any) -> None:
    if not isinstance(value, bool):
        raise VeriQuantError(f"key 'bias_correction': expected true or false, found {str(value)[:100]!r}")
    _set_step("bias_correction", document, {} if value else None)


def _set_plan(document: Document, value: Any) -> None:
    for section in ("weights", "activations", "export"):
        document.pop(section, None)
    document["recovery"] = []
    document["allocation"] = {"solver": "plan", "path": value}


def _set_solver(document: Document, value: Any) -> None:
    name = {"walk": "greedy", "optimum": "ilp"}.get(str(value), value)
    _change_path(document, "allocation", "solver", name)


def _set_metric(document: Document, value: Any) -> None:
    allocation = document.setdefault("allocation", {})
    _, settings = split_part(allocation.get("sensitivity", "sqnr"), "allocation.sensitivity", "sensitivity")
    allocation["sensitivity"] = {str(value): {key: each for key, each in settings.items() if key == "images"}}


def _set_mixture(document: Document, value: Any) -> None:
    name = {"steps": "mixed-step"}.get(str(value), value)
    document["weights"] = {**(document.get("weights") or {}), "scheme": name}


def _moved(path: str) -> Callable[[Document, Any], None]:
    section, _, rest = path.partition(".")
    return lambda document, value: _change_path(document, section, rest, value)


def _renamed(name: str) -> Callable[[Document, Any], None]:
    return lambda document, value: _change(document, name, value)


_OLD: dict[str, Callable[[Document, Any], None]] = {
    "precision": _set_precision,
    "weight_scheme": _moved("weights.scheme"),
    "activation_scheme": _moved("activations.scheme"),
    "activation_bits": _moved("activations.bits"),
    "ranges": _moved("activations.ranges"),
    "images": _moved("calibration.images"),
    "target": _moved("export.target"),
    "equalise": _set_equalise,
    "rounding": _set_rounding,
    "bias_correction": _set_bias_correction,
    "plan": _set_plan,
    "allocation": _set_solver,
    "metric": _set_metric,
    "sensitivity_images": _moved("allocation.sensitivity.images"),
    "weights": _set_mixture,
    "levels": _renamed("range_learning"),
    "hints": _renamed("feature_weight"),
    "taps": _renamed("feature_tensors"),
    "levels_rate": _renamed("quantizer_lr"),
}


def upgraded(method: str, settings: Mapping[str, Any], document: Mapping[str, Any]) -> Document:
    """Return a recipe from before there were compositions, a method and its settings, as sections."""
    if method in BASELINES:
        return {**document, "baseline": {method: dict(settings)} if settings else method}
    if method not in _METHODS:
        known = sorted([*BASELINES, *_METHODS])
        raise VeriQuantError(f"unknown method {method!r}; there were: {', '.join(known)}")
    return with_settings({**document, **deepcopy(_METHODS[method])}, settings)


_METHODS: dict[str, Document] = {
    "fixed": {"weights": {"bits": 8}, "activations": {"bits": 8}, "recovery": ["equalise"]},
    "mixed": {"allocation": {"solver": "best"}, "recovery": ["equalise"]},
    "qat": {
        "weights": {"bits": 4},
        "activations": {"bits": 8},
        "recovery": ["equalise", "qat"],
        "export": {"target": "wide"},
    },
    "iterative": {
        "weights": {"scheme": "mixed-step"},
        "activations": {"scheme": "pact", "bits": 8},
        "allocation": {"solver": "magnitude"},
        "recovery": ["equalise", "staged_qat"],
        "export": {"target": "wide"},
    },
    "int8": {
        "weights": {"bits": 8},
        "activations": {"bits": 8},
        "allocation": {"solver": "islands"},
        "recovery": ["equalise"],
        "export": {"target": "runtime-kernels"},
    },
}
