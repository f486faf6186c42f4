import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from small_world import lfw_folder, photos, tiny_network


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, lfw/ and photos/."""
    folder = tmp_path_factory.mktemp("world")
    tiny_network(folder / "tiny.onnx")
    lfw_folder(folder / "lfw")
    photos(folder / "photos")
    return folder
