"""Reads configs into frozen dataclasses from YAML files and dotted command-line overrides; unknown keys are errors.

jsonargparse accepts null for a number and strings for booleans without a warning; hence this reader.
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
    """Bounds of a number in a config, as in `Annotated[float, Range(0, 1)]`.

    Attributes:
        low, high: the bounds, both included.
        open_low: whether `low` itself is excluded.
    """

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
    """Keys of earlier versions that a method's config still accepts, each with a notice to the user.

    Attributes:
        renamed: new dotted key by old dotted key.
        needless: reason why the key has no effect any more, by dotted key.
    """

    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needless: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_config_file(path: Path) -> dict[str, object]:
    """Reads a YAML file; keys that it lacks come from the file in the same folder that its `extends:` names, if any.

    Raises:
        ConfigError: the file cannot be read, is no mapping, or extends a file that extends another.
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
    return _merge(base, values)


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


def _merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def parse_overrides(arguments: Sequence[str]) -> dict[str, object]:
    """Parses repeated `--section.key VALUE` or `--section.key=VALUE` to YAML values by dotted key.

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
    """Builds a config dataclass from nested values.

    Args:
        kind: the dataclass.
        values: nested plain values, as read from YAML.
        source: name of the file, for error messages.
        old: keys of earlier versions that are still accepted.
    Returns:
        The config, and a notice for each old key among the values.
    Raises:
        ConfigError: a key is unknown (the message names the nearest known one), or a value has a wrong type or range.
    """
    old = old or OldKeys()
    flat = _flatten(values)
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
    """Flattens nested values to dotted keys and replaces those that the overrides name.

    Args:
        values: nested values.
        overrides: values by dotted key; one that names a section replaces all keys of the section.
    """
    flat = _flatten(values)
    for key, value in overrides.items():
        for inner in [name for name in flat if name.startswith(f"{key}.")]:
            del flat[inner]
        flat[key] = value
    return flat


def _flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= _flatten(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def config_keys(kind: type, prefix: str = "") -> list[str]:
    """Returns all dotted keys of a config dataclass, each with `prefix` in front."""
    keys = []
    for name, hint in get_type_hints(kind).items():
        section = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        keys += config_keys(hint, f"{prefix}{name}.") if section else [prefix + name]
    return keys


def _build(kind: type[Config], values: object, prefix: str, source: str, all_keys: Sequence[str]) -> Config:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {prefix.rstrip('.')} must be a section of keys; got {values!r:.40}")
    hints = get_type_hints(kind, include_extras=True)
    given: dict[str, object] = {}
    for key, value in values.items():
        dotted = prefix + key
        if key not in hints:
            raise ConfigError(f"{source}: {dotted} is not a key{_suggest(dotted, list(hints), all_keys)}")
        given[key] = _build_value(hints[key], value, dotted, source, all_keys)
    try:
        return kind(**given)
    except ConfigError as error:
        raise ConfigError(f"{source}: {prefix}{error}") from None


def _build_value(hint: Any, value: object, dotted: str, source: str, all_keys: Sequence[str]) -> object:
    """Builds the value of one key: a section, a section of the user's own keys, or a plain value."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, {} if value is None else value, f"{dotted}.", source, all_keys)
    if get_origin(hint) is dict:
        return _build_named(hint, value, dotted, source, all_keys)
    return _convert(value, hint, f"{source}: {dotted}")


def _build_named(hint: Any, values: object, dotted: str, source: str, all_keys: Sequence[str]) -> dict[object, object]:
    """Builds a section whose keys are names or whole numbers of the user's choice."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {dotted} must be a section of keys; got {values!r:.40}")
    key_hint, value_hint = get_args(hint)
    result: dict[object, object] = {}
    for key, value in values.items():
        if key_hint is int and not str(key).isdecimal():
            raise ConfigError(f"{source}: the keys of {dotted} must be whole numbers; got {key!r}")
        name = int(key) if key_hint is int else key
        result[name] = _build_value(value_hint, value, f"{dotted}.{key}", source, all_keys)
    return result


def _suggest(key: str, siblings: Sequence[str], all_keys: Sequence[str]) -> str:
    """Suggests the nearest name in the same section, else the same name in another section, else lists all names."""
    prefix, dot, name = key.rpartition(".")
    near = [f"{prefix}{dot}{match}" for match in difflib.get_close_matches(name, siblings, n=1)]
    last = {other.rpartition(".")[2]: other for other in all_keys}
    near += [last[match] for match in difflib.get_close_matches(name, last, n=1)]
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(siblings)}"


def _convert(value: object, hint: Any, where: str) -> object:
    """Checks that a value has the hinted type exactly and returns it; a whole number may stand for a float."""
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
    """Loads the config of a file with command-line overrides.

    Args:
        kind: the config dataclass.
        method: value that the file's key `method` must have.
        commands: training command by method, for the error message when the file is of another method.
        path: the YAML file.
        overrides: values by dotted key, which replace those of the file.
        old: keys of earlier versions that are still accepted.
    Returns:
        The config, and a notice for each old key.
    Raises:
        ConfigError: see `read_config_file` and `build_config`.
    """
    values = read_config_file(path)
    stated = values.pop("method", None)
    if stated != method:
        came = f"method: {stated}" if stated is not None else "no method"
        hint = f"; its command is {commands[stated]}" if isinstance(stated, str) and stated in commands else ""
        raise ConfigError(f"{path} must say method: {method}; got {came}{hint}")
    # Old names are replaced here, so that one on the command line overrides the new name in the file.
    names = old.renamed if old is not None else {}
    notes = [f"{key} is now called {names[key]}" for key in overrides if key in names]
    current = {names.get(key, key): value for key, value in overrides.items()}
    config, more = build_config(kind, apply_overrides(values, current), str(path), old)
    return config, notes + more


def config_to_dict(config: object) -> dict[str, object]:
    """Converts a config to nested plain values that `build_config` reads."""
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
    """Converts a config to YAML from which `load_config` builds an equal one."""
    return yaml.safe_dump({"method": method} | config_to_dict(config), sort_keys=False, allow_unicode=True)


def diff_keys(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    """Returns the dotted keys at which two nested configs differ, sorted."""
    one, two = _flatten(first), _flatten(second)
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))


def workspace_folder() -> Path:
    """Returns the workspace's root, searched upwards from the working directory, then from this package.

    Recipes are in its `configs/`, runs in its `runs/`, results in its `results/`. Without a workspace it is the working
    directory.
    """
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            pyproject = folder / "pyproject.toml"
            if pyproject.is_file() and "[tool.uv.workspace]" in pyproject.read_text(encoding="utf-8"):
                return folder
    return Path.cwd()
