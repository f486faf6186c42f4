"""Fitted levels are made once and stored in float16's numbers; plans are data that a hand may edit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import concat, fitted, pixels, plain, residual, simulated

from veriquant.errors import VeriQuantError
from veriquant.schemes import SCHEMES
from veriquant.simulation import FP32, Plan, Precision, QuantizerCache, check_plan, load_plan, observe
from veriquant.simulation.plan import PlanGroup
from veriquant.simulation.quantizer_cache import halves, in_halves

W4A8, W8A8, W8A16 = (Precision.parse(text) for text in ("W4A8", "W8A8", "W8A16"))


def halved(values: torch.Tensor) -> bool:
    return torch.equal(values.half().float(), values)


# -------------------------------------------------------------------------------------------------------------- fitted


def test_levels_are_fitted_once() -> None:
    made = fitted(residual())
    assert made.activation("p1", 8) is made.activation("p1", 8)
    assert made.activation("p1", 8) is not made.activation("p1", 4)
    assert made.weight("c2", 4) is made.weight("c2", 4) is made.weight("c2", 4, "symmetric")
    assert made.weight("c2", 4) is not made.weight("c2", 8)
    assert made.weight("c2", 4) is not made.weight("c2", 4, "asymmetric")


def test_two_plans_are_stitched_from_the_same_parts() -> None:
    made = fitted(residual())
    one = made.change({"c1": W8A8, "c2": W4A8})
    other = made.change({"c1": W4A8, "c2": W4A8})
    assert one.weights["c2"][0] is other.weights["c2"][0]
    assert one.activations["image"] is other.activations["image"]
    assert one.weights["c1"][0] is not other.weights["c1"][0]


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if SCHEMES.get(name).fit_weight])
def test_scales_and_biases_are_float16s_numbers(scheme: str) -> None:
    made = fitted(residual(), weight_scheme=scheme)
    for bits in [each for each in (2, 4, 8) if each in SCHEMES.get(scheme).widths]:
        found = made.weight("c2", bits)
        assert halved(found.quantizer.scale)
        assert found.bias is not None
        assert halved(found.bias)
        assert torch.equal(found.quantizer(made.simulation.weighted("c2").weight.detach()), found.weight)


def test_halves_keeps_what_float16_cannot_hold() -> None:
    fine = torch.tensor([0.1, -3.3333, 0.0])
    assert halved(halves(fine))
    assert (halves(fine) - fine).abs().max() <= 2**-11 * 3.4
    small = torch.tensor([0.1, 1e-6, 1e-9])
    assert halved(halves(small))
    assert (halves(small) - small)[1:].abs().max() <= 3e-8
    values = torch.tensor([0.1, 1e5])
    assert torch.equal(halves(values), values)
    quantizer = SCHEMES.get("symmetric").for_weights()(torch.randn(4, 9), 8, "minmax")
    before = quantizer.scale.clone()
    assert halved(in_halves(quantizer).scale)
    assert torch.equal(quantizer.scale, halves(before))
    weight = torch.randn(4, 9)
    weight[1] *= 1e-9
    nothing = in_halves(SCHEMES.get("symmetric").for_weights()(weight, 4, "minmax"))
    assert halved(nothing.scale)
    assert (nothing.scale > 0).all()
    assert (nothing(weight) - weight)[1].abs().max() <= 2**-25


def test_recovery_and_correction_get_what_they_ask_for_and_what_they_give_is_used() -> None:
    seen: list[tuple[str, int]] = []
    made = fitted(plain())

    def recover(operation, quantizer, weight):
        seen.append((operation, quantizer.bits))
        return quantizer(weight) + quantizer.scale.reshape(-1, 1, 1, 1)

    made.recover = recover
    made.correct = lambda operation, bias, weight: bias + 1
    plainly = fitted(plain()).weight("c2", 4)
    found = made.weight("c2", 4)
    torch.testing.assert_close(found.weight, plainly.weight + found.quantizer.scale.reshape(-1, 1, 1, 1))
    torch.testing.assert_close(found.bias, plainly.bias + 1, rtol=2e-3, atol=2e-3)
    made.weight("c2", 4)
    made.weight("c2", 16)
    made.weight("c2", 4, "kmeans")
    assert seen == [("c2", 4)]  # only uniform levels of at most 8 bits, and once for each width
    assert made.weight("embedding", 16).bias is None  # what has no bias gets none


def test_a_group_left_out_stays_float() -> None:
    made = fitted(concat())
    images = pixels(3)
    full = made.simulation.embed(images)
    np.testing.assert_array_equal(made.simulation.embed(images, made.change({})), full)
    np.testing.assert_array_equal(
        made.simulation.embed(images, made.change(dict.fromkeys(made.simulation.groups, FP32))), full
    )
    change = made.change({"left": W8A8})
    assert set(change.weights) == {"left", "right"}
    assert set(change.activations) == {"r0"}


@pytest.mark.parametrize(
    ("precision", "weights", "activations"), [("W4A32", True, False), ("W8A16", True, True), ("FP32", False, False)]
)
def test_a_width_of_32_is_no_quantizer(precision: str, weights: bool, activations: bool) -> None:
    change = fitted(plain()).change({"c2": Precision.parse(precision)})
    assert bool(change.weights) == weights
    assert bool(change.activations) == activations


def test_a_scheme_for_weights_alone_is_refused_for_activations() -> None:
    made = fitted(plain(), activation_scheme="kmeans")
    with pytest.raises(VeriQuantError, match=r"'kmeans' is for weights alone"):
        made.change({"c1": W8A8})


def test_a_width_that_a_scheme_has_not_is_refused_by_name() -> None:
    with pytest.raises(VeriQuantError, match=r"'kmeans' has no 16-bit levels, which c1 asks for; it goes from 1 to 8"):
        fitted(plain(), weight_scheme="kmeans").change({"c1": Precision(16, 8)})


# --------------------------------------------------------------------------------------------------------------- plans


@pytest.fixture
def made() -> QuantizerCache:
    return fitted(residual())


@pytest.fixture
def plan(made: QuantizerCache) -> Plan:
    return made.plan({"c1": W8A8, "c2": W4A8, "c3": W8A16, "c4": W4A8, "gap": W8A8})


def edited(plan: Plan, path: Path, **groups: dict[str, object]) -> Plan:
    """Save the plan, edit its JSON as a hand would, and load it again."""
    plan.save(path)
    content = json.loads(path.read_text())
    for name, changes in groups.items():
        content["groups"][name].update(changes)
    path.write_text(json.dumps(content))
    return load_plan(path)


def test_a_plan_tells_what_is_what(made: QuantizerCache, plan: Plan) -> None:
    assert plan.precisions() == {
        "c1": W8A8, "c2": W4A8, "c3": W8A16, "c4": W4A8, "gap": Precision(32, 8), "embedding": FP32,
    }  # fmt: skip
    assert plan.groups["c2"].weights == ["c2"]
    assert set(plan.groups["c2"].activations) == {"p1", "c3"}
    assert plan.groups["gap"].weight_bits is None
    assert not plan.groups["embedding"].enabled
    assert (plan.weight_scheme, plan.activation_scheme, plan.ranges) == ("symmetric", "asymmetric", "mse")
    assert plan.digest == made.simulation.digest
    check_plan(plan, made.simulation)


def test_a_plan_comes_back_as_it_was_saved(plan: Plan, tmp_path: Path) -> None:
    plan = plan.model_copy(update={"note": {"budget": "bops=0.5"}, "rounding": "adaround"})
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    assert list(load_plan(tmp_path / "plan.json").groups) == list(plan.groups)


def test_a_plan_means_its_precisions(made: QuantizerCache, plan: Plan) -> None:
    images = pixels(4)
    planned = made.simulation.embed(images, made.planned(plan))
    np.testing.assert_array_equal(
        planned, made.simulation.embed(images, made.change(plan.precisions(), codes=True))
    )  # fmt: skip
    assert not np.allclose(planned, made.simulation.embed(images), rtol=1e-4)


def test_a_group_switched_off_by_hand_is_left_in_float(made: QuantizerCache, plan: Plan, tmp_path: Path) -> None:
    images = pixels(4)
    off = edited(plan, tmp_path / "plan.json", c2={"enabled": False})
    without = {name: precision for name, precision in plan.precisions().items() if name != "c2"}
    found = made.simulation.embed(images, made.planned(off))
    np.testing.assert_array_equal(found, made.simulation.embed(images, made.change(without, codes=True)))
    assert not np.array_equal(found, made.simulation.embed(images, made.planned(plan)))


def test_a_group_may_have_a_scheme_of_its_own(made: QuantizerCache, plan: Plan, tmp_path: Path) -> None:
    own = edited(plan, tmp_path / "plan.json", c2={"scheme": "kmeans"})
    change = made.planned(own)
    assert torch.equal(change.weights["c2"][0], made.weight("c2", 4, "kmeans").weight)
    assert torch.equal(change.weights["c4"][0], made.weight("c4", 4, "symmetric").weight)
    assert not torch.equal(change.weights["c2"][0], made.weight("c2", 4).weight)
    assert "c2" not in change.codes
    odd = edited(plan, tmp_path / "plan.json", c2={"scheme": "no-such"})
    with pytest.raises(VeriQuantError, match="no-such"):
        made.planned(odd)


@pytest.mark.parametrize("bits", [1, 16])
def test_a_width_edited_beyond_its_scheme_is_one_line(
    made: QuantizerCache, plan: Plan, tmp_path: Path, bits: int
) -> None:
    wide = edited(plan, tmp_path / "plan.json", c2={"weight_bits": bits, "scheme": "kmeans" if bits > 8 else None})
    with pytest.raises(VeriQuantError, match=f"{bits}-bit levels, which c2 asks for"):
        made.planned(wide)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"weight_bits": 0}, "c2.weight_bits"), ({"weight_bits": 17}, "17"), ({"activation_bits": 1}, "activation_bits"),
     ({"activation_bits": 32}, "groups.c2.activation_bits"), ({"weight_bits": "four"}, "weight_bits"),
     ({"wieght_bits": 4}, "wieght_bits"), ({"enabled": "maybe"}, "enabled")],
)  # fmt: skip
def test_what_is_wrong_with_a_group_is_named(plan: Plan, tmp_path: Path, change: dict, named: str) -> None:
    with pytest.raises(VeriQuantError) as raised:
        edited(plan, tmp_path / "plan.json", c2=change)
    assert named in str(raised.value)
    assert "plan.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [(b'{"kind": "veriquant-plan", ', "is not JSON"), (b"\xff\xfe\x00", "cannot read"), (b"[1, 2]", "is no plan"),
     (b'{"kind": "veriquant-sensitivity"}', "is no plan"), (b'{"kind": "veriquant-plan"}', "is missing"),
     (b'{"kind": "veriquant-plan", "network": "n", "digest": "d", "groups": {}}', "at least one group"),
     (b'{"kind": "veriquant-plan", "network": "n", "digest": "d", "groups": {"a": {}}, "gruops": 1}', "gruops")],
)  # fmt: skip
def test_a_file_that_is_no_plan_is_one_line(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(VeriQuantError) as raised:
        load_plan(path)
    assert named in str(raised.value)
    assert "plan.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_plan_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"cannot read plan .*none\.json: No such file"):
        load_plan(tmp_path / "none.json")


def test_a_plan_of_another_network_is_refused(plan: Plan) -> None:
    with pytest.raises(VeriQuantError, match=r"another network .*6 quantizer groups|another network .*unknown"):
        check_plan(plan, simulated(concat()))


def test_groups_that_are_unknown_or_missing_are_named(made: QuantizerCache, plan: Plan) -> None:
    more = plan.model_copy(update={"groups": {**plan.groups, "nobody": PlanGroup(weight_bits=4)}})
    with pytest.raises(VeriQuantError, match=r"'nobody'.*1 unknown, 0 missing"):
        check_plan(more, made.simulation)
    fewer = plan.model_copy(update={"groups": {n: g for n, g in plan.groups.items() if n != "c3"}})
    with pytest.raises(VeriQuantError, match=r"does not name 'c3'.*0 unknown, 1 missing"):
        check_plan(fewer, made.simulation)


def test_a_plan_fits_the_same_structure_with_other_weights(plan: Plan) -> None:
    other = simulated(residual(seed=5))
    check_plan(plan, other)
    assert plan.digest != other.digest
    images = pixels(12)
    change = QuantizerCache(other, observe(other, images)).planned(plan)
    assert not np.array_equal(other.embed(images, change), other.embed(images))


@pytest.mark.parametrize("text", ["W4A8", "w8a16", "FP32", "fp32", "W2A32", "W32A8"])
def test_precisions_read_back_as_written(text: str) -> None:
    found = Precision.parse(text)
    assert Precision.parse(str(found)) == found
    assert str(found) == text.upper()


@pytest.mark.parametrize("text", ["", "W4", "A8W4", "W4A8x", "W0A8", "W4A17", "W33A8", "WA", "W-4A8", "8"])
def test_what_is_no_precision_is_refused(text: str) -> None:
    with pytest.raises(VeriQuantError, match=r"precision|bits"):
        Precision.parse(text)
