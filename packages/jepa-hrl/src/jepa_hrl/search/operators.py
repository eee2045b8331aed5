"""What the search may apply to a value: primitives with all arguments but their values filled in."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.primitive import Primitive
from jepa_hrl.dsl.program import Call, Expression, Literal, PrimitiveName, accepts, constant
from jepa_hrl.dsl.types import Kind, Objects, Refusal, Value

VALUES = (Kind.GRID, Kind.MASK, Kind.FIELD, Kind.OBJECT, Kind.OBJECTS, Kind.COLOR, Kind.INT)

# Passed to `each`; whatever keeps the size of what it is given.
_FUNCTIONS = ("flip_horizontal", "flip_vertical", "rotate_180", "rotate_90", "transpose", "fill_holes", "hollow",
              "with_mirrored_across", "with_mirrored_down", "exchange_two", "keep_most_frequent",
              "keep_least_frequent")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Operator:
    """A primitive as a function of one or two values.

    Attributes:
        fixed: the arguments that are no values, which come first or last as the primitive has them.
        cost: bits, those of the fixed arguments included.
        apply: of the values.
        color: that is filled in, if one is.
    """

    primitive: Primitive
    fixed: tuple[Expression, ...]
    fixed_first: bool
    cost: float
    apply: Callable[..., Value | Refusal]
    color: int | None = None

    size = 1

    @property
    def gives(self) -> Kind:
        """Of the result."""
        return self.primitive.gives

    def expression(self, *values: Expression) -> Call:
        """The program that applies it."""
        return Call(self.primitive.name, (*self.fixed, *values) if self.fixed_first else (*values, *self.fixed))


def _of_measure(primitive: Primitive, measure: PrimitiveName) -> Callable[..., Value | Refusal]:
    take, apply = PRIMITIVES[measure.name].apply, primitive.apply

    def numbers(objects: Objects) -> list[int]:
        if measure.name not in objects.measurements:
            objects.measurements[measure.name] = take(objects)  # type: ignore[assignment]
        return objects.measurements[measure.name]

    return lambda objects: apply(numbers, objects)


def _operators(
    primitive: Primitive, colors: Collection[int], bits: Mapping[str, float], names: Collection[str]
) -> list[tuple[Operator, tuple[Kind, ...]]]:
    """All ways to fill in what is no value, each with the kinds of the values left; none for what needs a table."""
    kinds, apply, own = primitive.takes, primitive.apply, bits[primitive.name]
    if primitive.gives is Kind.MEASURE or Kind.TABLE in kinds:
        return []
    if kinds[0] is Kind.MEASURE:
        measures = [PrimitiveName(name, Kind.MEASURE) for name in names if PRIMITIVES[name].gives is Kind.MEASURE]
        made = [Operator(primitive, (m,), True, own + bits[m.name], _of_measure(primitive, m)) for m in measures]
    elif kinds[0] is Kind.FUNCTION:
        functions = [PrimitiveName(name, Kind.FUNCTION) for name in _FUNCTIONS if name in names]
        made = [
            Operator(primitive, (f,), True, own + bits[f.name], _bound_first(apply, constant(f))) for f in functions
        ]
    else:
        found: list[tuple[Operator, tuple[Kind, ...]]] = [(Operator(primitive, (), True, own, apply), kinds)]
        if len(kinds) == 2 and kinds[1] is Kind.COLOR and kinds[0] is not Kind.INT:
            for c in (Literal(color, Kind.COLOR) for color in colors):
                bound = _bound_last(apply, c.value)
                found.append((Operator(primitive, (c,), False, own + c.cost, bound, c.value), kinds[:1]))
        return found
    return [(operator, kinds[1:]) for operator in made]


def _bound_first(apply: Callable[..., Value | Refusal], fixed: object) -> Callable[..., Value | Refusal]:
    return lambda value: apply(fixed, value)


def _bound_last(apply: Callable[..., Value | Refusal], fixed: object) -> Callable[..., Value | Refusal]:
    return lambda value: apply(value, fixed)


@dataclass(frozen=True)
class Operators:
    """What may be applied, cheapest first.

    Attributes:
        unary: by the kind of value.
        binary: by the kinds of both.
    """

    unary: Mapping[Kind, list[Operator]]
    binary: Mapping[tuple[Kind, Kind], list[Operator]]


# Written for one another or by the search itself, never applied to just any value.
_SPECIAL = ("on_black", "on_ground_of", "as_colors")


@lru_cache(maxsize=16)
def _standard(names: frozenset[str] | None) -> Operators:
    return build_operators(range(10), {}, names)


def standard_operators(colors: Collection[int], names: frozenset[str] | None = None) -> Operators:
    """Operators at their primitives' own costs; see `build_operators`."""
    whole = _standard(names)
    unary = {
        kind: [operator for operator in found if operator.color is None or operator.color in colors]
        for kind, found in whole.unary.items()
    }
    return Operators(unary, whole.binary)


def build_operators(
    colors: Collection[int], bits: Mapping[str, float], names: frozenset[str] | None = None
) -> Operators:
    """All operators for a task.

    Args:
        colors: those that the task shows.
        bits: cost of each primitive, by name; its own where it is not given.
        names: of the primitives that may be used; all by default.
    """
    unary: dict[Kind, list[Operator]] = {kind: [] for kind in VALUES}
    binary: dict[tuple[Kind, Kind], list[Operator]] = {}
    costs = {name: bits.get(name, primitive.cost) for name, primitive in PRIMITIVES.items()}
    known = [name for name in PRIMITIVES if name not in _SPECIAL and (names is None or name in names)]
    for name in known:
        for operator, kinds in _operators(PRIMITIVES[name], colors, costs, known):
            if len(kinds) == 2:
                binary.setdefault((kinds[0], kinds[1]), []).append(operator)
                continue
            for kind in VALUES:
                if accepts(kinds[0], kind):
                    unary[kind].append(operator)
    for found in (*unary.values(), *binary.values()):
        found.sort(key=lambda operator: operator.cost)
    return Operators(unary, binary)


def operator_of(name: str) -> Operator:
    """A primitive of values alone as an operator."""
    primitive = PRIMITIVES[name]
    return Operator(primitive, (), True, primitive.cost, primitive.apply)
