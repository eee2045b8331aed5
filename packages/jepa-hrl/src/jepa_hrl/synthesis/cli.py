"""`generate-dataset`: writes a synthetic curriculum."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from arc_core.config import workspace_folder
from arc_core.errors import run_command
from arc_core.files import show_path
from jepa_hrl.synthesis.dataset import generate, read_config


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `generate-dataset` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "generate-dataset",
        description="Write synthetic ARC tasks of known programs. Any key of the config is a switch too: "
        "--task_schedule.phase_i.count 100.",
        epilog="example: uv run generate-dataset --config configs/data/pilot_curriculum.yaml",
    )
    default = workspace_folder() / "configs" / "data" / "pilot_curriculum.yaml"
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help="default: the pilot curriculum")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="default: data/NAME")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: one a core)")
    args, rest = parser.parse_known_args(argv)
    return run_command(lambda: _generate(args, rest, Console(emoji=False)))


def _generate(args: argparse.Namespace, rest: Sequence[str], console: Console) -> int:
    config = read_config(args.config, rest)
    folder = args.output_dir or workspace_folder() / "data" / config.name
    began = time.perf_counter()
    console.print(f"writing to {show_path(folder)}", highlight=False, soft_wrap=True)
    summary = generate(config, folder, args.workers, console)
    seconds = time.perf_counter() - began
    histogram = summary["program_length_histogram"]
    assert isinstance(histogram, dict)
    lengths = ", ".join(f"{count:,} of {length}" for length, count in histogram.items())
    manifest = show_path(folder / "manifest.jsonl")
    console.print(
        f"{summary['total_tasks']:,} tasks in {seconds:.0f} s; steps: {lengths}\n"
        f"a look: {show_path(folder / 'contact_sheet.png')}\n"
        f"next: uv run evaluate-arc --tasks {manifest} --output runs/search/{config.name}.json --limit 200",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
