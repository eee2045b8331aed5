from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_core.augment import View
from arc_core.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from arc_core.config import config_to_dict
from arc_core.errors import InputError
from arc_core.grid import Grid
from arc_core.solver import Budget
from arc_core.task import Pair, Task
from arc_core.tensors import OUTSIDE, TaskTensors
from rlan.config import DataConfig, ModelConfig, RlanConfig
from rlan.data.queries import Inputs, build_test_queries
from rlan.inference import Diagnostics, answer_queries
from rlan.metrics import ScoredTasks, compute_grid_metrics, evaluate_baselines, evaluate_model
from rlan.model.rlan import Outputs, Rlan
from rlan.solver import RlanSolver, open_solver

Make = Callable[..., Task]
CONFIG = RlanConfig(
    ModelConfig(hidden_dim=16, num_heads=2, num_solver_steps=2, context_layers=0, spatial_downsample=2),
    data=DataConfig(max_demonstrations=3),
)


def make_solver(seed: int = 0) -> RlanSolver:
    torch.manual_seed(seed)
    model = Rlan(CONFIG.model).eval()
    with torch.no_grad():
        model.solver.head.weight.normal_(std=0.2)
    return RlanSolver(model, CONFIG, torch.device("cpu"))


@pytest.fixture
def tasks(random_task: Make) -> list[Task]:
    sizes = [((3, 3), (3, 3)), ((4, 6), (4, 6)), ((2, 5), (2, 5)), ((9, 2), (9, 2))]
    return [random_task(sizes, tests=1 + number % 2, seed=number, task_id=f"t{number}") for number in range(11)]


def test_every_test_input_gets_ranked_answers_without_any_output_given(tasks: list[Task]) -> None:
    hidden = [task.without_answers() for task in tasks]
    budget = Budget(dihedral_views=4, color_views=2)
    predictions = list(make_solver().solve(hidden, budget))
    assert [prediction.task_id for prediction in predictions] == [task.task_id for task in tasks]
    for task, prediction in zip(tasks, predictions, strict=True):
        assert len(prediction.candidates) == len(task.test)
        assert prediction.views == 8
        for candidates in prediction.candidates:
            assert 1 <= sum(candidate.votes for candidate in candidates) <= 8
            votes = [candidate.votes for candidate in candidates]
            assert votes == sorted(votes, reverse=True)
            assert all(0 <= candidate.confidence <= 1 for candidate in candidates)


def test_answers_do_not_depend_on_the_other_tasks(tasks: list[Task]) -> None:
    hidden, budget = [task.without_answers() for task in tasks], Budget(8, 1)
    together = {prediction.task_id: prediction for prediction in make_solver().solve(hidden, budget)}
    for task in hidden[2:5]:
        alone = next(iter(make_solver().solve([task], budget)))
        for one, other in zip(alone.candidates, together[task.task_id].candidates, strict=True):
            assert [c.votes for c in one] == [c.votes for c in other]
            assert all(np.array_equal(c.grid, d.grid) for c, d in zip(one, other, strict=True))


def test_views_are_undone_before_the_vote(random_task: Make) -> None:
    """An untrained model permutes colours as the demonstrations do, in every view alike."""
    base = random_task([((3, 5), (3, 5)), ((4, 4), (4, 4)), ((5, 3), (5, 3))], seed=3)

    def swap_colors(grid: Grid) -> Grid:
        return np.array([0, 2, 1, 3, 4, 5, 6, 7, 8, 9], dtype=np.uint8)[grid]

    def pairs(side: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return tuple(Pair(pair.input, swap_colors(pair.input)) for pair in side)

    task = Task("swap", pairs(base.train), pairs(base.test))
    model = RlanSolver(Rlan(CONFIG.model).eval(), CONFIG, torch.device("cpu"))
    prediction = next(iter(model.solve([task.without_answers()], Budget())))
    best = prediction.candidates[0][0]
    assert best.votes == 32
    assert task.test[0].output is not None
    assert np.array_equal(best.grid, task.test[0].output)


class CanvasFiller:
    """Answers with the whole canvas until it is at least 20 high, then with 18 x 5."""

    def __init__(self) -> None:
        self.heights: list[int] = []

    def __call__(self, inputs: Inputs, adapt: bool = True) -> Outputs:
        side = inputs.query.shape[-1]
        logits = torch.zeros(len(inputs.query), 1, side, side, 11)
        for row, (height, width) in enumerate(inputs.answer_extent.tolist()):
            self.heights.append(height)
            size = (height, width) if height < 20 else (18, 5)
            logits[row, ..., OUTSIDE] = 9
            logits[row, :, : size[0], : size[1], OUTSIDE] = -9
            logits[row, :, : size[0], : size[1], 7] = 9
        return Outputs(logits, None, None, None, {})


def test_a_canvas_grows_while_the_answer_touches_its_edge(random_task: Make) -> None:
    tensors = TaskTensors.from_tasks([random_task([((4, 4), (4, 4))] * 2).without_answers()])
    model = CanvasFiller()
    answers = answer_queries(model, tensors, build_test_queries(tensors, [0], 3, View()), stablemax=False)
    assert model.heights == [5, 8, 12, 18, 27]
    assert answers[0][0].shape == (18, 5)
    assert (answers[0][0] == 7).all()


def test_metrics_equal_a_count_by_hand(random_task: Make) -> None:
    tasks = [random_task([((2, 2), (2, 2))] * 3, tests=2, seed=1), random_task([((2, 2), (3, 3))] * 2, seed=2)]
    right = [pair.output for task in tasks for pair in task.test if pair.output is not None]
    perfect = compute_grid_metrics(tasks, right)
    names = ("task_accuracy", "pixel_accuracy", "non_bg_accuracy", "size_accuracy")
    assert [perfect[name] for name in names] == [1] * 4
    assert perfect["bg_ratio_pred"] == perfect["bg_ratio_target"]
    half = compute_grid_metrics(tasks, [right[0], 9 - right[1], right[2][:2, :2]])
    assert half["task_accuracy"] == 0.25  # the mean of 1/2 and 0
    assert half["size_accuracy"] == pytest.approx(2 / 3)
    assert half["pixel_accuracy"] == pytest.approx((1 + 0 + 4 / 9) / 3)
    assert set(evaluate_baselines(tasks)) == {"identity", "background"}


def test_metrics_report_what_the_model_did_inside(tasks: list[Task]) -> None:
    torch.manual_seed(0)
    metrics = evaluate_model(
        Rlan(CONFIG.model).eval(), ScoredTasks.from_tasks(tasks, torch.device("cpu")), 3, stablemax=False
    )
    assert metrics["dsc_clues_used"] == pytest.approx(sum((1 - 1 / (1 + np.e)) ** k for k in range(5)), rel=1e-3)
    assert metrics["stop_probability"] == pytest.approx(1 / (1 + np.e), rel=1e-3)
    assert {"dsc_entropy", "centroid_spread", "predicate_activation", "context_norm"} <= metrics.keys()
    assert Diagnostics().means() == {}


def test_a_checkpoint_opens_with_its_own_config_and_averaged_weights(tmp_path: Path) -> None:
    model = Rlan(CONFIG.model)
    ema = {name: torch.full_like(p, 0.5) for name, p in model.named_parameters()}
    config = config_to_dict(CONFIG)
    checkpoint = Checkpoint("rlan", 5, model.state_dict(), {}, {}, config, "f", ("arc1:train",), ema=ema)
    path = save_checkpoint(tmp_path / "checkpoints", checkpoint, is_best=True, keep_last=1)
    opened = open_solver(tmp_path, "cpu")
    assert (opened.checkpoint, opened.step, opened.training_data) == (path, 5, ("arc1:train",))
    assert isinstance(opened.solver, RlanSolver)
    assert (opened.solver.model.null_token == 0.5).all()
    with pytest.raises(InputError, match="rlan needs a checkpoint; train one with"):
        open_solver(None, "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda was asked for and torch sees none"):
            open_solver(tmp_path, "cuda")
    other = Checkpoint("rlan", 6, {"w": torch.zeros(1)}, {}, {}, config, "f", ("arc1:train",))
    save_checkpoint(tmp_path / "checkpoints", other, is_best=True, keep_last=1)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        open_solver(tmp_path, "cpu")
