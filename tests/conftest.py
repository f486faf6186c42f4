from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real() -> Path:
    """Return the folder of real networks and data; where there is none, the test is skipped and says so."""
    where = os.environ.get("VERIQUANT_REAL")
    if not where:
        pytest.skip("VERIQUANT_REAL is not set: the real networks and data are not here")
    return Path(where)
