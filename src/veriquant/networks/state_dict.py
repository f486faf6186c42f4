"""A state dict, found wherever a training script filed it: under whatever key and prefix, beside whatever head.

A checkpoint is looked at as one flat list of tensors, each under its whole path (``state_dict.model.conv1.weight``).
The weights of a network are where, under one prefix, most of its names are. So nothing has to be known of wrappers
(``net_state_dict``, ``state_dict_backbone``), of prefixes (``module.``, ``backbone.``, Lightning's ``model.``) or of
how they are nested. What `torch.compile` and sharding put *between* names is taken out first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

COUNTER = "num_batches_tracked"
#: Deeper than this nobody files weights; a file whose containers hold themselves ends here too.
_DEPTH = 12
_BETWEEN = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_flax_model)\.")
_HEAD = re.compile(
    r"head|classif|logits|softmax|margin|arc|cosface|sphere|adaface|magface|curricular|product|metric|kernel|loss|criteri"
    r"|proxy|proxies|cent(?:er|re)s|projector|predictor|queue|^fc$|^weight$|^aux",
    re.IGNORECASE,
)
#: Of two sets of weights under one roof, a running average or a teacher is the second choice.
_SECOND = re.compile(r"(?<![a-z])(?:ema|average|swa|teacher|momentum|target|encoder_k|shadow|old)", re.IGNORECASE)


@dataclass(frozen=True)
class Located:
    """The tensors of one network in a checkpoint: those under `prefix`, by the network's own names."""

    prefix: str
    tensors: dict[str, Tensor]
    beside: tuple[str, ...]
    """Names of all other tensors, whole."""
    also: tuple[str, ...]
    """Other prefixes under which as many of the network's names stand."""
    found: int
    """How many of the network's names are there."""
    unwrapped: bool
    """Whether wrappers were taken out of the middle of names."""


def flattened(content: object) -> dict[str, Tensor]:
    """Return every tensor in nested containers by its path, the steps joined by dots.

    A pickled module that was read as a placeholder counts as its parameters, buffers and modules.
    """
    return dict(_walk(content, "", _DEPTH, set()))


def locate(tensors: Mapping[str, Tensor], names: Collection[str]) -> Located:
    """Find the network whose tensors are called `names` (counters left out) in a flat checkpoint."""
    plain = {_BETWEEN.sub("", name): tensor for name, tensor in tensors.items()}
    wanted = set(names)
    endings = {name.rpartition(".")[2] for name in wanted}
    hits: Counter[str] = Counter()
    for name in plain:
        if name.rpartition(".")[2] in endings:
            hits.update(name[:at] for at in _cuts(name) if name[at:] in wanted)
    best = max(hits.values(), default=0)
    even = [prefix for prefix, count in hits.items() if count == best]
    if 2 * best < len(wanted):  # another network's: what stands under a prefix by chance tells nothing
        best, even = 0, [""]
    prefix = min(even, key=lambda each: (bool(_SECOND.search(each)), even.index(each)))
    return Located(
        prefix=prefix,
        tensors={name[len(prefix) :]: tensor for name, tensor in plain.items() if name.startswith(prefix)},
        beside=tuple(name for name in plain if not name.startswith(prefix)),
        also=tuple(each for each in even if each != prefix),
        found=best,
        unwrapped=any(name not in tensors for name in plain),
    )


def heads(surplus: Mapping[str, tuple[int, ...]], names: Collection[str], embedding: int) -> list[str]:
    """Return which of a network's surplus tensors only training used: a classifier over its embeddings.

    Such a head stands beside the network, not in one of its own modules, and is called like one, or is a matrix with
    rows or columns of an embedding's length (and a bias). Anything else may be a part that the family does not know.
    """
    own = {name.partition(".")[0] for name in names}
    groups: dict[str, list[str]] = {}
    for name in surplus:
        groups.setdefault(name.partition(".")[0], []).append(name)
    return [
        name
        for top, members in groups.items()
        if top not in own and (_HEAD.search(top) or _is_classifier([surplus[name] for name in members], embedding))
        for name in members
    ]


def groups_beside(located: Located) -> str:
    """Return what else a checkpoint holds, by what each is filed under, with the number of tensors."""
    own = located.prefix.split(".")
    counts: Counter[str] = Counter()
    for name in located.beside:
        steps = name.split(".")
        common = next((i for i, (a, b) in enumerate(zip(own, steps, strict=False)) if a != b), len(own))
        counts[".".join(steps[: common + 1])] += 1
    some = [
        f"{group} ({count} tensors)" if count > 1 else next(name for name in located.beside if name.startswith(group))
        for group, count in counts.most_common(4)
    ]
    return ", ".join(some) + (", …" if len(counts) > 4 else "")


def _is_classifier(shapes: list[tuple[int, ...]], embedding: int) -> bool:
    matrices = [shape for shape in shapes if len(shape) == 2]
    if len(matrices) != 1 or embedding not in matrices[0] or len(set(matrices[0])) == 1:
        return False
    return all(len(shape) < 2 and (not shape or shape[0] in (1, *matrices[0])) for shape in shapes if len(shape) != 2)


def _cuts(name: str) -> Iterator[int]:
    """Yield where a prefix may end: at the start, and behind every dot, slash or underscore."""
    yield 0
    for at, character in enumerate(name, 1):
        if character in "./_":
            yield at


def _walk(content: object, path: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    import torch

    if isinstance(content, torch.Tensor):
        yield path or "tensor", content
        return
    if depth == 0 or id(content) in seen:  # each container once, however often the file refers to it
        return
    seen.add(id(content))
    steps: list[tuple[object, object]] = []
    if isinstance(content, Mapping):
        steps = list(content.items())
        inside = vars(content) if hasattr(content, "__dict__") else {}
        for kind in ("_parameters", "_buffers", "_modules"):
            if isinstance(part := inside.get(kind), Mapping):
                steps += part.items()
    elif isinstance(content, list | tuple):
        steps = list(enumerate(content))
    for step, inner in steps:
        yield from _walk(inner, f"{path}.{step}" if path else str(step), depth - 1, seen)
