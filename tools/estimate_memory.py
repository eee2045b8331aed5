"""Estimates the GPU memory of training steps on the largest canvas, 30 x 30, without a GPU.

    uv run tools/estimate_memory.py                      all recipes for a GPU
    uv run tools/estimate_memory.py hrm/trm              one recipe
    uv run tools/estimate_memory.py hrm/trm --batch 96 --card 24 --model.gradient_checkpointing true

A step's forward and backward pass run on fake CUDA tensors under CUDA's autocast, at the recipe's real micro-batch. The
JEPA, whose batches depend on the data, runs on the CPU at three small sizes, through which a parabola is laid.

The steps are counted as the eager mode runs them; a compiled model needs less. Columns are GiB a GPU:

    weights      of the network and of its averaged or target copy
    gradients    of the weights
    optimiser    two numbers for each weight; on several GPUs also the copies of gradients that they exchange
    tables       puzzle embeddings, and the latent states that HRM carries for each canvas; queues of the JEPA
    saved        what the forward pass leaves for the backward pass
    peak         the largest sum of all that is alive during the step
    needed       the peak, 5% for fragmentation, and 0.75 GiB for CUDA's context and the kernels' workspaces
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from step_memory import Estimate, estimate_hrm, estimate_jepa, estimate_rlan

from arc_core.config import OldKeys, load_config, parse_overrides, read_config_file, workspace_folder
from arc_core.errors import InputError, run_command
from hrm.config import OLD_KEYS as HRM_OLD_KEYS
from hrm.config import HrmConfig
from jepa_hrl.jepa.config import OLD_KEYS as JEPA_OLD_KEYS
from jepa_hrl.jepa.config import JepaConfig
from rlan.config import OLD_KEYS as RLAN_OLD_KEYS
from rlan.config import RlanConfig

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """The GPUs that a recipe is for.

    Attributes:
        count: GPUs, which share a batch.
        memory: bytes of each. A class of 24 GB is taken at its word, 24 billion bytes; some cards have a little more.
    """

    count: int
    memory: float


def parse_card(comment: str) -> Card | None:
    """Parses "one GPU of 24 GB" or "8 GPUs of 80 GB" in a comment; None where it names no card."""
    match = re.search(r"(\w+) GPUs? (?:of|with) (\d+) GB", comment)
    if match is None:
        return None
    count = 1 if match[1] == "one" else int(match[1]) if match[1].isdigit() else None
    return None if count is None else Card(count, 1e9 * int(match[2]))


def first_comment(path: Path) -> str:
    """Returns the comment at the top of a recipe, as one line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


@dataclass(frozen=True)
class Method:
    """A trainer whose memory can be estimated.

    Attributes:
        kind: class of its config.
        old_keys: keys of earlier versions.
        batch_key: key of the micro-batch.
        estimate: from recipe, config and GPUs.
    """

    kind: type
    old_keys: OldKeys
    batch_key: str
    estimate: Callable[[str, Any, int], Estimate]


METHODS: Mapping[str, Method] = {
    "rlan": Method(RlanConfig, RLAN_OLD_KEYS, "training.batch_size", estimate_rlan),
    "hrm": Method(HrmConfig, HRM_OLD_KEYS, "training.batch_size", estimate_hrm),
    "jepa": Method(JepaConfig, JEPA_OLD_KEYS, "training.batch_size", estimate_jepa),
}


def configs_folder() -> Path:
    """Returns the folder of all recipes."""
    return workspace_folder() / "configs"


def gpu_recipes() -> list[str]:
    """Returns the recipes of the methods here whose first comment names a card, as "hrm/trm"."""
    paths = sorted(path for method in METHODS for path in (configs_folder() / method).glob("*.yaml"))
    return [f"{path.parent.name}/{path.stem}" for path in paths if parse_card(first_comment(path))]


def locate(recipe: str) -> tuple[str, Path]:
    """Finds the method and the file of a recipe.

    Args:
        recipe: path of a YAML file, or folder and name such as "hrm/trm".
    Raises:
        InputError: there is no such recipe, or its method is not one of those estimated here.
    """
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else configs_folder() / f"{recipe}.yaml"
    if not path.is_file():
        raise InputError(f"RECIPE must be a YAML file or one of {', '.join(gpu_recipes())}; got {recipe}")
    method = read_config_file(path).get("method")
    if method not in METHODS:
        raise InputError(f"{path} must be of method {', '.join(METHODS)}; got {method}")
    return str(method), path


def estimate_recipe(
    recipe: str, batch: int | None = None, overrides: Mapping[str, object] | None = None
) -> tuple[Estimate, Card | None]:
    """Estimates a recipe.

    Args:
        recipe: see `locate`.
        batch: micro-batch over all GPUs; None for the recipe's.
        overrides: values by dotted key, which replace those of the recipe.
    Returns:
        the estimate, and the card that the recipe's first comment names.
    Raises:
        InputError: the recipe does not exist or cannot be used.
    """
    name, path = locate(recipe)
    method = METHODS[name]
    values = dict(overrides or {})
    if batch is not None:
        values[method.batch_key] = batch
        if name == "jepa":
            values["training.grad_accum_steps"] = 1  # its batch size is that of the whole step
    config: Any = load_config(method.kind, name, {}, path, values, method.old_keys)[0]
    card = parse_card(first_comment(path))
    return method.estimate(f"{name}/{path.stem}", config, card.count if card else 1), card


def print_table(estimates: Sequence[tuple[Estimate, Card | None]], console: Console) -> None:
    """Prints estimates in GiB, with the card of each and whether it fits."""
    table = Table(
        "recipe", "batch", "weights", "gradients", "optimiser", "tables", "saved", "peak", "needed", "card", ""
    )
    for estimate, card in estimates:
        parts = (estimate.weights, estimate.gradients, estimate.optimizer, estimate.tables, estimate.saved)
        sizes = [f"{size / GIB:.2f}" for size in parts]
        totals = [f"{size / GIB:.1f}" for size in (estimate.peak, estimate.needed)]
        memory = "" if card is None else f"{card.count} x {card.memory / GIB:.1f}"
        verdict = "" if card is None else "fits" if estimate.needed <= card.memory else "does not fit"
        table.add_row(estimate.recipe, f"{estimate.batch} x {estimate.parts}", *sizes, *totals, memory, verdict)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="a YAML file, or folder and name; all recipes for a GPU by default")
    parser.add_argument("--batch", type=int, help="micro-batch over all GPUs (default: the recipe's)")
    parser.add_argument("--card", type=float, metavar="GIB", help="memory of each GPU (default: the recipe's)")
    args, rest = parser.parse_known_args(arguments)

    def command() -> int:
        overrides = parse_overrides(rest)
        estimates = []
        for recipe in [args.recipe] if args.recipe else gpu_recipes():
            estimate, card = estimate_recipe(recipe, args.batch, overrides)
            if args.card is not None:
                card = Card(card.count if card else 1, args.card * GIB)
            estimates.append((estimate, card))
        print_table(estimates, Console(width=140))
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
