"""`Plan`: which quantizer group gets how many bits: plain data, readable JSON, made to be edited by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from veriquant.checks import cut, explain, parse_json
from veriquant.errors import VeriQuantError
from veriquant.files import read_text, write_json
from veriquant.simulation.precision import FP32, Precision

#: The version of the layout that is written.
SCHEMA_VERSION = 2


class PlanGroup(BaseModel):
    """One quantizer group: the tensors that share a precision because an operation reads them together.

    `enabled: false` leaves the group in floating point, whatever its bits say. `scheme` replaces the plan's scheme of
    weights for this group.
    """

    model_config = ConfigDict(extra="forbid")

    weight_bits: int | None = Field(default=None, ge=1, le=16)
    """None where the group has no weights."""
    activation_bits: int | None = Field(default=None, ge=2, le=16)
    """None where the group has no activation quantizers."""
    enabled: bool = True
    scheme: str | None = None
    weights: list[str] = Field(default_factory=list)
    """The operations whose weights belong to it, by name: for the reader; not read back."""
    activations: list[str] = Field(default_factory=list)
    """The tensors that belong to it, by the operation that makes them: for the reader; not read back."""

    def precision(self) -> Precision:
        """Return its widths; a width that it does not have counts as 32."""
        return Precision(self.weight_bits or 32, self.activation_bits or 32) if self.enabled else FP32


class Plan(BaseModel):
    """Widths and schemes for every quantizer group of one network on one target."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["veriquant-plan"] = "veriquant-plan"
    schema_version: int = SCHEMA_VERSION
    """Of this layout; a plan from before there were versions has none and reads as the same."""
    network: str
    """The network's name, for the reader."""
    digest: str
    """The network's content, for the reader: a plan may be used on retrained weights of the same structure."""
    target: str = "generic"
    equalise: str = "none"
    """How channels were equalised before: it decides what the weights are. See `veriquant.calibration.prepare`."""
    weight_scheme: str = "symmetric"
    activation_scheme: str = "asymmetric"
    ranges: str = "mse"
    weight_ranges: str | None = None
    """The range rule of weights, where it is not that of activations."""
    rounding: Literal["nearest", "adaround"] = "nearest"
    bias_correction: bool = False
    groups: dict[str, PlanGroup]
    note: dict[str, Any] = Field(default_factory=dict)
    """How it came about: budget, search, costs."""

    @field_validator("groups")
    @classmethod
    def _some(cls, value: dict[str, PlanGroup]) -> dict[str, PlanGroup]:
        if not value:
            raise ValueError("a plan names at least one group")
        return value

    @property
    def trained(self) -> str | None:
        """How the network that it describes was trained; None: it is what calibration alone gives."""
        found = self.note.get("trained")
        return None if found is None else str(found)

    def precisions(self) -> dict[str, Precision]:
        """Return the widths of each group by name."""
        return {name: group.precision() for name, group in self.groups.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; nothing half-written is left under `path`."""
        write_json(Path(path), self.model_dump(mode="json", exclude_none=True))


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan; raise `VeriQuantError` that names the file and the key where something is wrong."""
    try:
        content = parse_json(read_text(path, "plan"))
    except ValueError as error:
        raise VeriQuantError(f"plan {path} is not JSON: {cut(str(error))}") from error
    if not isinstance(content, dict) or content.get("kind") != "veriquant-plan":
        raise VeriQuantError(f'{path} is no plan: expected a JSON object with "kind": "veriquant-plan"')
    version = content.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise VeriQuantError(
            f"plan {path}: schema_version {version}, made by a newer VeriQuant than this one, which reads up to "
            f"{SCHEMA_VERSION}; update, or make the plan anew"
        )
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise VeriQuantError(f"plan {path}: {explain(error)}") from error
