"""`export-hrm`: a fixed number of segments as one inference program, for machines without this code.

B batch, L cells, V tokens. The program reads tokens (B, L) int64 and rows (B, E) float32, the puzzles' embeddings, and
gives logits (B, L, V) and the value of halting (B,), both float32.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arc_core.config import config_to_dict
from arc_core.datasets import load_tasks
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_atomically
from arc_core.tensors import TaskTensors
from hrm.config import HrmConfig
from hrm.model import Reasoner
from hrm.networks import Networks
from hrm.solver import open_networks
from hrm.tokens import encode

_SUFFIXES = {"torch": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
Program = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class FixedSteps(nn.Module):
    """All segments, without halting, on the full canvas."""

    def __init__(self, model: Reasoner, segments: int) -> None:
        super().__init__()
        self.model, self.segments = model, segments
        self.places: Tensor
        self.register_buffer("places", torch.arange(model.prefix + model.config.seq_len)[None])

    def forward(self, tokens: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, V) logits and (B,) values of (B, L) tokens and (B, E) embeddings."""
        state = self.model.start(tokens.shape[0], tokens.shape[1])
        puzzles = rows if self.model.prefix else None
        for _ in range(self.segments):
            state, answer = self.model(state, tokens, puzzles, self.places)
        return answer.logits, answer.halt


def real_inputs(networks: Networks, count: int) -> tuple[Tensor, Tensor]:
    """Test inputs of arc1:train with the first embeddings of the model, so that a comparison means something."""
    config = networks.model.config
    tasks = load_tasks("arc1:train")[:count]
    tensors = TaskTensors.from_tasks([task.without_answers() for task in tasks])
    pairs = tensors.first_pair[:-1] + tensors.num_train
    identity = torch.arange(10, dtype=torch.uint8).repeat(count, 1)
    canvas, sizes = tensors.gather(torch.from_numpy(2 * pairs), torch.zeros(count, dtype=torch.int64), identity, 30)
    tokens = encode(canvas, sizes).flatten(1).long()[:, : config.seq_len].clamp_max(config.vocab_size - 1)
    rows = torch.zeros(count, config.puzzle_emb_ndim)
    if networks.embedding is not None:
        first = networks.embedding.weights[1 : count + 1]
        rows[: len(first)] = first
    return tokens, rows


def write_program(program: FixedSteps, config: HrmConfig, networks: Networks, form: str, path: Path) -> Program:
    """Writes the file, and reads it again as a function on the CPU.

    Raises:
        InputError: the format needs packages that are not installed.
    """
    tokens, rows = real_inputs(networks, 2)
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = ({0: batch}, {0: batch})
    if form == "safetensors":
        weights = {name: value.contiguous() for name, value in networks.state_dict().items()}
        text = {"config": json.dumps(config_to_dict(config)), "segments": str(program.segments)}
        save_file(weights, path, text)
        again = Networks(Reasoner(config.model), networks.embedding)
        again.model.load_state_dict({k: v for k, v in load_file(path).items() if k != "puzzle_emb.weights"})
        return FixedSteps(again.model.eval(), program.segments)
    if form == "torch":
        exported = torch.export.export(program, (tokens, rows), dynamic_shapes=shapes)
        write_atomically(path, lambda file: torch.export.save(exported, file))
        loaded: Program = torch.export.load(path).module()
        return loaded
    try:
        import onnxruntime
    except ImportError:
        raise InputError("--format onnx needs the extra: uv sync --package hrm --extra onnx") from None
    torch.onnx.export(
        program, (tokens, rows), path, dynamo=True, dynamic_shapes=shapes, input_names=["tokens", "rows"],
        output_names=["logits", "halt"], external_data=False, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(tokens: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        feeds = {"tokens": tokens.numpy(), "rows": rows.numpy()}
        names = {value.name for value in session.get_inputs()}
        logits, halt = session.run(None, {name: value for name, value in feeds.items() if name in names})
        return torch.from_numpy(np.asarray(logits)), torch.from_numpy(np.asarray(halt))

    return run


def latency(run: Program, tokens: Tensor, rows: Tensor, repeats: int = 5) -> float:
    """Median seconds of a call."""
    run(tokens, rows)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run(tokens, rows)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main(argv: Sequence[str] | None = None) -> int:
    """The command `export-hrm`."""
    parser = argparse.ArgumentParser(
        "export-hrm",
        description="Write a checkpoint as a fixed-step inference program and check it against the live model on real "
        "tasks.",
        epilog="example: uv run export-hrm runs/hrm/quick-20260102-030405 --format onnx",
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint file or run folder")
    parser.add_argument("--format", choices=tuple(_SUFFIXES), default="torch")
    parser.add_argument("--segments", type=int, help="default: the model's halt_max_steps")
    parser.add_argument("--out", type=Path, help="file to write; default beside the working directory")
    args = parser.parse_args(argv)
    return run_command(lambda: _export(args, Console(emoji=False)))


def _export(args: argparse.Namespace, console: Console) -> int:
    if args.segments is not None and args.segments < 1:
        raise InputError(f"--segments must be at least 1; got {args.segments}")
    if args.out is not None and args.out.suffix != _SUFFIXES[args.format]:
        raise InputError(f"--out must end in {_SUFFIXES[args.format]} for --format {args.format}; got {args.out}")
    opened = open_networks(args.checkpoint, "cpu")
    networks, config = opened.networks, opened.config
    program = FixedSteps(networks.model, args.segments or config.model.halt_max_steps).eval()
    out: Path = args.out or Path(f"hrm-{config.model.architecture}{_SUFFIXES[args.format]}")
    with torch.no_grad():
        written = write_program(program, config, networks, args.format, out)
        tokens, rows = real_inputs(networks, 4)
        live, stored = program(tokens, rows), written(tokens, rows)
        difference = max(float((a - b).abs().max()) for a, b in zip(live, stored, strict=True))
        largest = float(live[0].abs().max())
        agree = float((live[0].argmax(-1) == stored[0].argmax(-1)).float().mean())
        times = {name: latency(run, tokens[:1], rows[:1]) for name, run in (("live", program), (args.format, written))}
    table = Table("", "latency, one puzzle", title=f"{program.segments} segments on {config.model.seq_len} cells, CPU")
    for name, seconds in times.items():
        table.add_row(name, f"{1000 * seconds:.1f} ms")
    console.print(table)
    console.print(
        f"largest difference to the live model on 4 tasks of arc1:train: {difference:.2e}, of logits up to "
        f"{largest:.3g}; {agree:.2%} of the cells agree\n"
        f"{out.stat().st_size / 2**20:.1f} MiB written to {show_path(out)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
