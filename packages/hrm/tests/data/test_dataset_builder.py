"""Datasets on disk."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_core.datasets import load_tasks
from arc_core.task import Pair, Task, task_to_json
from hrm.config import DataConfig
from hrm.data import dataset_builder
from hrm.data.batches import OnTheFlySource, StoredSource, load_batch
from hrm.data.cli import main as build_arc_dataset
from hrm.data.dataset_layout import TaskPlan
from hrm.data.identities import make_examples
from hrm.data.training_data import load_training_data

Make = Callable[..., Task]


def test_a_dataset_is_the_same_whatever_the_workers_and_feeds_the_same_batches(
    tmp_path: Path, random_task: Make
) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    for seed in range(10):
        task = random_task([((3, 3), (2, 4)), ((1, 1), (1, 1)), ((4, 2), (3, 3))], seed=seed)
        if seed == 0:  # a task that turns leave as it is has few views
            dot = np.zeros((1, 1), dtype=np.uint8)
            task = Task("t0", (Pair(dot, dot),) * 2, (Pair(dot, dot),))
        (folder / f"t{seed}.json").write_text(json.dumps(task_to_json(task)))
    flags = ["--data", f"dir:{folder}@train", "--num-aug", "6", "--transductive", "arc2:eval", "--held-out-views", "2"]
    for workers in (1, 2):
        out = ["--output-dir", str(tmp_path / f"d{workers}"), "--workers", str(workers)]
        assert build_arc_dataset([*flags, *out]) == 0
    one, two = tmp_path / "d1", tmp_path / "d2"
    for file in sorted(one.rglob("*.npy")):
        assert file.read_bytes() == (two / file.relative_to(one)).read_bytes()
    description = json.loads((one / "dataset.json").read_text())
    groups = np.load(one / "groups.npy")
    assert groups[1] == 1  # deduplicated
    assert set(np.diff(groups)[1:10]) == {7}
    assert not np.load(one / "test" / "labels.npy").any()  # answers of evaluation tests are not there
    assert len(np.load(one / "val" / "pairs.npy")) == 9 * 2
    data = load_training_data(DataConfig(dataset=str(one)), 0, torch.device("cpu"))
    assert len(data.train) == description["examples"]["train"]
    assert isinstance(data.source, StoredSource)
    on_the_fly = OnTheFlySource(data.tensors, data.identities, data.train)
    indices = np.flatnonzero(data.train.sides <= 11)[::7][:40]
    offset = torch.rand(len(indices), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for side in (12, 30):
        batches = (load_batch(source, indices, side, 2, offset) for source in (data.source, on_the_fly))
        for stored, built in zip(*batches, strict=True):
            assert torch.equal(stored, built)
    assert build_arc_dataset([*flags, "--output-dir", str(one)]) == 0  # there already
    assert build_arc_dataset(["--data", "arc1:train", "--output-dir", str(one), "--num-aug", "2"]) == 2
    examples, _ = make_examples(data.tensors, data.identities, 2)
    assert len(examples) == len(data.train)


def test_an_interrupted_build_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str) -> int:
        return build_arc_dataset(["--num-aug", "2", "--output-dir", str(tmp_path / name)])

    assert build("whole") == 0
    write, parts = dataset_builder.write_tasks, []

    def write_or_interrupt(folder: Path, plans: Sequence[TaskPlan]) -> None:
        parts.append(plans)
        if len(parts) == 5:
            raise KeyboardInterrupt
        write(folder, plans)

    monkeypatch.setattr(dataset_builder, "write_tasks", write_or_interrupt)
    build("other")
    assert not (tmp_path / "other").exists()
    assert build("other") == 0
    assert len(parts) == 1 + len(load_tasks("arc1:train")) // 4  # the fifth part alone was begun twice
    for file in sorted((tmp_path / "whole").rglob("*.npy")):
        assert file.read_bytes() == (tmp_path / "other" / file.relative_to(tmp_path / "whole")).read_bytes()
