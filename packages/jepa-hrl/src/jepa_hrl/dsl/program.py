"""Programs: expression trees with a text form, a value for each grid, a length in bits and a sentence."""

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
    """A text is not a program."""


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
    """A colour or a number."""

    value: int
    kind: Kind

    size = 0

    @property
    def cost(self) -> float:
        """Bits."""
        return _COLOR_BITS if self.kind is Kind.COLOR else _INT_BITS

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Named:
    """A primitive passed to another: a measure or a function."""

    name: str
    kind: Kind

    size = 0

    @property
    def cost(self) -> float:
        """Bits."""
        return PRIMITIVES[self.name].cost

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Renaming:
    """A table from cell values to colours; values of a single field stand for themselves."""

    entries: tuple[tuple[tuple[int, ...], int], ...]

    kind = Kind.TABLE
    size = 0

    @cached_property
    def table(self) -> dict[tuple[int, ...], int]:
        """As primitives take it."""
        return dict(self.entries)

    @property
    def cost(self) -> float:
        """Bits: an entry that keeps the first field's value says little."""
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
        """What is applied."""
        return PRIMITIVES[self.name]

    @property
    def kind(self) -> Kind:
        """Of the result."""
        return self.primitive.gives

    @cached_property
    def cost(self) -> float:
        """Description length in bits."""
        return self.primitive.cost + sum(argument.cost for argument in self.arguments)

    @cached_property
    def size(self) -> int:
        """Number of primitives applied."""
        return 1 + sum(argument.size for argument in self.arguments)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"


Expression = Input | Literal | Named | Renaming | Call

INPUT = Input()


def names_in(program: Expression) -> list[str]:
    """The primitives of a program, each as often as it stands there."""
    if isinstance(program, Call):
        return [program.name, *(name for argument in program.arguments for name in names_in(argument))]
    return [program.name] if isinstance(program, Named) else []


Known = dict[Expression, Value | Refusal]


def evaluate(program: Expression, grid: Array, known: Known | None = None) -> Value | Refusal:
    """The program's value for an input.

    Args:
        known: values of parts for this input, to be used and added to by programs that share parts.
    """
    return _value(program, grid, {} if known is None else known)


def _value(part: Expression, grid: Array, known: Known) -> Value | Refusal:
    if isinstance(part, Input):
        return grid
    if isinstance(part, Literal):
        return part.value
    assert isinstance(part, Call)
    found = known.get(part)
    if found is None:
        arguments: list[Argument] = []
        for argument in part.arguments:
            if isinstance(argument, Renaming | Named):
                arguments.append(constant(argument))
                continue
            value = _value(argument, grid, known)
            if isinstance(value, Refusal):
                known[part] = value
                return value
            arguments.append(value)
        found = known[part] = part.primitive.apply(*arguments)
    return found


def constant(part: "Literal | Named | Renaming") -> int | Callable[..., object] | Mapping[tuple[int, ...], int]:
    """What a primitive gets for an argument that depends on no grid."""
    if isinstance(part, Literal):
        return part.value
    return part.table if isinstance(part, Renaming) else PRIMITIVES[part.name].apply


def explain(program: Expression) -> str:
    """A sentence that says what the output is; what it is made of gets letters, so that no phrase nests in another."""
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


def _letter(number: int) -> str:
    return chr(ord("A") + number % 26) + (str(number // 26) if number > 25 else "")


def _short(part: "Input | Literal | Named | Renaming") -> str:
    if isinstance(part, Input):
        return "the input"
    if isinstance(part, Named):
        phrase = PRIMITIVES[part.name].phrase
        return phrase.replace("{0}", "itself") if part.kind is Kind.FUNCTION else phrase
    if isinstance(part, Renaming):
        return ", ".join(f"{'+'.join(map(str, values))} to {color}" for values, color in part.entries) or "nothing"
    return f"{COLOR_NAMES[part.value]} ({part.value})" if part.kind is Kind.COLOR else str(part.value)


def parse(text: str) -> Expression:
    """The program that `str` wrote.

    Raises:
        ProgramError: the text is not one; says what is wrong and where.
    """
    try:
        with warnings.catch_warnings():  # of odd Python, which no program is
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "nested too deeply or not text"
        raise ProgramError(f"a program must be calls like trim(input); got {text[:80]!a}: {reason}") from None
    return _parsed(tree, Kind.GRID if isinstance(tree, ast.Name) else None)


def _parsed(node: ast.expr, kind: Kind | None) -> Expression:
    where = f"column {node.col_offset + 1}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        found = PRIMITIVES.get(node.func.id)
        if found is None:
            raise ProgramError(f"{where}: {node.func.id!a} is not a primitive; see docs/dsl.md for all of them")
        if len(node.args) != len(found.takes):
            raise ProgramError(f"{where}: {found.name} takes {len(found.takes)} arguments; got {len(node.args)}")
        call = Call(found.name, tuple(map(_parsed, node.args, found.takes)))
        if kind is not None and not accepts(kind, call.kind):
            raise ProgramError(f"{where}: needs {kind.value}; {call.name} gives {call.kind.value}")
        return call
    if isinstance(node, ast.Name):
        if node.id == "input" and kind is not None and accepts(kind, Kind.GRID):
            return INPUT
        named = PRIMITIVES.get(node.id)
        if kind is Kind.MEASURE and named is not None and named.gives is Kind.MEASURE:
            return Named(node.id, kind)
        if kind is Kind.FUNCTION and named is not None and (named.takes, named.gives) == ((Kind.GRID,), Kind.GRID):
            return Named(node.id, kind)
    if isinstance(node, ast.Constant) and type(node.value) is int and kind in (Kind.COLOR, Kind.INT):
        if not 0 <= node.value <= (9 if kind is Kind.COLOR else 900):
            raise ProgramError(f"{where}: {node.value} is no {kind.value}")
        return Literal(node.value, kind)
    if isinstance(node, ast.Dict) and kind is Kind.TABLE:
        return _parsed_table(node, where)
    raise ProgramError(f"{where}: needs {kind.value if kind else 'a call'}; got {ast.unparse(node)[:40]!a}")


def _parsed_table(node: ast.Dict, where: str) -> Renaming:
    try:
        table = ast.literal_eval(node)
        entries = tuple(((key,) if isinstance(key, int) else key, color) for key, color in table.items())
    except (ValueError, TypeError):
        entries = (((), -1),)
    for values, color in entries:
        numbers = (*values, color) if isinstance(values, tuple) else ("",)
        if not values or any(type(n) is not int or not 0 <= n <= 255 for n in numbers) or color > 9:
            raise ProgramError(f"{where}: a table holds values 0..255 and colours, as in {{1: 2, (3, 0): 4}}")
    return Renaming(entries)


def accepts(wanted: Kind, given: Kind) -> bool:
    """Whether a value of one kind may stand for another: masks and grids are fields too, and masks grids."""
    if wanted is Kind.FIELD:
        return given in (Kind.FIELD, Kind.MASK, Kind.GRID)
    return wanted is given or (wanted is Kind.GRID and given is Kind.MASK)
