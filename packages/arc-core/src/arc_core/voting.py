"""Voting over views of a task: each view is answered alone, and the answers are mapped back and counted.

Source: TRM-style evaluation, 8 dihedral x 4 colour permutations.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from arc_core.augment import NUM_DIHEDRAL, View, random_color_tables
from arc_core.grid import Grid, grid_hash
from arc_core.randomness import generator_for
from arc_core.solver import Candidate


def voting_views(dihedral_views: int = 8, color_views: int = 4, seed: int = 0) -> list[View]:
    """Returns distinct views, the identity first: all combinations of dihedral elements and colour permutations.

    Args:
        dihedral_views: number of dihedral elements, 1..8, taken in the order of their indices.
        color_views: number of colour permutations, 1 or more: the identity, then random ones that keep colour 0.
        seed: seed of the random permutations.
    Raises:
        ValueError: a number is out of range.
    """
    if not 1 <= dihedral_views <= NUM_DIHEDRAL or color_views < 1:
        raise ValueError(f"views must be 1..8 turns x 1 or more colourings; got {dihedral_views} x {color_views}")
    identity = View().colors
    tables = [identity]
    rng = generator_for(seed, "voting colours", 0)
    while len(tables) < color_views:
        table = tuple(random_color_tables(rng, 1)[0].tolist())
        if table not in tables:
            tables.append(table)
    return [View(element, table) for table in tables for element in range(dihedral_views)]


def vote(answers: Iterable[tuple[View, Grid, float]], limit: int) -> tuple[Candidate, ...]:
    """Maps answers back to the task's own view and ranks them by votes, then mean confidence, then order of arrival.

    Args:
        answers: the view, the answer in that view, and its confidence, 0..1.
        limit: maximum number of candidates to return.
    """
    grids: dict[str, Grid] = {}
    confidences: dict[str, list[float]] = defaultdict(list)
    for view, grid, confidence in answers:
        original = view.inverse().apply(grid)
        key = grid_hash(original)
        grids.setdefault(key, original)
        confidences[key].append(confidence)
    candidates = [Candidate(grids[key], len(values), float(np.mean(values))) for key, values in confidences.items()]
    candidates.sort(key=lambda candidate: (-candidate.votes, -candidate.confidence))
    return tuple(candidates[:limit])
