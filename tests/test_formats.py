"""Every command writes files that keep to docs/formats.schema.json."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from arc_eval.cli import main as run_eval
from hrm.data.cli import main as build_dataset
from jepa_hrl.jepa.cli import pretokenize_jepa as pretokenize
from jepa_hrl.jepa.cli import run_jepa_ablation as ablate
from jepa_hrl.jepa.cli import validate_jepa_correlation as correlate
from jepa_hrl.rl.options.cli import discover_options as discover
from jepa_hrl.rl.options.cli import train_hierarchical as train_hierarchical
from jepa_hrl.rl.policy.cli import main as roll_out
from jepa_hrl.solvers.cli import main as evaluate
from jepa_hrl.synthesis.cli import main as generate
from tests.conftest import TRAINERS, Job

DOCS = Path(__file__).parents[1] / "docs"
SCHEMAS = json.loads((DOCS / "formats.schema.json").read_text())


def check(name: str, value: Any) -> None:
    """Asserts that a value keeps to the schema of this name."""
    assert name in SCHEMAS["$defs"]
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", **SCHEMAS}).validate(value)


def check_file(name: str, path: Path) -> None:
    """Asserts that a JSON file keeps to the schema of this name."""
    check(name, json.loads(path.read_text()))


def check_lines(name: str, path: Path, skipped: int = 0) -> None:
    """Asserts that every line of JSON after the first `skipped` ones keeps to the schema of this name."""
    lines = path.read_text().splitlines()[skipped:]
    assert lines
    for line in lines:
        check(name, json.loads(line))


def arguments(**values: object) -> list[str]:
    """Returns the words of a command line that sets flags to values."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_the_schemas_are_schemas_and_the_page_names_them_all() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS)
    page = (DOCS / "formats.md").read_text()
    for name in SCHEMAS["$defs"].keys() - {"grid", "pair"}:
        assert re.search(rf"\| `?{re.escape(name)}`? \|", page), name


def test_a_wrong_value_is_refused() -> None:
    check("task.json", {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]})
    with pytest.raises(jsonschema.ValidationError):
        check("task.json", {"train": [{"input": [[1]], "output": [[10]]}], "test": [{"input": [[3]]}]})


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_run_folders(name: str, reference_run: Callable[[str], Path]) -> None:
    run = reference_run(name)
    check_file("run summary.json", run / "summary.json")
    check_lines("metrics.jsonl", run / "metrics.jsonl")
    for pointer in ("best", "last"):
        check_file("best.json, last.json", run / "checkpoints" / f"{pointer}.json")
    if name in ("jepa", "program-jepa"):
        check_file("metrics.json", run / "metrics.json")
    if name == "jepa":
        check_lines("embedding_metrics.jsonl", run / "embedding_metrics.jsonl")


@pytest.mark.slow
def test_comparisons(job_of: Callable[[str], Job], reference_run: Callable[[str], Path], tmp_path: Path) -> None:
    folder = reference_run("compare")
    check_lines("predictions.jsonl", folder / "predictions.jsonl")
    out = tmp_path / "submission.json"
    assert run_eval(["submission", str(folder), "--method", "dsl", "--out", str(out)]) == 0
    check_file("submission.json", out)


@pytest.mark.slow
def test_data(job_of: Callable[[str], Job], tmp_path: Path) -> None:
    job = job_of("program-jepa")
    inputs = Path(job.command[-1]).parent
    assert generate(["--output-dir", str(tmp_path / "tiny"), "--task_schedule.phase_i.count", "3",
                     "--task_schedule.phase_ii.count", "3", "--task_schedule.phase_iii.count", "3"]) == 0  # fmt: skip
    check_lines("manifest.jsonl", tmp_path / "tiny" / "manifest.jsonl")
    check_file("data summary.json", tmp_path / "tiny" / "summary.json")
    check_lines("triples.jsonl", inputs / "triples.jsonl")
    check_file("triples.jsonl.source.json", inputs / "triples.jsonl.source.json")
    spec = f"manifest:{inputs / 'train.jsonl'}"
    assert build_dataset(["--data", spec, "--output-dir", str(tmp_path / "aug"), "--num-aug", "3"]) == 0
    check_file("dataset.json", tmp_path / "aug" / "dataset.json")
    jepa = Path(job_of("jepa").command[-1])
    assert pretokenize(["--config", str(jepa), "--output", str(tmp_path / "tokens")]) == 0
    check_file("index.json", tmp_path / "tokens" / "index.json")


@pytest.mark.slow
def test_reports_of_the_jepa_and_the_search(
    job_of: Callable[[str], Job], reference_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run, job = reference_run("jepa"), job_of("jepa")
    held_out = Path(job.command[-1]).parent / "many.jsonl"
    job_of("program-jepa")  # which makes these tasks
    out = tmp_path / "correlation.json"
    common = {"checkpoints": run, "tasks": held_out, "max_programs": 5, "workers": 1, "device": "cpu"}
    assert correlate(arguments(**common, output=out)) == 0
    check_file("jepa_correlation.json", out)
    out = tmp_path / "variants.json"
    assert ablate(arguments(config=job.command[-1], epochs=1, output=out, device="cpu")) == 0
    check_file("jepa_variants.json", out)
    out = tmp_path / "search.json"
    common = {"tasks": held_out, "limit": 6, "variants": "dsl_only,latent_guided", "budget_seconds": 1, "workers": 1}
    assert evaluate(arguments(**common, latent_config=run, output=out)) == 0
    check_file("evaluate-arc output", out)


@pytest.mark.slow
def test_rollouts_and_options(
    job_of: Callable[[str], Job], reference_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run, job = reference_run("active-reasoner"), job_of("active-reasoner")
    traces, options = tmp_path / "traces.jsonl", tmp_path / "options.json"
    assert roll_out(arguments(checkpoint=run, episodes=60, output=traces)) == 0
    check("rollouts first line", json.loads(traces.read_text().splitlines()[0]))
    check_lines("rollouts.jsonl", traces, skipped=1)
    assert discover(arguments(traces=traces, output=options, min_support=1)) == 0
    check_file("options.json", options)
    options.write_text('{"format": 1, "options": [{"actions": ["transpose", "rotate_90"], "support": 3}]}')
    assert train_hierarchical(arguments(options=options, config=job.command[-1], run_dir=tmp_path / "runs")) == 0
    check_file("hierarchical.json", tmp_path / "runs" / "hierarchical.json")
