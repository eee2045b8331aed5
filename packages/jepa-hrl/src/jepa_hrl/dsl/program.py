"""Programs: expression trees with a text form, a value for each grid, a description length and a sentence."""

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log2

from arc_core.errors import InputError
from arc_core.render import COLOR_NAMES
from jepa_hrl.dsl.library import PRIMITIVES
from jepa_hrl.dsl.primitive import Primitive
from jepa_hrl.dsl.types import Argument, Array, Kind, Refusal, Value

_COLOR_BITS = log2(10)
_INT_BITS = log2(900)


class ProgramError(InputError):
    """Signals that a text is not a program."""


@dataclass(frozen=True)
class Input:
    """The grid that a program is applied to."""

    kind = Kind.GRID
    cost = 0.0
    size = 0

    def __str__(self) -> str:
        return "input"


@dataclass(frozen=True)
class Literal:
    """A colour, 0..9, or a number, 0..900, written in a program."""

    value: int
    kind: Kind

    size = 0

    @property
    def cost(self) -> float:
        """Description length in bits."""
        return _COLOR_BITS if self.kind is Kind.COLOR else _INT_BITS

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class PrimitiveName:
    """A primitive that is passed by name to another one, as a measure or as a function from grid to grid."""

    name: str
    kind: Kind

    size = 0

    @property
    def cost(self) -> float:
        """Description length in bits."""
        return PRIMITIVES[self.name].cost

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TableLiteral:
    """A table that gives each combination of a cell's field values a colour, such as {1: 2} or {(3, 0): 4}.

    Attributes:
        entries: pairs of (one value 0..255 for each field) and a colour 0..9.
    """

    entries: tuple[tuple[tuple[int, ...], int], ...]

    kind = Kind.TABLE
    size = 0

    @cached_property
    def table(self) -> dict[tuple[int, ...], int]:
        """The entries as the mapping that primitives take."""
        return dict(self.entries)

    @property
    def cost(self) -> float:
        """Description length in bits; an entry that keeps the first field's value costs one bit."""
        return sum(1.0 if values[0] == color else _COLOR_BITS for values, color in self.entries)

    def __str__(self) -> str:
        shown = (f"{values[0] if len(values) == 1 else values}: {color}" for values, color in self.entries)
        return "{" + ", ".join(shown) + "}"


@dataclass(frozen=True)
class Call:
    """A primitive applied to arguments."""

    name: str
    arguments: "tuple[Expression, ...]"

    @property
    def primitive(self) -> Primitive:
        """The primitive that is applied."""
        return PRIMITIVES[self.name]

    @property
    def kind(self) -> Kind:
        """The kind of the result."""
        return self.primitive.gives

    @cached_property
    def cost(self) -> float:
        """Description length in bits."""
        return self.primitive.cost + sum(argument.cost for argument in self.arguments)

    @cached_property
    def size(self) -> int:
        """Number of primitives that are applied."""
        return 1 + sum(argument.size for argument in self.arguments)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"


Expression = Input | Literal | PrimitiveName | TableLiteral | Call

INPUT = Input()


def names_in(program: Expression) -> list[str]:
    """Returns the names of a program's primitives, each as often as the program uses it."""
    if isinstance(program, Call):
        return [program.name, *(name for argument in program.arguments for name in names_in(argument))]
    return [program.name] if isinstance(program, PrimitiveName) else []


ValueCache = dict[Expression, Value | Refusal]  # values of a program's parts for one input


def evaluate(program: Expression, grid: Array, cache: ValueCache | None = None) -> Value | Refusal:
    """Computes a program's value for an input.

    Args:
        program: the expression to evaluate.
        grid: (H, W) uint8, the input.
        cache: values of parts for this very input; read and filled, so that programs with common parts share them.
    Returns:
        The value, or the refusal of the first part that refuses.
    """
    return _evaluate_part(program, grid, {} if cache is None else cache)


def _evaluate_part(part: Expression, grid: Array, cache: ValueCache) -> Value | Refusal:
    if isinstance(part, Input):
        return grid
    if isinstance(part, Literal):
        return part.value
    assert isinstance(part, Call)
    result = cache.get(part)
    if result is None:
        arguments: list[Argument] = []
        for argument in part.arguments:
            if isinstance(argument, TableLiteral | PrimitiveName):
                arguments.append(constant(argument))
                continue
            value = _evaluate_part(argument, grid, cache)
            if isinstance(value, Refusal):
                cache[part] = value
                return value
            arguments.append(value)
        result = cache[part] = part.primitive.apply(*arguments)
    return result


def constant(
    part: "Literal | PrimitiveName | TableLiteral",
) -> int | Callable[..., object] | Mapping[tuple[int, ...], int]:
    """Returns the Python value of an argument that does not depend on the grid."""
    if isinstance(part, Literal):
        return part.value
    return part.table if isinstance(part, TableLiteral) else PRIMITIVES[part.name].apply


def explain(program: Expression) -> str:
    """Writes a program as a sentence; its parts get letters, so that no phrase is nested in another."""
    letters: dict[Expression, str] = {}
    lets: list[str] = []

    def phrase(part: Expression) -> str:
        return part.primitive.phrase.format(*map(name, part.arguments)) if isinstance(part, Call) else name(part)

    def name(part: Expression) -> str:
        if isinstance(part, Call):
            if part not in letters:
                meaning = phrase(part)
                letters[part] = _letter(len(letters))
                lets.append(f"{letters[part]} be {meaning}")
            return letters[part]
        return _short(part)

    output = phrase(program)
    return f"Let {'; let '.join(lets)}; the output is {output}." if lets else f"The output is {output}."


def _letter(index: int) -> str:
    """Returns A to Z, then A1 to Z1, and so on."""
    return chr(ord("A") + index % 26) + (str(index // 26) if index > 25 else "")


def _short(part: "Input | Literal | PrimitiveName | TableLiteral") -> str:
    """Names a part that is not a call."""
    if isinstance(part, Input):
        return "the input"
    if isinstance(part, PrimitiveName):
        phrase = PRIMITIVES[part.name].phrase
        return phrase.replace("{0}", "itself") if part.kind is Kind.FUNCTION else phrase
    if isinstance(part, TableLiteral):
        return ", ".join(f"{'+'.join(map(str, values))} to {color}" for values, color in part.entries) or "nothing"
    return f"{COLOR_NAMES[part.value]} ({part.value})" if part.kind is Kind.COLOR else str(part.value)


def parse(text: str) -> Expression:
    """Reads a program from its text form, the inverse of `str`.

    Raises:
        ProgramError: the text is not a program; the message says what is wrong and where.
    """
    try:
        with warnings.catch_warnings():  # Python warns of odd literals, which no program holds
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "nested too deeply or not text"
        raise ProgramError(f"a program must be calls like trim(input); got {text[:80]!a}: {reason}") from None
    return _parse_node(tree, Kind.GRID if isinstance(tree, ast.Name) else None)


def _parse_node(node: ast.expr, kind: Kind | None) -> Expression:
    """Converts a node of Python's syntax tree to an expression of a kind; None stands for any kind."""
    where = f"column {node.col_offset + 1}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        primitive = PRIMITIVES.get(node.func.id)
        if primitive is None:
            raise ProgramError(f"{where}: {node.func.id!a} is not a primitive; see docs/dsl.md for all of them")
        takes = primitive.takes
        if len(node.args) != len(takes):
            raise ProgramError(f"{where}: {primitive.name} takes {len(takes)} arguments; got {len(node.args)}")
        call = Call(primitive.name, tuple(map(_parse_node, node.args, takes)))
        if kind is not None and not accepts(kind, call.kind):
            raise ProgramError(f"{where}: needs {kind.value}; {call.name} gives {call.kind.value}")
        return call
    if isinstance(node, ast.Name):
        if node.id == "input" and kind is not None and accepts(kind, Kind.GRID):
            return INPUT
        named = PRIMITIVES.get(node.id)
        if kind is Kind.MEASURE and named is not None and named.gives is Kind.MEASURE:
            return PrimitiveName(node.id, kind)
        if kind is Kind.FUNCTION and named is not None and (named.takes, named.gives) == ((Kind.GRID,), Kind.GRID):
            return PrimitiveName(node.id, kind)
    if isinstance(node, ast.Constant) and type(node.value) is int and kind in (Kind.COLOR, Kind.INT):
        if not 0 <= node.value <= (9 if kind is Kind.COLOR else 900):
            raise ProgramError(f"{where}: {node.value} is no {kind.value}")
        return Literal(node.value, kind)
    if isinstance(node, ast.Dict) and kind is Kind.TABLE:
        return _parse_table(node, where)
    raise ProgramError(f"{where}: needs {kind.value if kind else 'a call'}; got {ast.unparse(node)[:40]!a}")


def _parse_table(node: ast.Dict, where: str) -> TableLiteral:
    try:
        table = ast.literal_eval(node)
        entries = tuple(((key,) if isinstance(key, int) else key, color) for key, color in table.items())
    except (ValueError, TypeError):
        entries = (((), -1),)
    for values, color in entries:
        numbers = (*values, color) if isinstance(values, tuple) else ("",)
        if not values or any(type(n) is not int or not 0 <= n <= 255 for n in numbers) or color > 9:
            raise ProgramError(f"{where}: a table holds values 0..255 and colours, as in {{1: 2, (3, 0): 4}}")
    return TableLiteral(entries)


def accepts(parameter: Kind, argument: Kind) -> bool:
    """Whether a parameter of one kind accepts an argument of another: Mask is a subtype of Grid, Grid of Field."""
    if parameter is Kind.FIELD:
        return argument in (Kind.FIELD, Kind.MASK, Kind.GRID)
    return parameter is argument or (parameter is Kind.GRID and argument is Kind.MASK)
