from importlib import resources
from pathlib import Path

import pytest

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import FACENET
from veriquant.recipes import load_recipe
from veriquant.study.config import file_name, load_study, parse_study
from veriquant.study.entries import input_spec

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = "networks: [a.onnx]\nrecipes: [int8]\nbenchmarks: ['lfw:here']\n"


def parse(text, **variables):
    return parse_study(text, "study.yaml", variables)


def test_short_forms_and_defaults():
    config = parse(GOOD)
    assert config.networks[0].source == "a.onnx"
    assert config.recipes[0].recipe == "int8"
    assert config.benchmarks[0].source == "lfw:here"
    assert config.calibration is None
    assert config.latency is not None
    assert config.margins == {"*": 0.005}


def test_long_forms():
    config = parse(
        "networks: [{source: a.onnx, name: A, input: facenet}]\n"
        "recipes: [{recipe: int8-static, name: reduced, settings: {reduce_range: true}}]\n"
        "benchmarks: [{source: 'lfw:x', name: mine, allow_missing: true}]\n"
        "calibration: {source: photos, images: 10, seed: 3, exclude_benchmark: false}\n"
        "latency: null\nmargin: {tar: 0.01, '*': 0.002}\n"
    )
    assert config.recipes[0].settings == {"reduce_range": True}
    assert config.margins == {"tar": 0.01, "*": 0.002}
    assert config.latency is None
    assert input_spec(config.networks[0].input) == FACENET


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "fipl: true", "unknown key 'fipl' (did you mean 'flip'?)"),
        (GOOD + "calibration: {source: x, imags: 3}", "unknown key 'calibration.imags' (did you mean 'images'?)"),
        (GOOD.replace("networks", "netwroks"), "unknown key 'netwroks' (did you mean 'networks'?)"),
        (GOOD.replace("recipes: [int8]\n", ""), "key 'recipes' is missing"),
        (GOOD + "threads: 0", "key 'threads'"),
        (GOOD + "far: [2]", "key 'far.0'"),
        (GOOD + "calibration: {source: x, images: 0}", "key 'calibration.images'"),
        ("- a\n- b", "must hold keys and values"),
        ("networks: [", "is not YAML"),
        (GOOD.replace("[a.onnx]", "[{source: a, input: arcfacs}]"), "'networks.0.input'"),
        (GOOD.replace("[a.onnx]", "[{source: a, fold: 1}]"), "key 'networks.0': a network with 'fold'"),
        (GOOD.replace("[a.onnx]", "[{source: a, training_set: 'images:x'}]"), "key 'networks.0.training_set'"),
        (GOOD.replace("[a.onnx]", "[{source: a, benchmarks: []}]"), "key 'networks.0.benchmarks'"),
        (GOOD.replace("[int8]", "[{recipe: int8, row: W8}]"), "key 'recipes.0.row'"),
        (GOOD.replace("[int8]", "[{recipe: int8, each: {a: [1], b: [2]}}]"), "key 'recipes.0.each'"),
        (GOOD.replace("[int8]", "[{recipe: int8, settings: {a: 1}, each: {a: [2]}}]"), "'settings' and 'each'"),
        (GOOD + "training_set: photos", "key 'training_set': unknown kind of training set 'photos'"),
        (GOOD + "tables: [kolf-9]", "there are: kolf-1, kolf-4, kolf-5"),
        (GOOD + "tables: [{table: kolf-1, columns: {AgeDB: lfw}}]", "kolf-1 has no column 'AgeDB'"),
        (GOOD + "tables: [{table: kolf-1, network: [a]}]", "unknown key 'tables.0.network' (did you mean 'networks'?)"),
        (GOOD.replace("[a.onnx]", "['${NOT_THERE}/a.onnx']"), "environment variable 'NOT_THERE', which is not set"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(text, words):
    with pytest.raises(VeriQuantError) as caught:
        parse(text)
    line = str(caught.value)
    assert words in line
    assert "study.yaml" in line
    assert "\n" not in line


def test_variables_are_replaced_everywhere():
    config = parse(GOOD.replace("lfw:here", "lfw:${DATA}/lfw") + "calibration: ${DATA}/photos", DATA="/data")
    assert config.benchmarks[0].source == "lfw:/data/lfw"
    assert config.calibration is not None
    assert config.calibration.source == "/data/photos"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(VeriQuantError, match=r"nothing\.yaml"):
        load_study(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("path", sorted(p for p in EXAMPLES.glob("*.yaml") if not p.name.startswith("train-")), ids=str)
def test_shipped_studies_are_well_formed(path, monkeypatch):
    monkeypatch.setenv("VERIQUANT_REAL", "/real")
    config = load_study(path)
    names = [entry.name or entry.source for entry in config.benchmarks]
    assert all(name in names for network in config.networks for name in network.benchmarks or ())
    for recipe in config.recipes:
        load_recipe(recipe.recipe, name=recipe.name, overrides=recipe.settings)


def test_the_demo_study_is_well_formed():
    parse(resources.files("veriquant.demo").joinpath("study.yaml").read_text())


def test_one_entry_stands_for_a_recipe_of_each_value():
    text = GOOD.replace("[int8]", "[{recipe: iterative-2bit, name: mixed, row: mixed, each: {stop_after: [1, 12]}}]")
    first, last = parse(text).recipes
    assert (first.name, last.name) == ("mixed 1", "mixed 12")
    assert (first.settings, last.settings) == ({"stop_after": 1}, {"stop_after": 12})
    assert (first.row, first.each) == ("mixed", {})


def test_names_become_parts_of_file_names():
    assert file_name("a/b c:d") == "a-b-c-d"
    assert file_name("../x") == "x"
