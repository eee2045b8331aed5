"""Every recipe for a GPU fits the card that its first comment names, by an estimate that needs no GPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from arc_core.config import load_config, workspace_folder
from hrm.config import ModelConfig
from hrm.data.tokens import window_positions
from hrm.model.reasoner import Reasoner

ROOT = workspace_folder()
sys.path.insert(0, str(ROOT / "tools"))  # tools are programs, not a package
import estimate_memory  # noqa: E402  # from tools/
import fake_cuda  # noqa: E402  # from tools/
import step_memory  # noqa: E402  # from tools/

RECIPES = [
    f"{method}/{path.stem}"
    for method in estimate_memory.METHODS
    for path in sorted((ROOT / "configs" / method).glob("*.yaml"))
]


def read_config(recipe: str) -> Any:
    """Reads a recipe's config."""
    name, path = estimate_memory.locate(recipe)
    method = estimate_memory.METHODS[name]
    return load_config(method.kind, name, {}, path, {}, method.old_keys)[0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_a_card_exactly_if_it_computes_in_16_bits(recipe: str) -> None:
    card = estimate_memory.parse_card(estimate_memory.first_comment(ROOT / "configs" / f"{recipe}.yaml"))
    assert (card is not None) == (read_config(recipe).precision != "float32")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", estimate_memory.gpu_recipes())
def test_a_recipe_fits_its_card_on_the_largest_canvas(recipe: str) -> None:
    estimate, card = estimate_memory.estimate_recipe(recipe)
    assert card is not None
    assert estimate.needed <= card.memory, (
        f"{estimate.needed / 2**30:.1f} GiB; the table: uv run tools/estimate_memory.py"
    )


@pytest.mark.parametrize(
    ("comment", "count", "memory"),
    [
        ("For one GPU of 24 GB.", 1, 24e9),
        ("8 GPUs of 80 GB", 8, 80e9),
        ("two CPU cores", None, None),
        ("a GPU", None, None),
    ],
)
def test_cards_are_read_from_comments(comment: str, count: int | None, memory: float | None) -> None:
    card = estimate_memory.parse_card(comment)
    assert (card and card.count, card and card.memory) == (count, memory)


@pytest.mark.parametrize("input_has_gradient", [False, True])
def test_a_linear_layer_keeps_what_its_gradients_need_in_16_bits(input_has_gradient: bool) -> None:
    rows, inputs, outputs = 1000, 256, 64
    with fake_cuda.fake_cuda() as memory:
        layer = nn.Linear(inputs, outputs, bias=False, device="cuda")
        values = torch.zeros(rows, inputs, device="cuda", requires_grad=input_has_gradient)

        def forward() -> Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                loss: Tensor = layer(values).sum()
            return loss

        saved, transient = step_memory.measure_step(memory, forward)
    # The weight's gradient needs the input, the input's needs the weight, both as autocast converted them.
    kept = 2 * rows * inputs + 2 * inputs * outputs * input_has_gradient
    scalar = 4
    assert saved == kept + scalar
    gradients = 4 * inputs * outputs + 4 * rows * inputs * input_has_gradient
    assert transient >= max(gradients, kept + 2 * inputs * outputs)


def test_attention_without_a_mask_saves_no_scores() -> None:
    batch, heads, length, channels = 2, 4, 512, 64
    with fake_cuda.fake_cuda() as memory:
        query = torch.zeros(batch, heads, length, channels, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        before = memory.now
        output = functional.scaled_dot_product_attention(query, query, query)
        kept = memory.now - before
        del output
    assert kept < 2 * batch * heads * length * length
    assert kept >= 2 * batch * heads * length * channels


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_backward_pass_of_the_estimate_computes_the_gradients_of_autograd(gradient_checkpointing: bool) -> None:
    config = ModelConfig(
        hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=16, seq_len=900,
        gradient_checkpointing=gradient_checkpointing,
    )  # fmt: skip
    model = Reasoner(config)
    tokens, positions = torch.randint(2, 12, (2, 16)), window_positions(4, model.prefix_tokens)
    puzzles = torch.randn(2, 16, requires_grad=True)
    leaves = [*model.parameters(), puzzles]

    def loss() -> Tensor:
        _, output = model(model.initial_state(2, 16), tokens, puzzles, positions)
        total: Tensor = output.logits.square().mean() + output.q_halt.sum()
        return total

    expected = torch.autograd.grad(loss(), leaves, allow_unused=True)
    fake_cuda.backward(loss)
    for leaf, gradient in zip(leaves, expected, strict=True):
        assert (leaf.grad is None) == (gradient is None)
        if leaf.grad is not None and gradient is not None:
            assert torch.equal(leaf.grad, gradient)


@pytest.mark.slow
def test_checkpointing_trades_saved_activations_for_time() -> None:
    plain, recomputed = (
        estimate_memory.estimate_recipe("hrm/trm", 8, {"model.gradient_checkpointing": choice})[0]
        for choice in (False, True)
    )
    assert recomputed.saved < plain.saved / 8
    assert recomputed.transient < plain.transient / 2
    assert recomputed.tables == plain.tables


@pytest.mark.parametrize("arguments", [["hrm/nothing"], ["program-jepa/quick"], ["rlan/base", "--training.bach", "3"]])
def test_a_bad_recipe_ends_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate_memory.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")


@pytest.mark.slow
def test_the_command_prints_a_recipe_and_whether_it_fits() -> None:
    command = [sys.executable, str(Path("tools") / "estimate_memory.py"), "hrm/full", "--batch", "2", "--card", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "hrm/full" in done.stdout and "does not fit" in done.stdout
