"""Every script in speed/ and scripts/ runs, at toy size, and tells what it says it tells; none has rotted."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from small_world import SIDE
from toy_real import toy_real
from watched import watched

ROOT = Path(__file__).parents[1]
STAND_INS = Path(__file__).with_name("stand_ins")
#: Script -> its runs, one after the other in one folder, each with words of what it prints. ``{world}``: the small
#: world; ``samples.npy`` holds what the tiny network takes.
TOYS: dict[str, list[tuple[str, str]]] = {
    "speed/int8_latency.py": [
        ("{world}/tiny.onnx --calibration {world}/photos --images 8 --rounds 2 --batches 1 2", "× FP32 ["),
    ],
    "speed/evaluate_overhead.py": [
        ("{world}/tiny.onnx --benchmark lfw:{world}/lfw --images 40 --repeats 2", "median ratio"),
    ],
    "speed/metrics_scale.py": [("--templates 300 --peer-templates 300 --repeats 1", "times as fast")],
    "speed/sensitivity.py": [
        ("{world}/tiny.onnx {world}/photos --images 4 --rounds 1 --threads 1", "Kendall's tau of the lists 1.0000"),
    ],
    "speed/aimet_phase1.py": [("{world}/tiny.onnx samples.npy 1 out.json", "")],
    "speed/training.py": [("{world}/tiny.onnx --batch 8 --steps 1 --rounds 1 --threads 1", "DoReFa, PACT")],
    "scripts/train_demo_checkpoint.py": [
        ("--steps 3 --early 0.67 --batch 6 --people 4 --images 3 --width 0.25 --embedding 16 --threads 1 "
         "--measure small --out small.safetensors", "small.safetensors"),
    ],
    "scripts/mixed_precision_tables.py": [
        ("all mobilefacenet-y1 --toy", "eyes (cfp-eyes)"),
    ],
}  # fmt: skip


def test_every_script_has_a_toy_run() -> None:
    scripts = {str(file.relative_to(ROOT)) for place in ("speed", "scripts") for file in (ROOT / place).glob("*.py")}
    assert scripts == set(TOYS)


@pytest.fixture(scope="module")
def real_at_toy_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_real(tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("script", TOYS)
def test_a_script_runs(script: str, world: Path, real_at_toy_size: Path, tmp_path: Path) -> None:
    python = os.pathsep.join((str(ROOT / "src"), str(STAND_INS), *sys.path))
    where = {"PYTHONPATH": python, "VERIQUANT_REAL": str(real_at_toy_size), "VERIQUANT_CACHE": str(tmp_path / "cache")}
    np.save(tmp_path / "samples.npy", np.zeros((4, 3, SIDE, SIDE), dtype=np.float32))
    for number, (arguments, told) in enumerate(TOYS[script]):
        command = [sys.executable, str(ROOT / script), *shlex.split(arguments.format(world=world))]
        found = watched(command, tmp_path / str(number), where, cwd=tmp_path)
        assert found.code == 0, found.out + found.err
        assert told in found.out
        assert (found.reached, found.left) == ([], [])
