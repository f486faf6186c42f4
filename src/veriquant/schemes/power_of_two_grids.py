"""Grids of their own for the weights of each width: whole numbers whose spacing is a power of two.

Beside `Codes` and `MixedLevels`, which say the same of tensors, this is the one place that knows the numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: The widths that a weight may have, the narrowest first, and for each the level of own code 0 in units of the spacing.
#: Two bits have no level at zero: −3/2, −1/2, 1/2 and 3/2 serve weights about zero better than −2, −1, 0 and 1 do.
LOWEST = {2: -1.5, 4: -8.0, 8: -128.0}

#: The spacings that there may be, as exponents of 2: every level is a whole number from −128 to 127.
EXPONENTS = {2: range(1, 7), 4: range(5), 8: range(1)}

#: The columns of a tensor of exponents: 8 bits need none, their spacing is 1.
COLUMNS = (2, 4)
#: Bits that an exponent is stored in: the largest needs 3, of which ONNX has no type.
EXPONENT_BITS = 4


def spacings(widths: Tensor, exponents: Tensor) -> Tensor:
    """Return the spacing of each weight's grid, float32, shaped as `widths` (uint8, output channels first).

    `exponents`: uint8, (channels, 2), log2 of the spacing for the weights of 2 and of 4 bits.
    """
    found = torch.ones(widths.shape, device=widths.device)
    powers = torch.exp2(exponents.float()).round_()
    for column, width in enumerate(COLUMNS):
        rows = powers[:, column].reshape(-1, *[1] * (widths.ndim - 1))
        found = torch.where(widths == width, rows, found)
    return found


def lowest(widths: Tensor) -> Tensor:
    """Return the level of each weight's own code 0 in units of its spacing, float32, shaped as `widths`."""
    found = torch.full(widths.shape, LOWEST[8], device=widths.device)
    for width in COLUMNS:
        found[widths == width] = LOWEST[width]
    return found
