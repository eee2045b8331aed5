"""Solving, published checkpoints, datasets on disk, export and distillation, end to end on small cases."""

import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from arc_core.checkpoint import load_checkpoint, save_checkpoint
from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.loop import open_fabric
from arc_core.runs import RunFolder
from arc_core.solver import Budget
from arc_core.task import Pair, Task, task_to_json
from arc_core.tensors import TaskTensors
from hrm.config import DataConfig, HrmConfig, ModelConfig, TrainingConfig
from hrm.conversion.cli import export_hrm, import_hrm_checkpoint
from hrm.conversion.published_weights import to_checkpoint
from hrm.data import dataset_builder
from hrm.data.batches import OnTheFly, Stored
from hrm.data.cli import main as build_arc_dataset
from hrm.data.dataset_layout import Plan
from hrm.data.identities import Identities, make_examples
from hrm.data.training_data import training_data
from hrm.data.unique_views import distinct_views, turned_tokens
from hrm.model.reasoner import Reasoner
from hrm.solver import open_solver
from hrm.tinyvae import cli as tinyvae
from hrm.tinyvae.images import SIDE, load_images, render_grid
from hrm.tinyvae.model import Coded, divergence, student, teacher
from hrm.trainer import Trainer

Make = Callable[..., Task]
MODEL = ModelConfig(
    hidden_size=32, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=32, expansion=1.0, halt_max_steps=2
)


def published(is_trm: bool, prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """A state_dict and config with the names and shapes that the published trainers save."""
    torch.manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "H_init": (32,), "L_init": (32,), "embed_tokens.embedding_weight": (12, 32), "lm_head.weight": (12, 32),
        "q_head.weight": (2, 32), "q_head.bias": (2,), "puzzle_emb.weights": (7, 32),
    }  # fmt: skip
    for level, layers in (("L_level", 2),) if is_trm else (("H_level", 1), ("L_level", 2)):
        for layer in range(layers):
            block = f"{level}.layers.{layer}."
            shapes |= {
                block + "self_attn.qkv_proj.weight": (96, 32), block + "self_attn.o_proj.weight": (32, 32),
                block + "mlp.gate_up_proj.weight": (512, 32), block + "mlp.down_proj.weight": (32, 256),
            }  # fmt: skip
    arch: dict[str, object] = {"name": "trm" if is_trm else "hrm", "num_heads": 4, "H_cycles": 3, "L_cycles": 2,
                               "expansion": 4, "halt_max_steps": 5, "pos_encodings": "rope"}  # fmt: skip
    return {prefix + name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}, arch


@pytest.mark.parametrize("is_trm", [False, True])
@pytest.mark.parametrize("prefix", ["model.inner.", "_orig_mod.model.inner.", "inner."])
def test_published_weights_come_in_and_go_back_exactly(is_trm: bool, prefix: str, tmp_path: Path) -> None:
    state, arch = published(is_trm, prefix)
    file, config = tmp_path / "step_5", tmp_path / "all_config.yaml"
    torch.save(state, file)
    config.write_text(yaml.safe_dump({"arch": arch, "lr": 1e-4}))
    assert import_hrm_checkpoint([str(file), "--reference-config", str(config), "--out", str(tmp_path / "run")]) == 0
    checkpoint = load_checkpoint(tmp_path / "run", "hrm")
    model = checkpoint.config["model"]
    assert isinstance(model, dict)
    expected = {"hidden_size": 32, "num_heads": 4, "L_layers": 2, "H_cycles": 3, "L_cycles": 2, "halt_max_steps": 5}
    assert expected.items() <= model.items()
    assert (model["architecture"], model["puzzle_emb_len"]) == (("trm", 16) if is_trm else ("hrm", 0))
    back = tmp_path / "back.pt"
    assert import_hrm_checkpoint(["--to-reference", str(tmp_path / "run"), "--out", str(back)]) == 0
    again = torch.load(back, weights_only=True)
    plain = {"model.inner." + name[len(prefix) :]: value for name, value in state.items()}
    assert again.keys() == plain.keys()
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    assert (
        import_hrm_checkpoint(
            [str(back), "--reference-config", str(back.with_suffix(".yaml")), "--out", str(tmp_path / "r2")]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"H_level.layers.0.extra": torch.zeros(1)}, "left over: H_level.layers.0.extra"),
        ({"q_head.bias": None}, "missing: q_head.bias"),
        ({"lm_head.weight": None}, "lm_head.weight is missing"),
        ({"mlp_t": True}, "mlp_t: true"),
        ({"num_heads": None}, "shapes do not tell num_heads"),
        ({"expansion": 90}, "expansion 90"),
    ],
)
def test_published_weights_that_do_not_fit_are_refused_in_one_line(change: dict[str, object], part: str) -> None:
    state, arch = published(False, "")
    for name, value in change.items():
        if name in ("mlp_t", "num_heads", "expansion"):
            arch[name] = value
        elif value is None:
            del state[name]
        else:
            assert isinstance(value, torch.Tensor)
            state[name] = value
    with pytest.raises(InputError, match=re.escape(part)):
        to_checkpoint(state, arch)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    import pickle

    marker, file = tmp_path / "ran", tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (marker,))  # type: ignore[return-value]

    file.write_bytes(pickle.dumps({"model.inner.H_init": Evil()}, protocol=2))
    assert import_hrm_checkpoint([str(file)]) == 2
    assert not marker.exists()


@pytest.fixture
def trained(tmp_path: Path, random_task: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Task]]:
    """A checkpoint that has learnt two tasks by heart, each output a fixed grid."""
    tasks = []
    for seed in range(2):
        made = random_task([((3, 3), (2, 2))] * 3, seed=seed, task_id=f"t{seed}")
        tasks.append(made)
    monkeypatch.setattr("hrm.data.training_data.load_training_tasks", lambda spec: tasks)
    config = HrmConfig(
        MODEL,
        TrainingConfig(max_steps=150, batch_size=8, learning_rate=3e-3, warmup_steps=5, weight_decay=0.0),
        DataConfig(train="made", num_augmentations=1, held_out_views=0, translation=False),
    )
    fabric = open_fabric("cpu", "float32")
    trainer = Trainer(config, training_data(config.data, 0, fabric.device), RunFolder(tmp_path / "run"), fabric)
    for _ in range(150):
        trainer.training_step()
    save_checkpoint(trainer.run.checkpoints, trainer.state(), is_best=True, keep_last=1)
    return tmp_path / "run", tasks


@pytest.mark.slow
def test_learnt_tasks_are_answered_in_their_own_views_and_new_ones_with_fitted_embeddings(
    trained: tuple[Path, list[Task]], random_task: Make
) -> None:
    path, tasks = trained
    opened = open_solver(path, "cpu")
    assert opened.training_data == ("made",)
    new = random_task([((3, 3), (2, 2))] * 3, seed=9, task_id="new")
    budget = Budget(dihedral_views=2, color_views=2)
    found = list(opened.solver.solve([task.without_answers() for task in [*tasks, new]], budget))
    assert [p.task_id for p in found] == ["t0", "t1", "new"]
    assert [p.views for p in found] == [2, 2, 4]
    assert [p.transductive for p in found] == [True, True, False]
    for prediction, task in zip(found[:2], tasks, strict=True):  # its tests were among the training pairs
        best: Grid = prediction.candidates[0][0].grid
        assert np.array_equal(best, task.test[0].output)  # type: ignore[arg-type]
    assert all(0 <= c.confidence <= 1 for p in found for row in p.candidates for c in row)
    again = next(iter(opened.solver.solve([new.without_answers()], budget)))
    assert [c.grid.tolist() for c in again.candidates[0]] == [c.grid.tolist() for c in found[2].candidates[0]]


@pytest.mark.slow
def test_exported_programs_equal_the_live_model(
    trained: tuple[Path, list[Task]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form, suffix in (("torch", "pt2"), ("onnx", "onnx"), ("safetensors", "safetensors")):
        out = tmp_path / f"program.{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters' own making
            status = export_hrm([str(trained[0]), "--format", form, "--segments", "2", "--out", str(out)])
        shown = capsys.readouterr()
        assert status == 0, shown.err
        said = shown.out.replace("\n", " ")
        difference = re.search(r"tasks of arc1:train: ([0-9.e+-]+), of logits up to ([0-9.e+-]+);", said)
        assert difference is not None
        assert float(difference[1]) < 1e-4 * float(difference[2])
        assert "100.00% of the cells agree" in said


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
    data = training_data(DataConfig(dataset=str(one)), 0, torch.device("cpu"))
    assert len(data.train) == description["examples"]["train"]
    assert isinstance(data.source, Stored)
    fly = OnTheFly(data.tensors, data.identities, data.train)
    numbers = np.flatnonzero(data.train.sides <= 11)[::7][:40]
    origin = torch.rand(len(numbers), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for side in (12, 30):
        for a, b in zip(data.source.batch(numbers, side, 2, origin), fly.batch(numbers, side, 2, origin), strict=True):
            assert torch.equal(a, b)
    assert build_arc_dataset([*flags, "--output-dir", str(one)]) == 0  # there already
    assert build_arc_dataset(["--data", "arc1:train", "--output-dir", str(one), "--num-aug", "2"]) == 2
    made, _ = make_examples(data.tensors, data.identities, 2)
    assert len(made) == len(data.train)


def test_an_interrupted_dataset_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str) -> int:
        return build_arc_dataset(["--num-aug", "2", "--output-dir", str(tmp_path / name)])

    assert build("whole") == 0
    write, parts = dataset_builder.write_tasks, []

    def interrupted(folder: Path, plans: Sequence[Plan]) -> None:
        parts.append(plans)
        if len(parts) == 5:
            raise KeyboardInterrupt
        write(folder, plans)

    monkeypatch.setattr(dataset_builder, "write_tasks", interrupted)
    build("other")
    assert not (tmp_path / "other").exists()
    assert build("other") == 0
    assert len(parts) == 1 + len(load_tasks("arc1:train")) // 4  # the fifth part alone was begun twice
    for file in sorted((tmp_path / "whole").rglob("*.npy")):
        assert file.read_bytes() == (tmp_path / "other" / file.relative_to(tmp_path / "whole")).read_bytes()


def test_views_are_told_apart_as_their_tokens_are() -> None:
    plus = np.array([[0, 3, 0], [3, 3, 3], [0, 3, 0]], dtype=np.uint8)  # the same under all turns
    task = Task("plus", (Pair(plus, plus[:2]),), (Pair(plus, np.array([[3, 5]], dtype=np.uint8)),))
    elements, colors = distinct_views(task, 2000, seed=0)
    tokens = turned_tokens(task)
    tables = np.concatenate([np.tile([0, 1], (len(colors), 1)), 2 + colors], axis=1)
    seen = {table[tokens[element]].tobytes() for element, table in zip(elements, tables, strict=True)}
    assert len(seen) == len(elements) == 8 * 9 * 8  # 8 turns of the asymmetric ones, 9 x 8 names of the two colours


def test_grids_are_drawn_as_whole_cells_in_the_middle() -> None:
    image = render_grid(np.array([[1, 2, 3]], dtype=np.uint8))
    assert image.shape == (SIDE, SIDE, 3)
    assert (image[11:21, 1:11] == image[11, 1]).all()
    assert not image[:11].any()
    train, held_out = load_images("arc1:train", 0)
    assert len(train) > 8 * len(held_out)
    assert float(train.max()) == 1.0


def test_divergence_equals_torch_distributions() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 8), torch.randn(5, 8)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()), normal(torch.zeros(5, 8), torch.ones(5, 8))
    )
    torch.testing.assert_close(divergence(Coded(mean, mean, log_variance)), expected.sum(1).mean())


def test_teacher_and_student_have_the_sizes_of_the_guide() -> None:
    counts = [sum(p.numel() for p in vae.parameters()) for vae in (teacher(), student())]
    assert 9e6 < counts[0] < 11e6
    assert 2.5e5 < counts[1] < 3.5e5


@pytest.mark.slow
def test_distillation_learns_and_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["--teacher-steps", "25", "--student-steps", "120", "--batch", "32"]
    assert tinyvae.main([*steps, "--out", str(tmp_path / "vae")]) == 0
    found = json.loads((tmp_path / "vae" / "report.json").read_text())
    assert found["mse_student"] < found["mse_mean_image"]
    assert found["parameter_ratio"] > 30
    assert {file.name for file in (tmp_path / "vae").iterdir()} == {
        "report.json", "reconstructions.png", "teacher.safetensors", "student.safetensors",
    }  # fmt: skip
    assert tinyvae.main(["--data", str(tmp_path)]) == 2
    assert "at least 10 images" in capsys.readouterr().err


def test_a_reasoner_without_puzzle_embedding_answers() -> None:
    model = Reasoner(ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=0, seq_len=900))
    tokens = torch.zeros(1, 16, dtype=torch.uint8)
    _, answer = model(model.start(1, 16), tokens, None, torch.arange(16)[None])
    assert answer.logits.shape == (1, 16, 12)
    identities = Identities.of(["a"], 2, 0)
    assert identities.views(0)[0].dihedral == 0
    assert TaskTensors.from_tasks([]).rows.shape == (1, 30)
