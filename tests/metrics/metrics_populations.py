"""Small populations with person effects."""

from __future__ import annotations

import numpy as np

from veriquant.metrics import Protocol


def population(people: int, each: int, noise: float, seed: int, width: int = 32):
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(people), each)
    centres = rng.normal(size=(people, width))
    return (centres[persons] + noise * rng.normal(size=(len(persons), width))).astype(np.float32), persons


def listed(persons, genuine: int, impostors: int, seed: int, folds: bool = True) -> Protocol:
    """Draw genuine and impostor comparisons; ten folds, both kinds in each."""
    rng = np.random.default_rng(seed)
    one, other = np.triu_indices(len(persons), 1)
    same = persons[one] == persons[other]
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(same))[:genuine], rng.permutation(np.flatnonzero(~same))[:impostors]]
    )
    rng.shuffle(chosen)
    number = np.empty(len(chosen), dtype=np.int64)
    for kind in (True, False):
        places = np.flatnonzero(same[chosen] == kind)
        number[places] = np.arange(len(places)) % 10
    return Protocol(persons, one[chosen], other[chosen], same[chosen], number if folds else None)


def everyone(persons) -> Protocol:
    none = np.zeros(0, dtype=np.int64)
    return Protocol(persons, none, none, none.astype(bool), all_pairs=True)


def implied(persons) -> Protocol:
    """The same comparisons as `everyone`, listed."""
    one, other = np.triu_indices(len(persons), 1)
    return Protocol(persons, one, other, persons[one] == persons[other])


def exact_embeddings(n: int, seed: int, width: int = 64):
    """Sixteen entries of ±1 in each row: norms are 4 and every cosine an exact multiple of 1/16."""
    rng = np.random.default_rng(seed)
    result = np.zeros((n, width), dtype=np.float32)
    for row in result:
        row[rng.permutation(width)[:16]] = rng.choice([-1, 1], size=16)
    return result
