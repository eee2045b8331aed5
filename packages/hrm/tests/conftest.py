"""Fixtures that several test files share."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from arc_core.checkpoint import save_checkpoint
from arc_core.loop import open_fabric
from arc_core.runs import RunFolder
from arc_core.task import Task, task_to_json
from hrm.config import DataConfig, HrmConfig, ModelConfig, TrainingConfig
from hrm.data.training_data import load_training_data
from hrm.trainer import Trainer

Make = Callable[..., Task]

MODEL = ModelConfig(
    hidden_size=32, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=32, expansion=1.0, halt_max_steps=2
)


@pytest.fixture
def task_folder(tmp_path: Path, random_task: Make) -> Path:
    """A folder of 6 tasks, of two demonstrations and a test each."""
    path = tmp_path / "tasks"
    path.mkdir()
    for index in range(6):
        sizes = [((3, 2), (2, 2)), ((2, 4), (3, 3)), ((5, 5), (6, 4))]
        task = random_task(sizes, seed=index, task_id=f"task{index}")
        (path / f"task{index}.json").write_text(json.dumps(task_to_json(task)))
    return path


@pytest.fixture
def trained(tmp_path: Path, random_task: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Task]]:
    """A checkpoint that has learnt two tasks by heart, each output a fixed grid."""
    tasks = [random_task([((3, 3), (2, 2))] * 3, seed=seed, task_id=f"t{seed}") for seed in range(2)]
    monkeypatch.setattr("hrm.data.training_data.load_training_tasks", lambda spec: tasks)
    config = HrmConfig(
        MODEL,
        TrainingConfig(max_steps=150, batch_size=8, learning_rate=3e-3, warmup_steps=5, weight_decay=0.0),
        DataConfig(train="made", num_augmentations=1, held_out_views=0, translation=False),
    )
    fabric = open_fabric("cpu", "float32")
    trainer = Trainer(config, load_training_data(config.data, 0, fabric.device), RunFolder(tmp_path / "run"), fabric)
    for _ in range(150):
        trainer.training_step()
    save_checkpoint(trainer.run.checkpoints, trainer.state(), is_best=True, keep_last=1)
    return tmp_path / "run", tasks
