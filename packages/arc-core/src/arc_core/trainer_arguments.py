"""The command line of every trainer."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from arc_core.config import parse_overrides, workspace_folder
from arc_core.errors import InputError


@dataclass(frozen=True)
class TrainerArguments:
    """The parsed command line of a trainer.

    Attributes:
        config: file of the recipe.
        has_config: whether the user named a recipe or any key; otherwise a resumed run keeps its own config.
        overrides: values by dotted key.
        resume: "auto", a path, or None for a new run.
        run_dir: folder to write to; None for a new folder in runs/.
        init_from: checkpoint or run whose weights a new run starts from; None for new weights.
        print_config: show the config and stop.
        switches: switches of this trainer alone that the user gave.
    """

    config: Path
    has_config: bool
    overrides: Mapping[str, object]
    resume: str | None
    run_dir: Path | None
    init_from: Path | None
    print_config: bool
    switches: frozenset[str]

    @property
    def recipe(self) -> str:
        """Name of the recipe, taken from its file."""
        return self.config.stem


def parse_trainer_arguments(
    command: str, method: str, description: str, switches: Mapping[str, str], argv: Sequence[str] | None = None
) -> TrainerArguments:
    """Parses the command line of a trainer; any `--section.key VALUE` is an override.

    Args:
        command: name of the command.
        method: name of the method and of its folder in configs/.
        description: description of the command for --help.
        switches: help text by flag without a value that this trainer alone has, such as "--validate-config".
        argv: the arguments; None for those of the process.
    Raises:
        InputError: an argument is invalid, or two exclude each other.
    """
    recipes = workspace_folder() / "configs" / method
    recipe_names = ", ".join(sorted(path.stem for path in recipes.glob("*.yaml")))
    parser = argparse.ArgumentParser(
        command,
        description=description,
        epilog=f"Recipes in configs/{method}: {recipe_names}. Any key of a recipe is a flag too, --section.key VALUE "
        f"(docs/configs.md). Ctrl-C finishes the step, saves and stops; --resume auto continues exactly. "
        f"Example: uv run {command} --config configs/{method}/quick.yaml --device cpu",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help=f"recipe; default configs/{method}/quick.yaml")
    parser.add_argument("--resume", metavar="auto|PATH", help="continue the newest run of the recipe, or this one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="same as --device.name")
    parser.add_argument("--run-dir", metavar="DIR", help=f"run folder; default runs/{method}/<recipe>-<date>-<time>")
    parser.add_argument("--init-from", metavar="PATH", help="start a new run from this checkpoint's weights")
    parser.add_argument("--print-config", action="store_true", help="show the resolved config and stop")
    parser.set_defaults(switches=[])
    for switch, meaning in switches.items():
        parser.add_argument(switch, action="append_const", const=switch, dest="switches", help=meaning)
    args, rest = parser.parse_known_args(argv)
    overrides = parse_overrides(rest)
    if args.device:
        overrides["device.name"] = args.device
    if args.resume and args.init_from:
        raise InputError("--resume continues a run and --init-from begins one; give one of them")
    path = Path(args.config) if args.config else recipes / "quick.yaml"
    if not path.exists() and (recipes.parent.parent / path).exists():
        path = recipes.parent.parent / path
    return TrainerArguments(
        path,
        bool(args.config or rest),
        overrides,
        args.resume,
        Path(args.run_dir) if args.run_dir else None,
        Path(args.init_from) if args.init_from else None,
        args.print_config,
        frozenset(args.switches),
    )


def first_process_console() -> Console:
    """Returns the console of a trainer; under torchrun only the first of the processes that share it prints."""
    return Console(quiet=os.environ.get("RANK", "0") != "0", emoji=False)
