"""Declining telemetry: no library that VeriQuant uses reports to its makers from a process of ours.

Each of them asks for its switch while it is being imported, so `decline` runs before anything else in the package
does, and what it sets in the environment the processes started from here inherit. A choice that the user made in the
environment stands, and no file of a user's consent is read or written.

* ONNX Runtime (1.29 and later) writes a device identifier under ``~/.cache/Microsoft`` on import, and uploads events.
* OpenVINO sends an event to Google Analytics on import, through ``openvino_telemetry``. Without that package it takes
  the stub that it ships for this case.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import cast

#: Environment variables that switch reporting off.
SWITCHES = {"ORT_DISABLE_TELEMETRY": "1"}
#: Packages that do nothing but report, and whose absence their users take into account.
REPORTERS = ("openvino_telemetry",)


def decline() -> None:
    """Switch the telemetry of libraries off in this process and in those that it starts."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    for name in REPORTERS:
        # None makes the import fail; what is loaded already was asked for by whoever loaded it
        sys.modules.setdefault(name, cast(ModuleType, None))
