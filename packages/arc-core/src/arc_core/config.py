"""Frozen dataclasses <- YAML <- dotted command-line overrides; whatever is not understood is an error.

jsonargparse takes null for a number and strings for booleans, which are silent guesses; hence this reader.
"""

import dataclasses
import difflib
import math
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from arc_core.errors import ConfigError
from arc_core.yaml_text import parse_yaml

Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both included unless `open_low`; for `Annotated[float, Range(0, 1)]`."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.open_low else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"{'above ' if self.open_low else ''}{self.low:g}..{self.high:g}"


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]


@dataclass(frozen=True)
class OldKeys:
    """Keys of earlier documents that a method still accepts, with one line saying what becomes of each.

    Attributes:
        renamed: old dotted key -> new dotted key.
        needless: dotted key -> why this design does without it.
    """

    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needless: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_config_file(path: Path) -> dict[str, object]:
    """The mapping in a YAML file, laid over the file of the same folder that its `extends:` names, if any.

    Raises:
        ConfigError: it cannot be read, is no mapping, or extends a file that extends another.
    """
    values = _read_mapping(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str) or Path(parent).name != parent:
        raise ConfigError(f"{path}: extends must name a file of the same folder; got {parent!r}")
    base = _read_mapping(path.parent / parent)
    if "extends" in base:
        raise ConfigError(f"{path}: extends goes one level; {parent} extends {base['extends']!r} itself")
    return _merged(base, values)


def _read_mapping(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; {path.parent} has {', '.join(near)}" if near else ""
        raise ConfigError(f"config file {path} does not exist{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be a mapping of sections; got {values!r:.40}")
    return values


def _merged(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def parse_overrides(arguments: Sequence[str]) -> dict[str, object]:
    """`--section.key VALUE` or `--section.key=VALUE`, repeated, as dotted keys to YAML values.

    Raises:
        ConfigError: an argument is not of that form, or a key is given twice.
    """
    result: dict[str, object] = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--") or name == "--":
            raise ConfigError(f"arguments must be --section.key VALUE; got {name!r}")
        key, equals, text = name[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{key} needs a value")
            text = rest.pop(0)
        if key in result:
            raise ConfigError(f"--{key} is given twice")
        result[key] = parse_yaml(text, f"--{key}")
    return result


def build_config(
    kind: type[Config], values: Mapping[str, object], source: str, old: OldKeys | None = None
) -> tuple[Config, list[str]]:
    """The dataclass that nested values state, and a line for each old key among them.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a value out of range.
    """
    old = old or OldKeys()
    flat = _flattened(values)
    notes = []
    for key in [key for key in flat if key in old.needless]:
        del flat[key]
        notes.append(f"{key} is accepted and not needed: {old.needless[key]}")
    for key in [key for key in flat if key in old.renamed]:
        new = old.renamed[key]
        if new in flat:
            raise ConfigError(f"{source}: {key} is the old name of {new}; give one of them")
        flat[new] = flat.pop(key)
        notes.append(f"{key} is now called {new}")
    nested: dict[str, object] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        level = nested
        for section in sections:
            below = level.setdefault(section, {})
            if not isinstance(below, dict):
                raise ConfigError(f"{source}: {key} is inside {section}, which is given a value")
            level = below
        level[last] = value
    return _build(kind, nested, "", source, config_keys(kind)), notes


def apply_overrides(values: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """Nested values by dotted keys, with others in place of those that they name or are sections of."""
    flat = _flattened(values)
    for key, value in overrides.items():
        for inner in [name for name in flat if name.startswith(f"{key}.")]:
            del flat[inner]
        flat[key] = value
    return flat


def _flattened(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= _flattened(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def config_keys(kind: type, prefix: str = "") -> list[str]:
    """All dotted keys of a config dataclass."""
    keys = []
    for name, hint in get_type_hints(kind).items():
        section = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        keys += config_keys(hint, f"{prefix}{name}.") if section else [prefix + name]
    return keys


def _build(kind: type[Config], values: object, prefix: str, source: str, known: Sequence[str]) -> Config:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {prefix.rstrip('.')} must be a section of keys; got {values!r:.40}")
    hints = get_type_hints(kind, include_extras=True)
    given: dict[str, object] = {}
    for key, value in values.items():
        dotted = prefix + key
        if key not in hints:
            raise ConfigError(f"{source}: {dotted} is not a key{_suggestion(dotted, list(hints), known)}")
        given[key] = _build_value(hints[key], value, dotted, source, known)
    try:
        return kind(**given)
    except ConfigError as error:
        raise ConfigError(f"{source}: {prefix}{error}") from None


def _build_value(hint: Any, value: object, dotted: str, source: str, known: Sequence[str]) -> object:
    """What one key holds: a section, a section of the user's own keys, or a value."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, {} if value is None else value, f"{dotted}.", source, known)
    if get_origin(hint) is dict:
        return _build_named(hint, value, dotted, source, known)
    return _convert(value, hint, f"{source}: {dotted}")


def _build_named(hint: Any, values: object, dotted: str, source: str, known: Sequence[str]) -> dict[object, object]:
    """A section whose keys are names or whole numbers of the user's choice."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {dotted} must be a section of keys; got {values!r:.40}")
    key_hint, value_hint = get_args(hint)
    result: dict[object, object] = {}
    for key, value in values.items():
        if key_hint is int and not str(key).isdecimal():
            raise ConfigError(f"{source}: the keys of {dotted} must be whole numbers; got {key!r}")
        name = int(key) if key_hint is int else key
        result[name] = _build_value(value_hint, value, f"{dotted}.{key}", source, known)
    return result


def _suggestion(key: str, siblings: Sequence[str], known: Sequence[str]) -> str:
    """The nearest name in the same section, else the key of that name in another section, else what there is."""
    prefix, dot, name = key.rpartition(".")
    near = [f"{prefix}{dot}{match}" for match in difflib.get_close_matches(name, siblings, n=1)]
    last = {other.rpartition(".")[2]: other for other in known}
    near += [last[match] for match in difflib.get_close_matches(name, last, n=1)]
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(siblings)}"


def _convert(value: object, hint: Any, where: str) -> object:
    """The value as the hinted type, exactly: only a whole number may stand for a float."""
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        value = _convert(value, hint, where)
        for bounds in extras:
            if isinstance(value, int | float) and value not in bounds:
                raise ConfigError(f"{where} must be {bounds}; got {value}")
        return value
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not types.NoneType]
        if value is None and len(options) < len(get_args(hint)):
            return None
        return _convert(value, options[0], where)
    if get_origin(hint) is Literal:
        if not any(value == option and type(value) is type(option) for option in get_args(hint)):
            raise ConfigError(f"{where} must be one of {', '.join(map(str, get_args(hint)))}; got {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list; got {value!r}")
        return tuple(_convert(item, get_args(hint)[0], f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and type(value) is int:
        if abs(value) > sys.float_info.max:
            raise ConfigError(f"{where} must be a finite number; got a whole number of {len(str(value))} digits")
        return float(value)
    if type(value) is not hint or (isinstance(value, float) and not math.isfinite(value)):
        names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
        raise ConfigError(f"{where} must be {names[hint]}; got {'null' if value is None else repr(value)}")
    return value


def load_config(
    kind: type[Config],
    method: str,
    commands: Mapping[str, str],
    path: Path,
    overrides: Mapping[str, object],
    old: OldKeys | None = None,
) -> tuple[Config, list[str]]:
    """The config of a file with overrides laid over it, and the lines about old keys.

    Args:
        method: what the file's `method:` must say.
        commands: the training command of each known method, for the message when it says another.
    Raises:
        ConfigError: see `read_config_file` and `build_config`.
    """
    values = read_config_file(path)
    found = values.pop("method", None)
    if found != method:
        came = f"method: {found}" if found is not None else "no method"
        hint = f"; its command is {commands[found]}" if isinstance(found, str) and found in commands else ""
        raise ConfigError(f"{path} must say method: {method}; got {came}{hint}")
    # Renamed here, so that an old name on the command line outdoes the new one in the file.
    names = old.renamed if old is not None else {}
    notes = [f"{key} is now called {names[key]}" for key in overrides if key in names]
    current = {names.get(key, key): value for key, value in overrides.items()}
    config, more = build_config(kind, apply_overrides(values, current), str(path), old)
    return config, notes + more


def config_to_dict(config: object) -> dict[str, object]:
    """The config as nested plain values, as `build_config` reads them."""
    assert dataclasses.is_dataclass(config) and not isinstance(config, type)
    result: dict[str, object] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        result[field.name] = _plain(value)
    return result


def _plain(value: Any) -> object:
    if dataclasses.is_dataclass(value):
        return config_to_dict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def config_to_yaml(config: object, method: str) -> str:
    """The whole config as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump({"method": method} | config_to_dict(config), sort_keys=False, allow_unicode=True)


def diff_keys(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    """Dotted keys at which two nested configs differ."""
    one, two = _flattened(first), _flattened(second)
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))


def workspace_folder() -> Path:
    """The workspace's root, found from the working directory or from this package upwards; else the former.

    Recipes lie in its `configs/`, runs go to its `runs/`, results to its `results/`.
    """
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            pyproject = folder / "pyproject.toml"
            if pyproject.is_file() and "[tool.uv.workspace]" in pyproject.read_text(encoding="utf-8"):
                return folder
    return Path.cwd()
