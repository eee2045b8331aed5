"""Every command refuses each broken file of the kinds that it reads: status 2, and one line that names the file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from arc_core.checkpoint import Checkpoint, save_checkpoint
from arc_core.cli import main as arc_data
from arc_core.errors import run_command
from arc_eval.cli import main as run_eval
from hrm.cli import main as train_hrm
from hrm.conversion.cli import export_hrm as export_hrm
from hrm.conversion.cli import import_hrm_checkpoint as import_hrm
from hrm.data.cli import main as build_dataset
from jepa_hrl.guidance.cli import main as train_prior
from jepa_hrl.jepa.cli import train_jepa as train_jepa
from jepa_hrl.jepa.cli import validate_jepa_correlation as correlate
from jepa_hrl.rl.imitation.cli import main as pretrain
from jepa_hrl.rl.options.cli import discover_options as discover
from jepa_hrl.rl.options.discovery import read_options
from jepa_hrl.rl.policy.cli import main as roll_out
from jepa_hrl.rl.ppo.cli import main as train_reasoner
from jepa_hrl.solvers.cli import main as evaluate
from jepa_hrl.synthesis.cli import main as generate
from jepa_hrl.world_model.actions import make_action_set
from jepa_hrl.world_model.cli import prepare_program_triples as prepare_triples
from jepa_hrl.world_model.cli import train_program_conditioned_jepa as train_program_jepa
from rlan.cli import main as train_rlan
from tests.broken_files import CORPUS, DAMAGE, VALID, Broken, broken_config

Main = Callable[[Sequence[str]], int]


def load_options(argv: Sequence[str]) -> int:
    """Reads a file of options as train-hierarchical does after it has loaded a JEPA."""
    actions = make_action_set(("transpose", "rotate_90"), 64)
    return run_command(lambda: len(read_options(Path(argv[0]), actions)))


# Commands that read a kind of file, with their arguments for a file {0} that is alone in the folder {1}.
READERS: dict[str, list[tuple[Main, str]]] = {
    "task": [
        (arc_data, "stats dir:{1}"), (run_eval, "compare --data dir:{1} --methods identity"),
        (evaluate, "--arc-dev-root {1} --output {1}/../out.json"), (train_rlan, "--data.train dir:{1}@train"),
        (train_hrm, "--data.train dir:{1}@train"), (build_dataset, "--data dir:{1}@train --output-dir {1}/../out"),
    ],
    "kaggle": [
        (arc_data, "stats kaggle:{0}"), (run_eval, "submission --data kaggle:{0} --method identity"),
        (evaluate, "--data kaggle:{0} --output {1}/../out.json"),
    ],
    "solutions": [(run_eval, "compare --data kaggle:{1}/../valid.json,{0} --methods identity")],
    "manifest": [
        (arc_data, "stats manifest:{0}"), (evaluate, "--tasks {0} --output {1}/../out.json"),
        (train_jepa, "--data.tasks manifest:{0}"),
        (train_prior, "--tasks {0}"), (train_rlan, "--data.train manifest:{0}"),
        (run_eval, "compare --data manifest:{0} --methods identity"),
        (prepare_triples, "--manifest {0} --output {1}/../out.jsonl --workers 1"),
    ],
    "submission": [
        (run_eval, "score {0} --data kaggle:{1}/../valid.json,{1}/../solutions.json"),
        (run_eval, "compare --methods submission:{0} --data kaggle:{1}/../valid.json,{1}/../solutions.json"),
    ],
    "triples": [(train_program_jepa, "--dataset_triples {0} --run-dir {1}/../run")],
    "options": [(load_options, "{0}")],
    "traces": [(discover, "--traces {0} --output {1}/../out.json")],
}  # fmt: skip
CHECKPOINT_READERS: list[tuple[Main, str]] = [
    (train_rlan, "--resume {0}"), (train_rlan, "--init-from {0} --device cpu"), (train_hrm, "--resume {0}"),
    (train_jepa, "--resume {0}"), (train_program_jepa, "--resume {0}"), (pretrain, "--resume {0}"),
    (train_reasoner, "--resume {0}"), (run_eval, "compare --methods rlan={0}"), (run_eval, "compare --methods hrm={0}"),
    (run_eval, "compare --methods dsl-guided={0}"), (run_eval, "compare --methods jepa={0}"),
    (run_eval, "compare --methods active-reasoner={0}"), (export_hrm, "{0} --format torch"),
    (import_hrm, "{0}"), (correlate, "--checkpoints {0}"), (roll_out, "--checkpoint {0}"),
    (evaluate, "--data arc1:train --prior {0} --variants meta_guided --output out.json"),
    (evaluate, "--data arc1:train --latent-config {0} --output out.json"),
    (evaluate, "--data arc1:train --reasoner {0} --output out.json"),
]  # fmt: skip
SUFFIX = {"manifest": "jsonl", "triples": "jsonl", "traces": "jsonl"}
TRAINERS: dict[str, Main] = {
    "rlan": train_rlan, "hrm": train_hrm, "jepa": train_jepa, "program-jepa": train_program_jepa,
    "active-reasoner-bc": pretrain, "active-reasoner": train_reasoner,
}  # fmt: skip


def assert_refused(main: Main, line: str, file: Path, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Asserts that a command ends with status 2 and one line on stderr that has the file's name and one of the words.

    Args:
        main: the command's function.
        line: its arguments, with {0} for the file and {1} for its folder.
        file: the broken file.
        words: words of which the line must have one; empty if any line will do.
        capsys: pytest's capture of stderr.
    """
    capsys.readouterr()
    status = main(line.format(file, file.parent).split())
    message = capsys.readouterr().err.strip()
    context = f"{main.__module__} {line}: {message}"
    assert status == 2, context
    assert message.startswith("error: ") and "\n" not in message, context
    assert file.name in message, context
    assert len(message) < 700, context
    assert not words or any(word in message.replace(file.name, "") for word in words), context


def write_broken(kind: str, broken: Broken, folder: Path) -> Path:
    """Writes a broken file, alone in a subfolder of `folder`, which holds valid files."""
    (folder / "alone").mkdir()
    (folder / "valid.json").write_bytes(VALID["kaggle"])
    (folder / "solutions.json").write_bytes(VALID["solutions"])
    file = folder / "alone" / f"broken.{SUFFIX.get(kind, 'json')}"
    file.write_bytes(broken.content)
    if kind == "triples":
        (folder / "alone" / f"{file.name}.source.json").write_text('{"manifest": "m.jsonl"}')
    return file


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, cases in CORPUS.items() for name in cases])
def test_broken_files_are_refused(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = CORPUS[kind][name]
    file = write_broken(kind, broken, tmp_path)
    for main, line in READERS[kind]:
        assert_refused(main, line, file, broken.words, capsys)


@pytest.mark.parametrize("method", TRAINERS)
@pytest.mark.parametrize("name", broken_config(""))
def test_broken_recipes_are_refused(
    method: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken, file = broken_config(method)[name], tmp_path / "broken.yaml"
    file.write_bytes(broken.content)
    assert_refused(TRAINERS[method], "--config {0}", file, broken.words, capsys)
    assert [*tmp_path.iterdir()] == [file]  # no run was started


@pytest.mark.parametrize("name", DAMAGE)
def test_broken_curricula_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "broken.yaml"
    file.write_bytes(DAMAGE[name](b"name: x\nseed: [1\n"))
    assert_refused(generate, "--config {0} --output-dir out", file, (), capsys)


@pytest.mark.parametrize("name", [*DAMAGE, "a bit flipped", "another method's"])
def test_broken_checkpoints_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    valid = Checkpoint("another", 1, {"w": torch.ones(300)}, {}, {}, {"a": 1}, "f", ("arc1:train",))
    file = save_checkpoint(tmp_path / "run" / "checkpoints", valid, True, 1)
    content = bytearray(file.read_bytes())
    if name == "a bit flipped":
        content[content.index(torch.ones(9).numpy().tobytes()) + 5] ^= 16
    file.write_bytes(DAMAGE[name](bytes(content)) if name in DAMAGE else content)
    for main, line in CHECKPOINT_READERS:
        assert_refused(main, line, file, (), capsys)
