from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.training.class_sampling import ClassSampler
from veriquant.training.heads import HEADS, AdaFace, make_head

DIM, CLASSES, N = 6, 9, 32
MARGINS = ("arcface", "cosface", "adaface")


def batch(seed: int = 0, length: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = length * torch.randn(N, DIM, generator=generator, dtype=torch.float64)
    return embeddings, torch.randint(CLASSES, (N,), generator=generator)


def made(name: str, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(3)
    return make_head(name, DIM, CLASSES, **settings).double()


def reference(name: str, x: np.ndarray, w: np.ndarray, y: np.ndarray, s: float, m: float) -> float:
    """Return the loss by the formulas of the papers, one row after another."""
    norms = np.linalg.norm(x, axis=1)
    clipped = norms.clip(0.001, 100)
    mu = 0.99 * 20 + 0.01 * clipped.mean()
    sigma = 0.99 * 100 + 0.01 * clipped.std(ddof=1)
    losses = []
    for i, (row, own) in enumerate(zip(x, y, strict=True)):
        if name == "softmax":
            logits = w @ row
        else:
            angles = np.arccos((w / np.linalg.norm(w, axis=1, keepdims=True)) @ row / norms[i])
            logits = s * np.cos(angles)
            theta = angles[own]
            if name == "arcface":
                beyond = theta + m > np.pi
                logits[own] = s * (np.cos(theta) - m * np.sin(m) if beyond else np.cos(theta + m))
            elif name == "cosface":
                logits[own] = s * (np.cos(theta) - m)
            else:
                z = np.clip(0.333 * (clipped[i] - mu) / (sigma + 0.001), -1, 1)
                logits[own] = s * (np.cos(np.clip(theta - m * z, 0, np.pi)) - m - m * z)
        losses.append(np.logaddexp.reduce(logits) - logits[own])
    return float(np.mean(losses))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("length", [1.0, 30.0])
def test_loss_is_that_of_the_formulas(name: str, length: float) -> None:
    head = made(name)
    embeddings, labels = batch(length=length)
    expected = reference(
        name, embeddings.numpy(), head.weight.detach().numpy(), labels.numpy(), head.scale, head.margin
    )
    assert head(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


def test_periocular_margin_has_rows_on_both_sides_of_its_threshold() -> None:
    head = made("arcface", margin=1.0)
    embeddings, labels = batch()
    weight = head.weight.detach()
    cosine = torch.cosine_similarity(embeddings, weight[labels])
    beyond = torch.acos(cosine) + 1.0 > math.pi
    assert 0 < int(beyond.sum()) < N
    expected = reference("arcface", embeddings.numpy(), weight.numpy(), labels.numpy(), 64.0, 1.0)
    assert head(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, math.pi / 2])
def test_arcface_falls_with_the_angle_over_its_whole_range(margin: float) -> None:
    head = make_head("arcface", DIM, CLASSES, margin=margin).double()
    cosine = torch.cos(torch.linspace(1e-3, math.pi - 1e-3, 1001, dtype=torch.float64))
    logit = head.with_margin(cosine, torch.ones(1001))
    assert bool((logit.diff() < 0).all())


@pytest.mark.parametrize("name", HEADS)
def test_gradient_is_the_slope(name: str) -> None:
    head = made(name).eval()  # AdaFace's figures must stand still while differences are taken
    embeddings, labels = batch()
    weight = head.weight.detach().clone().requires_grad_()
    head.weight.requires_grad_(False)

    def loss(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(head, {"weight": w}, (x, labels))

    if name == "adaface":  # by design nothing flows back through the norm into the margin, so turn only
        direction = torch.nn.functional.normalize(embeddings)
        assert torch.autograd.gradcheck(lambda w: loss(direction, w), weight)
    else:
        assert torch.autograd.gradcheck(loss, (embeddings.requires_grad_(), weight))


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("margin", [None, 1.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_loss_and_gradient_are_finite_at_the_ends_of_the_arccosine(
    name: str, margin: float | None, sign: float
) -> None:
    head = make_head(name, DIM, CLASSES, margin=margin)
    labels = torch.arange(CLASSES)
    embeddings = (sign * head.weight.detach() * 100).requires_grad_()
    loss = head(embeddings, labels)
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(embeddings.grad.isfinite().all())
    assert bool(head.weight.grad.isfinite().all())


@pytest.mark.parametrize("name", HEADS)
def test_mixed_precision_does_not_touch_the_loss(name: str) -> None:
    embeddings, labels = batch(length=20.0)
    half = embeddings.to(torch.bfloat16)
    plain = made(name).float()(half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = made(name).float()(half, labels)
    assert mixed.dtype == torch.float32
    assert mixed.item() == plain.item()


@pytest.mark.parametrize("name", HEADS)
def test_all_classes_sampled_is_the_full_head(name: str) -> None:
    embeddings, labels = batch()
    full, sampled = made(name), made(name, sample=1.0)
    losses = [head(embeddings, labels) for head in (full, sampled)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == losses[1].item()
    assert torch.equal(full.weight.grad, sampled.weight.grad)


def test_sampled_loss_compares_with_the_classes_drawn_alone() -> None:
    head = make_head("cosface", DIM, 100, sample=0.4).double()
    embeddings, labels = batch()
    index, among = ClassSampler(100, 0.4)(labels)
    loss = head(embeddings, labels)
    loss.backward()
    weight = head.weight.detach().numpy()[index.numpy()]
    expected = reference("cosface", embeddings.numpy(), weight, among.numpy(), head.scale, head.margin)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    left_out = [i for i in range(100) if i not in index.tolist()]
    assert len(left_out) == 60
    assert not bool(head.weight.grad[left_out].any())
    assert bool(head.weight.grad[index].any(dim=1).all())


def test_drawn_classes_hold_the_labels_and_others_at_random() -> None:
    sampler = ClassSampler(1000, 0.1)
    labels = torch.tensor([999, 0, 500, 500])
    draws = [sampler(labels) for _ in range(200)]
    for index, among in draws:
        assert torch.equal(index[among], labels)
        assert torch.equal(index, index.unique())
        assert len(index) == 100
    often = torch.bincount(torch.cat([index for index, _ in draws]), minlength=1000)
    others = often[1:500]
    assert others.float().mean().item() == pytest.approx(200 * 97 / 997, rel=0.05)
    assert int(others.min()) > 0
    many = torch.arange(150)
    assert torch.equal(sampler(many)[0], many)


def test_draws_go_on_from_the_state_dict() -> None:
    labels = torch.tensor([1, 2])
    first = ClassSampler(100, 0.2)
    drawn = [first(labels)[0] for _ in range(3)]
    kept = first.state_dict()
    following = first(labels)[0]
    resumed = ClassSampler(100, 0.2)
    resumed.load_state_dict(kept)
    assert torch.equal(resumed(labels)[0], following)
    assert not torch.equal(drawn[0], following)


@pytest.mark.parametrize("name", HEADS)
def test_all_classes_take_part_outside_training(name: str) -> None:
    embeddings, labels = batch()
    assert made(name, sample=0.2).eval()(embeddings, labels).item() == made(name).eval()(embeddings, labels).item()


def test_adaface_follows_norms_only_in_training() -> None:
    head = AdaFace(DIM, CLASSES, 64.0, 0.4, None)
    embeddings, labels = batch(length=8.0)
    head.eval()(embeddings, labels)
    assert (head.mean.item(), head.deviation.item()) == (20.0, 100.0)
    head.train()
    for _ in range(1000):
        head(embeddings, labels)
    norms = embeddings.norm(dim=1)
    assert head.mean.item() == pytest.approx(norms.mean().item(), rel=1e-2)
    assert head.deviation.item() == pytest.approx(norms.std().item(), rel=1e-2)


def test_adaface_takes_a_batch_of_one() -> None:
    head = AdaFace(DIM, CLASSES, 64.0, 0.4, None)
    loss = head(torch.randn(1, DIM), torch.tensor([0]))
    assert math.isfinite(loss.item())
    assert head.deviation.item() == 100.0


def test_adaface_asks_more_of_good_images_near_the_boundary() -> None:
    """The paper's point: near θ = 90°, a long embedding's margin is larger than a short one's."""
    head = AdaFace(DIM, CLASSES, 64.0, 0.4, None).eval()
    head.mean.fill_(20.0)
    head.deviation.fill_(5.0)
    short, long = head.with_margin(torch.full((2,), 0.3), torch.tensor([5.0, 35.0]))
    assert long < short


@pytest.mark.parametrize("name", HEADS)
def test_labels_out_of_range_are_named(name: str) -> None:
    head = make_head(name, DIM, CLASSES)
    head.check(torch.tensor([0, CLASSES - 1]))
    for label in (CLASSES, -1):
        with pytest.raises(VeriQuantError, match=rf"label {label} is out of range: the head has {CLASSES} classes"):
            head.check(torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("arcfaces", {}, "did you mean 'arcface'"),
        ("arcface", {"margin": 2.0}, "margin is 2.0, expected 0 to 1.571"),
        ("arcface", {"margin": -0.1}, "margin is -0.1"),
        ("cosface", {"scale": 0.0}, "scale is 0.0, expected above 0"),
        ("cosface", {"margin": math.nan}, "margin is nan"),
        ("softmax", {"margin": 0.5}, "it has no margin"),
        ("softmax", {"scale": 64.0}, "it has no scale"),
        ("adaface", {"sample": 0.0}, "sample is 0.0, expected above 0, at most 1"),
        ("adaface", {"sample": 1.5}, "sample is 1.5"),
    ],
)
def test_wrong_settings_are_named(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(VeriQuantError, match=message):
        make_head(name, DIM, CLASSES, **settings)
