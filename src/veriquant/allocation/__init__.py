"""Allocation: which quantizer group gets how many bits. Pure functions on a `Problem`."""

from veriquant.allocation.agreement import Additivity, Agreement, additivity, kendall_tau
from veriquant.allocation.budget import Budget, CostBudget, TaskBudget, parse_budget, parse_metric
from veriquant.allocation.front import FrontPoint, front, hull
from veriquant.allocation.optimum import Optimum, cheapest, least_noise
from veriquant.allocation.problem import Assignment, Option, Problem
from veriquant.allocation.search import SEARCHES, Found, Search
from veriquant.allocation.uniform import Uniform, uniform
from veriquant.allocation.walk import Step, Walk, walk

__all__ = [
    "SEARCHES",
    "Additivity",
    "Agreement",
    "Assignment",
    "Budget",
    "CostBudget",
    "Found",
    "FrontPoint",
    "Optimum",
    "Option",
    "Problem",
    "Search",
    "Step",
    "TaskBudget",
    "Uniform",
    "Walk",
    "additivity",
    "cheapest",
    "front",
    "hull",
    "kendall_tau",
    "least_noise",
    "parse_budget",
    "parse_metric",
    "uniform",
    "walk",
]
