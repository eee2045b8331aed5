"""The commands `import-hrm-checkpoint` and `export-hrm`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table

from arc_core.checkpoint import load_checkpoint, save_checkpoint
from arc_core.config import build_config, workspace_folder
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_atomically
from hrm.config import METHOD, HrmConfig
from hrm.conversion.export import SUFFIXES, FixedSegments, Program, load_real_inputs, measure_latency, write_program
from hrm.conversion.published_weights import (
    make_reference_arch,
    read_arch,
    read_reference,
    rename_to_published,
    to_checkpoint,
)
from hrm.solver import load_network


def import_hrm_checkpoint(argv: Sequence[str] | None = None) -> int:
    """Runs the command `import-hrm-checkpoint` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "import-hrm-checkpoint",
        description="Read a published HRM or TRM state_dict and write a checkpoint that resumes, evaluates and exports "
        "here; or with --to-reference write one of ours under the published names.",
        epilog="example: uv run import-hrm-checkpoint step_500000 --reference-config all_config.yaml",
    )
    parser.add_argument("file", type=Path, help="state_dict, or with --to-reference a checkpoint or run folder of ours")
    parser.add_argument("--reference-config", type=Path, metavar="YAML", help="all_config.yaml beside the state_dict")
    parser.add_argument("--num-heads", type=int, help="attention heads, where there is no reference config")
    parser.add_argument("--to-reference", action="store_true", help="write one of ours under the published names")
    parser.add_argument("--out", type=Path, help="run folder to write; with --to-reference the file")
    args = parser.parse_args(argv)
    return run_command(lambda: _convert(args, Console(emoji=False)))


def _convert(args: argparse.Namespace, console: Console) -> int:
    if not args.file.exists():
        raise InputError(f"{args.file} does not exist")
    if args.to_reference:
        checkpoint = load_checkpoint(args.file, METHOD)
        state = rename_to_published(checkpoint.model)
        out = args.out or Path(f"{args.file.stem}-reference.pt")
        write_atomically(out, lambda file: torch.save(state, file))
        arch = make_reference_arch(checkpoint)
        write_atomically(out.with_suffix(".yaml"), lambda file: file.write(yaml.safe_dump({"arch": arch}).encode()))
        console.print(
            f"{len(state)} tensors under the published names in {show_path(out)}, config beside it", soft_wrap=True
        )
        return 0
    arch = dict(read_arch(args.reference_config))
    if args.num_heads is not None:
        arch["num_heads"] = args.num_heads
    checkpoint = to_checkpoint(read_reference(args.file), arch)
    config, _ = build_config(HrmConfig, checkpoint.config, "the reference config")
    out = args.out or workspace_folder() / "runs" / METHOD / f"imported-{args.file.stem}"
    path = save_checkpoint(out / "checkpoints", checkpoint, is_best=True, keep_last=1)
    model = config.model
    console.print(
        f"{model.architecture}: hidden {model.hidden_size}, {model.num_heads} heads, {model.H_layers}+{model.L_layers} "
        f"layers, {model.H_cycles}x{model.L_cycles} cycles; every weight has its place\n"
        f"written to {show_path(path)}\nnext: uv run eval compare --methods hrm={show_path(out)} --limit 40",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def export_hrm(argv: Sequence[str] | None = None) -> int:
    """Runs the command `export-hrm` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "export-hrm",
        description="Write a checkpoint as a fixed-step inference program and check it against the live model on real "
        "tasks.",
        epilog="example: uv run export-hrm runs/hrm/quick-20260102-030405 --format onnx",
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint file or run folder")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="torch")
    parser.add_argument("--segments", type=int, help="segments to run; default the model's halt_max_steps")
    parser.add_argument("--out", type=Path, help="file to write; default in the working directory")
    args = parser.parse_args(argv)
    return run_command(lambda: _export(args, Console(emoji=False)))


def _export(args: argparse.Namespace, console: Console) -> int:
    if args.segments is not None and args.segments < 1:
        raise InputError(f"--segments must be at least 1; got {args.segments}")
    if args.out is not None and args.out.suffix != SUFFIXES[args.format]:
        raise InputError(f"--out must end in {SUFFIXES[args.format]} for --format {args.format}; got {args.out}")
    loaded = load_network(args.checkpoint, "cpu")
    network, config = loaded.network, loaded.config
    program = FixedSegments(network.model, args.segments or config.model.halt_max_steps).eval()
    out: Path = args.out or Path(f"hrm-{config.model.architecture}{SUFFIXES[args.format]}")
    with torch.no_grad():
        written = write_program(program, config, network, args.format, out)
        tokens, rows = load_real_inputs(network, 4)
        live_outputs, written_outputs = program(tokens, rows), written(tokens, rows)
        difference = max(float((a - b).abs().max()) for a, b in zip(live_outputs, written_outputs, strict=True))
        largest_logit = float(live_outputs[0].abs().max())
        agreement = float((live_outputs[0].argmax(-1) == written_outputs[0].argmax(-1)).float().mean())
        programs: dict[str, Program] = {"live": program, args.format: written}
        latencies = {name: measure_latency(run, tokens[:1], rows[:1]) for name, run in programs.items()}
    table = Table("", "latency, one puzzle", title=f"{program.segments} segments on {config.model.seq_len} cells, CPU")
    for name, seconds in latencies.items():
        table.add_row(name, f"{1000 * seconds:.1f} ms")
    console.print(table)
    console.print(
        f"largest difference to the live model on 4 tasks of arc1:train: {difference:.2e}, of logits up to "
        f"{largest_logit:.3g}; {agreement:.2%} of the cells agree\n"
        f"{out.stat().st_size / 2**20:.1f} MiB written to {show_path(out)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(import_hrm_checkpoint())
