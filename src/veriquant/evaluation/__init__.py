"""Where an Embedder meets a Benchmark."""

from veriquant.evaluation.embedding import BATCH, Embedded, embed
from veriquant.evaluation.evaluate import assess, compare, evaluate, options_for, protocol_of

__all__ = ["BATCH", "Embedded", "assess", "compare", "embed", "evaluate", "options_for", "protocol_of"]
