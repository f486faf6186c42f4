"""Hessian traces against the plain ones, and their standard errors against the spread of estimates."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from veriquant.allocation.hessian import Running, estimate, output_draws, weight_draws


def small() -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"first": (6, 5), "second": (4, 6)}
    parameters = {name: torch.randn(shape, generator=draw).requires_grad_() for name, shape in shapes.items()}
    return parameters, torch.randn(3, 5, generator=draw)


def embed(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
    return torch.tanh(images @ parameters["first"].T) @ parameters["second"].T


def loss(parameters: dict[str, Tensor], images: Tensor, teacher: Tensor) -> Tensor:
    return (1 - (F.normalize(embed(parameters, images)) * teacher).sum(1)).mean()


def plain_traces() -> dict[str, float]:
    """The traces of the blocks of the whole Hessian of the label-free loss, by second derivatives one by one."""
    parameters, images = small()
    teacher = F.normalize(embed(parameters, images)).detach()
    found = {}
    for name, parameter in parameters.items():

        def of(value: Tensor, name: str = name) -> Tensor:
            return loss({**parameters, name: value}, images, teacher)

        whole = torch.autograd.functional.hessian(of, parameter.detach())
        found[name] = float(whole.reshape(parameter.numel(), -1).trace())
    return found


@pytest.mark.parametrize("way", ["output", "weights"])
def test_a_trace_is_that_of_the_hessian_of_the_label_free_loss(way: str) -> None:
    parameters, images = small()
    draw = torch.Generator().manual_seed(1)
    if way == "output":
        pieces = [images[i : i + 1] for i in range(len(images))]
        draws = output_draws(lambda piece: embed(parameters, piece), parameters, pieces, draw)
    else:
        teacher = F.normalize(embed(parameters, images)).detach()
        draws = weight_draws((loss(parameters, images, teacher) for _ in itertools.count()), parameters, draw)
    found = estimate(draws, tolerance=0.02, least=30, most=6000)
    for name, expected in plain_traces().items():
        assert abs(found[name].value - expected) < 5 * found[name].error + 1e-6
        assert found[name].error < 0.05 * abs(expected)


def test_the_standard_error_is_that_of_the_mean() -> None:
    draw = torch.Generator().manual_seed(2)
    figures = torch.randn(4000, generator=draw).double() + 3
    running = Running()
    for figure in figures.tolist():
        running.add({"layer": figure})
    trace = running.traces()["layer"]
    assert trace.value == pytest.approx(float(figures.mean()))
    assert trace.error == pytest.approx(float(figures.std() / len(figures) ** 0.5), rel=1e-6)


def test_draws_stop_when_the_error_is_small_and_not_before() -> None:
    steady = ({"layer": 1.0} for _ in itertools.count())
    assert estimate(steady, tolerance=0.1, least=5, most=100)["layer"].draws == 5
    wild = ({"layer": 10.0 * (-1) ** number + 1} for number in itertools.count())
    assert estimate(wild, tolerance=0.001, least=5, most=50)["layer"].draws == 50
