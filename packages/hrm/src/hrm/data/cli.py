"""`build-arc-dataset`: augmented puzzles on disk, as memory-mapped arrays."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.errors import InputError, run_command
from arc_core.files import show_path
from hrm.data.dataset_builder import build_dataset
from hrm.data.dataset_layout import Recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `build-arc-dataset` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "build-arc-dataset",
        description="Write augmented ARC puzzles as memory-mapped arrays. Training needs none of this: by default it "
        "makes the same views on the fly.",
        epilog="example: uv run build-arc-dataset --output-dir data/arc-aug-1000 --num-aug 1000 --seed 42",
    )
    parser.add_argument("--data", default="arc1:train", metavar="SPEC", help="training set (default arc1:train)")
    parser.add_argument("--dataset-dirs", nargs="+", type=Path, metavar="DIR", help="folders of ARC JSON, instead")
    parser.add_argument(
        "--transductive", metavar="SPEC", help="learn the demonstrations of these tasks too, never their tests"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--num-aug", type=int, default=1000, help="views of each task beside its own (default 1000)")
    parser.add_argument("--held-out-views", type=int, default=1, help="views whose tests are kept for val (default 1)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1; starting more takes seconds)")
    args = parser.parse_args(argv)
    return run_command(lambda: _build(args, Console(emoji=False)))


def _build(args: argparse.Namespace, console: Console) -> int:
    for name in ("num_aug", "held_out_views"):
        if getattr(args, name) < 0:
            raise InputError(f"--{name.replace('_', '-')} must be at least 0; got {getattr(args, name)}")
    if args.held_out_views > args.num_aug:
        raise InputError(f"--held-out-views must be at most --num-aug {args.num_aug}; got {args.held_out_views}")
    spec = "+".join(f"dir:{path}" for path in args.dataset_dirs) if args.dataset_dirs else args.data
    recipe = Recipe(spec, args.transductive, args.num_aug, args.held_out_views, args.seed)
    result = build_dataset(recipe, args.output_dir, args.workers, console)
    sizes, seconds = result["examples"], result["seconds"]
    assert isinstance(sizes, dict) and isinstance(seconds, float)
    total = sum(sizes.values())
    console.print(
        f"{total:,} examples ({', '.join(f'{name} {count:,}' for name, count in sizes.items())}) of "
        f"{result['identities']:,} identities in {seconds:.1f} s, {total / max(seconds, 0.1):,.0f} a second\n"
        f"written to {show_path(args.output_dir)}\n"
        f"next: uv run --package hrm train-hrm --data.dataset {show_path(args.output_dir)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
