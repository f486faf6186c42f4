"""Where the time goes: ONNX Runtime's own profile, added up by operator and by node."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec

_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Cost:
    """Time of one operator or node: calls and milliseconds per image, and its share of the whole."""

    name: str
    operation: str
    calls: int
    milliseconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Times per image, the greatest first. Operators such as ReorderInput are the runtime's own, put in by it."""

    operators: list[Cost]
    nodes: list[Cost]
    milliseconds: float


def profile(onnx: bytes, spec: InputSpec, *, threads: int = 1, runs: int = 20) -> Profile:
    """Run one image `runs` times in ONNX Runtime with its profiler on, and add up the times of the kernels."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a dozen types of its own, all meaning this
            raise VeriQuantError(f"ONNX Runtime cannot load the network: {str(error).splitlines()[0]}") from error
        entry = session.get_inputs()[0]
        count = entry.shape[0] if isinstance(entry.shape[0], int) else 1
        pixels = np.random.default_rng(0).standard_normal(spec.batch_shape(count)).astype(np.float32)
        for _ in range(runs):
            session.run(None, {entry.name: pixels})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]
    images = runs * count
    total = sum(event["dur"] for event in kernels) / 1e3 / images
    by_operator: dict[str, list[float]] = defaultdict(list)
    by_node: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in kernels:
        operator = event["args"]["op_name"]
        by_operator[operator].append(event["dur"])
        by_node[operator, event["name"].removesuffix(_SUFFIX)].append(event["dur"])

    def cost(name: str, operator: str, durations: list[float]) -> Cost:
        milliseconds = sum(durations) / 1e3 / images
        return Cost(name, operator, round(len(durations) / runs), milliseconds, milliseconds / total)

    operators = [cost(name, name, durations) for name, durations in by_operator.items()]
    nodes = [cost(name, operator, durations) for (operator, name), durations in by_node.items()]
    return Profile(
        operators=sorted(operators, key=lambda row: -row.milliseconds),
        nodes=sorted(nodes, key=lambda row: -row.milliseconds),
        milliseconds=total,
    )
