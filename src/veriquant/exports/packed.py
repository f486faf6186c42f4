"""Files that are packed in their own bits, for every table of kernels that there is."""

from __future__ import annotations

from veriquant.exports.export import EXPORTS, Export
from veriquant.simulation.targets import TARGETS

for _name in TARGETS:
    _table = TARGETS.get(_name)
    EXPORTS.add(_name, Export(_name, _table.summary, table=_table))
