"""What an allocation goes by: one file a sensitivity; importing this package registers them."""

from veriquant.allocation.sensitivities import fit, hessian, sqnr, task
from veriquant.allocation.sensitivities.base import SENSITIVITIES, Sensitivity

__all__ = ["SENSITIVITIES", "Sensitivity", "fit", "hessian", "sqnr", "task"]
