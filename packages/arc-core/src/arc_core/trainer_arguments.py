"""The command line that every trainer has."""

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
    """A parsed command line.

    Attributes:
        config: the recipe's file.
        given: whether the user named a recipe or any key; otherwise a resumed run keeps its own.
        overrides: dotted keys to values.
        resume: "auto", a path, or None.
        run_dir: where to write, None for a new folder below runs/.
        init_from: a checkpoint or run whose weights to start from.
        print_config: show the config and stop.
        switches: those of the trainer's own that were given.
    """

    config: Path
    given: bool
    overrides: Mapping[str, object]
    resume: str | None
    run_dir: Path | None
    init_from: Path | None
    print_config: bool
    switches: frozenset[str]

    @property
    def recipe(self) -> str:
        """The recipe's name, from its file."""
        return self.config.stem


def parse_trainer_arguments(
    command: str, method: str, description: str, switches: Mapping[str, str], argv: Sequence[str] | None = None
) -> TrainerArguments:
    """The command line of a trainer; any `--section.key VALUE` is an override.

    Args:
        switches: flags without a value that this trainer alone has, such as "--validate-config", and their help.
    Raises:
        InputError: an argument is not understood, or two exclude each other.
    """
    recipes = workspace_folder() / "configs" / method
    known = ", ".join(sorted(path.stem for path in recipes.glob("*.yaml")))
    parser = argparse.ArgumentParser(
        command,
        description=description,
        epilog=f"Recipes in configs/{method}: {known}. Any key of a recipe is a flag too, --section.key VALUE "
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
    """Where a trainer speaks: under torchrun every process runs the command, and only the first one is heard."""
    return Console(quiet=os.environ.get("RANK", "0") != "0", emoji=False)
