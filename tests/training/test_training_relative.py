"""An optimizer whose rate is a share of each parameter's size, and what a distillation gives it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from veriquant.schemes import AffineQuantizer, LearnedStepQuantizer
from veriquant.training.distillation import Distillation, difference, grouped
from veriquant.training.relative import RelativeAdamW


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_adamw_on_the_parameter_divided_by_its_unit(decay: float) -> None:
    draw = torch.Generator().manual_seed(0)
    unit = 10 ** torch.empty(4, 1).uniform_(-3, 3, generator=draw)
    start, wanted = torch.randn(4, 5, generator=draw), torch.randn(4, 5, generator=draw)
    plain, measured = nn.Parameter(start.clone()), nn.Parameter(start * unit)
    on_shares = torch.optim.AdamW([plain], lr=0.05, weight_decay=decay)
    on_sizes = RelativeAdamW([{"params": [measured], "scales": [unit]}], lr=0.05, weight_decay=decay)
    for _ in range(30):
        for optimizer, value in ((on_shares, plain), (on_sizes, measured / unit)):
            optimizer.zero_grad()
            (value - wanted).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(measured / unit, plain, rtol=1e-3, atol=1e-3)
    assert (plain - start).abs().mean() > 0.5


def test_a_group_without_units_moves_as_in_adamw() -> None:
    start = torch.linspace(-1, 1, 6)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    torch_s, ours = torch.optim.AdamW([one], lr=0.1), RelativeAdamW([{"params": [other]}], lr=0.1)
    for optimizer, parameter in ((torch_s, one), (ours, other)):
        parameter.square().sum().backward()
        optimizer.step()
    assert torch.equal(one, other)


class Two(nn.Module):
    """A network of two products that shows what is between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 6, bias=False), nn.Linear(6, 4, bias=False)
        self.levels = LearnedStepQuantizer.of(AffineQuantizer(torch.tensor(0.1), torch.tensor(8), 4), batched=True)

    def forward_features(self, images: Tensor, tensors: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        between = self.levels(self.first(images.flatten(1)))
        return self.second(between), [between for _ in tensors]


def test_levels_are_a_group_of_their_own_and_only_measured_parameters_have_units() -> None:
    network = Two()
    scales = {network.first.weight: torch.tensor(2.0), network.levels.scale: torch.tensor(0.1)}
    groups = grouped(network, 0.5, scales)
    assert sum(len(group["params"]) for group in groups) == 3
    found = {id(p): group for group in groups for p in group["params"]}
    assert found[id(network.levels.scale)]["lr_multiplier"] == 0.5
    assert found[id(network.levels.scale)]["weight_decay"] == 0
    assert [float(unit) for unit in found[id(network.first.weight)]["scales"]] == [2.0]
    assert "scales" not in found[id(network.second.weight)]


def test_the_way_to_the_embeddings_counts_as_much_as_it_is_told_to() -> None:
    torch.manual_seed(0)
    student, teacher = Two(), Two()
    images, labels = torch.randn(5, 3, 2, 2), torch.zeros(5, dtype=torch.int64)
    plain = Distillation(student, teacher).loss(images, labels)
    held = Distillation(student, teacher, on_the_way=["between"], weight=3.0).loss(images, labels)
    expected = difference(
        student.forward_features(images, ["between"])[1], teacher.forward_features(images, ["between"])[1]
    )
    torch.testing.assert_close(held["difference"], expected.detach())
    torch.testing.assert_close(held["loss"], plain["loss"] + 3 * expected)
    assert "difference" not in plain


def test_differences_are_relative_to_what_is_wanted() -> None:
    wanted = [torch.tensor([3.0, -4.0]), torch.tensor([300.0, -400.0])]
    given = [1.1 * each for each in wanted]
    assert difference(given, wanted).item() == pytest.approx(0.01, rel=1e-4)
    assert difference([torch.zeros(2)], [torch.zeros(2)]).item() == 0
