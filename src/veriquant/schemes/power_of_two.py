"""`power-of-two`: levels whose distance to zero halves from one to the next, so that products are shifts.

Liu et al., eq. 2: q in {0, ±2^−k, …, ±½, ±1}, Q = α·q. As printed it has one pair of levels too many for n bits: the
smallest is left out here, k = 2^(n−1) − 2. One bit is ±1. The scale α, one for each output channel, is that of least
squared error and is learned in training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.schemes.codebook import CodebookQuantizer
from veriquant.schemes.learned_codebook import learn_codebook_scale
from veriquant.schemes.quantizer import SCHEMES, Scheme
from veriquant.schemes.table_scale import fit_scale

#: Five bits have 15 powers below 1; more would be finer than float16 holds beside 1.
WIDTHS = range(1, 6)


def power_of_two_levels(bits: int) -> Tensor:
    """Return the levels, float32 (2**bits,), ascending; zero stands there twice, as in sign and magnitude.

    Raises `VeriQuantError` for a width outside 1 to 5.
    """
    if bits not in WIDTHS:
        raise VeriQuantError(f"power-of-two cannot have {bits} bits: choose {WIDTHS[0]} to {WIDTHS[-1]}")
    if bits == 1:
        return torch.tensor([-1.0, 1.0])
    powers = 2.0 ** -torch.arange(2 ** (bits - 1) - 1)
    return torch.cat([-powers, torch.zeros(2), powers]).sort().values


SCHEMES.add(
    "power-of-two",
    Scheme(
        "power-of-two",
        "levels 0, ±1, ±1/2, ±1/4, … times a scale per output channel; for weights of 1 to 5 bits",
        "Liu et al., equation 2",
        WIDTHS,
        lambda weight, bits, _ranges: CodebookQuantizer(
            power_of_two_levels(bits), fit_scale(weight, power_of_two_levels(bits)), bits, axis=0
        ),
        learn_weight=learn_codebook_scale,
        uses_ranges=False,
    ),
)
