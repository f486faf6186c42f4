"""Quantizer groups: where quantizers stand and which share a precision, on networks made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hand_made import DIM, NETWORKS, SIDE, Sketch, concat, gated, network, normalised, plain, residual, simulated

from veriquant.simulation import TARGETS, Group, KernelTable, Precision, Simulation, simulate

GENERIC = TARGETS.get("generic")
#: Kernels that carry no activation function along.
BARE = replace(GENERIC, name="bare", fused=())


def by_tensor(simulation: Simulation) -> dict[str, Group]:
    return {tensor: group for group in simulation.groups.values() for tensor in group.activations}


def by_operation(simulation: Simulation) -> dict[str, Group]:
    return {operation: group for group in simulation.groups.values() for operation in group.operations}


@pytest.mark.parametrize("target", [*TARGETS, BARE])
@pytest.mark.parametrize("name", NETWORKS)
def test_groups_part_the_network(name: str, target: str | KernelTable) -> None:
    found = simulated(NETWORKS[name](), target)
    operations = [each for group in found.groups.values() for each in group.operations]
    tensors = [each for group in found.groups.values() for each in group.activations]
    weights = [each for group in found.groups.values() for each in group.weights]
    assert len(set(operations)) == len(operations)
    assert len(set(tensors)) == len(tensors)
    assert len(set(weights)) == len(weights)
    # Every constant weight is in a group, with the tensor that its operation reads.
    weighted = {node.meta["operation"] for node in found.module.graph.nodes if node.meta.get("kind") == "weighted"}
    assert set(weights) == weighted
    for operation in weighted:
        assert found.reads[operation] in by_operation(found)[operation].activations
    for key, group in found.groups.items():
        assert key == group.name == group.operations[0]
        assert set(group.weights) <= set(group.operations)
    assert {found.steps.names[tensor] for tensor in tensors} <= set(range(found.steps.count))


@pytest.mark.parametrize("name", NETWORKS)
def test_names_are_the_same_in_every_build(name: str) -> None:
    one, other = simulated(NETWORKS[name](seed=1)), simulated(NETWORKS[name](seed=2))
    assert dict(one.groups) == dict(other.groups)
    assert list(one.groups) == list(other.groups)


def test_the_inputs_of_an_addition_share_a_group_with_all_who_read_them() -> None:
    groups = by_tensor(simulated(residual()))
    # The addition reads c3 and p1; the convolution c2 reads p1 too, and so is tied to both.
    assert groups["c3"] is groups["p1"]
    assert groups["p1"].operations == ("c2", "sum")
    assert groups["p1"].weights == ("c2",)
    assert groups["p2"].operations == ("c3",)


def test_the_inputs_of_a_concatenation_share_a_group() -> None:
    groups = by_tensor(simulated(concat()))
    assert groups["r1"] is groups["r2"]
    assert groups["r1"].operations == ("both",)
    assert groups["r1"].weights == ()
    # What it makes is another tensor, with a quantizer of its own.
    assert groups["both"].operations == ("after",)


def test_a_tensor_that_two_kernels_read_ties_their_weights() -> None:
    assert by_tensor(simulated(concat()))["r0"].weights == ("left", "right")


def test_a_gate_shares_a_group_with_what_it_opens_for() -> None:
    groups = by_tensor(simulated(gated()))
    assert groups["gate"] is groups["r1"]
    assert groups["gate"].operations == ("squeezed", "excited")


def passing(operator: str) -> bytes:
    """A convolution, something that only moves values, and a layer that reads them; a second user ties both ends."""
    net = Sketch()
    net.op("Relu", [net.conv("image", "c1", 3, 4)], "r1")
    if operator == "MaxPool":
        net.op("MaxPool", ["r1"], "moved", kernel_shape=[2, 2], strides=[2, 2])
    elif operator == "Flatten":
        net.op("Flatten", ["r1"], "moved")
    elif operator == "Reshape":
        net.op("Reshape", ["r1", net.constant("wanted", [0, 2, 8, SIDE, SIDE // 4], "int64")], "moved")
    else:
        net.op("Transpose", ["r1"], "moved", perm=[0, 2, 3, 1])
    if operator != "Flatten":
        net.op("Flatten", ["moved"], "flat")
    rows = 4 * SIDE * SIDE // (4 if operator == "MaxPool" else 1)
    flat = "moved" if operator == "Flatten" else "flat"
    net.op("Gemm", [flat, net.weight("g_w", DIM, rows)], "embedding", transB=1)
    return net.bytes()


@pytest.mark.parametrize("operator", ["Flatten", "MaxPool", "Reshape", "Transpose"])
def test_what_only_moves_values_leaves_the_quantizer_where_they_are_made(operator: str) -> None:
    found = simulated(passing(operator))
    assert list(by_tensor(found)) == ["image", "r1"]
    assert by_tensor(found)["r1"].operations == ("embedding",)
    assert found.reads["embedding"] == "r1"


def test_a_tensor_read_directly_and_through_a_view_ties_both_readers() -> None:
    net = Sketch()
    net.op("Relu", [net.conv("image", "c1", 3, 4)], "r1")
    net.op("Relu", [net.conv("r1", "c2", 4, 4)], "r2")
    net.op("MaxPool", ["r1"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    net.op("Relu", [net.conv("pool", "c3", 4, 4)], "r3")
    net.op("GlobalAveragePool", ["r2"], "a2")
    net.op("GlobalAveragePool", ["r3"], "a3")
    net.op("Add", ["a2", "a3"], "sum")
    net.op("Flatten", ["sum"], "flat")
    net.op("Gemm", ["flat", net.weight("g_w", DIM, 4)], "embedding", transB=1)
    groups = by_tensor(simulated(net.bytes()))
    assert groups["r1"].weights == ("c2", "c3")
    assert groups["a2"] is groups["a3"]


@pytest.mark.parametrize("activation", ["Relu", "PRelu", "Sigmoid", "Clip", "LeakyRelu", "HardSwish", "Tanh"])
def test_a_fused_activation_has_no_quantizer_in_front_of_it(activation: str) -> None:
    net = Sketch()
    net.conv("image", "c1", 3, 4)
    if activation == "PRelu":
        net.prelu("c1", "a1", 4)
    elif activation == "Clip":
        net.op("Clip", ["c1", net.constant("low", -1.0), net.constant("high", 1.0)], "a1")
    else:
        net.op(activation, ["c1"], "a1")
    net.head("a1", 4)
    content = net.bytes()
    assert set(by_tensor(simulated(content))) == {"image", "a1", "gap"}
    bare = by_tensor(simulated(content, BARE))
    assert set(bare) == {"image", "c1", "a1", "gap"}
    assert bare["c1"].operations == ("a1",)
    assert bare["c1"].weights == ()


def test_an_activation_that_no_kernel_comes_before_or_that_is_not_alone_is_not_fused() -> None:
    net = Sketch()
    net.conv("image", "c1", 3, 4)
    net.op("Relu", ["c1"], "r1")
    net.op("Add", ["c1", "r1"], "sum")  # c1 is needed as it is: the kernel cannot apply the ReLU to it
    net.op("MaxPool", ["sum"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    net.op("Relu", ["pool"], "r2")  # behind a pool, which is no kernel that carries anything along
    net.head("r2", 4)
    groups = by_tensor(simulated(net.bytes()))
    assert groups["c1"] is groups["r1"]
    assert groups["c1"].operations == ("r1", "sum")
    assert groups["sum"].operations == ("r2",)


def test_before_the_first_and_after_the_last_weights_there_is_no_quantizer() -> None:
    found = simulated(normalised())
    assert list(by_tensor(found)) == ["pixels", "r1", "gap"]
    assert not {"image", "centred", "linear", "norm", "embedding"} & set(by_tensor(found))
    assert not {"centred", "pixels", "norm", "embedding"} & set(by_operation(found))


def test_the_candidates_are_the_widths_that_all_operations_have() -> None:
    low, mid, high = (Precision.parse(text) for text in ("W4A4", "W8A8", "W8A16"))
    table = KernelTable("t", "", (high, mid, low), ("PRelu",), {"Add": (high, mid), "Conv": (low, mid)})
    groups = by_operation(simulated(residual(), table))
    assert groups["sum"].candidates == (mid,)  # the group of an addition and a convolution
    assert groups["c3"].candidates == (mid, low)
    assert groups["embedding"].candidates == (high, mid, low)  # highest first, as the table has them
    nothing = replace(table, only={"Add": (high,), "Conv": (low,)})
    assert by_operation(simulated(residual(), nothing))["sum"].candidates == ()


@pytest.mark.parametrize("target", list(TARGETS))
def test_every_target_offers_its_candidates_highest_first(target: str) -> None:
    table = TARGETS.get(target)
    for group in simulated(residual(), target).groups.values():
        assert group.candidates == tuple(each for each in table.candidates if each in group.candidates)
        assert group.candidates


def test_x86_has_no_integers_for_prelu() -> None:
    table = TARGETS.get("onnxruntime-x86")
    groups = by_operation(simulated(residual(), table))
    assert groups["p1"].candidates == (Precision.parse("FP32"), Precision.parse("W8A32"))
    assert Precision.parse("W8A8") in groups["c1"].candidates


def test_equal_and_odd_names_of_operations_are_told_apart() -> None:
    import onnx

    model = onnx.load_model_from_string(plain())
    for node in model.graph.node:
        node.name = "same/name::x" if node.op_type == "Conv" else ""
    found = simulate(network(model.SerializeToString()))
    assert len(found.groups) == 4
    assert len({each for group in found.groups.values() for each in group.operations}) == 4
    assert {name: group.weights for name, group in found.groups.items()} == {
        name: group.weights for name, group in simulate(network(model.SerializeToString())).groups.items()
    }
