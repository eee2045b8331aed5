"""Objects and their tokens: extraction equals a flood fill, fields have their ranges, and changes act on tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from arc_core.augment import dihedral
from arc_core.grid import most_common_color
from arc_core.transfer import upload
from jepa_hrl.dsl.types import grid
from jepa_hrl.jepa.data.augment import Tokens, recolor, rotate, translate
from jepa_hrl.jepa.data.batches import DeviceTable
from jepa_hrl.jepa.data.token_table import table_of_grids
from jepa_hrl.jepa.model.packed_attention import make_sequences, plan_sequences
from jepa_hrl.objects.extraction import extract_objects
from jepa_hrl.objects.tokens import (
    AREA,
    BORDER,
    BOX,
    CENTER,
    COLORS,
    COUNT,
    GRID_FIELDS,
    GROUND,
    HOLES,
    MAX_OBJECTS,
    OBJECT_FIELDS,
    PALETTE,
    SHAPE,
    SIZE,
    SYMMETRY,
    tokenize,
)

GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 7]))
)
POSITION = [*range(BOX.start, BOX.stop), *range(CENTER.start, CENTER.stop), *range(BORDER.start, BORDER.stop)]


def flood(cells: np.ndarray, eight: bool, one_color: bool) -> set[frozenset[tuple[int, int]]]:
    """Returns the connected sets of cells by a plain flood fill."""
    ground = most_common_color(cells)
    waiting = {(int(r), int(c)) for r, c in np.argwhere(cells != ground)}
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a or b) and (eight or not (a and b))]
    objects = set()
    while waiting:
        stack, part = [waiting.pop()], set()
        while stack:
            row, column = stack.pop()
            part.add((row, column))
            for a, b in steps:
                near = (row + a, column + b)
                if near in waiting and (not one_color or cells[near] == cells[row, column]):
                    waiting.remove(near)
                    stack.append(near)
        objects.add(frozenset(part))
    return objects


@settings(max_examples=60, deadline=None)
@given(GRIDS, st.booleans(), st.booleans())
def test_objects_are_those_of_a_flood_fill(cells: np.ndarray, eight: bool, one_color: bool) -> None:
    extracted = extract_objects([cells], eight, one_color)
    corners = list(zip(extracted.tops.tolist(), extracted.lefts.tolist(), strict=True))
    parts = [
        frozenset((top + r, left + c) for r, c in np.argwhere(mask).tolist())
        for (top, left), mask in zip(corners, extracted.masks, strict=True)
    ]
    assert set(parts) == flood(cells, eight, one_color)
    assert len(set(parts)) == len(parts)
    assert corners == sorted(corners)
    for part, palette in zip(parts, extracted.palettes.tolist(), strict=True):
        assert palette == [sum(cells[cell] == color for cell in part) for color in range(10)]


def test_objects_of_many_colours_are_as_many_as_ndimage_labels() -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(np.array([0, 0, 0, 3, 4], dtype=np.uint8), (20, 17))
    for eight, structure in ((True, np.ones((3, 3))), (False, None)):
        extracted = extract_objects([cells], eight, one_color=False)
        assert len(extracted.masks) == ndimage.label(cells != 0, structure)[1]


@settings(max_examples=20, deadline=None)
@given(st.lists(GRIDS, min_size=1, max_size=40), st.booleans(), st.booleans())
def test_grids_together_have_the_tokens_that_each_has_alone(
    grids: list[np.ndarray], eight: bool, one_color: bool
) -> None:
    together = tokenize(grids, eight, one_color)
    alone = [tokenize([cells], eight, one_color) for cells in grids]
    np.testing.assert_array_equal(together.objects, np.concatenate([tokens.objects for tokens in alone]))
    np.testing.assert_array_equal(together.grids, np.concatenate([tokens.grids for tokens in alone]))
    assert together.counts.tolist() == [len(tokens.objects) for tokens in alone]


def test_a_ring_and_a_dot_have_the_tokens_computed_by_hand() -> None:
    tokens = tokenize([grid("22200/20200/22203/00000")])
    ring, dot = tokens.objects
    assert ring[COLORS].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(ring[BOX] * 30, [0, 0, 3, 3], atol=1e-5)
    np.testing.assert_allclose(ring[CENTER] * 30, [1.5, 1.5], atol=1e-5)
    assert ring[BORDER].tolist() == [1, 1, 0, 0]
    assert ring[AREA] * 30 == pytest.approx(8**0.5, rel=1e-5)
    assert ring[HOLES] == 0.25
    assert ring[SYMMETRY].tolist() == [1, 1, 1, 1]
    shape = ring[SHAPE].reshape(8, 8)
    assert shape[0, 0] == pytest.approx(1) and shape[3, 3] == pytest.approx(0)
    assert shape.mean() == pytest.approx(8 / 9)
    np.testing.assert_allclose(dot[BOX] * 30, [2, 4, 3, 5], atol=1e-5)
    assert dot[BORDER].tolist() == [0, 0, 0, 1]
    assert dot[SHAPE].min() == 1
    np.testing.assert_allclose(tokens.grids[0, SIZE] * 30, [4, 5], atol=1e-5)
    np.testing.assert_allclose(tokens.grids[0, PALETTE] * 20, [11, 0, 8, 1, 0, 0, 0, 0, 0, 0], atol=1e-5)
    assert tokens.grids[0, GROUND].argmax() == 0 and tokens.grids[0, GROUND].sum() == 1
    assert tokens.grids[0, COUNT] * 32 == 2


def test_the_ground_is_the_commonest_colour_and_black_can_be_an_object() -> None:
    tokens = tokenize([grid("5555/5005/5555")])
    assert len(tokens.objects) == 1
    assert tokens.objects[0, COLORS].argmax() == 0
    assert tokens.grids[0, GROUND].argmax() == 5


def test_of_more_than_32_objects_the_largest_are_kept_in_reading_order() -> None:
    cells = np.zeros((20, 20), dtype=np.uint8)
    cells[::3, ::3] = 1  # 49 single cells
    cells[18:20, 13:15] = 2
    tokens = tokenize([cells])
    assert len(tokens.objects) == MAX_OBJECTS
    assert tokens.grids[0, COUNT] == 1
    assert tokens.objects[:, 2].max() == 1
    corners = [tuple(row) for row in tokens.objects[:, BOX.start : BOX.start + 2].tolist()]
    assert corners == sorted(corners)


@settings(max_examples=60, deadline=None)
@given(GRIDS)
def test_every_field_lies_between_0_and_1(cells: np.ndarray) -> None:
    tokens = tokenize([cells])
    assert tokens.objects.shape[1] == OBJECT_FIELDS and tokens.grids.shape == (1, GRID_FIELDS)
    for values in (tokens.objects, tokens.grids):
        assert np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=0) <= 1 + 1e-6


def test_a_moved_object_changes_position_fields_alone_and_a_renamed_one_colour_fields_alone() -> None:
    before = grid("000000/022000/002000/000000/000000")
    after, renamed = np.roll(before, (1, 2), (0, 1)), np.where(before == 2, np.uint8(6), before)
    one, two, three = (tokenize([cells]).objects[0] for cells in (before, after, renamed))
    assert set(np.flatnonzero(one != two)) <= set(POSITION)
    assert (one != two).any()
    assert set(np.flatnonzero(one != three)) == {2, 6}


def batch(*grids: np.ndarray) -> Tokens:
    tokens = tokenize(grids)
    owners = np.repeat(np.arange(len(grids)), tokens.counts)
    arrays = (tokens.objects, owners, tokens.grids, *plan_sequences(tokens.counts))
    objects, device_owners, own_tokens, *layout = map(torch.from_numpy, arrays)
    return Tokens(objects, device_owners, own_tokens, make_sequences(tokens.counts, layout))


def assert_same_tokens(first: Tokens, second: Tokens) -> None:
    """Equal as bags of objects of each grid."""
    torch.testing.assert_close(first.grids, second.grids, atol=1e-6, rtol=0)
    rows = [
        sorted([owner, *(round(v, 4) + 0.0 for v in row)] for owner, row in zip(*part, strict=True))
        for part in ((tokens.owners.tolist(), tokens.objects.tolist()) for tokens in (first, second))
    ]
    assert rows[0] == rows[1]


def scattered(seed: int, height: int, width: int) -> np.ndarray:
    """Ground 0 well ahead of all else, so that no change makes a tie."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((height, width), dtype=np.uint8)
    for color in (1, 3, 8):
        top, left = int(rng.integers(height - 2)), int(rng.integers(width - 2))
        cells[top : top + int(rng.integers(1, 3)), left : left + int(rng.integers(1, 3))] = color
    return cells


def test_renamed_tokens_are_the_tokens_of_the_renamed_grids() -> None:
    grids = [scattered(seed, 9, 7) for seed in range(4)]
    rng = np.random.default_rng(1)
    names = np.stack([rng.permutation(10) for _ in grids])
    renamed = [own[cells].astype(np.uint8) for own, cells in zip(names, grids, strict=True)]
    assert_same_tokens(recolor(batch(*grids), torch.from_numpy(names)), batch(*renamed))


@pytest.mark.parametrize("element", range(8))
def test_turned_tokens_are_the_tokens_of_the_turned_grids(element: int) -> None:
    transpose, up_down, left_right = bool(element & 4), bool(element & 2), bool(element & 1)
    grids = [scattered(seed, 9, 6 + seed) for seed in range(4)]
    images = [cells.T if transpose else cells for cells in grids]
    images = [cells[::-1] if up_down else cells for cells in images]
    images = [np.ascontiguousarray(cells[:, ::-1] if left_right else cells) for cells in images]
    flags = [torch.full((4,), flag) for flag in (transpose, up_down, left_right)]
    assert_same_tokens(rotate(batch(*grids), *flags), batch(*images))
    if not transpose and up_down and left_right:  # the group's half turn
        assert np.array_equal(images[0], dihedral(dihedral(grids[0], 1), 1))


@pytest.mark.parametrize(("share", "corner"), [((0.0, 0.0), (0, 0)), ((1.0, 1.0), (5, 4)), ((0.5, 0.0), (2, 0))])
def test_moved_tokens_are_the_tokens_of_the_moved_grids(share: tuple[float, float], corner: tuple[int, int]) -> None:
    figure = grid("110/011")
    before, after = np.zeros((7, 7), dtype=np.uint8), np.zeros((7, 7), dtype=np.uint8)
    before[3:5, 2:5] = figure
    after[corner[0] : corner[0] + 2, corner[1] : corner[1] + 3] = figure
    assert_same_tokens(translate(batch(before), torch.tensor([share])), batch(after))


def test_a_grid_without_objects_can_be_moved_turned_and_hidden() -> None:
    tokens = batch(grid("00/00"), grid("01/00"))
    flag = torch.tensor([True, True])
    assert_same_tokens(translate(tokens, torch.zeros(2, 2)), batch(grid("00/00"), grid("10/00")))
    assert torch.isfinite(rotate(tokens, flag, flag, flag).objects).all()
    table = DeviceTable(table_of_grids([grid("00/00"), grid("01/00")], True, True, ""), torch.device("cpu"))
    plan = table.plan(np.arange(2)).select(np.zeros(1, dtype=bool))
    nothing = table.gather(plan, upload(plan.arrays(), table.device))
    assert not len(nothing.owners) and not len(nothing.objects) and len(nothing.grids) == 2
    assert torch.equal(nothing.grids, tokens.grids.half().float())
    for part in (recolor(nothing, torch.arange(10).repeat(2, 1)), translate(nothing, torch.ones(2, 2))):
        assert torch.equal(part.grids, nothing.grids)
