"""`export-hrm`: a fixed number of segments as one inference program, for machines without this code.

B batch, L cells, V tokens. The program reads tokens (B, L) int64 and rows (B, E) float32, the puzzles' embeddings, and
gives logits (B, L, V) and the value of halting (B,), both float32.
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
from hrm.model.model_with_embeddings import Networks
from hrm.model.reasoner import Reasoner

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
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
