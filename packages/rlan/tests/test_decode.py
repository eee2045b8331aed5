import torch
from torch.nn import functional

from arc_core.tensors import OUTSIDE
from rlan.decode import decode, likeliest_sizes, lowest_entropy_step

GRIDS = [[[3, 3, 3, 1], [3, 2, 3, 3]], [[5]]]
SIZES = [[2, 4], [1, 1]]
EXTENT = torch.tensor([[5, 6], [3, 3]])
CELLS = torch.full((2, 6, 6), OUTSIDE, dtype=torch.uint8)
for row, ((height, width), grid) in enumerate(zip(SIZES, GRIDS, strict=True)):
    CELLS[row, :height, :width] = torch.tensor(grid)


def test_the_likeliest_rectangle_equals_trying_all() -> None:
    torch.manual_seed(0)
    inside, extent = torch.randn(20, 7, 7) * 2, torch.randint(1, 8, (20, 2))
    for row, (height, width) in enumerate(likeliest_sizes(inside, extent).tolist()):
        sizes = [(h, w) for h in range(1, int(extent[row, 0]) + 1) for w in range(1, int(extent[row, 1]) + 1)]
        assert (height, width) == max(sizes, key=lambda size: inside[row, : size[0], : size[1]].sum().item())


def test_certain_logits_decode_to_their_grid() -> None:
    for stablemax in (False, True):
        logits = functional.one_hot(CELLS.long(), 11).float() * 50
        answers = decode(logits, EXTENT, stablemax)
        assert answers.sizes.tolist() == SIZES
        assert [grid.tolist() for grid in answers.to_grids()] == GRIDS
        assert not answers.touches_edge.any()
        assert (answers.confidence > 0.8).all()


def test_the_step_of_lowest_entropy_within_the_answer_extent_is_taken() -> None:
    logits = torch.zeros(2, 3, 6, 6, 11)
    logits[0, 1, :5, :6, 2] = 9
    logits[1, 2, :3, :3, 4] = 5
    logits[1, 0, 3:, 3:, 4] = 50  # certain, but past the extent
    for stablemax in (False, True):
        best = lowest_entropy_step(logits, EXTENT, stablemax)
        assert torch.equal(best[0], logits[0, 1])
        assert torch.equal(best[1], logits[1, 2])


def test_one_hole_does_not_break_the_size() -> None:
    logits = functional.one_hot(CELLS.long(), 11).float() * 5
    logits[0, 1, 1] = 0
    logits[0, 1, 1, OUTSIDE] = 5
    assert decode(logits, EXTENT, False).sizes[0].tolist() == [2, 4]


def test_an_answer_that_reaches_the_edge_of_its_extent_is_marked() -> None:
    logits = torch.zeros(1, 30, 30, 11)
    logits[..., 4] = 9
    assert decode(logits, torch.tensor([[7, 9]]), False).touches_edge.all()
    assert not decode(logits, torch.tensor([[30, 30]]), False).touches_edge.any()
