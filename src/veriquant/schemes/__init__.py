"""How one tensor is quantized: levels, range rules and codes; importing this package registers the schemes."""

from veriquant.schemes.affine import AffineQuantizer
from veriquant.schemes.codebook import CodebookQuantizer
from veriquant.schemes.codes import Codes
from veriquant.schemes.dorefa import DorefaQuantizer
from veriquant.schemes.histogram import BINS, Histogram
from veriquant.schemes.kmeans import fit_codebook
from veriquant.schemes.learned_codebook import LearnedCodebookQuantizer
from veriquant.schemes.learned_step import LearnedStepQuantizer
from veriquant.schemes.midrise import LearnedMidriseQuantizer, MidriseQuantizer, fit_midrise
from veriquant.schemes.mixed_step import MixedStepQuantizer
from veriquant.schemes.pact import PactQuantizer
from veriquant.schemes.power_of_two import power_of_two_levels
from veriquant.schemes.quantizer import SCHEMES, LearnableWeight, Quantizer, Scheme, WidthPerWeightQuantizer
from veriquant.schemes.ranges import RULES, RangeRule, activation_range, weight_range

__all__ = [
    "BINS",
    "RULES",
    "SCHEMES",
    "AffineQuantizer",
    "CodebookQuantizer",
    "Codes",
    "DorefaQuantizer",
    "Histogram",
    "LearnableWeight",
    "LearnedCodebookQuantizer",
    "LearnedMidriseQuantizer",
    "LearnedStepQuantizer",
    "MidriseQuantizer",
    "MixedStepQuantizer",
    "PactQuantizer",
    "Quantizer",
    "RangeRule",
    "Scheme",
    "WidthPerWeightQuantizer",
    "activation_range",
    "fit_codebook",
    "fit_midrise",
    "power_of_two_levels",
    "weight_range",
]
