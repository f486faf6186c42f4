"""A network with quantizers in it: its graph, groups, plans, what they cost, and how to run it."""

from veriquant.simulation.cost import Costs
from veriquant.simulation.groups import Group
from veriquant.simulation.observe import observe
from veriquant.simulation.plan import Plan, load_plan
from veriquant.simulation.precision import FP32, Precision
from veriquant.simulation.quantizer_cache import QuantizerCache, check_plan
from veriquant.simulation.simulation import Simulation, simulate, simulate_graph
from veriquant.simulation.steps import QuantizationConfig
from veriquant.simulation.targets import TARGETS, KernelTable

__all__ = [
    "FP32",
    "TARGETS",
    "Costs",
    "Group",
    "KernelTable",
    "Plan",
    "Precision",
    "QuantizationConfig",
    "QuantizerCache",
    "Simulation",
    "check_plan",
    "load_plan",
    "observe",
    "simulate",
    "simulate_graph",
]
