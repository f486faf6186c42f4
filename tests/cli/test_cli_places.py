"""No verb overwrites what it reads: every output that can be named, onto every input, however either is spelt."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import onnx
import pytest
from command_line import Cli, complaint
from small_world import SIDE, study_text
from verb_cases import VERBS

from veriquant.cli.main import app

_NET, _LFW, _PHOTOS, _PEOPLE = "tiny.onnx", "lfw", "photos", "people"

#: Commands with all that a verb reads and writes, in {braces}, beside the folder or file that each input is. A verb
#: may have several; `study` and `train` name theirs in the files of `settings`.
COMMANDS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "evaluate": [
        ("{network} --benchmark lfw:{benchmark} --benchmark folder:{more} --out {out}",
         {"network": _NET, "benchmark": _LFW, "more": _PEOPLE}),
        ("mobilefacenet:{network} --benchmark lfw:{benchmark} --out {out}",
         {"network": "weights.pt", "benchmark": _LFW}),
    ],
    "quantize": [
        ("{network} --recipe {recipe} --calibration {photos} --benchmark lfw:{benchmark} "
         "--training-set folder:{people} --plan {plan} --out {out}",
         {"network": _NET, "recipe": "own.yaml", "photos": _PHOTOS, "benchmark": _LFW, "people": _PEOPLE}),
        ("{network} --plan {followed} --calibration {photos} --out {out}",
         {"network": _NET, "followed": "plan.json", "photos": _PHOTOS}),
        ("{network} --recipe fixed --set plan={followed} --images {photos} --out {out}",
         {"network": _NET, "followed": "plan.json", "photos": _PHOTOS}),
        ("{network} --recipe mixed --images folder:{photos} --plan {plan} --out {out}",
         {"network": _NET, "photos": _PEOPLE}),
    ],
    "sensitivity": [
        ("{network} --calibration {photos} --set rounding={odd} --out {out} --front {front}",
         {"network": _NET, "photos": _PHOTOS, "odd": "own.yaml"}),
    ],
    "study": [
        ("{file} --out {into}",
         {"file": "study.yaml", "network": _NET, "recipe": "own.yaml", "followed": "plan.json", "benchmark": _LFW,
          "photos": _PHOTOS, "people": _PEOPLE}),
        ("{file} --report-only --out {into}", {"file": "study.yaml", "network": _NET, "photos": _PHOTOS}),
    ],
    "train": [("{file} --out {into}", {"file": "train.yaml", "checkpoint": "weights.pt", "people": _PEOPLE})],
    "demo": [("--small --out {into}", {})],
    "align": [],
    **{verb: [("", {})] for verb in ("inspect", "networks", "recipes", "benchmarks")},
}  # fmt: skip
#: Options that take a text and name neither an input nor an output.
NEITHER = {
    "evaluate": {"runtime", "input", "output"},
    "quantize": {"budget", "runtime", "input", "output"},
    "sensitivity": {"target", "input", "by", "output"},
    "recipes": {"name"},
    # its outputs lie in a folder that may hold no photograph: see test_cli_align
    "align": {"photographs", "out", "detector", "size", "crop", "face"},
    "train": {"only"},
    "inspect": {"network", "input", "output"},
}
OUTPUTS = ("out", "plan", "front", "into")
#: What a study and a run of a training write into their folder: a place in it where an input might lie.
INTO = {"study": "artefacts", "train": "one"}
ONTO_A_FILE = ("itself", "absolute", "roundabout", "symbolic-link", "hard-link")
INTO_A_FOLDER = ("itself", "moved-there", "hard-link")


FOLDERS = (_LFW, _PHOTOS, _PEOPLE)


def _each() -> list[object]:
    """Return every command × output × input × way to spell it."""
    cases = []
    for verb, commands in COMMANDS.items():
        for number, (text, inputs) in enumerate(commands):
            for output in (name for name in OUTPUTS if f"{{{name}}}" in text):
                for read, default in inputs.items():
                    ways = (
                        ONTO_A_FILE if output != "into" else INTO_A_FOLDER[1:2] if default in FOLDERS else INTO_A_FOLDER
                    )
                    cases += [
                        pytest.param(verb, number, output, read, way, id=f"{verb}{number}-{output}-{read}-{way}")
                        for way in ways
                    ]
    return cases


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small world that is this test's own, and the current folder."""
    folder = Path(shutil.copytree(world, tmp_path / "place"))
    (folder / "weights.pt").write_bytes(b"weights")
    (folder / "own.yaml").write_text("name: own\nmethod: mixed\n")
    (folder / "plan.json").write_text("not read before it is known to be safe")
    monkeypatch.chdir(folder)
    return folder


def settings(place: Path, verb: str, inputs: dict[str, str]) -> None:
    """Write the YAML file of a study or a training that names the inputs."""
    if verb == "study":
        text = study_text(place, "[int8-dynamic]").replace(f"{place}/tiny.onnx", inputs["network"])
        text = text.replace(f"{place}/photos", inputs["photos"])
        if "recipe" in inputs:
            text = text.replace(f"{place}/lfw", inputs["benchmark"]).replace(
                "[int8-dynamic]", f"[{inputs['recipe']}, {{recipe: fixed, settings: {{plan: {inputs['followed']}}}}}]"
            )
            text += f"training_set: folder:{inputs['people']}\n"
        Path(inputs["file"]).write_text(text)
    if verb == "train":
        Path(inputs["file"]).write_text(
            f"network: {{family: mobilefacenet, size: {SIDE}, checkpoint: {inputs['checkpoint']}}}\n"
            f"runs: [{{name: one, data: 'folder:{inputs['people']}'}}]\nloop: {{steps: 1, lr: 0.1}}\n"
        )


def contents(folder: Path) -> dict[str, str]:
    """Return what is there: every file by its path, and a hash of what it holds."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def onto_a_file(read: Path, way: str) -> Path:
    """Return another name of a file, or of one that lies in a folder."""
    file = read if read.is_file() else next(each for each in sorted(read.rglob("*")) if each.is_file())
    again = Path("again.bin")
    if way == "symbolic-link":
        again.symlink_to(file.absolute())
    elif way == "hard-link":
        os.link(file, again)
    named = {"itself": file, "absolute": file.absolute(), "roundabout": Path("photos", "..", file)}
    return named.get(way, again)


def into_a_folder(verb: str, read: Path, way: str) -> Path:
    """Return a folder of results that would take an input with it."""
    owned = Path("into", INTO[verb])
    if way == "itself":
        return read
    owned.mkdir(parents=True)
    if way == "hard-link":
        os.link(read, owned / "linked.bin")
    else:
        read.rename(owned / read.name)
        read.symlink_to((owned / read.name).absolute())
    return owned.parent


@pytest.mark.parametrize(("verb", "number", "output", "read", "way"), _each())
def test_no_output_overwrites_an_input(
    cli: Cli, place: Path, verb: str, number: int, output: str, read: str, way: str
) -> None:
    text, inputs = COMMANDS[verb][number]
    settings(place, verb, inputs)
    target = Path(inputs[read])
    named = into_a_folder(verb, target, way) if output == "into" else onto_a_file(target, way)
    outputs = {name: f"{name}.new" for name in OUTPUTS} | {output: named}
    before = contents(place)
    line = complaint(*cli(verb, *shlex.split(text.format(**(inputs | outputs)))))
    assert "would overwrite what is read" in line
    assert "name another place" in line
    assert contents(place) == before


@pytest.mark.parametrize(
    ("verb", "number", "one", "other"),
    [
        (verb, number, one, other)
        for verb, commands in COMMANDS.items()
        for number, (text, _) in enumerate(commands)
        for one in OUTPUTS
        for other in OUTPUTS[: OUTPUTS.index(one)]
        if f"{{{one}}}" in text and f"{{{other}}}" in text
    ],
)
def test_no_output_overwrites_another(cli: Cli, place: Path, verb: str, number: int, one: str, other: str) -> None:
    text, inputs = COMMANDS[verb][number]
    for spelling in ("new.json", "photos/../new.json", str(place / "new.json")):
        before = contents(place)
        outputs = {name: f"{name}.new" for name in OUTPUTS} | {one: "new.json", other: spelling}
        line = complaint(*cli(verb, *shlex.split(text.format(**(inputs | outputs)))))
        assert "are the same file" in line
        assert contents(place) == before


def test_every_option_is_an_input_or_an_output_or_neither() -> None:
    """A new option that takes a text or a path must find its place in this file."""
    assert set(COMMANDS) == set(VERBS)
    for command in app.registered_commands:
        verb = command.name or command.callback.__name__
        words = {word for text, _ in COMMANDS[verb] for word in re.findall(r"--[a-z-]+|[a-z_]+", text)}
        for name, hint in get_type_hints(command.callback).items():
            if {str, Path} & {hint, *get_args(hint), *(each for part in get_args(hint) for each in get_args(part))}:
                flag = f"--{name.strip('_').replace('_', '-')}"
                assert {flag, name} & words or name in NEITHER.get(verb, ()), f"{verb} {flag}"


def test_figures_of_several_benchmarks_overwrite_no_input(cli: Cli, place: Path) -> None:
    """Of several benchmarks each has a file of its own, whose name follows from theirs."""
    Path("tiny.onnx").rename("r-LFW.onnx")
    before = contents(place)
    arguments = ("evaluate", "r-LFW.onnx", "-b", "lfw:lfw", "-b", "folder:people", "--resamples", 0)
    line = complaint(*cli(*arguments, "--out", "r.onnx"))
    assert "would overwrite what is read (NETWORK r-LFW.onnx)" in line
    assert contents(place) == before
    assert cli(*arguments, "--out", "r.json")[0] == 0


def test_weights_beside_a_network_are_inputs(cli: Cli, place: Path) -> None:
    model = onnx.load("tiny.onnx")
    onnx.save(model, "split.onnx", save_as_external_data=True, location="split.weights", size_threshold=0)
    line = complaint(*cli("quantize", "split.onnx", "-c", "photos", "--out", "split.weights"))
    assert "split.weights, of NETWORK split.onnx" in line


def test_what_stands_beside_inputs_may_be_written_again(cli: Cli, place: Path) -> None:
    """An output among the images is not one of them; the same command twice is fine."""
    for out in ("photos/small.onnx", "small.onnx"):
        for _ in range(2):
            code, _, err = cli("quantize", "tiny.onnx", "-r", "int8-dynamic", "-c", "photos", "-o", out)
            assert code == 0, err
    assert np.array_equal(Path("small.onnx").read_bytes(), Path("photos/small.onnx").read_bytes())


def test_a_plan_that_only_the_recipes_file_names_is_an_input(cli: Cli, place: Path) -> None:
    made = cli("quantize", "tiny.onnx", "-r", "mixed", "-c", "photos", "--plan", "good.json", "-o", "small.onnx")
    assert made[0] == 0, made[2]
    Path("follow.yaml").write_text("name: follow\nmethod: fixed\nsettings: {plan: good.json}\n")
    line = complaint(*cli("quantize", "tiny.onnx", "-r", "follow.yaml", "-c", "photos", "-o", "good.json"))
    assert "good.json" in line
    assert "would overwrite" in line
    artefacts = Path("into", "artefacts")
    artefacts.mkdir(parents=True)
    Path("good.json").rename(artefacts / "good.json")
    Path("follow.yaml").write_text("name: follow\nmethod: fixed\nsettings: {plan: into/artefacts/good.json}\n")
    Path("s.yaml").write_text(study_text(place, "[follow.yaml]"))
    assert "would overwrite" in complaint(*cli("study", "s.yaml", "--out", "into"))


def test_links_in_a_circle_end(cli: Cli, place: Path) -> None:
    Path("photos/again").symlink_to(place / "photos")
    Path("photos/up").symlink_to(place)
    line = complaint(*cli("quantize", "tiny.onnx", "-c", "photos", "-o", "photos/1.jpg"))
    assert "photos/1.jpg" in line
