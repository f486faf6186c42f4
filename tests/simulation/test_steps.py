"""Steps: a network can be started anywhere, with several changes stacked, and computes what it computes as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_made import (
    NETWORKS,
    attention,
    computed_shape,
    crossed,
    fitted,
    in_onnxruntime,
    network,
    pixels,
    plain,
    residual,
    residual_concat,
    simulated,
)

from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import Graph
from veriquant.simulation import Precision, QuantizationConfig, QuantizerCache, observe, simulate_graph
from veriquant.simulation.steps import Program, Steps, check_finite

EIGHT, FOUR = Precision(8, 8), Precision(4, 8)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def until(steps: Steps, program: Program, images: torch.Tensor, change: QuantizationConfig) -> dict[int, object]:
    """Return what `program` begins with, and constants: computed step by step, nothing else is kept."""
    env = steps.start(images)
    for index in range(program.first):
        steps.advance(index, env, [change])
    return {**{index: env[index] for index in program.live}, **steps.constants}


def whole(made: QuantizerCache, precision: Precision = EIGHT) -> QuantizationConfig:
    """Return the change that quantizes every group."""
    return made.change(dict.fromkeys(made.simulation.groups, precision))


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_computes_what_onnx_runtime_computes(name: str, count: int) -> None:
    content = NETWORKS[name]()
    images = pixels(count)
    found = simulated(content).steps.run(images)
    np.testing.assert_allclose(found.numpy(), in_onnxruntime(content, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_can_be_started_at_every_step_from_what_is_live(name: str) -> None:
    made = fitted(NETWORKS[name]())
    steps, images, change = made.simulation.steps, pixels(3), whole(made)
    expected = steps.run(images, change)
    assert not torch.equal(expected, steps.run(images))
    for first in range(steps.count + 1):
        program = steps.program(first)
        env = until(steps, program, images, change)
        found = steps.finish(program, env, [change])
        assert torch.equal(found, expected), f"started at step {first}"


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_live_is_needed(name: str) -> None:
    made = fitted(NETWORKS[name]())
    steps, images = made.simulation.steps, pixels(2)
    for first in range(1, steps.count + 1):
        program = steps.program(first)
        for index in program.live:
            env = until(steps, program, images, QuantizationConfig())
            del env[index]
            with pytest.raises(KeyError):
                steps.finish(program, env, [QuantizationConfig()])


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_held_longer_than_it_is_used(name: str) -> None:
    steps = simulated(NETWORKS[name]()).steps
    env = steps.start(pixels(2))
    steps.finish(steps.program(0), env, [QuantizationConfig()])
    assert set(env) - set(steps.constants) == {steps.output}
    # What `last_uses` says is what a run from the start lets go of, and when.
    program = steps.program(0)
    last = steps.last_uses()
    for position, dead in program.dying.items():
        for index in dead:
            assert last[index] == program.order[position]


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"crossed"}))
def test_stacked_changes_give_each_part_its_own_result(name: str) -> None:
    made = fitted(NETWORKS[name]())
    steps, images = made.simulation.steps, pixels(3)
    first_group = next(iter(made.simulation.groups))
    changes = [QuantizationConfig(), whole(made), made.change({first_group: FOUR}), whole(made, Precision(4, 16))]
    found = steps.finish(steps.program(0), steps.start(torch.cat([images] * len(changes))), changes)
    for part, change in zip(found.chunk(len(changes)), changes, strict=True):
        # The order of sums may depend on the size of a batch, and codes may follow.
        torch.testing.assert_close(part, steps.run(images, change), rtol=1e-3, atol=1e-3)
    parts = found.chunk(len(changes))
    assert not any(torch.allclose(parts[0], other, rtol=1e-4, atol=1e-4) for other in parts[1:])


def test_a_program_tells_whether_images_may_be_taken_apart() -> None:
    steps = simulated(crossed()).steps
    inside = steps.names["m1"] + 1
    assert not steps.program(inside).divisible
    assert steps.program(0).divisible
    assert steps.program(steps.names["mean"] + 1).divisible
    for name in ("plain", "residual", "concat", "computed_shape"):
        other = simulated(NETWORKS[name]()).steps
        assert all(other.program(first).divisible for first in range(other.count))


def test_arithmetic_on_shapes_is_done_again_for_the_images_at_hand() -> None:
    content = computed_shape()  # as it is: `simulate` would fold its arithmetic away
    steps = simulate_graph(Graph.from_bytes(content), network(content)).steps
    first = steps.names["rows"]
    program = steps.program(first)
    assert {steps.names["shape"], steps.names["count"], steps.names["wanted"]} <= set(program.order)
    images, rows = pixels(6), steps.names["r2"]
    env = until(steps, program, images, QuantizationConfig())
    assert [index for index in program.live if steps.is_stacked(index, env[index])] == [rows]
    halves = [
        steps.finish(program, {**env, rows: env[rows][part]}, [QuantizationConfig()])
        for part in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat(halves), steps.run(images))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric", "kmeans"])
def test_sums_of_codes_equal_the_plain_path(name: str, scheme: str) -> None:
    made = fitted(NETWORKS[name](), weight_scheme=scheme)
    images = pixels(4)
    for group, members in made.simulation.groups.items():
        if not members.weights:
            continue
        # One group at a time: over several, the last bits would turn into other codes.
        change = made.change({group: FOUR}, codes=True)
        # a codebook has no uniform levels, and computes as ever
        assert set(change.codes) == (set() if scheme == "kmeans" else set(members.weights))
        ours = made.simulation.steps.run(images, change)
        plainly = made.simulation.steps.run(images, replace(change, codes={}))
        torch.testing.assert_close(ours, plainly, rtol=1e-4, atol=1e-5)
        assert scheme == "kmeans" or not torch.equal(ours, made.simulation.steps.run(images))


@pytest.mark.parametrize("precision", ["W8A16", "W8A12"])
def test_codes_of_more_than_eight_bits_are_summed_as_two_bytes(precision: str) -> None:
    made = fitted(residual())
    precisions = dict.fromkeys(made.simulation.groups, Precision.parse(precision))
    change = made.change(precisions, codes=True)
    assert change.codes
    assert all(product.wide for product in change.codes.values())
    images = pixels(4)
    ours = made.simulation.steps.run(images, change)
    plainly = made.simulation.steps.run(images, made.change(precisions))
    torch.testing.assert_close(ours, plainly, rtol=1e-2, atol=1e-3)
    assert not torch.equal(ours, made.simulation.steps.run(images))


@pytest.mark.parametrize("precision", ["W8A32", "FP32", "W16A8"])
def test_only_few_bits_are_summed_as_codes(precision: str) -> None:
    made = fitted(residual())
    assert not made.change(dict.fromkeys(made.simulation.groups, Precision.parse(precision)), codes=True).codes


@pytest.mark.parametrize("threads", [1, 3])
def test_embedding_in_pieces_is_a_run_over_all(threads: int) -> None:
    made = fitted(residual_concat())
    images, change = pixels(11), whole(made)
    # QuantizationResult after quantized, so that codes may differ where the order of a sum does.
    found = made.simulation.embed(images, change, threads=threads)
    np.testing.assert_allclose(found, made.simulation.steps.run(images, change).numpy(), rtol=1e-3, atol=1e-3)
    assert found.shape == (11, 6)
    assert found.dtype == np.float32


def test_a_change_leaves_the_network_as_it_was() -> None:
    made = fitted(plain())
    images = pixels(3)
    before = made.simulation.steps.run(images)
    made.simulation.steps.run(images, whole(made, FOUR))
    assert torch.equal(made.simulation.steps.run(images), before)


def test_a_quantizer_acts_on_its_tensor_wherever_it_is_read() -> None:
    made = fitted(attention())
    quantizer = made.activation("r1", 4)
    env = made.simulation.steps.start(pixels(2))
    for index in range(made.simulation.steps.names["query"] + 1):
        made.simulation.steps.advance(index, env, [QuantizationConfig({}, {"r1": quantizer})])
    held = env[made.simulation.steps.names["tokens"]]
    assert len(held.unique()) <= 16
    assert len(env[made.simulation.steps.names["query"]].unique()) > 16


def test_observed_histograms_hold_every_value() -> None:
    simulation = simulated(residual())
    images = pixels(10)
    found = observe(simulation, images)
    assert set(found) == {tensor for group in simulation.groups.values() for tensor in group.activations}
    env = simulation.steps.start(images)
    for index in range(simulation.steps.count):
        simulation.steps.advance(index, env, [QuantizationConfig()])
    for name, histogram in found.items():
        values = env[simulation.steps.names[name]]
        assert histogram.low == pytest.approx(float(values.min()), rel=1e-5)
        assert histogram.high == pytest.approx(float(values.max()), rel=1e-5)
        assert histogram.counts.sum() == values.numel()
        edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
        middle = edges[len(edges) // 2]
        below = int(histogram.counts[: len(edges) // 2].sum())
        assert below == pytest.approx(int((values < middle).sum()), abs=2 + 0.001 * values.numel())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_image_that_is_not_finite_is_named(bad: float) -> None:
    images = pixels(5)
    images[3, 0, 2, 2] = bad
    with pytest.raises(VeriQuantError, match=r"calibration images: 1 of 5 are not finite \(the first is number 3"):
        observe(simulated(plain()), images)
    check_finite(pixels(5), "x")


def test_no_image_is_named() -> None:
    with pytest.raises(VeriQuantError, match="no calibration image"):
        observe(simulated(plain()), pixels(4)[:0])
