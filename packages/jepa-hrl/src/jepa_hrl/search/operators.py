"""Operators of the search: primitives whose measures, functions and colours are bound, as functions of values."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.primitive import Primitive
from jepa_hrl.dsl.program import Call, Expression, Literal, PrimitiveName, accepts, constant
from jepa_hrl.dsl.types import Kind, Objects, Refusal, Value

VALUE_KINDS = (Kind.GRID, Kind.MASK, Kind.FIELD, Kind.OBJECT, Kind.OBJECTS, Kind.COLOR, Kind.INT)

# The functions that the search passes to `each`, which keep the size of an object.
_FUNCTIONS = ("flip_horizontal", "flip_vertical", "rotate_180", "rotate_90", "transpose", "fill_holes", "hollow",
              "with_mirrored_across", "with_mirrored_down", "exchange_two", "keep_most_frequent",
              "keep_least_frequent")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Operator:
    """A primitive as a function of one or two values.

    Attributes:
        primitive: the primitive.
        bound: the arguments that are bound: a measure, a function or a colour; empty if there are none.
        bound_first: whether the bound arguments come before the values.
        cost: bits, those of the bound arguments included.
        apply: the function of the values.
        color: the colour that is bound, if one is.
    """

    primitive: Primitive
    bound: tuple[Expression, ...]
    bound_first: bool
    cost: float
    apply: Callable[..., Value | Refusal]
    color: int | None = None

    size = 1

    @property
    def gives(self) -> Kind:
        """The kind of the result."""
        return self.primitive.gives

    def expression(self, *values: Expression) -> Call:
        """Returns the program that applies the operator to other programs' values."""
        return Call(self.primitive.name, (*self.bound, *values) if self.bound_first else (*values, *self.bound))


def _bind_measure(primitive: Primitive, measure: PrimitiveName) -> Callable[..., Value | Refusal]:
    """Binds a primitive's measure, which is computed once for the same objects."""
    compute, apply = PRIMITIVES[measure.name].apply, primitive.apply

    def measure_once(objects: Objects) -> list[int]:
        if measure.name not in objects.measurements:
            objects.measurements[measure.name] = compute(objects)  # type: ignore[assignment]
        return objects.measurements[measure.name]

    return lambda objects: apply(measure_once, objects)


def _operators_of(
    primitive: Primitive, colors: Collection[int], bits: Mapping[str, float], names: Collection[str]
) -> list[tuple[Operator, tuple[Kind, ...]]]:
    """Returns a primitive's operators, each with the kinds of its values; none for a primitive that takes a table."""
    kinds, apply, own = primitive.takes, primitive.apply, bits[primitive.name]
    if primitive.gives is Kind.MEASURE or Kind.TABLE in kinds:
        return []
    if kinds[0] is Kind.MEASURE:
        measures = [PrimitiveName(name, Kind.MEASURE) for name in names if PRIMITIVES[name].gives is Kind.MEASURE]
        operators = [Operator(primitive, (m,), True, own + bits[m.name], _bind_measure(primitive, m)) for m in measures]
    elif kinds[0] is Kind.FUNCTION:
        functions = [PrimitiveName(name, Kind.FUNCTION) for name in _FUNCTIONS if name in names]
        operators = [
            Operator(primitive, (f,), True, own + bits[f.name], _bind_first(apply, constant(f))) for f in functions
        ]
    else:
        unbound_and_colored: list[tuple[Operator, tuple[Kind, ...]]] = [
            (Operator(primitive, (), True, own, apply), kinds)
        ]
        if len(kinds) == 2 and kinds[1] is Kind.COLOR and kinds[0] is not Kind.INT:
            for c in (Literal(color, Kind.COLOR) for color in colors):
                bound = _bind_last(apply, c.value)
                unbound_and_colored.append((Operator(primitive, (c,), False, own + c.cost, bound, c.value), kinds[:1]))
        return unbound_and_colored
    return [(operator, kinds[1:]) for operator in operators]


def _bind_first(apply: Callable[..., Value | Refusal], argument: object) -> Callable[..., Value | Refusal]:
    return lambda value: apply(argument, value)


def _bind_last(apply: Callable[..., Value | Refusal], argument: object) -> Callable[..., Value | Refusal]:
    return lambda value: apply(value, argument)


@dataclass(frozen=True)
class Operators:
    """The operators of a search, cheapest first.

    Attributes:
        unary: operators of one value, by the kind of the value.
        binary: operators of two values, by the kinds of both.
    """

    unary: Mapping[Kind, list[Operator]]
    binary: Mapping[tuple[Kind, Kind], list[Operator]]


# The search itself puts these at the start and the end of programs; it never applies them to just any value.
_SPECIAL = ("on_black", "on_ground_of", "as_colors")


@lru_cache(maxsize=16)
def _operators_of_all_colors(names: frozenset[str] | None) -> Operators:
    return build_operators(range(10), {}, names)


def standard_operators(colors: Collection[int], names: frozenset[str] | None = None) -> Operators:
    """Returns operators at their primitives' own costs, as `build_operators` does, from a cache."""
    cached = _operators_of_all_colors(names)
    unary = {
        kind: [operator for operator in operators if operator.color is None or operator.color in colors]
        for kind, operators in cached.unary.items()
    }
    return Operators(unary, cached.binary)


def build_operators(
    colors: Collection[int], bits: Mapping[str, float], names: frozenset[str] | None = None
) -> Operators:
    """Builds all operators for a task.

    Args:
        colors: the colours, other than black, that the task shows.
        bits: cost of each primitive by name; its own cost where it is not given.
        names: the primitives that may be used; all by default.
    """
    unary: dict[Kind, list[Operator]] = {kind: [] for kind in VALUE_KINDS}
    binary: dict[tuple[Kind, Kind], list[Operator]] = {}
    costs = {name: bits.get(name, primitive.cost) for name, primitive in PRIMITIVES.items()}
    allowed = [name for name in PRIMITIVES if name not in _SPECIAL and (names is None or name in names)]
    for name in allowed:
        for operator, kinds in _operators_of(PRIMITIVES[name], colors, costs, allowed):
            if len(kinds) == 2:
                binary.setdefault((kinds[0], kinds[1]), []).append(operator)
                continue
            for kind in VALUE_KINDS:
                if accepts(kinds[0], kind):
                    unary[kind].append(operator)
    for operators in (*unary.values(), *binary.values()):
        operators.sort(key=lambda operator: operator.cost)
    return Operators(unary, binary)


def operator_of(name: str) -> Operator:
    """Returns a primitive that takes only values as an operator."""
    primitive = PRIMITIVES[name]
    return Operator(primitive, (), True, primitive.cost, primitive.apply)
