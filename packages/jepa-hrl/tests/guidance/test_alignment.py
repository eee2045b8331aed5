"""Alignments of an output with a value, against a count cell by cell."""

from itertools import product

import numpy as np

from arc_core.augment import dihedral
from jepa_hrl.dsl.types import Array
from jepa_hrl.guidance.alignment import NUM_ALIGNMENTS, OUTSIDE, OutputAligner


def random_grid(rng: np.random.Generator, height: int, width: int) -> Array:
    cells = rng.integers(1, 5, (height, width)) * (rng.random((height, width)) < 0.6)
    return np.asarray(cells, dtype=np.uint8)


def align_naively(output: Array, height: int, width: int) -> list[Array]:
    """Every alignment cell by cell."""
    planes = []
    for element in range(8):
        transformed = dihedral(output, element)
        tall, wide = transformed.shape
        shifts = [(y, x, 0, 0) for x, y in product((0, 1), repeat=2)]
        shifts += [(0, 0, 1, 0), (0, 0, -1, 0), (0, 0, 0, 1), (0, 0, 0, -1)]
        for low, right, down, across in shifts:
            plane = np.full((height, width), OUTSIDE, dtype=np.uint8)
            for row, column in product(range(tall), range(wide)):
                y, x = row + low * (height - tall), column + right * (width - wide)
                if 0 <= y < height and 0 <= x < width:
                    plane[(y + down) % height, (x + across) % width] = transformed[row, column]
            planes.append(plane)
    return planes


def test_alignments_agree_as_counted_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        sizes = rng.integers(1, 10, 4).tolist()
        output, value = random_grid(rng, *sizes[:2]), random_grid(rng, *sizes[2:])
        shares, planes = OutputAligner(output).agreement(value[None])
        assert shares.shape == (1, 3, NUM_ALIGNMENTS)
        expected = []
        naive = align_naively(output, *value.shape)
        for plane in naive:
            inside, equal = plane != OUTSIDE, plane == value
            colored_equal = (equal & (value != 0)).sum()
            expected.append((
                equal.sum() / inside.sum(), colored_equal / max((inside & (value != 0)).sum(), 1),
                colored_equal / max((inside & (plane != 0)).sum(), 1),
            ))  # fmt: skip
        assert np.allclose(shares[0].T, np.array(expected))
        assert np.array_equal(planes[0], naive[int(shares[0, 0].argmax())])


def test_an_output_agrees_wholly_with_its_own_image_under_that_element_of_d4_alone() -> None:
    output = random_grid(np.random.default_rng(2), 6, 6)
    aligner = OutputAligner(output)
    for element in range(8):
        image = dihedral(output, element)
        shares, planes = aligner.agreement(image[None])
        whole = (shares[0, 0] == 1).reshape(8, 8)  # by element, then the four corners and the four shifts
        assert np.array_equal(planes[0], image)
        assert np.flatnonzero(whole.any(axis=1)).tolist() == [element]
        assert whole[element].tolist() == [True] * 4 + [False] * 4  # corners coincide where sizes are equal
