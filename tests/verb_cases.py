"""Every verb of the command line at toy size: what tests run that are about all of them.

`VERBS` comes from the application itself; a verb without a case here fails `test_every_verb_has_a_case`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from small_world import SIDE, study_text
from toy_detector import toy_yunet

from veriquant.cli.main import app

VERBS = [command.name or command.callback.__name__ for command in app.registered_commands]

_TRAINED = "--images {world}/photos --set epochs=1 --set train_images=12 --set batch_size=4"

#: Verb -> name of the case -> its arguments. ``{world}`` is the small world, ``{own}`` a folder of the run with the
#: files of `own_files`, ``{out}`` where its results go.
CASES: dict[str, dict[str, str]] = {
    "align": {"": "{world}/photos -o {out}/aligned --detector {own}/yunet.onnx --size 32"},
    "networks": {"": ""},
    "recipes": {"": ""},
    "benchmarks": {"": ""},
    "inspect": {"": "{world}/tiny.onnx --profile"},
    "evaluate": {
        "": "{world}/tiny.onnx -b lfw:{world}/lfw --resamples 20 --out {out}/r.json",
        "openvino": "{world}/tiny.onnx -b lfw:{world}/lfw --resamples 0 --runtime openvino",
        "auto": "demo-mobilefacenet -b folder:{world}/people --resamples 0 --runtime auto",
    },
    "quantize": {
        "": "{world}/tiny.onnx -c {world}/photos --images 8 -o {out}/q.onnx",
        "openvino": "{world}/tiny.onnx -c {world}/photos --images 8 --runtime openvino -o {out}/q.onnx",
        "mixed": "{world}/tiny.onnx -r mixed --budget bops=0.5 -c {world}/photos --plan {out}/p.json -o {out}/q.onnx",
        "trained": f"{{world}}/tiny.onnx -r qat-w4a8 {_TRAINED} -o {{out}}/q.onnx",
        "iterative": f"{{world}}/tiny.onnx -r iterative-2bit {_TRAINED} -o {{out}}/q.safetensors",
    },
    "sensitivity": {
        "": "{world}/tiny.onnx -c {world}/photos --images 8 -o {out}/l.json --front {out}/f.json --points 3",
    },
    "train": {"": "{own}/train.yaml -o {out}", "processes": "{own}/train-two.yaml -o {out}"},
    "study": {"": "{own}/study.yaml -o {out}", "quantized": "{own}/study-quantized.yaml -o {out}"},
    "demo": {"": "--small -o {out}"},
}


def own_files(own: Path, world: Path) -> Path:
    """Write the files that cases name under ``{own}``."""
    own.mkdir(parents=True, exist_ok=True)
    toy_yunet(own / "yunet.onnx")
    training = (
        f"network: {{family: mobilefacenet, size: {SIDE}, embedding: 16, width: 0.125}}\n"
        f"data: folder:{world}/people\nhead: {{name: cosface, scale: 16, margin: 0.1}}\nbatch_size: 4\nworkers: 1\n"
    )
    loop = "loop: {steps: 3, lr: 0.05, accelerator: cpu%s}\n"
    (own / "train.yaml").write_text(training + loop % "")
    (own / "train-two.yaml").write_text(training + loop % ", devices: 2")
    (own / "study.yaml").write_text(study_text(world, "[fp32]"))
    (own / "study-quantized.yaml").write_text(study_text(world, "[int8-dynamic, int8]", "runtime: auto"))
    return own


def arguments(verb: str, case: str, world: Path, own: Path, out: Path) -> list[str]:
    """Return the arguments of a case, the verb first."""
    return [verb, *shlex.split(CASES[verb][case].format(world=world, own=own, out=out))]
