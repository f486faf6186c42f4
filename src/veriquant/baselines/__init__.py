"""What recipes are compared with: one file a baseline; importing this package registers them."""

from veriquant.baselines import full_precision, tool_dynamic, tool_static
from veriquant.baselines.baseline import BASELINES, Baseline

__all__ = ["BASELINES", "Baseline", "full_precision", "tool_dynamic", "tool_static"]
