"""The language's primitives: `PRIMITIVES` holds all by name, in order of declaration."""

from jepa_hrl.dsl.primitive import collect_primitives
from jepa_hrl.dsl.primitives import (  # importing a family declares its primitives
    combining,
    counting,
    cropping,
    drawing,
    fields,
    filling,
    geometry,
    lines,
    measures,
    movement,
    objects,
    recolour,
    repair,
    selection,
    symmetry,
    tiling,
)

FAMILIES = (
    geometry, cropping, objects, measures, selection, drawing, recolour, movement, lines, filling, symmetry, tiling,
    combining, counting, repair, fields,
)  # fmt: skip

PRIMITIVES = collect_primitives()
