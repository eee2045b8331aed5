"""Options mined from traces."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from jepa_hrl.dsl.program import evaluate, parse
from jepa_hrl.rl.options.cli import discover_options
from jepa_hrl.rl.options.discovery import mine_sequences, read_options
from jepa_hrl.rl.policy.rollouts import Header, Trace
from jepa_hrl.world_model.actions import ActionSet


def test_sequences_are_mined_by_support_and_gain() -> None:
    traces = [list("abcx"), list("yabc"), list("abc"), list("zabc"), list("xy"), list("yx"), ["q"]]
    sequences = mine_sequences(traces, 7, 3, 9, 3)
    # A choice is one of 7 + 9: 4 bits. Each of 4 uses saves all choices but one, and defining it takes all.
    assert sequences == [(("a", "b"), 4, 4 * 4.0 - 8), (("a", "b", "c"), 4, 4 * 8.0 - 12)]
    assert mine_sequences(traces, 7, 5, 9, 3) == []
    assert mine_sequences([["a", "b"]] * 2, 7, 1, 9, 3) == []  # defining it would cost what its uses save
    assert mine_sequences(traces[::-1], 7, 3, 9, 3) == sequences


def test_discovered_options_are_programs_and_are_read_back(
    actions: ActionSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = Header("none", "none", "grounded", 0, False, ("flip_horizontal", "transpose", "rotate_90", "recolor"))
    solved = ("flip_horizontal", "transpose", "recolor")
    trace = Trace(0, "t", "easy", 3, solved, "success", True, 1.0, 0.0)
    failed = [replace(trace, grounded=False, actions=("rotate_90", "transpose"))] * 4
    failed.append(replace(trace, grounded=False, actions=solved[:2]))
    traces, output = tmp_path / "traces.jsonl", tmp_path / "options.json"
    traces.write_text("".join(json.dumps(asdict(record)) + "\n" for record in (header, *[trace] * 5, *failed)))
    assert discover_options(["--traces", str(traces), "--output", str(output)]) == 0
    options = json.loads(output.read_text())["options"]
    # Both pairs of neighbours are in five successful traces; the first by name is merged first.
    assert [tuple(option["actions"]) for option in options] == [solved[:2], solved]
    assert [(option["support"], option["traces"], option["success_rate"]) for option in options] == [
        (5, 6, 5 / 6), (5, 5, 1.0),
    ]  # fmt: skip
    assert options[0]["expansion"] == "transpose(flip_horizontal(input))"
    grid = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    assert np.array_equal(evaluate(parse(options[0]["expansion"]), grid), grid[:, ::-1].T)  # type: ignore[arg-type]
    assert read_options(output, actions) == tuple(
        tuple(actions.indices[name] for name in option["actions"]) for option in options
    )
    assert "2 options of 5 successful traces" in capsys.readouterr().out
