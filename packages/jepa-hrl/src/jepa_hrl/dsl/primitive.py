"""Primitives: functions whose annotations are their types in the language and whose docstrings explain them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar, get_args, get_origin, get_type_hints

from jepa_hrl.dsl.types import Kind, Object, Objects, Refusal, Value

Code = TypeVar("Code", bound=Callable[..., object])


@dataclass(frozen=True, eq=False)
class Primitive:
    """A function of the language.

    Attributes:
        name: its name in programs.
        family: the name of the module that declares it, such as `geometry`.
        takes: the kinds of its arguments.
        gives: the kind of its result.
        cost: bits that each use adds to a program's description length.
        phrase: a noun phrase for the result, with {0}, {1} in place of the arguments.
        apply: the function; it returns a value or a Refusal, and raises nothing.
    """

    name: str
    family: str
    takes: tuple[Kind, ...]
    gives: Kind
    cost: float
    phrase: str
    apply: Callable[..., Value | Refusal]


_PRIMITIVES: dict[str, Primitive] = {}


def primitive(cost: float = 5.0) -> Callable[[Code], Code]:
    """Declares a function as a primitive of the language.

    The first line of the function's docstring becomes the primitive's phrase; it names the arguments in backticks.

    Args:
        cost: bits; 5 for an ordinary primitive, less for one that tasks often need.
    """

    def declare(code: Code) -> Code:
        hints = get_type_hints(code, include_extras=True)
        gives = hints.pop("return")
        phrase = (code.__doc__ or "").strip().splitlines()[0].rstrip(".")
        for index, name in enumerate(hints):
            phrase = phrase.replace(f"`{name}`", f"{{{index}}}")
        name = code.__name__.rstrip("_")
        _PRIMITIVES[name] = Primitive(
            name, code.__module__.rpartition(".")[2], tuple(map(_kind, hints.values())), _kind(gives), cost,
            phrase[0].lower() + phrase[1:] if not phrase.startswith("{") else phrase, code,  # type: ignore[arg-type]
        )  # fmt: skip
        return code

    return declare


def _kind(hint: object) -> Kind:
    """Reads the kind from an annotation; a `Refusal` in a union is passed over."""
    if hint in (Object, Objects):
        return Kind.OBJECT if hint is Object else Kind.OBJECTS
    if get_origin(hint) is Annotated:
        return next(part for part in get_args(hint) if isinstance(part, Kind))
    return next(_kind(part) for part in get_args(hint) if part is not Refusal)


def collect_primitives() -> dict[str, Primitive]:
    """Returns the primitives of the modules imported so far, in order of declaration; `dsl.library` imports all."""
    return dict(_PRIMITIVES)
