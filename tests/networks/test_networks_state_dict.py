"""Weights are found wherever a training script filed them, heads are left aside, and no code of a file runs."""

from __future__ import annotations

import argparse
import copy
import functools
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from networks_tiny import small_mobilefacenet
from safetensors.torch import save_file
from torch import nn

from veriquant.errors import VeriQuantError
from veriquant.networks import FAMILIES, load_network
from veriquant.networks.checkpoints import load_checkpoint
from veriquant.networks.family_checkpoint import read_module
from veriquant.networks.state_dict import flattened, heads, locate

State = dict[str, torch.Tensor]
CLASSIFIER = torch.zeros(32, 100)


@pytest.fixture(scope="module")
def state() -> State:
    return small_mobilefacenet().state_dict()


@dataclass
class Read:
    """A module read from a checkpoint; loading it as a network would export it too."""

    module: nn.Module
    notes: tuple[str, ...]


def read(path: Path) -> Read:
    module, _, notes = read_module(FAMILIES.get("mobilefacenet"), path)
    return Read(module, notes)


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[object], Read]:
    def load(content: object) -> Read:
        torch.save(content, tmp_path / "net.pt")
        return read(tmp_path / "net.pt")

    return load


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def same_weights(network: Read, state: State) -> None:
    found = network.module.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in found if "num_batches" not in name)


PREFIXES = (
    "module.",
    "model.",
    "backbone.",
    "net.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.backbone.",
    "encoder.0.",
    "features/",
    "net_",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_names_share(loaded: Callable[[object], Read], state: State, prefix: str) -> None:
    network = loaded(prefixed(state, prefix))
    same_weights(network, state)
    assert len(network.notes) == 1
    assert repr(prefix.replace("_orig_mod.", "")) in network.notes[0] or prefix == "_orig_mod."
    assert ("torch.compile" in network.notes[0]) == ("_orig_mod" in prefix)


def test_a_network_out_of_a_wrapped_checkpoint(tmp_path: Path, state: State) -> None:
    torch.save({"state_dict": prefixed(state, "model.") | {"head.kernel": CLASSIFIER}}, tmp_path / "a.pt")
    network = load_network(f"mobilefacenet:{tmp_path / 'a.pt'}")
    assert network.dim == 32
    assert network.notes == (
        "its weights stand under 'state_dict.model.'; beside the network, left aside: state_dict.head.kernel",
    )


def test_the_plain_state_dict_needs_no_note(loaded: Callable[[object], Read], state: State) -> None:
    assert loaded(state).notes == ()


WRAPPERS: dict[str, Callable[[State], object]] = {
    "net_state_dict": lambda s: {"epoch": 3, "net_state_dict": s, "exp_id": "x"},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model in state_dict": lambda s: {"model": {"state_dict": s}},
    "with optimiser": lambda s: {"net": prefixed(s, "module."), "optimizer": {"state": {0: {"exp_avg": CLASSIFIER}}}},
    "arcface_torch": lambda s: {
        "epoch": 1,
        "state_dict_backbone": s,
        "state_dict_softmax_fc": {"weight": CLASSIFIER},
        "state_optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
    },
    "lightning": lambda s: {
        "state_dict": {**prefixed(s, "model."), "head.kernel": CLASSIFIER},
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {}}],
    },
    "in a list": lambda s: [3, OrderedDict(s)],
    "in a tuple": lambda s: ("epoch", {"net": s}),
    "behind a running average": lambda s: {"model_ema": {k: v + 1 for k, v in s.items() if v.ndim}, "model": s},
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_whatever_it_is_filed_under(loaded: Callable[[object], Read], state: State, name: str) -> None:
    network = loaded(WRAPPERS[name](state))
    same_weights(network, state)
    assert len(network.notes) == 1


@pytest.mark.parametrize("prefix", ["model.", "module._orig_mod."])
def test_safetensors_too(tmp_path: Path, state: State, prefix: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in prefixed(state, prefix).items()}
    save_file(tensors | {"head.kernel": CLASSIFIER.clone()}, tmp_path / "a.safetensors")
    network = read(tmp_path / "a.safetensors")
    same_weights(network, state)
    assert "head.kernel" in network.notes[0]


def test_what_compiling_and_sharding_put_between_names(loaded: Callable[[object], Read], state: State) -> None:
    between = {name.replace("conv_3.", "conv_3._orig_mod.", 1): tensor for name, tensor in state.items()}
    between = {n.replace("linear.", "_fsdp_wrapped_module.linear._checkpoint_wrapped_module."): t for n, t in between.items()}  # noqa: E501  # fmt: skip
    same_weights(loaded({"model": between}), state)


def test_two_sets_of_weights_are_told(loaded: Callable[[object], Read], state: State) -> None:
    network = loaded({"teacher": {k: v + 1 for k, v in state.items() if v.ndim}, "student": state})
    same_weights(network, state)
    assert "another set of them under 'teacher.' was left aside" in network.notes[0]


HEADS: dict[str, State] = {
    "kernel": {"head.kernel": CLASSIFIER},
    "weight": {"weight": CLASSIFIER.T},
    "margin": {"margin.weight": CLASSIFIER.T, "margin.t": torch.zeros(1)},
    "classifier with bias": {"classifier.weight": CLASSIFIER.T, "classifier.bias": torch.zeros(100)},
    "any name": {"zwölf.weight": CLASSIFIER.T, "zwölf.bias": torch.zeros(100)},
    "logits": {"logits.weight": CLASSIFIER.T, "logits.bias": torch.zeros(100)},
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_heads_are_left_aside_and_named(loaded: Callable[[object], Read], state: State, name: str, prefix: str) -> None:
    network = loaded({"state_dict": prefixed(state | HEADS[name], prefix)})
    same_weights(network, state)
    assert next(iter(HEADS[name])) in network.notes[0]
    assert "only training uses it" in network.notes[0]


@pytest.mark.parametrize(
    "surplus",
    [
        {"conv_7.conv.weight": torch.zeros(32, 32, 3, 3)},
        {"linear.bias": torch.zeros(32)},
        {"conv_5.model.2.conv.conv.weight": torch.zeros(32, 16, 1, 1)},
        {"projection.weight": torch.zeros(32, 32)},
        {"attention.qkv.weight": torch.zeros(96, 32), "attention.out.weight": torch.zeros(32, 32)},
    ],
)
def test_a_part_that_the_family_does_not_know_is_no_head(
    loaded: Callable[[object], Read], state: State, surplus: State
) -> None:
    with pytest.raises(VeriQuantError, match=r"(1|2) not of this family"):
        loaded(state | surplus)


def test_a_longer_network_of_the_same_names_is_not_cut_short(tmp_path: Path) -> None:
    with torch.device("meta"):
        deep = FAMILIES.get("iresnet34").build(embedding=8, size=16)
    torch.save({k: torch.zeros(v.shape) for k, v in deep.state_dict().items()}, tmp_path / "a.pt")
    with pytest.raises(VeriQuantError, match="its names are those of 'iresnet34'"):
        load_network(f"iresnet18:{tmp_path / 'a.pt'}")


def test_advice_sees_through_wrappers(tmp_path: Path, state: State) -> None:
    torch.save({"state_dict": prefixed(state, "model.") | {"head.kernel": CLASSIFIER}}, tmp_path / "a.pt")
    with pytest.raises(VeriQuantError, match="its names are those of 'mobilefacenet': write mobilefacenet:"):
        load_network(f"iresnet18:{tmp_path / 'a.pt'}")


def test_shapes_and_names_decide_what_is_a_head() -> None:
    own = ["conv.weight", "fc.weight"]
    assert heads({"arcface.weight": (10, 8)}, own, 8) == ["arcface.weight"]
    assert heads({"x.weight": (10, 8)}, own, 8) == ["x.weight"]
    assert heads({"x.weight": (8, 8)}, own, 8) == []
    assert heads({"x.weight": (10, 9)}, own, 8) == []
    assert heads({"fc.bias": (8,)}, own, 8) == []


# ----------------------------------------------------------------------------------------------- objects, not built


class AttributeDict(dict[str, object]):
    """As Lightning's: a dictionary with a class of its own."""


@pytest.mark.parametrize(
    "thing",
    [
        argparse.Namespace(lr=0.1),
        AttributeDict(lr=0.1),
        np.float64(0.5),
        np.arange(3),
        Path("/tmp"),
        functools.partial(copy.copy, 1),
        {"a": [argparse.Namespace(b=np.int64(1))]},
    ],
)
def test_other_objects_do_not_hide_the_weights(loaded: Callable[[object], Read], state: State, thing: object) -> None:
    network = loaded({"state_dict": state, "thing": thing})
    same_weights(network, state)
    assert "were not built" in network.notes[0]


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, lambda m: {"net": m, "epoch": 1}])
def test_a_pickled_module_is_read_without_its_class(
    loaded: Callable[[object], Read], state: State, wrap: Callable[[nn.Module], object]
) -> None:
    module = small_mobilefacenet()
    module.load_state_dict(copy.deepcopy(state))
    network = loaded(wrap(module))
    same_weights(network, state)
    assert "veriquant.networks.mobilefacenet.MobileFaceNet" in network.notes[0]


class Calls:
    """Is pickled as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("function", [os.system, subprocess.call, subprocess.getoutput, eval, exec, __import__])
@pytest.mark.parametrize("protocol", [2, 0])
def test_no_function_of_a_file_is_called(tmp_path: Path, state: State, function: Callable[..., object], protocol: int) -> None:  # noqa: E501  # fmt: skip
    mark = tmp_path / "called"
    told = f"open({str(mark)!r}, 'w')" if function in (eval, exec) else f"touch {mark}"
    path = tmp_path / "a.pt"
    torch.save({"state_dict": state, "thing": Calls(function, told)}, path, pickle_protocol=protocol)
    try:
        read(path)
    except VeriQuantError as error:
        assert "runs no code out of a file" in str(error) or "damaged" in str(error)  # noqa: PT017
    assert not mark.exists()
    torch.save({"state_dict": state, "thing": Calls(function, told)}, path, pickle_protocol=protocol)
    pickle.loads(pickle.dumps(Calls(print)))  # the class itself does call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.serialization.safe_globals", _nothing_is_safe)
        with pytest.raises(VeriQuantError):
            load_checkpoint(path)


class _nothing_is_safe:  # noqa: N801
    def __init__(self, _: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def test_the_list_of_safe_classes_is_as_before(loaded: Callable[[object], Read], state: State) -> None:
    before = torch.serialization.get_safe_globals()
    loaded({"state_dict": state, "args": argparse.Namespace(a=1)})
    assert torch.serialization.get_safe_globals() == before


def test_containers_that_hold_each_other_many_times_over_end(state: State) -> None:
    nested: list[object] = [state]
    for _ in range(60):
        nested = [nested, nested, nested]
    assert len(flattened(nested)) == 0  # deeper than anybody files weights
    itself: list[object] = [dict(state)]
    itself.append(itself)
    assert len(flattened(itself)) == len(state)
    wide: list[object] = [state]
    for _ in range(8):
        wide = [wide] * 1000
    assert len(flattened(wide)) == len(state)


def test_nothing_of_the_network_is_there() -> None:
    located = locate({"a.b": torch.zeros(1), "c": torch.zeros(1)}, ["x.weight", "b"])
    assert (located.prefix, located.found) == ("a.", 1)
    assert locate({"a.b": torch.zeros(1)}, ["x", "y", "b"]).prefix == ""
    assert locate({}, ["x"]).tensors == {}
