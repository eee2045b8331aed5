"""A corpus of broken files, each with one mistake that users make.

`CORPUS[kind][name]` has the file's bytes, and words of which its error line must have one, such as the location.
`VALID[kind]` is a valid file; the corpus also has it with every damage of `DAMAGE`, after which no JSON can be read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Broken:
    """A broken file.

    Attributes:
        content: content of the file.
        words: words of which the error line must have one.
    """

    content: bytes
    words: tuple[str, ...]


_GRID = [[1, 2], [3, 4]]
_PAIR = {"input": _GRID, "output": _GRID}
_ANSWER = [{"attempt_1": _GRID, "attempt_2": _GRID}]
_TASK = {"train": [_PAIR, _PAIR, _PAIR], "test": [_PAIR]}
_LINE = {
    "task_id": "t1", **_TASK,
    "metadata": {"phase": "easy", "rule_family": "geometry", "rule_trace": [{"name": "transpose", "args": {}}],
                 "program": "transpose(input)", "length": 1, "seed": 0},
}  # fmt: skip
_EPISODE = {"episode": 0, "task_id": "t", "phase": "easy", "length": 1, "actions": ["transpose"], "ended": "success",
            "grounded": True, "reward": 1.0, "distance": 0.5}  # fmt: skip
_HEADER = {"checkpoint": "c", "manifest": "m", "dynamics": "grounded", "seed": 0, "greedy": False,
           "steps": ["transpose"]}  # fmt: skip
_TRIPLE = {"input": _GRID, "program": {"type": "transpose", "args": {}}, "output": [[1, 3], [2, 4]],
           "metadata": {"task_id": "t1", "phase": "easy", "rule_family": "geometry", "pair": 0, "step": 0,
                        "explored": False}}  # fmt: skip


def _text(*values: object) -> bytes:
    return "\n".join(json.dumps(value) for value in values).encode()


def _pair(**changes: object) -> dict[str, object]:
    """Returns the task with changes in its second demonstration."""
    return {**_TASK, "train": [_PAIR, {**_PAIR, **changes}, _PAIR]}


_TASKS: dict[str, tuple[object, tuple[str, ...]]] = {
    "a colour of 10": (_pair(input=[[10]]), ("10",)),
    "a negative colour": (_pair(output=[[-1]]), ("-1",)),
    "a colour with a point": (_pair(input=[[1.5]]), ("1.5",)),
    "a colour as text": (_pair(input=[["1"]]), ("'1'", "1")),
    "true for a colour": (_pair(input=[[True]]), ("True", "true")),
    "rows of different lengths": (_pair(input=[[1, 2], [3]]), ("row", "length")),
    "a row that is none": (_pair(input=[1, 2]), ("row", "list")),
    "a grid of 31 rows": (_pair(input=[[1]] * 31), ("30", "31")),
    "a grid of 31 columns": (_pair(output=[[1] * 31]), ("30", "31")),
    "an empty grid": (_pair(input=[]), ("1", "empty", "rows")),
    "an empty row": (_pair(input=[[]]), ("1", "empty", "row")),
    "no grid": (_pair(input=None), ("None", "list", "rows")),
    "a demonstration without output": ({**_TASK, "train": [{"input": _GRID}]}, ("output",)),
    "a demonstration without input": ({**_TASK, "train": [{"output": _GRID}]}, ("input",)),
    "no demonstrations": ({**_TASK, "train": []}, ("train",)),
    "no tests": ({**_TASK, "test": []}, ("test",)),
    "no test key": ({"train": [_PAIR]}, ("test",)),
    "train that is no list": ({**_TASK, "train": {}}, ("train",)),
}
# Damage after which no reader of JSON can read a file, whatever its kind.
DAMAGE: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) * 2 // 3],
    "not text": lambda content: b"\x80\x81\xff" + content,
    "a list too deep": lambda content: b"[" * 100_000,
    "a number": lambda content: b"7",
    "an HTML page": lambda content: b"<!doctype html><title>404</title>",
    "a zip": lambda content: b"PK\x03\x04" + content,
}


def _without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: part for name, part in value.items() if name not in names}


VALID: dict[str, bytes] = {
    "task": _text(_TASK),
    "kaggle": _text({"t1": _TASK, "t2": _TASK}),
    "solutions": _text({"t1": [_GRID], "t2": [_GRID]}),
    "manifest": _text(_LINE, {**_LINE, "task_id": "t2"}),
    "submission": _text({"t1": _ANSWER, "t2": _ANSWER}),
    "triples": _text(_TRIPLE, _TRIPLE),
    "options": _text({"format": 1, "options": [{"actions": ["transpose", "rotate_90"], "support": 3}]}),
    "traces": _text(_HEADER, _EPISODE),
}


def _option(**changes: object) -> dict[str, object]:
    return {"format": 1, "options": [{"actions": ["transpose", "rotate_90"], "support": 3, **changes}]}


_CASES: dict[str, dict[str, tuple[object, tuple[str, ...]]]] = {
    "task": _TASKS,
    "kaggle": {name: ({"t1": _TASK, "t2": task}, ("t2",)) for name, (task, _) in _TASKS.items()},
    "solutions": {
        "a task without an answer": ({"t1": [_GRID]}, ("t2",)),
        "too few answers": ({"t1": [_GRID], "t2": []}, ("t2",)),
        "an answer that is no grid": ({"t1": [_GRID], "t2": [[[77]]]}, ("77",)),
        "answers that are no list": ({"t1": [_GRID], "t2": 3}, ("t2",)),
    },
    "submission": {
        "one attempt": ({"t1": _ANSWER, "t2": [{"attempt_1": _GRID}]}, ("t2",)),
        "an attempt that is no grid": ({"t1": _ANSWER, "t2": [{"attempt_1": [[11]], "attempt_2": _GRID}]}, ("t2",)),
        "no list of tests": ({"t1": _ANSWER, "t2": {"attempt_1": _GRID, "attempt_2": _GRID}}, ("t2",)),
        "too few tests": ({"t1": _ANSWER, "t2": []}, ("t2",)),
        "a task is missing": ({"t1": _ANSWER}, ("t2",)),
        "a task too many": ({"t1": _ANSWER, "t2": _ANSWER, "t3": _ANSWER}, ("t3",)),
    },
    "options": {
        "another format": ({"format": 9, "options": []}, ("format",)),
        "no format": ({"options": []}, ("format",)),
        "an action that nobody knows": (_option(actions=["transpose", "melt"]), ("melt",)),
        "an option of one action": (_option(actions=["transpose"]), ("actions", "two")),
        "actions that are no list": (_option(actions="transpose"), ("actions",)),
        "no actions": ({"format": 1, "options": [{"support": 3}]}, ("actions",)),
    },
}  # fmt: skip
_LINES: dict[str, dict[str, tuple[tuple[object, ...], tuple[str, ...]]]] = {
    "manifest": {
        **{name: ((_LINE, {**_LINE, **task, "task_id": "t2"}), ("2",)) for name, (task, _) in _TASKS.items()
           if isinstance(task, dict) and task.keys() >= {"train", "test"}},
        "no task_id": ((_LINE, _without(_LINE, "task_id")), ("task_id",)),
        "a task_id that is a number": ((_LINE, {**_LINE, "task_id": 7}), ("task_id",)),
        "one task_id twice": ((_LINE, {**_LINE, "train": [_PAIR]}), ("t1",)),
        "a line that is a list": ((_LINE, [_LINE]), ("2",)),
    },
    "triples": {
        "a step that nobody knows": ((_TRIPLE, {**_TRIPLE, "program": {"type": "melt", "args": {}}}), ("held-out",)),
        "no output": ((_TRIPLE, _without(_TRIPLE, "output")), ("output", "2")),
        "a colour of 10": ((_TRIPLE, {**_TRIPLE, "input": [[10]]}), ("10", "2")),
        "no program": ((_TRIPLE, _without(_TRIPLE, "program")), ("program", "2")),
    },
    "traces": {
        "no header": ((_EPISODE, _EPISODE), ("1", "first")),
        "an action that nobody knows": ((_HEADER, {**_EPISODE, "actions": ["melt"]}), ("melt",)),
        "an end that nobody knows": ((_HEADER, {**_EPISODE, "ended": "maybe"}), ("ended", "maybe", "2")),
        "no actions": ((_HEADER, _without(_EPISODE, "actions")), ("actions", "2")),
    },
}  # fmt: skip
_CONFIGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a key that nobody knows": ("method: {method}\ntraning: {{}}\n", ("traning",)),
    "another method's": ("method: other\n", ("other",)),
    "a list": ("- 1\n", ("config", "keys", "mapping")),
    "a section that is a number": ("method: {method}\ndevice: 3\n", ("device",)),
    "a tab": ("method: {method}\n\tdevice: x\n", ("line 2",)),
    "a tag": ("method: !!python/object/apply:os.system ['true']\n", ("python", "tag")),
    "an open bracket": ("method: {method}\ndevice: {{name: cpu\n", ("line",)),
    "a device that is none": ("method: {method}\ndevice: {{name: abacus}}\n", ("abacus",)),
    "a loop of anchors": ("method: {method}\ndevice: &a [*a]\n", ("recursive",)),
    "a parent that is missing": ("extends: nowhere.yaml\n", ("nowhere",)),
    "its own parent": ("extends: broken.yaml\n", ("extends", "itself", "broken.yaml")),
}


def broken_config(method: str) -> dict[str, Broken]:
    """Returns broken recipes of a method, which are read as broken.yaml."""
    return {name: Broken(text.format(method=method).encode(), words) for name, (text, words) in _CONFIGS.items()}


CORPUS: dict[str, dict[str, Broken]] = {
    **{kind: {name: Broken(_text(value), words) for name, (value, words) in cases.items()}
       for kind, cases in _CASES.items()},
    **{kind: {name: Broken(_text(*values), words) for name, (values, words) in cases.items()}
       for kind, cases in _LINES.items()},
}  # fmt: skip
for _kind, _content in VALID.items():
    CORPUS[_kind] |= {name: Broken(damage(_content), ()) for name, damage in DAMAGE.items()}
