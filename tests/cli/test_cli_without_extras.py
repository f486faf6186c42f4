"""Without the optional extras everything else works, and what needs one says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from command_line import complaint

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from training_world import people_folders, training_file

BARE = """
import sys
sys.modules |= dict.fromkeys(("lightning_fabric", "constriction", "openvino"))
"""
EVERY = """
import importlib, pkgutil, veriquant
for module in pkgutil.walk_packages(veriquant.__path__, "veriquant."):
    importlib.import_module(module.name)
"""
MAIN = "from veriquant.cli.main import main; main()"


def run(*arguments: object, before: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-c", BARE + before + MAIN, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.returncode, found.stdout, found.stderr


def test_quantizing_without_training_needs_no_extra(world: Path, tmp_path: Path) -> None:
    """Nor does any module want one to be imported."""
    out = tmp_path / "o.onnx"
    code, _, err = run("quantize", world / "tiny.onnx", "-c", world / "photos", "-o", out, before=EVERY)
    assert code == 0, err
    assert out.exists()


def test_training_says_which_extra_it_needs(tmp_path: Path) -> None:
    file = training_file(people_folders(tmp_path))
    line = complaint(*run("train", file, "-o", tmp_path / "out"))
    assert line == "error: training needs Lightning Fabric: pip install 'veriquant[train]'"


def test_training_while_quantizing_says_which_extra_it_needs(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    line = complaint(*run("quantize", world / "tiny.onnx", "-r", "qat-w4a8", "--images", world / "photos", "-o", out))
    assert line == "error: training needs Lightning Fabric: pip install 'veriquant[train]'"
    assert not out.exists()
