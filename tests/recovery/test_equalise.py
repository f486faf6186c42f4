from __future__ import annotations

import numpy as np
import pytest
from recovery_networks import Node, batch, model

from veriquant.deploy.sessions import embeddings_of, watch
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites.scaling import input_magnitudes
from veriquant.recovery.chains import find_chains
from veriquant.recovery.equalise_activations import equalise_activations
from veriquant.recovery.equalise_weights import equalise_weights

#: What may stand between two convolutions: its nodes after `c1`, and whether channels can be scaled across it.
BETWEEN: dict[str, tuple[list[tuple[str, list[str]]], bool]] = {
    "nothing": ([], True),
    "Relu": ([("Relu", [])], True),
    "PRelu": ([("PRelu", ["slopes"])], True),
    "LeakyRelu": ([("LeakyRelu", [])], True),
    "Clip from zero": ([("Clip", ["zero"])], True),
    "Clip from zero to infinity": ([("Clip", ["zero", "infinity"])], True),
    "ReLU6": ([("Clip", ["zero", "six"])], False),
    "Clip from one": ([("Clip", ["one"])], False),
    "Clip from above": ([("Clip", ["", "six"])], False),
    "Sigmoid": ([("Sigmoid", [])], False),
    "two of them": ([("LeakyRelu", []), ("PRelu", ["slopes"])], True),
}


def network(between: str = "PRelu", seed: int = 0) -> bytes:
    """Return a convolution, something, a depth-wise one, PReLU, a 1×1 convolution; channels a hundredfold apart."""
    draw = np.random.default_rng(seed)
    uneven = np.geomspace(0.1, 10, 8)
    constants = {
        "w1": draw.standard_normal((8, 3, 3, 3)) * draw.permutation(uneven).reshape(-1, 1, 1, 1),
        "b1": draw.standard_normal(8),
        "slopes": draw.uniform(-0.5, 1.5, (8, 1, 1)),
        "w2": draw.standard_normal((8, 1, 3, 3)) * draw.permutation(uneven).reshape(-1, 1, 1, 1),
        "b2": draw.standard_normal(8),
        "w3": draw.standard_normal((5, 8, 1, 1)) * draw.permutation(uneven).reshape(1, -1, 1, 1),
        "zero": np.float32(0),
        "one": np.float32(1),
        "six": np.float32(6),
        "infinity": np.float32(np.inf),
    }
    nodes: list[Node] = [("Conv", ["image", "w1", "b1"], "c1", {})]
    for i, (kind, more) in enumerate(BETWEEN[between][0]):
        nodes.append((kind, [nodes[-1][2], *more], f"m{i}", {}))
    nodes.append(("Conv", [nodes[-1][2], "w2", "b2"], "c2", {"group": 8, "pads": [1, 1, 1, 1]}))
    nodes.append(("PRelu", ["c2", "slopes"], "p2", {}))
    nodes.append(("Conv", ["p2", "w3"], "c3", {}))
    nodes.append(("GlobalAveragePool", ["c3"], "pooled", {}))
    nodes.append(("Flatten", ["pooled"], "embedding", {}))
    used = {name for node in nodes for name in node[1]}
    return model(nodes, {name: value for name, value in constants.items() if name in used})


def ranges(graph: Graph, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranges of a layer's weights by output and by input channel."""
    node = next(n for n in graph.nodes if n.name == layer)
    weight = graph.weight(node)
    assert weight is not None
    outputs = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return outputs, input_magnitudes(graph, node, 8 if layer != "c1" else 3)


def spread(values: np.ndarray) -> float:
    return float(values.max() / values.min())


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_the_function_stays_and_only_homogeneous_functions_are_crossed(between: str, by: str) -> None:
    content = network(between)
    graph = Graph.from_bytes(content)
    expected = 2 if BETWEEN[between][1] else 1
    images = batch(8)
    assert len(find_chains(graph)) == expected
    assert (equalise_weights(graph) if by == "weights" else equalise_activations(graph, images)) == expected
    before, after = embeddings_of(content, images), embeddings_of(graph.to_bytes(), images)
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
    touched = {n.name for n in graph.nodes if n.op_type == "Conv" and n.input[1].startswith(n.name)}
    assert touched == ({"c1", "c2", "c3"} if expected == 2 else {"c2", "c3"})


@pytest.mark.parametrize("seed", range(3))
def test_equalised_weights_have_equal_ranges_on_both_sides_of_every_tensor(seed: int) -> None:
    graph = Graph.from_bytes(network(seed=seed))

    def precision(before: str, after: str) -> float:
        """Return what equalisation makes greatest: ranges of channels as shares of their tensors'."""
        made, read = ranges(graph, before)[0], ranges(graph, after)[1]
        return float((made / made.max() * read / read.max()).sum())

    pairs = [("c1", "c2"), ("c2", "c3")]
    first = [precision(*pair) for pair in pairs]
    equalise_weights(graph)
    for (before, after), begun in zip(pairs, first, strict=True):
        assert np.allclose(ranges(graph, before)[0], ranges(graph, after)[1], rtol=0.01)
        assert precision(before, after) > 1.2 * begun


def test_equalising_weights_again_changes_nothing() -> None:
    graph = Graph.from_bytes(network())
    equalise_weights(graph)
    once = {name: value.copy() for name, value in graph.constants.items()}
    equalise_weights(graph)
    for name, value in graph.constants.items():
        assert np.allclose(value, once[name], rtol=2e-2)


def test_dead_channels_stay_as_they_are() -> None:
    graph = Graph.from_bytes(network())
    weights = {name: graph.constants[name].copy() for name in ("w1", "w3")}
    weights["w1"][2], weights["w3"][:, 5] = 0.0, 0.0
    graph.constants.update(weights)
    content = graph.to_bytes()
    equalise_weights(graph)
    images = batch(4)
    before, after = embeddings_of(content, images), embeddings_of(graph.to_bytes(), images)
    assert all(np.isfinite(value).all() for name, value in graph.constants.items() if name != "infinity")
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


def test_equalised_activations_are_alike_in_range() -> None:
    graph = Graph.from_bytes(network())
    images = batch(8)

    def widths(tensor: str) -> np.ndarray:
        values = np.concatenate([seen[tensor] for seen in watch(graph, [tensor], images)])
        return np.asarray(np.abs(values).max(axis=(0, 2, 3)))

    before = spread(widths("c1"))
    equalise_activations(graph, images)
    assert spread(widths("c1")) < before / 5


def test_a_tensor_that_something_else_reads_is_left_alone() -> None:
    draw = np.random.default_rng(0)
    constants = {"w1": draw.standard_normal((8, 3, 1, 1)), "w2": draw.standard_normal((8, 8, 1, 1))}
    nodes: list[Node] = [
        ("Conv", ["image", "w1"], "c1", {}),
        ("Conv", ["c1", "w2"], "c2", {}),
        ("Add", ["c1", "c2"], "embedding", {}),
    ]
    graph = Graph.from_bytes(model(nodes, constants, axes=4))
    assert find_chains(graph) == []
    assert equalise_weights(graph) == 0
    assert equalise_activations(graph, batch(2)) == 0
