from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_world import known_people, lfw_folder, photos, tiny_network

import veriquant  # noqa: F401 - before any test imports a runtime: it declines their telemetry

# Selenium's manager reports which browsers are asked for, and downloads what it does not find.
os.environ |= {"SE_AVOID_STATS": "true", "SE_OFFLINE": "true"}

Draw = Callable[..., bytes]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no test read or write the user's cache of sensitivity lists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERIQUANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real() -> Path:
    """Return the folder of real networks and data; where there is none, the test is skipped and says so."""
    where = os.environ.get("VERIQUANT_REAL")
    if not where:
        pytest.skip("VERIQUANT_REAL is not set: the real networks and data are not here")
    return Path(where)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, lfw/, photos/ and people/."""
    folder = tmp_path_factory.mktemp("world")
    tiny_network(folder / "tiny.onnx")
    lfw_folder(folder / "lfw")
    photos(folder / "photos")
    known_people(folder / "people")
    return folder


@pytest.fixture
def draw() -> Draw:
    """Draw a small picture that differs with its seed; write it where a path is given; return the encoded bytes."""

    def draw(seed: int, path: Path | None = None, size: tuple[int, int] = (16, 16), kind: str = "JPEG") -> bytes:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((size[1], size[0])).save(buffer, kind)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())
        return buffer.getvalue()

    return draw
