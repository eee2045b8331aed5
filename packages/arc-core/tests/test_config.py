from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from arc_core.config import (
    Count,
    Fraction,
    OldKeys,
    Positive,
    build_config,
    config_to_dict,
    config_to_yaml,
    diff_keys,
    load_config,
    parse_overrides,
)
from arc_core.errors import ConfigError
from arc_core.yaml_text import parse_yaml


@dataclass(frozen=True)
class Training:
    learning_rate: Positive = 1e-3
    batch_size: Count = 8
    share: Fraction = 0.5
    name: str = "x"
    decay: float | None = None
    mode: Literal["a", "b"] = "a"
    flag: bool = True
    sides: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if self.batch_size == 13:
            raise ConfigError("batch_size must not be 13")


@dataclass(frozen=True)
class Config:
    training: Training = field(default_factory=Training)


def read(text: str, tmp_path: Path, *arguments: str, old: OldKeys | None = None) -> tuple[Config, list[str]]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(Config, "m", {"other": "uv run train-other"}, path, parse_overrides(arguments), old)


def test_scalars_are_read_as_yaml_1_2_reads_them() -> None:
    text = "{a: 3e-4, b: 1e5, c: no, d: 1:30, e: 007, f: yes, g: ~, h: true, i: -.5, j: 1_000, k: 5.}"
    expected = {"a": 3e-4, "b": 1e5, "c": "no", "d": "1:30", "e": 7, "f": "yes", "g": None}
    assert parse_yaml(text, "t") == expected | {"h": True, "i": -0.5, "j": "1_000", "k": 5.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {learning_rat: 1}", "training.learning_rat is not a key; did you mean training.learning_rate?"),
        ("trainin: {batch_size: 1}", "trainin is not a key; did you mean training?"),
        ("batch_size: 1", "batch_size is not a key; did you mean training.batch_size?"),
        ("training: {batch_size: 1.0}", "training.batch_size must be a whole number; got 1.0"),
        ("training: {batch_size: true}", "training.batch_size must be a whole number; got True"),
        ("training: {batch_size: '1'}", "training.batch_size must be a whole number; got '1'"),
        ("training: {learning_rate: null}", "training.learning_rate must be a finite number; got null"),
        ("training: {learning_rate: .nan}", "training.learning_rate must be a finite number; got nan"),
        (f"training: {{learning_rate: {'9' * 400}}}", "must be a finite number; got a whole number of 400 digits"),
        ("training: {learning_rate: 0}", "training.learning_rate must be above 0; got 0"),
        ("training: {share: 1.5}", "training.share must be 0..1; got 1.5"),
        ("training: {batch_size: 0}", "training.batch_size must be at least 1; got 0"),
        ("training: {flag: no}", "training.flag must be true or false; got 'no'"),
        ("training: {name: 3}", "training.name must be text; got 3"),
        ("training: {mode: c}", "training.mode must be one of a, b; got 'c'"),
        ("training: {sides: 3}", "training.sides must be a list; got 3"),
        ("training: {sides: [1, x]}", "training.sides[1] must be a whole number; got 'x'"),
        ("training: 3", "training must be a section of keys; got 3"),
        ("training: {batch_size: 13}", "training.batch_size must not be 13"),
        ("training:\n  batch_size: 1\n  batch_size: 2", "line 4, column 3: key 'batch_size' stands twice"),
        ("training: [1", "line 2"),
        ("- 1", "c.yaml"),
        ("3.5: 4", "key 3.5 must be a name"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(f"method: m\n{text}", tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "c.yaml" in str(error.value)


def test_overrides_win_over_the_file_and_are_typed_alike(tmp_path: Path) -> None:
    arguments = ("--training.learning_rate", "3e-4", "--training.decay=0.9", "--training.sides", "[3]")
    config, notes = read("method: m\ntraining: {learning_rate: 1, batch_size: 2}", tmp_path, *arguments)
    assert config.training == Training(3e-4, 2, decay=0.9, sides=(3,))
    assert notes == []
    with pytest.raises(ConfigError, match="did you mean"):
        read("method: m", tmp_path, "--training.batchsize", "3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "must be --section.key VALUE; got 'x'"),
        (["--a"], "--a needs a value"),
        (["--a=1", "--a=2"], "given twice"),
    ],
)
def test_bad_overrides_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides(arguments)


def test_another_methods_config_names_the_right_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must say method: m; got method: other; its command is uv run train-other"):
        read("method: other", tmp_path)
    with pytest.raises(ConfigError, match="got no method"):
        read("training: {}", tmp_path)


def test_extends_goes_one_level_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("method: m\ntraining: {batch_size: 3, name: base}")
    config, _ = read("extends: base.yaml\ntraining: {name: top}", tmp_path)
    assert (config.training.batch_size, config.training.name) == (3, "top")
    (tmp_path / "base.yaml").write_text("extends: c.yaml")
    with pytest.raises(ConfigError, match="extends goes one level"):
        read("extends: base.yaml", tmp_path)
    with pytest.raises(ConfigError, match="a file of the same folder"):
        read("extends: ../base.yaml", tmp_path)


def test_a_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").touch()
    with pytest.raises(ConfigError, match=r"does not exist; .* has quick.yaml"):
        load_config(Config, "m", {}, tmp_path / "quik.yaml", {})


def test_old_keys_are_accepted_with_one_line_each(tmp_path: Path) -> None:
    old = OldKeys({"training.bs": "training.batch_size"}, {"data.num_workers": "there are none"})
    config, notes = read("method: m\ntraining: {bs: 5}\ndata: {num_workers: 8}", tmp_path, old=old)
    assert config.training.batch_size == 5
    assert notes == [
        "data.num_workers is accepted and not needed: there are none",
        "training.bs is now called training.batch_size",
    ]
    with pytest.raises(ConfigError, match="give one of them"):
        read("method: m\ntraining: {bs: 5, batch_size: 5}", tmp_path, old=old)


def test_a_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    config = Config(Training(3e-5, 7, decay=0.99, sides=(4, 5), name="no"))
    again, _ = read(config_to_yaml(config, "m"), tmp_path)
    assert again == config
    assert build_config(Config, config_to_dict(config), "memory")[0] == config


def test_changed_keys_are_dotted() -> None:
    assert diff_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c", "d"]
