"""`export-hrm`: a fixed number of segments as one inference program, for machines without this code.

B batch, L cells, V tokens. The program reads tokens (B, L) int64 and rows (B, E) float32, the puzzles' embeddings, and
returns logits (B, L, V) and halt (B,), the logit q_halt, both float32.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arc_core.config import config_to_dict
from arc_core.datasets import load_tasks
from arc_core.errors import InputError
from arc_core.files import write_atomically
from arc_core.tensors import TaskTensors
from hrm.config import HrmConfig
from hrm.data.tokens import encode
from hrm.model.model_with_embeddings import ModelWithEmbedding
from hrm.model.reasoner import Reasoner

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
Program = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class FixedSegments(nn.Module):
    """All segments, without halting, on the full canvas."""

    def __init__(self, model: Reasoner, segments: int) -> None:
        super().__init__()
        self.model, self.segments = model, segments
        self.positions: Tensor
        self.register_buffer("positions", torch.arange(model.prefix_tokens + model.config.seq_len)[None])

    def forward(self, tokens: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (B, L, V) logits and (B,) q_halt of (B, L) tokens and (B, E) puzzle embeddings."""
        state = self.model.initial_state(tokens.shape[0], tokens.shape[1])
        puzzle_embeddings = rows if self.model.prefix_tokens else None
        for _ in range(self.segments):
            state, output = self.model(state, tokens, puzzle_embeddings, self.positions)
        return output.logits, output.q_halt


def load_real_inputs(network: ModelWithEmbedding, count: int) -> tuple[Tensor, Tensor]:
    """Loads test inputs of arc1:train, with the model's first embeddings, so that a comparison is of real values.

    Returns:
        (count, L) int64 tokens and (count, E) float32 embeddings.
    """
    config = network.model.config
    tasks = load_tasks("arc1:train")[:count]
    tensors = TaskTensors.from_tasks([task.without_answers() for task in tasks])
    pairs = tensors.first_pair[:-1] + tensors.num_train
    colors = torch.arange(10, dtype=torch.uint8).repeat(count, 1)
    canvas, sizes = tensors.gather(torch.from_numpy(2 * pairs), torch.zeros(count, dtype=torch.int64), colors, 30)
    tokens = encode(canvas, sizes).flatten(1).long()[:, : config.seq_len].clamp_max(config.vocab_size - 1)
    rows = torch.zeros(count, config.puzzle_emb_ndim)
    if network.embedding is not None:
        first = network.embedding.weights[1 : count + 1]
        rows[: len(first)] = first
    return tokens, rows


def write_program(
    program: FixedSegments, config: HrmConfig, network: ModelWithEmbedding, form: str, path: Path
) -> Program:
    """Writes an inference program, and reads it again as a function on the CPU.

    Args:
        program: what to write, in evaluation mode.
        config: of the model, stored beside its weights in a .safetensors file.
        network: of the same model.
        form: a key of SUFFIXES.
        path: file to write.
    Returns:
        the program as it was read from the file.
    Raises:
        InputError: the format needs packages that are not installed.
    """
    tokens, rows = load_real_inputs(network, 2)
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = ({0: batch}, {0: batch})
    if form == "safetensors":
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        metadata = {"config": json.dumps(config_to_dict(config)), "segments": str(program.segments)}
        save_file(weights, path, metadata)
        model = Reasoner(config.model)
        model.load_state_dict({k: v for k, v in load_file(path).items() if k != "puzzle_emb.weights"})
        return FixedSegments(model.eval(), program.segments)
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


def measure_latency(run: Program, tokens: Tensor, rows: Tensor, repeats: int = 5) -> float:
    """Measures the median seconds of a call, after one call to warm up.

    Args:
        run: the program.
        tokens, rows: its inputs.
        repeats: calls to measure.
    """
    run(tokens, rows)
    seconds = []
    for _ in range(repeats):
        start_time = time.perf_counter()
        run(tokens, rows)
        seconds.append(time.perf_counter() - start_time)
    return statistics.median(seconds)
