"""Primitives: examples, totality, types; programs: text, values, length."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_core.config import workspace_folder
from jepa_hrl.dsl.library import FAMILIES, PRIMITIVES
from jepa_hrl.dsl.program import INPUT, Call, PrimitiveName, ProgramError, accepts, evaluate, explain, parse
from jepa_hrl.dsl.reference import render_reference
from jepa_hrl.dsl.types import Array, Kind, Object, Objects, Refusal, Value, fits, grid, text
from jepa_hrl.search.operators import Operators, build_operators

PLANES = {Kind.GRID: 9, Kind.MASK: 1, Kind.FIELD: 255}


def test_every_example_holds_and_every_primitive_has_one() -> None:
    names = {"grid": grid, "text": text, "np": np} | {name: one.apply for name, one in PRIMITIVES.items()}
    results = [doctest.testmod(family, extraglobs=names) for family in FAMILIES]
    assert sum(result.failed for result in results) == 0
    assert len(PRIMITIVES) >= 120
    for name, one in PRIMITIVES.items():
        lines = (one.apply.__doc__ or "").splitlines()
        assert any(f"{name}(" in line for line in lines if line.strip().startswith(">>>")), name


def check_value(kind: Kind, value: Value) -> None:
    """Fails unless a value is what its kind says."""
    if kind in PLANES:
        assert isinstance(value, np.ndarray)
        assert value.dtype == np.uint8
        assert value.ndim == 2
        assert fits(*value.shape)
        assert value.max() <= PLANES[kind]
    elif kind is Kind.OBJECT:
        assert isinstance(value, Object)
        check_value(Kind.GRID, value.cells)
        assert value.mask.shape == value.cells.shape
    elif kind is Kind.OBJECTS:
        assert isinstance(value, Objects)
        assert value.items
        for item in value.items:
            check_value(Kind.OBJECT, item)
    else:
        assert type(value) is int
        assert 0 <= value <= (9 if kind is Kind.COLOR else 900)


def grids() -> st.SearchStrategy[Array]:
    """Grids of any size, from nearly empty to full."""

    def build(height: int, width: int, colors: int, share: float, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, colors + 1, (height, width)) * (rng.random((height, width)) < share)
        value = cells.astype(np.uint8)
        value.flags.writeable = False  # so that a primitive that writes to its argument fails
        return value

    side = st.one_of(st.integers(1, 5), st.integers(1, 30))
    return st.builds(build, side, side, st.integers(1, 9), st.sampled_from([0.1, 0.4, 1.0]), st.integers(0, 2**31))


@pytest.fixture(scope="module")
def operators() -> Operators:
    return build_operators(range(1, 10), {})


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(value=grids(), seed=st.integers(0, 2**31))
def test_every_operator_gives_a_value_of_its_kind_or_a_refusal(operators: Operators, value: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool: dict[Kind, list[Value]] = {Kind.GRID: [value]}
    for _ in range(2):
        new: dict[Kind, list[Value]] = {}
        for kind, values in pool.items():
            for one in values:
                for operator in operators.unary[kind]:
                    result = operator.apply(one)
                    if not isinstance(result, Refusal):
                        check_value(operator.primitive.gives, result)
                        new.setdefault(operator.primitive.gives, []).append(result)
        pool = {
            kind: [values[i] for i in rng.permutation(len(values))[:4]] + pool.get(kind, [])[:1]
            for kind, values in new.items()
        }
    for (first, second), binary in operators.binary.items():
        for one in [v for kind, values in pool.items() if accepts(first, kind) for v in values[:3]]:
            for other in [v for kind, values in pool.items() if accepts(second, kind) for v in values[:3]]:
                for operator in binary:
                    result = operator.apply(one, other)
                    if not isinstance(result, Refusal):
                        check_value(operator.primitive.gives, result)


@given(value=grids())
@settings(max_examples=40, deadline=None)
def test_turns_form_the_group_of_the_square(value: Array) -> None:
    turn, flip, transpose = (PRIMITIVES[name].apply for name in ("rotate_90", "flip_horizontal", "transpose"))
    four = value
    for _ in range(4):
        four = turn(four)  # type: ignore[assignment]
    assert np.array_equal(four, value)
    assert np.array_equal(flip(flip(value)), value)  # type: ignore[arg-type]
    assert np.array_equal(transpose(value), flip(turn(value)))  # type: ignore[arg-type]


@given(value=grids())
@settings(max_examples=40, deadline=None)
def test_enlarged_and_mirrored_grids_contain_the_original(value: Array) -> None:
    if max(value.shape) <= 15:
        upscaled = PRIMITIVES["upscale_2"].apply(value)
        assert isinstance(upscaled, np.ndarray)
        assert np.array_equal(upscaled[::2, ::2], value)
        mirrored = PRIMITIVES["mirror_four"].apply(value)
        assert isinstance(mirrored, np.ndarray)
        assert np.array_equal(mirrored, mirrored[::-1, ::-1])


@given(value=grids())
@settings(max_examples=60, deadline=None)
def test_enclosed_cells_are_those_a_flood_from_the_border_does_not_reach(value: Array) -> None:
    reached = np.zeros(value.shape, dtype=bool)
    edge = np.ones(value.shape, dtype=bool)
    edge[1:-1, 1:-1] = False
    waiting = list(zip(*np.nonzero((value == 0) & edge), strict=True))
    while waiting:
        row, column = waiting.pop()
        if reached[row, column]:
            continue
        reached[row, column] = True
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= near[0] < value.shape[0] and 0 <= near[1] < value.shape[1]
            if inside and value[near] == 0 and not reached[near]:
                waiting.append(near)
    assert np.array_equal(PRIMITIVES["enclosed"].apply(value), ((value == 0) & ~reached).astype(np.uint8))


@given(value=grids())
@settings(max_examples=40, deadline=None)
def test_fallen_columns_hold_the_same_cells_at_the_bottom(value: Array) -> None:
    fallen = PRIMITIVES["fall_down"].apply(value)
    assert isinstance(fallen, np.ndarray)
    for before, after in zip(value.T, fallen.T, strict=True):
        cells = before[before != 0]
        assert np.array_equal(after, np.concatenate([np.zeros(len(before) - len(cells), dtype=np.uint8), cells]))


@pytest.mark.parametrize(
    "program",
    [
        "crop(pick_max(size, components(input)))",
        "recolor({1: 2, 3: 0}, flip_horizontal(input))",
        "repaint({(0, 1): 4}, input, enclosed(input))",
        "draw(each(flip_vertical, blobs(input)))",
        "bar(count(components(input)), 3)",
        "input",
    ],
)
def test_a_program_is_its_text_and_explains_itself(program: str) -> None:
    parsed = parse(program)
    assert str(parsed) == program
    assert hash(parse(program)) == hash(parsed)
    assert parse(program) == parsed
    sentence = explain(parsed)
    assert "he output is " in sentence
    assert sentence.endswith(".")
    assert "{" not in sentence
    assert "`" not in sentence


def test_a_program_costs_what_its_parts_cost() -> None:
    inner = Call("components", (INPUT,))
    program = Call("crop", (Call("pick_max", (PrimitiveName("size", Kind.MEASURE), inner)),))
    parts = ("crop", "pick_max", "size", "components")
    assert program.cost == sum(PRIMITIVES[name].cost for name in parts)
    assert program.size == 3
    assert text(evaluate(program, grid("110/002"))) == "11"  # type: ignore[arg-type]


def test_a_refusal_anywhere_is_the_programs_own() -> None:
    value = evaluate(parse("flip_horizontal(trim(input))"), grid("00/00"))
    assert isinstance(value, Refusal)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("foo(input)", "'foo' is not a primitive"),
        ("crop(input)", "needs Object"),
        ("trim(input, 2)", "takes 1 arguments; got 2"),
        ("fill_black(input, 11)", "11 is no Color"),
        ("recolor({1: 12}, input)", "a table holds"),
        ("recolor({(): 1}, input)", "a table holds"),
        ("((", "a program must be calls"),
        ("keep_max(trim, components(input))", "needs Measure"),
        ("trim(components(input))", "needs Grid; components gives Objects"),
        ("__import__('os')", "is not a primitive"),
        ("(" * 500 + "input" + ")" * 500, "a program must be calls"),
    ],
)
def test_what_is_no_program_is_refused_in_one_line(program: str, reason: str) -> None:
    with pytest.raises(ProgramError) as error:
        parse(program)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_the_reference_page_is_what_the_code_says() -> None:
    assert (workspace_folder() / "docs" / "dsl.md").read_text(encoding="utf-8") == render_reference()
