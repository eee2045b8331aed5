from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from arc_core.augment import View
from arc_core.checkpoint import Checkpoint
from arc_core.datasets import load_tasks
from arc_core.task import Task
from arc_core.tensors import TaskTensors
from rlan.config import ModelConfig, TrainingConfig
from rlan.data.queries import Inputs, build_inputs, build_targets, build_test_queries
from rlan.losses.objective import make_targets, total_loss
from rlan.model.layers import extent_mask
from rlan.model.rlan import Rlan, load_weights

SMALL = ModelConfig(hidden_dim=16, num_heads=2, num_solver_steps=3, context_layers=1, spatial_downsample=4)
Make = Callable[..., Task]


def build_model(config: ModelConfig = SMALL, seed: int = 0) -> Rlan:
    """Builds a model whose zero-initialised parameters are random, so that every part has an effect."""
    torch.manual_seed(seed)
    model = Rlan(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


@pytest.fixture
def tensors(random_task: Make) -> TaskTensors:
    sizes = [[((3, 4), (4, 3)), ((2, 2), (3, 3)), ((4, 4), (2, 4))], [((5, 6), (5, 6)), ((6, 4), (6, 4))]]
    sizes.append([((1, 1), (2, 2)), ((2, 1), (4, 2)), ((1, 2), (2, 4)), ((3, 3), (6, 6))])
    return TaskTensors.from_tasks([random_task(pairs, seed=seed) for seed, pairs in enumerate(sizes)])


def inputs_of(tensors: TaskTensors, tasks: list[int], side: int, max_demonstrations: int = 4) -> Inputs:
    return build_inputs(tensors, build_test_queries(tensors, tasks, max_demonstrations, View()), side)


def logits_within_extent(model: Rlan, inputs: Inputs, row: int) -> Tensor:
    height, width = inputs.answer_extent[row].tolist()
    with torch.no_grad():
        return model(inputs).logits[row, :, :height, :width]


def test_outputs_have_their_documented_shapes(tensors: TaskTensors) -> None:
    outputs = build_model()(inputs_of(tensors, [0, 1, 2], 11))
    assert outputs.logits.shape == (3, 3, 11, 11, 11)
    assert outputs.logits.dtype == torch.float32
    assert outputs.clues is not None
    assert outputs.clues.attention.shape == (3, 5, 11, 11)
    assert outputs.clues.centroids.shape == (3, 5, 2)
    assert outputs.predicates is not None
    assert outputs.predicates.shape == (3, 16)
    assert outputs.context is not None
    assert outputs.context.shape == (3, 16)


@pytest.mark.parametrize("injection", ["film", "cross_attention"])
def test_logits_do_not_depend_on_canvas_batch_or_masked_pairs(tensors: TaskTensors, injection: str) -> None:
    model = build_model(replace(SMALL, context_injection=injection, use_hyperlora=True))  # type: ignore[arg-type]
    for row, task in enumerate((0, 1, 2)):
        alone = logits_within_extent(model, inputs_of(tensors, [task], 8, max_demonstrations=3), 0)
        for inputs in (
            inputs_of(tensors, [0, 1, 2], 8, max_demonstrations=3),
            inputs_of(tensors, [0, 1, 2], 14, max_demonstrations=3),
            inputs_of(tensors, [0, 1, 2], 30, max_demonstrations=3),
            inputs_of(tensors, [0, 1, 2], 11, max_demonstrations=7),
        ):
            torch.testing.assert_close(logits_within_extent(model, inputs, row), alone, rtol=1e-4, atol=1e-4)


def test_contents_of_masked_pairs_do_not_matter(tensors: TaskTensors) -> None:
    model, inputs = build_model(), inputs_of(tensors, [0, 1], 8)
    demos = torch.where(inputs.demo_mask[:, :, None, None, None], inputs.demos, 7)
    sizes = torch.where(inputs.demo_mask[:, :, None, None], inputs.demo_sizes, 5)
    changed = inputs._replace(demos=demos, demo_sizes=sizes)
    for row in (0, 1):
        torch.testing.assert_close(logits_within_extent(model, changed, row), logits_within_extent(model, inputs, row))


def test_demonstrations_are_a_set(tensors: TaskTensors) -> None:
    model, inputs = build_model(), inputs_of(tensors, [2], 11, max_demonstrations=3)
    order = torch.tensor([2, 0, 1])
    shuffled = inputs._replace(
        demos=inputs.demos[:, order], demo_sizes=inputs.demo_sizes[:, order], demo_mask=inputs.demo_mask[:, order]
    )
    torch.testing.assert_close(
        logits_within_extent(model, shuffled, 0), logits_within_extent(model, inputs, 0), rtol=1e-4, atol=1e-5
    )
    other = inputs._replace(demos=inputs.demos.roll(1, dims=2))  # inputs and outputs exchanged: another task
    assert not torch.allclose(logits_within_extent(model, other, 0), logits_within_extent(model, inputs, 0), atol=1e-2)


def test_a_new_model_answers_with_a_copy_of_the_input_without_demonstrations(tensors: TaskTensors) -> None:
    inputs = inputs_of(tensors, [0, 1, 2], 11)
    logits = Rlan(replace(SMALL, use_context=False))(inputs).logits
    assert (logits.argmax(-1) == inputs.query[:, None]).all()


def test_a_new_model_permutes_colors_as_the_demonstrations_do() -> None:
    tensors = TaskTensors.from_tasks([task for task in load_tasks("arc1:train") if task.task_id == "0d3d703e"])
    queries = build_test_queries(tensors, [0], 4, View())
    inputs, (cells, _) = build_inputs(tensors, queries, 5), build_targets(tensors, queries, 5)
    assert (Rlan(SMALL)(inputs).logits.argmax(-1) == cells[:, None]).all()


def test_training_and_evaluation_modes_agree(tensors: TaskTensors) -> None:
    model, inputs = build_model(), inputs_of(tensors, [0, 1], 8)
    with torch.no_grad():
        assert torch.equal(model.train()(inputs).logits, model.eval()(inputs).logits)


def find_gradients(config: ModelConfig, tensors: TaskTensors) -> dict[str, bool]:
    model = build_model(config).train()
    queries = build_test_queries(tensors, [0, 1, 2], 4, View())
    inputs = build_inputs(tensors, queries, 11)
    targets = make_targets(*build_targets(tensors, queries, 11))
    loss = total_loss(model(inputs), targets, inputs.answer_extent, inputs.query_size, TrainingConfig()).total
    loss.backward()
    assert torch.isfinite(loss)
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}


def test_gradients_reach_every_parameter(tensors: TaskTensors) -> None:
    for injection in ("film", "cross_attention"):
        config = replace(SMALL, context_injection=injection, use_hyperlora=True)  # type: ignore[arg-type]
        reached = find_gradients(config, tensors)
        assert [name for name, is_reached in reached.items() if not is_reached] == []


@pytest.mark.parametrize(
    "part", ["use_context", "use_dsc", "use_msre", "use_lcr", "use_sph", "use_steering", "solver_attention"]
)
def test_each_part_can_be_switched_off_and_the_rest_still_learns(part: str, tensors: TaskTensors) -> None:
    config = replace(SMALL, **{part: False})
    reached = find_gradients(config, tensors)
    assert [name for name, is_reached in reached.items() if not is_reached] == []
    assert len(reached) < len(list(Rlan(SMALL).parameters()))


def test_attention_sums_to_one_within_the_grid_and_is_zero_past_it(tensors: TaskTensors) -> None:
    inputs = inputs_of(tensors, [0, 1, 2], 11)
    clues = build_model()(inputs).clues
    assert clues is not None
    inside = extent_mask(inputs.query_size, 11)[:, None].expand_as(clues.attention)
    assert (clues.attention[~inside] == 0).all()
    torch.testing.assert_close(clues.attention.sum((2, 3)), torch.ones(3, 5))
    weights = clues.attention.flatten(2).double()
    entropy = -(weights * weights.clamp_min(1e-300).log()).sum(-1)
    torch.testing.assert_close(clues.entropy.double(), entropy, rtol=1e-4, atol=1e-5)


def test_later_clues_avoid_what_earlier_ones_found() -> None:
    torch.manual_seed(0)
    model = build_model().saliency
    assert model is not None
    with torch.no_grad():
        model.queries[:] = model.queries[0] * 20  # five equal, certain queries: only masking can part them
    features = torch.randn(1, 6, 6, 16)
    clues = model(features, torch.zeros(1, 16), torch.ones(1, 6, 6, dtype=torch.bool))
    assert len(set(clues.attention.flatten(2).argmax(-1)[0].tolist())) == 5


def test_changing_one_far_cell_reaches_every_other_cell(tensors: TaskTensors) -> None:
    model, inputs = build_model(), inputs_of(tensors, [1], 8)
    canvas = inputs.query.clone()
    canvas[0, 0, 0] = (canvas[0, 0, 0] + 1) % 10
    difference = logits_within_extent(model, inputs._replace(query=canvas), 0) - logits_within_extent(model, inputs, 0)
    assert (difference[-1].abs().sum(-1) > 0).all()


def test_mixed_precision_stays_close_to_float32_and_keeps_logits_in_it(tensors: TaskTensors) -> None:
    model, inputs = build_model(), inputs_of(tensors, [0, 1, 2], 11)
    queries = build_test_queries(tensors, [0, 1, 2], 4, View())
    targets = make_targets(*build_targets(tensors, queries, 11))
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = model(inputs)
            losses.append(total_loss(outputs, targets, inputs.answer_extent, inputs.query_size, TrainingConfig()).total)
        assert outputs.logits.dtype == torch.float32
    losses[1].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)


@pytest.mark.slow
def test_the_model_overfits_one_task_to_100_percent() -> None:
    tensors = TaskTensors.from_tasks([task for task in load_tasks("arc1:train") if task.task_id == "0d3d703e"])
    torch.manual_seed(0)
    model = Rlan(replace(SMALL, hidden_dim=32))
    queries = build_test_queries(tensors, [0], 4, View())
    inputs = build_inputs(tensors, queries, 5)
    cells, sizes = build_targets(tensors, queries, 5)
    targets = make_targets(cells, sizes)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(150):
        outputs = model(inputs)
        total_loss(outputs, targets, inputs.answer_extent, inputs.query_size, TrainingConfig()).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        within_extent = extent_mask(inputs.answer_extent, 5)
        if (outputs.logits[:, -1].argmax(-1) == cells)[within_extent].all():
            return
    pytest.fail("not every cell is right after 150 steps")


def test_checkpoints_with_the_former_parameter_names_load() -> None:
    model, other = build_model(seed=0), build_model(seed=1)
    former = {"transition": "become", "feed_forward": "feed", "feed_forward_norm": "feed_norm"}
    former |= {"summary_query": "question", "position": "place"}

    def former_name(name: str) -> str:
        name = name.replace("matching.appearance", "matching.look").replace("matching.out", "matching.read")
        name = name.replace("counting.appearance", "counting.look")
        return ".".join(former.get(part, part) for part in name.split("."))

    weights = {former_name(name): weight for name, weight in model.state_dict().items()}
    averages = {former_name(name): weight + 1 for name, weight in model.named_parameters()}
    assert len(weights.keys() - model.state_dict().keys()) == 12
    checkpoint = Checkpoint("rlan", 1, weights, {}, {}, {}, "f", ("arc1:train",), ema=averages)
    load_weights(other, checkpoint, averaged=False)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    load_weights(other, checkpoint, averaged=True)
    assert all(torch.equal(p + 1, dict(other.named_parameters())[name]) for name, p in model.named_parameters())
