from __future__ import annotations

import pytest

from veriquant.allocation import CostBudget, TaskBudget, parse_budget, parse_metric
from veriquant.errors import VeriQuantError

BUDGETS = [
    ("bops=0.5", CostBudget("bops", 0.5, True), "bops=0.5"),
    ("bops <= 37.5%", CostBudget("bops", 0.375, True), "bops=0.375"),
    ("bytes=1200000", CostBudget("bytes", 1_200_000, False), "bytes=1200000"),
    ("bytes=1.2MB", CostBudget("bytes", 1_200_000, False), "bytes=1200000"),
    ("bytes=300 kB", CostBudget("bytes", 300_000, False), "bytes=300000"),
    ("bytes=1KiB", CostBudget("bytes", 1024, False), "bytes=1024"),
    ("bytes=2MiB", CostBudget("bytes", 2 * 1024**2, False), "bytes=2097152"),
    ("latency=6ms", CostBudget("latency", 6.0, False), "latency=6ms"),
    ("latency=0.25s", CostBudget("latency", 250.0, False), "latency=250ms"),
    ("latency=0.5x", CostBudget("latency", 0.5, True), "latency=0.5x"),
    ("latency=50%", CostBudget("latency", 0.5, True), "latency=0.5x"),
    ("accuracy>=0.99", TaskBudget("accuracy", ">=", 0.99, False), "accuracy>=0.99"),
    ("accuracy >= 97.5%", TaskBudget("accuracy", ">=", 0.975, False), "accuracy>=0.975"),
    ("eer<=0.01", TaskBudget("eer", "<=", 0.01, False), "eer<=0.01"),
    ("EER≤1%", TaskBudget("eer", "<=", 0.01, False), "eer<=0.01"),
    ("auc>=.999", TaskBudget("auc", ">=", 0.999, False), "auc>=0.999"),
    ("tar@far=1e-3>=0.975", TaskBudget("tar@far=1e-3", ">=", 0.975, False), "tar@far=1e-3>=0.975"),
    ("TAR@FAR=0.001>=97.5%", TaskBudget("tar@far=1e-3", ">=", 0.975, False), "tar@far=1e-3>=0.975"),
    ("tar@fmr=0.1%>=0.9", TaskBudget("tar@far=1e-3", ">=", 0.9, False), "tar@far=1e-3>=0.9"),
    ("fnmr@fmr=1e-4<=0.05", TaskBudget("fnmr@fmr=1e-4", "<=", 0.05, False), "fnmr@fmr=1e-4<=0.05"),
    ("mindcf<=0.2", TaskBudget("mindcf", "<=", 0.2, False), "mindcf<=0.2"),
    ("rank1>=0.9", TaskBudget("rank-1", ">=", 0.9, False), "rank-1>=0.9"),
    ("accuracy>=fp32-0.003", TaskBudget("accuracy", ">=", -0.003, True), "accuracy>=fp32-0.003"),
    ("accuracy >= FP32 − 0.3%", TaskBudget("accuracy", ">=", -0.003, True), "accuracy>=fp32-0.003"),
    ("accuracy>=fp32", TaskBudget("accuracy", ">=", 0.0, True), "accuracy>=fp32"),
    ("eer<=fp32+0.002", TaskBudget("eer", "<=", 0.002, True), "eer<=fp32+0.002"),
    ("tar@far=5e-4>=fp32-1e-5", TaskBudget("tar@far=5e-4", ">=", -1e-5, True), "tar@far=5e-4>=fp32-1e-05"),
]


@pytest.mark.parametrize(("text", "budget", "canonical"), BUDGETS)
def test_a_budget_is_read_and_its_canonical_form_reads_back(
    text: str, budget: CostBudget | TaskBudget, canonical: str
) -> None:
    assert parse_budget(text) == budget
    assert str(budget) == canonical
    assert parse_budget(canonical) == budget


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "cannot read budget"),
        ("0.5", "cannot read budget"),
        ("speed=0.5", "bops=0.5 .*bytes=1.2MB, latency=6ms .*tar@far=1e-3>=0.975, eer<=0.01, accuracy>=fp32-0.003"),
        ("accuracy=0.9", "cannot read budget"),
        ("accuracy>0.9", "cannot read budget"),
        ("bops=", "write bops=0.5"),
        ("bops=0", "more than 0"),
        ("bops=-1", "more than 0"),
        ("bops=nan", "write bops=0.5"),
        ("bops=1e999", "write bops=0.5"),
        ("bops>=0.5", "unknown metric 'bops'"),
        ("bytes=1.2XB", "write bytes=1200000 or bytes=1.2MB"),
        ("bytes=1ib", "write bytes=1200000"),
        ("latency=6", "write latency=6ms or latency=0.5x"),
        ("accuracy<=0.9", "better the greater; write accuracy>="),
        ("eer>=0.01", "better the smaller; write eer<="),
        ("acuracy>=0.9", "unknown metric 'acuracy'; there are: accuracy, auc"),
        ("tar>=0.9", "unknown metric 'tar'"),
        ("tar@far=2>=0.9", "any rate between 0 and 1"),
        ("tar@far=0>=0.9", "any rate between 0 and 1"),
        ("accuracy>=97.5", "write 0.975 or 97.5%"),
        ("accuracy>=", "expected a number or fp32"),
        ("accuracy>=fp32-", "expected a number or fp32"),
        ("accuracy>=fp320.5", "expected a number or fp32"),
        ("accuracy>=fp32+0.01", "more than full precision; .* accuracy>=fp32-0.003"),
        ("eer<=fp32-0.01", r"more than full precision; .* eer<=fp32\+0.003"),
        ("accuracy>=fp32-3", "fraction from 0 to 1"),
    ],
)
def test_what_cannot_be_read_is_answered_in_one_line_that_teaches(text: str, hint: str) -> None:
    with pytest.raises(VeriQuantError, match=hint) as error:
        parse_budget(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("accuracy", True),
        ("auc", True),
        ("tar@far=1e-3", True),
        ("rank-5", True),
        ("eer", False),
        ("mindcf", False),
        ("fnmr@fmr=1e-4", False),
    ],
)
def test_the_direction_of_a_metric(metric: str, higher: bool) -> None:
    assert parse_metric(metric) == metric
    budget = parse_budget(f"{metric}{'>=' if higher else '<='}0.5")
    assert isinstance(budget, TaskBudget)
    assert budget.higher_is_better is higher
    assert budget.met(0.6) is higher
    assert budget.met(0.4) is not higher
    assert budget.met(0.5)
    assert not budget.met(float("nan"))


def test_a_relative_target_needs_the_full_figure() -> None:
    drop, rise = parse_budget("accuracy>=fp32-0.003"), parse_budget("eer<=fp32+0.002")
    assert isinstance(drop, TaskBudget)
    assert isinstance(rise, TaskBudget)
    assert drop.target(0.99) == pytest.approx(0.987)
    assert rise.target(0.01) == pytest.approx(0.012)
    assert drop.met(0.988, 0.99)
    assert not drop.met(0.986, 0.99)
    with pytest.raises(ValueError, match="needs the full-precision figure"):
        drop.target()


def test_a_cost_at_its_limit_is_met_whatever_its_last_bit_says() -> None:
    budget = parse_budget("bops=0.3")
    assert isinstance(budget, CostBudget)
    assert budget.met(0.1 + 0.2)
    assert not budget.met(0.3001)
