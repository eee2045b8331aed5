"""Measures the JEPA: tasks per second in training, the cost of SIGReg, and the time that pre-tokenised shards save.

    uv run tools/bench_jepa.py                    all three; about three minutes on two cores
    uv run tools/bench_jepa.py --part sigreg      one of step, sigreg, shards

Tasks are those of configs/jepa/quick.yaml, generated when they are missing. Times of a ratio are measured in turn in
one run; figures are medians of several repeats.
"""

import argparse
import dataclasses
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console

from arc_core.config import load_config, workspace_folder
from arc_core.loop import open_fabric
from arc_core.runs import RunFolder
from jepa_hrl.jepa.config import METHOD, JepaConfig
from jepa_hrl.jepa.data.dataset import load_data
from jepa_hrl.jepa.data.shards import write_shards
from jepa_hrl.jepa.data.tasks import training_tasks
from jepa_hrl.jepa.data.token_table import build_table
from jepa_hrl.jepa.losses.sigreg import draw_slices, epps_pulley, quadrature_rule
from jepa_hrl.jepa.trainer import Trainer

QUIET = Console(quiet=True)
SLICES, CHANNELS = 1024, 128


def load_recipe(name: str) -> JepaConfig:
    """Loads a recipe of configs/jepa, with the quick recipe's tasks."""
    path = workspace_folder() / "configs" / METHOD / f"{name}.yaml"
    config, _ = load_config(JepaConfig, METHOD, {}, path, {"data.curriculum": "jepa_quick"})
    return config


def measure_seconds(call: Callable[[], object]) -> float:
    """Measures the seconds of a call, work on the GPU included."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bench_step(repeats: int) -> None:
    """Measures the tasks per second of training steps, with augmentation and all losses."""
    for name in ("quick", "sigreg"):
        config = load_recipe(name)
        if name == "sigreg" and not torch.cuda.is_available():
            training = dataclasses.replace(config.training, batch_size=128, grad_accum_steps=1)
            config = dataclasses.replace(config, training=training)
        fabric = open_fabric("auto", config.training.precision)
        data = load_data(config, QUIET)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(config, data, RunFolder(Path(folder)), fabric)
            trainer.training_step()
            seconds = [measure_seconds(trainer.training_step) for _ in range(3 * repeats)]
        rates = sorted(config.training.batch_size / duration for duration in seconds)
        print(
            f"{name:8s} hidden {config.object_encoder.hidden_dim}, batch {config.training.batch_size}, "
            f"{fabric.device}: {median(rates):7.1f} tasks/s ({rates[0]:.1f} to {rates[-1]:.1f})"
        )


def epps_pulley_complex(
    vectors: torch.Tensor, slices: torch.Tensor, nodes: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Computes the Epps-Pulley statistic by its formula with complex exponentials, all slices at once, in float32.

    Args:
        vectors: (N, C) latents.
        slices: (C, S) unit directions.
        nodes: (Q,) nodes of the quadrature.
        weights: (Q,) weights of the quadrature.
    """
    angles = (vectors @ slices)[:, :, None] * nodes
    phi = torch.exp(1j * angles).mean(dim=0)
    gauss = torch.exp(-nodes.square() / 2)
    return len(vectors) * (((phi - gauss).abs().square() * gauss) @ weights).mean()


def measure_sigreg(kind: str, batch: int, repeats: int) -> None:
    """Prints the median milliseconds of forward and backward, and the process's growth in MiB.

    Args:
        kind: "ours", or "plain" for the formula as it stands.
        batch: number of latents.
        repeats: number of timings.
    """
    rule, slices = quadrature_rule(17, "trapezoid"), draw_slices(CHANNELS, SLICES, np.random.default_rng(0))
    vectors = torch.randn(batch, CHANNELS, requires_grad=True)
    small = vectors[:4]
    code = epps_pulley if kind == "ours" else epps_pulley_complex
    torch.autograd.grad(code(small, slices, *rule), vectors)
    before = resident_mebibytes()
    seconds = [
        measure_seconds(lambda: torch.autograd.grad(code(vectors, slices, *rule), vectors)) for _ in range(repeats)
    ]
    peaks: list[float] = []
    done = threading.Event()
    watch = threading.Thread(
        target=lambda: [peaks.append(resident_mebibytes()) for _ in iter(lambda: done.wait(5e-4), True)]
    )
    watch.start()
    torch.autograd.grad(code(vectors, slices, *rule), vectors)
    done.set()
    watch.join()
    print(f"{1000 * median(seconds):.3f} {max(peaks, default=before) - before:.1f}")


def resident_mebibytes() -> float:
    """Returns the resident memory of the process in MiB, from /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def bench_sigreg(repeats: int) -> None:
    """Compares SIGReg, forward and backward, with the plain formula, each in its own process to measure its memory."""
    print(f"SIGReg on the CPU, {SLICES} slices of {CHANNELS} channels, forward and backward")
    for batch in (128, 256, 512, 1024):
        figures = {}
        for kind in ("ours", "plain"):
            command = [sys.executable, __file__, "--part", f"sigreg-{kind}-{batch}", "--repeats", str(repeats)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            figures[kind] = [float(part) for part in output.split()]
        (ours, memory), (plain, plain_memory) = figures["ours"], figures["plain"]
        print(
            f"batch {batch:5d}: {ours:8.1f} ms, {memory:7.1f} MiB   "
            f"plain formula {plain:8.1f} ms, {plain_memory:7.1f} MiB   {plain / ours:.2f} times faster"
        )


def bench_shards(repeats: int) -> None:
    """Compares runs and epochs that compute their tokens with those that read tokens from shards."""
    fabric = open_fabric("auto", "float32")
    for spec in (None, "arc1:train", "arc2:train"):
        config = on_tasks(load_recipe("quick"), spec)
        _, tasks = training_tasks(config.data, QUIET)
        eight, one_color = config.object_encoder.connectivity == 8, config.object_encoder.one_color
        with tempfile.TemporaryDirectory() as name:
            write_shards(config, Path(name), -1, QUIET)
            calls: dict[str, Callable[[], object]] = {
                "one process": partial(build_table, tasks, eight, one_color, 1),
                "all cores": partial(build_table, tasks, eight, one_color, -1),
                "computed": partial(load_data, config, QUIET),
                "read": partial(load_data, with_shards(config, name), QUIET),
            }
            seconds: dict[str, list[float]] = {kind: [] for kind in calls}
            for _ in range(repeats):
                for kind, call in calls.items():
                    seconds[kind].append(measure_seconds(call))
            medians = {kind: median(values) for kind, values in seconds.items()}
            print(
                f"{len(tasks)} tasks of {spec or config.data.curriculum}: tokens by one process "
                f"{medians['one process']:.2f} s, by all cores {medians['all cores']:.2f} s; load and compute tokens "
                f"{medians['computed']:.2f} s, load and read shards {medians['read']:.2f} s"
            )
            for network in ("tiny", "quick"):
                read = with_shards(on_tasks(load_recipe(network), spec), name)
                trainer = Trainer(read, load_data(read, QUIET), RunFolder(Path(name) / network), fabric)
                trainer.training_step()
                epoch = trainer.steps_per_epoch * median(
                    measure_seconds(trainer.training_step) for _ in range(3 * repeats)
                )
                computed, loaded = medians["computed"], medians["read"]
                print(
                    f"  {network}: epoch {epoch:.2f} s; one that computes its tokens takes "
                    f"{1 + medians['one process'] / epoch:.2f} times as long (one process); with shards a run of one "
                    f"epoch is {(computed + epoch) / (loaded + epoch):.2f} times faster, "
                    f"of five {(computed + 5 * epoch) / (loaded + 5 * epoch):.2f} times"
                )


def on_tasks(config: JepaConfig, spec: str | None) -> JepaConfig:
    """Returns the recipe with a data spec's tasks, or with its own for None."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tasks=spec))


def with_shards(config: JepaConfig, folder: str) -> JepaConfig:
    """Returns the recipe with tokens read from the shards of a folder."""
    return dataclasses.replace(config, pre_tokenized=dataclasses.replace(config.pre_tokenized, path=folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="all", help="step, sigreg, shards or all")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.part.startswith("sigreg-"):
        _, kind, batch = args.part.split("-")
        measure_sigreg(kind, int(batch), args.repeats)
        return
    for name, bench in (("step", bench_step), ("sigreg", bench_sigreg), ("shards", bench_shards)):
        if args.part in ("all", name):
            bench(args.repeats)


if __name__ == "__main__":
    main()
