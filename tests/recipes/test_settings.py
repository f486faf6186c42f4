"""Single settings of a recipe: by path, by their last name, and by the names of before."""

from __future__ import annotations

from pathlib import Path

import pytest

from veriquant.errors import VeriQuantError
from veriquant.recipes import load_recipe, shipped_recipes


@pytest.mark.parametrize(
    ("recipe", "change", "place", "value"),
    [
        ("mixed-qat", {"recovery.qat.epochs": 7}, ("recovery", 1, "qat", "epochs"), 7),
        ("mixed-qat", {"epochs": 7}, ("recovery", 1, "qat", "epochs"), 7),
        ("mixed", {"weights": {"scheme": "kmeans"}}, ("weights", "scheme"), "kmeans"),
        ("mixed", {"metric": "fit"}, ("allocation", "sensitivity", "fit", "images"), 64),
        ("mixed", {"allocation.sensitivity.sqnr.images": 9}, ("allocation", "sensitivity", "sqnr", "images"), 9),
        ("mixed", {"allocation": "optimum"}, ("allocation", "solver"), "ilp"),
        ("fixed", {"precision": "W4A6"}, ("activations", "bits"), 6),
        ("fixed", {"rounding": "adaround"}, ("recovery", 1, "adaround", "iterations"), 300),
        ("fixed", {"equalise": "weights"}, ("recovery", 0, "equalise", "by"), "weights"),
        ("qat-w4a8", {"hints": 0.5}, ("recovery", 1, "qat", "feature_weight"), 0.5),
        ("int8-static", {"per_channel": False}, ("baseline", "int8-static", "per_channel"), False),
        ("int8", {"kernels": ["U8U8"]}, ("export", "kernels"), ["U8U8"]),
    ],
)
def test_a_setting_is_changed(recipe: str, change: dict, place: tuple, value: object) -> None:
    found = load_recipe(recipe, overrides=change).settings()
    for key in place:
        found = found[key]
    assert found == value


@pytest.mark.parametrize(
    ("recipe", "change", "said"),
    [
        ("mixed", {"bits": 4}, "several parts of the recipe: say weights.bits or activations.bits"),
        ("mixed", {"bugdet": "bops=1"}, "did you mean 'allocation.budget'"),
        ("fixed", {"recovery.qat.epochs": 3}, "has no recovery 'qat'; give the whole list"),
        ("mixed", {"weights.bits": 4}, "weights.bits 4: allocation 'best' chooses these widths"),
        ("mixed", {"search": "binary"}, "search 'binary' is for task targets"),
        (
            "fixed",
            {"weights.scheme": "kmeans", "rounding": "adaround"},
            "weights.scheme 'kmeans' has not",
        ),
        ("fixed", {"weights.scheme": "kmeans", "weights.ranges": "mse"}, "'kmeans' fits its levels without a range"),
        ("fixed", {"recovery": ["adaround", "equalise"]}, "'equalise' stands behind 'adaround'"),
        ("mixed", {"metric": "hessian"}, "'hessian' knows the harm of weights alone"),
        ("mixed", {"budget": "latency=5ms"}, "choose target onnxruntime-x86"),
        ("int8", {"weights.bits": 4}, "target 'runtime-kernels' has kernels for 8 alone"),
        ("int8-static", {"epochs": 1}, "unknown key 'epochs'"),
        ("mixed", {"weights.scheme": "pact"}, "'pact' is for activations alone"),
    ],
)
def test_what_cannot_be_is_refused_on_loading(recipe: str, change: dict, said: str) -> None:
    with pytest.raises(VeriQuantError, match=said) as caught:
        load_recipe(recipe, overrides=change)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_the_layout_before_is_read(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("name: old\nmethod: qat\nsettings: {precision: W2A8, weight_scheme: midrise, epochs: 8}\n")
    assert load_recipe(str(file)).settings() == load_recipe("qat-w2a8").settings()


def test_a_recipe_of_a_later_layout_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("name: new\nschema_version: 99\n")
    with pytest.raises(VeriQuantError, match="schema_version"):
        load_recipe(str(file))


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_settings_of_a_shipped_recipe_are_whole(name: str) -> None:
    recipe = shipped_recipes()[name].check()
    assert recipe.schema_version == 2
    assert recipe.settings()
