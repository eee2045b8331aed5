"""Fuzzes every reader of external files with damaged files: only a one-line InputError may be raised.

    uv run tools/fuzz_parsers.py --minutes 10

Valid files are written and then damaged: bytes are changed, cut or doubled, or a value in the JSON is replaced.
Hypothesis draws the damage. If a reader raises anything else, the smallest such file is printed and the status is 1.
"""

import argparse
import copy
import json
import random
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies

from arc_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arc_core.config import load_config
from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.solver import Budget, TaskPrediction
from arc_core.task import read_task, task_to_json
from arc_eval.compare import make_header
from arc_eval.evaluation_set import EvaluationSet
from arc_eval.methods import MethodInfo
from arc_eval.protocol import make_protocol
from arc_eval.storage.prediction_store import read_records
from arc_eval.storage.records import prediction_record
from arc_eval.storage.results import compare_methods, parse_methods, read_results
from arc_eval.storage.submission import make_submission, read_submission
from jepa_hrl.dsl.program import ProgramError, parse
from jepa_hrl.dsl.steps import find_step
from jepa_hrl.rl.environment.problems import load_problems
from jepa_hrl.rl.options.discovery import read_options
from jepa_hrl.rl.policy.rollouts import read_traces
from jepa_hrl.synthesis.config import GridConfig
from jepa_hrl.synthesis.dataset import manifest_line, read_config
from jepa_hrl.synthesis.generator import PhasePlan, make_practice_task
from jepa_hrl.world_model.actions import ActionSet, make_action_set
from jepa_hrl.world_model.cli import prepare_program_triples as prepare_triples
from jepa_hrl.world_model.data import read_triples
from rlan.config import OLD_KEYS, RlanConfig

STEPS = ("flip_horizontal", "flip_vertical", "transpose", "rotate_90", "recolor", "tile_across", "keep_color")
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 10, 31, 1e308, float("nan"), 10**30, "", "x", "\ud800", "0", [], [[]], {}, [None],
    {"a": 1}, "../../x", "<script>", [[0] * 31] * 31,
]  # fmt: skip
Reader = Callable[[Path], object]
_FILES_PER_ROUND = 100  # damaged files of a kind before the next kind


def read_program(path: Path) -> object:
    """Parses the program in a file; a syntax error becomes an InputError."""
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except ProgramError as error:
        raise InputError(str(error)) from None


def write_corpus(folder: Path, actions: ActionSet) -> list[tuple[str, Path, Reader]]:
    """Writes a valid file of every kind and returns its kind, its path and its reader."""
    plan = PhasePlan("easy", tuple(map(find_step, STEPS)), (1, 2), (0.6, 0.4), GridConfig(3, 5), (3, 4))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(manifest_line(make_practice_task(plan, number, 5)) for number in range(12)))
    tasks = load_tasks(f"manifest:{manifest}")
    many = folder / "many.jsonl"
    many.write_text("".join(manifest_line(make_practice_task(plan, number, 7)) for number in range(80)))
    triples = folder / "triples.jsonl"
    assert (
        prepare_triples(["--manifest", str(many), "--output", str(triples), "--explored", "1", "--workers", "1"]) == 0
    )
    checkpoint = Checkpoint("m", 1, {"w": torch.ones(3)}, {}, {}, {"a": 1}, "f", ("arc1:train",))
    answers = {
        task.task_id: prediction_record("m", "none", TaskPrediction(task.task_id, ((),), 1.0)) for task in tasks[:3]
    }
    header = make_header(make_protocol(EvaluationSet(f"manifest:{manifest}", None, tasks), Budget()), [], False, "cpu")
    written: dict[str, str] = {
        "task.json": json.dumps(task_to_json(tasks[0])),
        "kaggle.json": json.dumps({task.task_id: task_to_json(task) for task in tasks[:3]}),
        "solutions.json": json.dumps({
            task.task_id: [pair.output.tolist() for pair in task.test if pair.output is not None] for task in tasks
        }),
        "submission.json": json.dumps(make_submission({}, tasks)),
        "predictions.jsonl": "".join(json.dumps(one) + "\n" for one in answers.values()),
        "results.json": json.dumps(compare_methods(header, [MethodInfo("m", "m")], {"m": answers}, tasks).results),
        "options.json": json.dumps({"format": 1, "options": [{"actions": ["transpose", "rotate_90"], "support": 3}]}),
        "program.txt": "crop(pick_max(size, components(repaint({1: 2, (3, 0): 4}, input, input))))",
        "rlan.yaml": "method: rlan\nmodel: {hidden_dim: 32}\ntraining:\n  learning_rate: 1.0e-3\n  max_epochs: 3\n",
        "curriculum.yaml": (Path(__file__).parents[1] / "configs" / "data" / "jepa_tiny.yaml").read_text(),
        "traces.jsonl": "\n".join(
            json.dumps(value) for value in (
                {"checkpoint": "c", "manifest": "m", "dynamics": "grounded", "seed": 0, "greedy": False,
                 "steps": list(STEPS)},
                {"episode": 0, "task_id": "t", "phase": "easy", "length": 1, "actions": ["transpose"],
                 "ended": "success", "grounded": True, "reward": 1.0, "distance": 0.5},
            )
        ) + "\n",
    }  # fmt: skip
    for name, text in written.items():
        (folder / name).write_text(text)
    files: list[tuple[str, Path, Reader]] = [
        ("ARC task", folder / "task.json", read_task),
        ("Kaggle challenges", folder / "kaggle.json", lambda path: load_tasks(f"kaggle:{path}")),
        ("Kaggle solutions", folder / "solutions.json",
         lambda path: load_tasks(f"kaggle:{folder / 'kaggle.json'},{path}")),
        ("manifest", manifest, lambda path: load_tasks(f"manifest:{path}")),
        ("manifest's traces", manifest, lambda path: load_problems(path, actions, 3)),
        ("triples", triples, lambda path: read_triples(path, "manifest:m", actions, 0.3)),
        ("submission", folder / "submission.json", lambda path: read_submission(path, tasks)),
        ("predictions", folder / "predictions.jsonl", read_records),
        ("results", folder / "results.json", lambda path: parse_methods(read_results(path))),
        ("options", folder / "options.json", lambda path: read_options(path, actions)),
        ("rollouts", folder / "traces.jsonl", read_traces),
        ("recipe", folder / "rlan.yaml", lambda path: load_config(RlanConfig, "rlan", {}, path, {}, OLD_KEYS)),
        ("curriculum", folder / "curriculum.yaml", read_config),
        ("program", folder / "program.txt", read_program),
        ("checkpoint", save_checkpoint(folder / "checkpoints", checkpoint, True, 1),
         lambda path: load_checkpoint(path, "m")),
    ]  # fmt: skip
    for name, path, read in files:
        try:
            read(path)
        except InputError as error:
            print(f"note: the valid {name} is refused: {error}")
    return files


def damage(content: bytes, rng: random.Random) -> bytes:
    """Adds one to four faults to a file's content."""
    for _ in range(rng.randint(1, 4)):
        content = rng.choice((damage_bytes, damage_bytes, damage_value))(content, rng)
    return content


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flips a bit, or cuts out, doubles or inserts bytes."""
    if not content:
        return b"\x00"
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((1, 1, 2, 8, 64, 1024)))
    part = rng.choice((
        bytes([content[start] ^ 1 << rng.randrange(8)]) + content[start + 1 : end], b"", content[start:end] * 2,
        rng.choice((b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\x00", b"\xff", b"9" * 400, b"[" * 3000)),
    ))  # fmt: skip
    return content[:start] + part + content[end:]


def damage_value(content: bytes, rng: random.Random) -> bytes:
    """Replaces, removes or moves a value of a JSON document, or of one line of JSON lines."""
    lines = content.split(b"\n")
    line = rng.randrange(len(lines))
    try:
        value = json.loads(lines[line])
    except (ValueError, RecursionError):
        return content
    holder: Any = [value]
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    action = rng.random()
    if action < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif action < 0.3 and isinstance(holder, dict):
        holder[rng.choice(("", "extra", "train", "__class__"))] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    if holder is not value and not isinstance(value, dict | list):
        value = holder[0]
    lines[line] = json.dumps(value).encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


class BadMessage(Exception):
    """An InputError whose message is empty or has several lines."""


def read_damaged(read: Reader, path: Path, content: bytes, rng: random.Random, counts: Counter[str]) -> None:
    """Damages a file's content and reads it; raises everything but an InputError of one line.

    Args:
        read: the reader.
        path: the damaged file to write.
        content: content of a valid file.
        rng: generator of the damage.
        counts: numbers of files that were "read" and "refused", which are updated.
    Raises:
        BadMessage: the message of an InputError is not one line.
    """
    path.write_bytes(damage(content, rng))
    try:
        read(path)
        counts["read"] += 1
    except InputError as error:
        if not str(error) or "\n" in str(error).replace("\nerror: ", ""):
            raise BadMessage(f"not one line: {error}") from error
        counts["refused"] += 1


def fuzz(read: Reader, path: Path, content: bytes, examples: int, seed: int, counts: Counter[str]) -> str | None:
    """Reads files that Hypothesis damages and describes the smallest one that makes the reader fail, if there is one.

    Args:
        read: the reader.
        path: a valid file.
        content: its content.
        examples: number of damaged files.
        seed: seed of Hypothesis.
        counts: numbers of files that were "read" and "refused", which are updated.
    """
    name = "step_00000009.pt" if path.suffix == ".pt" else f"broken-{path.name}"
    broken = path.with_name(name)
    limits = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), print_blob=False,
    )  # fmt: skip

    @hypothesis.seed(seed)
    @limits
    @given(strategies.randoms(use_true_random=False))
    def run(rng: random.Random) -> None:
        read_damaged(read, broken, content, rng, counts)

    try:
        run()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        location = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        return f"{location}: {error!s:.120}; smallest file {broken.read_bytes()[:200]!r}"
    return None


def main() -> int:
    """Fuzzes all readers, prints the counts and the failures, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="default 1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    faults: set[str] = set()
    with tempfile.TemporaryDirectory() as name:
        files = write_corpus(Path(name), make_action_set(STEPS, 64))
        contents = {path: path.read_bytes() for _, path, _ in files}
        end, round_index = time.monotonic() + 60 * args.minutes, 0
        while time.monotonic() < end:
            for kind, path, read in files:
                round_index += 1
                fault = fuzz(
                    read, path, contents[path], _FILES_PER_ROUND, args.seed * 1_000_003 + round_index, counts[kind]
                )
                if fault is not None and fault.partition(":")[0] not in faults:
                    faults.add(fault.partition(":")[0])
                    print(f"{kind}: {fault}", flush=True)
    for kind, numbers in counts.items():
        print(f"{kind}: read {numbers['read']:,}, refused {numbers['refused']:,}")
    print(f"{sum(map(Counter.total, counts.values())):,} files, {len(faults)} kinds of other exceptions")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
