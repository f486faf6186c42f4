import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., bytes]


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
