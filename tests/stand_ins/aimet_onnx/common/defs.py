from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class QuantizationDataType(Enum):
    int = 1


@dataclass
class CallbackFunc:
    func: Callable[..., Any]
