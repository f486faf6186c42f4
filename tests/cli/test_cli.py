from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from small_world import DIM, study_text
from verb_cases import VERBS

from veriquant.networks import load_network
from veriquant.recipes import load_recipe, shipped_recipes
from veriquant.recipes.settings import setting_names
from veriquant.results import Evaluation

CONSOLE = [sys.executable, "-c", "from veriquant.cli.main import main; main()"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_by_example(cli, verb):
    code, out, _ = cli(verb, "--help")
    assert code == 0
    assert "xample" in out
    assert "\b" not in out


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = "{'torch', 'onnx', 'onnxruntime', 'plotly', 'scipy', 'numpy', 'pydantic'}"
    code = f"import sys; import veriquant.cli.main; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_version(cli):
    assert cli("--version")[1].startswith("veriquant 0.")


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["evaluate"], ["evaluate", "x.onnx"], ["study", "a", "--no-such"], ["quantize", "x.onnx"]],
)
def test_a_usage_error_is_exit_code_2(cli, arguments):
    code, _, err = cli(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_networks_lists_families(cli):
    code, out, _ = cli("networks")
    assert code == 0
    assert "mobilefacenet:CHECKPOINT" in out
    assert "demo-mobilefacenet" in out


def test_recipes_lists_every_recipe(cli):
    code, out, _ = cli("recipes")
    assert code == 0
    for name in shipped_recipes():
        assert name in out


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_recipe_is_printed_with_all_its_settings_and_can_be_read_back(cli, name, tmp_path):
    code, out, _ = cli("recipes", name)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for setting in setting_names(shipped_recipes()[name].model_dump()):
        assert f"{setting.rpartition('.')[2]}:" in out
    copy = tmp_path / "copy.yaml"
    copy.write_text(out)
    assert load_recipe(str(copy)).settings() == load_recipe(name).settings()


def test_benchmarks_lists_every_kind(cli):
    code, out, _ = cli("benchmarks")
    assert code == 0
    for kind in (
        "lfw:DIR",
        "bin:FILE",
        "cfp-fp:DIR",
        "cfp-ff:DIR",
        "calfw:DIR",
        "cplfw:DIR",
        "agedb30:DIR",
        "folder:DIR",
    ):
        assert kind in out


def test_inspect_tells_layers_and_sizes(cli, world):
    code, out, _ = cli("inspect", world / "tiny.onnx", "--profile")
    assert code == 0
    assert "first" in out
    assert "ms an image" in out
    code, out, _ = cli("inspect", world / "tiny.onnx", "--json")
    told = json.loads(out)
    assert told["dim"] == DIM
    assert told["parameters"] == sum(layer["parameters"] for layer in told["layers"])
    first = next(layer for layer in told["layers"] if layer["name"] == "first")
    assert first["parameters"] == 8 * 3 * 9 + 8
    assert first["macs"] == 16 * 16 * 8 * 27
    assert first["weights"][0] < 0 < first["weights"][1]


def test_evaluate_prints_a_table_and_writes_fractions(cli, world, tmp_path):
    code, out, err = cli(
        "evaluate", world / "tiny.onnx", "--benchmark", f"lfw:{world}/lfw", "--flip", "--far", "0.1", "--far", "1e-4",
        "--resamples", 50, "--out", tmp_path / "r.json",
    )  # fmt: skip
    assert code == 0, err
    assert "Accuracy" in out
    assert "not supported" in out
    assert "their mirror images" in out
    found = Evaluation.model_validate_json((tmp_path / "r.json").read_text())
    plain = json.loads((tmp_path / "r.json").read_text())
    assert 0 <= plain["metrics"]["accuracy"]["value"] <= 1
    assert len(plain["metrics"]["accuracy"]["ci95"]) == 2
    assert {"network", "benchmark", "comparisons", "skipped", "settings", "versions"} <= set(plain)
    assert found.metrics["tar@far=1e-4"].value is None


def test_several_benchmarks_are_written_side_by_side(cli, world, tmp_path):
    where = f"lfw:{world}/lfw"
    code, _, _ = cli(
        "evaluate", world / "tiny.onnx", "-b", where, "-b", f"folder:{world}/lfw", "--resamples", 0,
        "--out", tmp_path / "r.json",
    )  # fmt: skip
    assert code == 0
    assert len(list(tmp_path.glob("r-*.json"))) == 2


def test_a_runtime_can_be_chosen_by_timing(cli, world):
    code, out, _ = cli(
        "evaluate", world / "tiny.onnx", "-b", f"lfw:{world}/lfw", "--resamples", 0, "--runtime", "auto"
    )  # fmt: skip
    assert code == 0
    assert "is the fastest" in out


def needs_people(recipe: str) -> bool:
    return load_recipe(recipe).labelled()


@pytest.mark.parametrize("recipe", sorted(shipped_recipes()))
def test_quantize_writes_a_network_that_is_whole(cli, world, tmp_path, recipe):
    out = tmp_path / "small.onnx"
    people = ["--training-set", f"folder:{world / 'lfw'}"] if needs_people(recipe) else []
    code, said, err = cli(
        "quantize", world / "tiny.onnx", "--recipe", recipe, "-c", world / "photos", "--images", 8, "-o", out, *people
    )
    assert code == 0, err
    assert "MB → " in said
    again = load_network(out)
    assert again.dim == DIM
    assert again.spec.model_dump(exclude={"origin"}) == load_network(world / "tiny.onnx").spec.model_dump(
        exclude={"origin"}
    )


def test_quantize_takes_settings(cli, world, tmp_path):
    arguments = [
        "quantize",
        world / "tiny.onnx",
        "-r",
        "int8-static",
        "-c",
        world / "photos",
        "-o",
        tmp_path / "o.onnx",
    ]
    assert cli(*arguments, "--set", "reduce_range=true", "--images", 8)[0] == 0
    code, _, err = cli(*arguments, "--set", "reduce_rnge=true")
    assert code == 2
    assert "reduce_rnge" in err


def test_study_writes_report_and_results(cli, world, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(study_text(world, "[int8-dynamic]"))
    code, out, err = cli("study", file, "--out", tmp_path / "out")
    assert code == 0, err
    assert "report.html" in out
    assert "fp32" in out
    for name in ("results.json", "report.html", "report.md", "artefacts/tiny-int8-dynamic.onnx"):
        assert (tmp_path / "out" / name).stat().st_size
    (tmp_path / "out" / "report.html").unlink()
    code, _, err = cli("study", file, "--out", tmp_path / "out", "--report-only")
    assert code == 0
    assert err == ""
    assert (tmp_path / "out" / "report.html").exists()


def test_tables_keep_every_column_when_piped(world):
    found = subprocess.run(
        [*CONSOLE, "networks"], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "40"}
    )
    line = next(line for line in found.stdout.splitlines() if "inception-resnet-v1" in line)
    assert "FaceNet convention" in line
    assert "23,482,624" in line


def test_a_reader_that_leaves_is_no_error():
    command = " ".join([sys.executable, "-c", "'from veriquant.cli.main import main; main()'", "networks | true"])
    found = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert "Traceback" not in found.stderr
    assert "Error" not in found.stderr


def test_interrupting_a_study_is_one_line_and_130(world, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(study_text(world, "[int8-dynamic]", "").replace("rounds: 3", "rounds: 1000000"))
    # where the tests run in the background of a script, Ctrl-C is ignored and their children inherit that
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [*CONSOLE[:-1], heard + CONSOLE[-1], "study", str(file), "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("out/store/comparisons/*.json"))) < 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "what is finished is kept" in err.splitlines()[-1]
    assert not (tmp_path / "out" / "results.json").exists()
