"""The Pareto front: which vectors no other vector is as good as in every coordinate."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

_STAIRCASE_DIMENSIONS = 3


def front(vectors: Sequence[tuple[float, ...]]) -> list[int | None]:
    """Returns for each vector the index of one that beats it, or None where it is on the front.

    Smaller is better in every coordinate. A vector is beaten by another that is nowhere worse;
    of equal vectors the first in the sequence is on the front and beats the others.

    For up to three coordinates it takes O(n log n) comparisons (Kung, Luccio and Preparata 1975,
    "On finding the maxima of a set of vectors"), beyond that O(n f) with f vectors on the front.

    Args:
        vectors: Finite, all of one length, at least 1.
    """
    # In lexicographic order a vector can only be beaten by one that stands before it.
    order = sorted(range(len(vectors)), key=lambda index: (vectors[index], index))
    flat = not vectors or len(vectors[0]) <= _STAIRCASE_DIMENSIONS
    return _by_staircase(vectors, order) if flat else _by_comparison(vectors, order)


def _by_staircase(vectors: Sequence[tuple[float, ...]], order: list[int]) -> list[int | None]:
    beaten: list[int | None] = [None] * len(vectors)
    # The front so far in the last two coordinates: ys rise, zs fall, so the step at or left of a
    # y holds the lowest z that goes with it.
    ys: list[float] = []
    zs: list[float] = []
    holders: list[int] = []
    for index in order:
        y, z = (*vectors[index][1:], 0.0, 0.0)[:2]
        place = bisect.bisect_right(ys, y)
        if place and zs[place - 1] <= z:
            beaten[index] = holders[place - 1]
            continue
        first = bisect.bisect_left(ys, y)
        last = first
        while last < len(zs) and zs[last] >= z:
            last += 1
        ys[first:last] = [y]
        zs[first:last] = [z]
        holders[first:last] = [index]
    return beaten


def _by_comparison(vectors: Sequence[tuple[float, ...]], order: list[int]) -> list[int | None]:
    beaten: list[int | None] = [None] * len(vectors)
    best: list[int] = []
    for index in order:
        mine = vectors[index]
        for other in best:
            if all(theirs <= value for theirs, value in zip(vectors[other], mine, strict=True)):
                beaten[index] = other
                break
        else:
            best.append(index)
    return beaten
