"""Ways to give quantizer groups their widths: one file each; importing this package registers them."""

from veriquant.allocation.solver import SOLVERS
from veriquant.allocation.solvers import best, fixed, greedy, ilp, islands, magnitude, plan

__all__ = ["SOLVERS", "best", "fixed", "greedy", "ilp", "islands", "magnitude", "plan"]
