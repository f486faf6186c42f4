"""Digests of what the shipped recipes wrote before they became compositions: run as a script to print them anew.

The bytes hang on the processor's arithmetic and on the libraries' versions, so both stand beside the digests.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "golden.json"

_FEW: dict[str, Any] = {"images": 16, "check_images": 8}
_TRAINED: dict[str, Any] = {"images": 8, "check_images": 6, "train_images": 40, "batch_size": 8, "epochs": 1}
_ITERATED: dict[str, Any] = {**_TRAINED, "first_epochs": 1, "last_epochs": 1, "iterations": 3}

#: By a name of the case: the network, the recipe and the settings that differ from the recipe's.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "fp32": ("hard", "fp32", {}),
    "fp32-fast": ("hard", "fp32-fast", {}),
    "int8-dynamic": ("hard", "int8-dynamic", {}),
    "int8-static": ("hard", "int8-static", {"images": 16}),
    "int8": ("hard", "int8", {**_FEW, "kernels": ["U8S8-paired"]}),
    "int8 with islands": ("hard", "int8", {**_FEW, "kernels": ["U8U8"], "target_cosine": 0.9999}),
    "fixed": ("hard", "fixed", _FEW),
    "fixed W4A8 adaround": (
        "hard", "fixed", {**_FEW, "precision": "W4A8", "rounding": "adaround", "bias_correction": True}
    ),
    "fixed kmeans": ("hard", "fixed", {**_FEW, "precision": "W3A8", "weight_scheme": "kmeans"}),
    "fixed x86": ("hard", "fixed", {**_FEW, "target": "onnxruntime-x86"}),
    "mixed": ("hard", "mixed", {**_FEW, "budget": "bops=0.4"}),
    "mixed bytes": ("hard", "mixed", {**_FEW, "budget": "bytes=0.02MB", "target": "wide"}),
    "mixed walk": ("hard", "mixed", {**_FEW, "budget": "bops=0.4", "allocation": "walk"}),
    "mixed-adaround": ("hard", "mixed-adaround", {**_FEW, "budget": "bops=0.4"}),
    "qat-w4a8": ("tiny", "qat-w4a8", _TRAINED),
    "qat-w2a8": ("tiny", "qat-w2a8", _TRAINED),
    "qat-w4a8 arcface": ("tiny", "qat-w4a8", {**_TRAINED, "loss": "arcface"}),
    "kolf-fixed-w8a8": ("tiny", "kolf-fixed-w8a8", _TRAINED),
    "kolf-fixed-w6a6": ("tiny", "kolf-fixed-w6a6", _TRAINED),
    "kolf-fixed-w4a4": ("tiny", "kolf-fixed-w4a4", _TRAINED),
    "iterative-2bit": ("tiny", "iterative-2bit", _ITERATED),
    "kolf-iterative": ("tiny", "kolf-iterative", _ITERATED),
}  # fmt: skip


def machine() -> dict[str, str]:
    """Return what the bytes hang on beside the code."""
    from veriquant.deploy.environment import instruction_sets

    packages = ("torch", "onnxruntime", "onnx", "numpy", "scipy")
    return {
        "machine": platform.machine(),
        "instruction_sets": " ".join(instruction_sets()),
        **{name: version(name) for name in packages},
    }


def digests(names: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each case with the SHA-256 of the file that it gives; `folder` takes the networks and images."""
    import quantization_networks
    import small_world
    import torch

    from veriquant.calibration.context import QuantizationContext
    from veriquant.data.calibration import load_calibration
    from veriquant.data.training_set import load_training_set
    from veriquant.networks import load_network
    from veriquant.recipes import load_recipe

    torch.set_num_threads(1)
    networks = {
        "hard": quantization_networks.network(quantization_networks.hard_model()),
        "tiny": load_network(small_world.tiny_network(folder / "tiny.onnx")),
    }
    images = {
        "hard": quantization_networks.pictures(24),
        "tiny": load_calibration(small_world.photos(folder / "photos", 46), 46),
    }
    people = load_training_set(f"folder:{small_world.known_people(folder / 'people')}")
    for name in names:
        network, recipe, settings = CASES[name]
        chosen = load_recipe(recipe, overrides=settings)
        context = QuantizationContext(training_set=people if chosen.labelled() else None)
        made = chosen.apply(networks[network], images[network] if chosen.calibration_images() else None, context)
        yield name, hashlib.sha256(made.onnx).hexdigest()


if __name__ == "__main__":
    import os
    import tempfile

    sys.path[:0] = [str(HERE), str(HERE.parent)]
    with tempfile.TemporaryDirectory() as place:
        os.environ["VERIQUANT_CACHE"] = f"{place}/cache"
        found = {"machine": machine(), "digests": dict(digests(list(CASES), Path(place)))}
    print(json.dumps(found, indent=2))
