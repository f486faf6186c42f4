"""Allocation: which quantizer group gets how many bits: the sensitivity list, and what is chosen from it."""

from veriquant.allocation.agreement import Additivity, Agreement, additivity, kendall_tau
from veriquant.allocation.budget import Budget, CostBudget, TaskBudget, parse_budget, parse_metric
from veriquant.allocation.front import FrontPoint, front, hull
from veriquant.allocation.greedy import GreedyPath, Step, greedy
from veriquant.allocation.integer_programme import Optimum, cheapest, least_noise
from veriquant.allocation.problem import Assignment, Option, Problem
from veriquant.allocation.problem_builder import build_problem
from veriquant.allocation.search import SEARCHES, Found, Search
from veriquant.allocation.sensitivity import Entry, SensitivityList, measure
from veriquant.allocation.uniform import Uniform, uniform

__all__ = [
    "SEARCHES",
    "Additivity",
    "Agreement",
    "Assignment",
    "Budget",
    "CostBudget",
    "Entry",
    "Found",
    "FrontPoint",
    "GreedyPath",
    "Optimum",
    "Option",
    "Problem",
    "Search",
    "SensitivityList",
    "Step",
    "TaskBudget",
    "Uniform",
    "additivity",
    "build_problem",
    "cheapest",
    "front",
    "greedy",
    "hull",
    "kendall_tau",
    "least_noise",
    "measure",
    "parse_budget",
    "parse_metric",
    "uniform",
]
