"""Estimates the throughput and cost of the GPU recipes on many GPUs from measured steps and all-reduces.

    uv run tools/estimate_scaling.py

The model: processes share a global batch of B evenly; a step of n processes takes

    t(n) = B / n x t_sample + t_allreduce(n),      t_allreduce(n) = 2 (n - 1) a + 2 (n - 1) / n x bytes / b

with a ring all-reduce (Patarasuk and Yuan 2009) that does not overlap with the backward pass. DDP overlaps a part of
it, so the estimate is on the slow side. `a` and `b`, the latency and bandwidth of a link, are fitted to measured
all-reduces of this machine's processes. On a GPU `t_sample` is measured. Without one it is the number of operations of
a training step divided by a share of the GPU's peak, and the links are assumed; both are printed.

The model is compared with the measured speed of two processes of this machine on RLAN's quick recipe.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import distributed
from torch.utils.flop_counter import FlopCounterMode

from arc_core.config import load_config, workspace_folder
from arc_core.loop import open_fabric
from arc_core.runs import RunFolder, read_metrics
from hrm.config import HrmConfig
from hrm.data.training_data import load_training_data
from hrm.trainer import Trainer as HrmTrainer
from jepa_hrl.jepa.config import JepaConfig
from jepa_hrl.jepa.data.dataset import load_data
from jepa_hrl.jepa.trainer import Trainer as JepaTrainer
from rlan.config import RlanConfig
from rlan.data.task_split import split_tasks
from rlan.trainer import Trainer as RlanTrainer

SIZES = [2**power for power in range(12, 27, 2)]  # bytes
CPU_BATCH = 2  # samples of a measured step on the CPU
ROOT = workspace_folder()


@dataclass(frozen=True)
class Links:
    """The links between processes.

    Attributes:
        latency: seconds for each message.
        bandwidth: bytes per second.
    """

    latency: float
    bandwidth: float

    def allreduce(self, processes: int, size: float) -> float:
        """Returns the seconds of a ring all-reduce over `size` bytes."""
        rounds = 2 * (processes - 1)
        return rounds * self.latency + rounds / processes * size / self.bandwidth


# Assumed without a GPU: NVLink within a machine of 8, one 400 Gb/s adapter for each GPU between machines; sustained.
ASSUMED = {8: Links(10e-6, 200e9), 64: Links(25e-6, 35e9)}
PEAK, SHARE = 989e12, 0.25  # dense bfloat16 operations a second of an H100 or H200, and the share that is reached


@dataclass(frozen=True)
class Recipe:
    """The measured cost of a recipe.

    Attributes:
        name: name in the table.
        batch: samples of a global optimiser step.
        steps: optimiser steps of the whole recipe.
        gradient: bytes of the gradient, which processes exchange.
        operations: floating-point operations of a training step for each sample.
        seconds: measured seconds of a training step for each sample.
    """

    name: str
    batch: int
    steps: int
    gradient: int
    operations: float
    seconds: float


def measure_step(samples: int, step: Callable[[], object]) -> tuple[float, float]:
    """Measures the operations and seconds of a training step for each sample; the first step also warms up."""
    with FlopCounterMode(display=False) as counter:
        step()
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return counter.get_total_flops() / samples, min(seconds) / samples


def gradient_bytes(model: torch.nn.Module) -> int:
    """Returns the bytes of a model's gradient."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def measure_rlan(name: str, cpu_batch: int | None, folder: RunFolder) -> Recipe:
    """Measures a recipe of RLAN.

    Args:
        name, cpu_batch, folder: as for `measure_jepa`.
    """
    config, _ = load_config(RlanConfig, "rlan", {}, ROOT / "configs" / "rlan" / f"{name}.yaml", {})
    batch = config.training.batch_size
    training = dataclasses.replace(config.training, batch_size=cpu_batch or batch, grad_accumulation_steps=1)
    small = dataclasses.replace(config, training=training, device=dataclasses.replace(config.device, compile=False))
    trainer = RlanTrainer(small, split_tasks(config.data), folder, open_fabric("auto", "bfloat16"))
    # The recipe's length depends on its own batch size.
    full_steps = (
        RlanTrainer(config, split_tasks(config.data), folder, trainer.fabric).total_steps if cpu_batch else None
    )
    steps = full_steps or trainer.total_steps
    trainer.step = trainer.total_steps // 2
    operations, seconds = measure_step(training.batch_size, trainer.training_step)
    parts = config.training.grad_accumulation_steps
    return Recipe(f"rlan {name}", batch * parts, steps, gradient_bytes(trainer.model), operations, seconds)


def measure_hrm(name: str, cpu_batch: int | None, folder: RunFolder) -> Recipe:
    """Measures a recipe of HRM.

    Args:
        name, cpu_batch, folder: as for `measure_jepa`.
    """
    config, _ = load_config(
        HrmConfig, "hrm", {}, ROOT / "configs" / "hrm" / f"{name}.yaml", {"data.num_augmentations": 8}
    )
    batch = config.training.batch_size
    small = dataclasses.replace(
        config, training=dataclasses.replace(config.training, batch_size=cpu_batch or batch),
        device=dataclasses.replace(config.device, compile=False),
    )  # fmt: skip
    fabric = open_fabric("auto", "bfloat16")
    trainer = HrmTrainer(small, load_training_data(config.data, 0, fabric.device), folder, fabric)
    draws = 1 if config.data.canvas == "full" else 6  # canvases differ
    measurements = [measure_step(small.training.batch_size, trainer.training_step) for _ in range(draws)]
    operations, seconds = np.mean(measurements, axis=0).tolist()
    size = gradient_bytes(trainer.model)
    return Recipe(f"hrm {name}", batch, config.training.max_steps, size, operations, seconds)


def measure_jepa(name: str, cpu_batch: int | None, folder: RunFolder) -> Recipe:
    """Measures a recipe of the JEPA.

    Args:
        name: name of the recipe.
        cpu_batch: samples of a step on the CPU, instead of the recipe's batch size; None on a GPU.
        folder: run folder of the trainer.
    """
    path = ROOT / "configs" / "jepa" / f"{name}.yaml"
    config, _ = load_config(JepaConfig, "jepa", {}, path, {"data.curriculum": "jepa_quick"})
    batch = config.training.batch_size * config.training.grad_accum_steps
    cpu_batch = cpu_batch and 16 * cpu_batch  # its samples are tasks of a few tokens
    training = dataclasses.replace(config.training, batch_size=cpu_batch or batch, grad_accum_steps=1)
    trainer = JepaTrainer(
        dataclasses.replace(config, training=training), load_data(config, Console(quiet=True)), folder,
        open_fabric("auto", "bfloat16"),
    )  # fmt: skip
    operations, seconds = measure_step(training.batch_size, trainer.training_step)
    tasks = 10_000  # number of tasks of the pilot curriculum, on which the recipe trains
    steps = config.training.epochs * max(1, tasks // batch)
    return Recipe(f"jepa {name}", batch, steps, gradient_bytes(trainer.model), operations, seconds)


def measure_allreduce() -> None:
    """Runs in each of torchrun's processes; the first one prints the median seconds of all-reduces by size."""
    cuda = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    distributed.init_process_group("nccl" if cuda else "gloo")
    medians = {}
    for size in SIZES:
        values, seconds = torch.ones(size // 4, device=device), []
        for _ in range(12):
            distributed.barrier()
            start = time.perf_counter()
            distributed.all_reduce(values)
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        medians[size] = statistics.median(seconds[2:])
    if distributed.get_rank() == 0:
        print(json.dumps(medians))
    distributed.destroy_process_group()


def fit_links(processes: int) -> tuple[Links, dict[int, float]]:
    """Fits latency and bandwidth to all-reduces of this machine's processes; returns both and the seconds by size."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launcher, __file__, "--allreduce"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    measured = {int(size): seconds for size, seconds in json.loads(output.splitlines()[-1]).items()}
    rounds = 2 * (processes - 1)
    # Minimises relative errors, so that small and large sizes have equal weight.
    seconds = np.array(list(measured.values()))
    rows = np.array([[rounds, rounds / processes * size] for size in measured]) / seconds[:, None]
    latency, inverse = np.linalg.lstsq(rows, np.ones(len(measured)), rcond=None)[0]
    return Links(float(max(latency, 0)), float(1 / inverse)), measured


def check_model(links: Links, folder: Path) -> str:
    """Compares the model with two processes of one thread each on RLAN's quick recipe, for four epochs."""
    rates = {}
    for processes in (1, 2):
        run = folder / f"check-{processes}"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes > 1 else []
        subprocess.run(
            [sys.executable, *launcher, "-m", "rlan", "--run-dir", str(run), "--device", "cpu", "--training.max_epochs",
             "4", "--validation.every_epochs", "4"],
            capture_output=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = read_metrics(RunFolder(run).metrics)
        name = "time/samples_per_second"
        rates[processes] = statistics.median(line[name] for line in lines if name in line)
    config, _ = load_config(RlanConfig, "rlan", {}, ROOT / "configs" / "rlan" / "quick.yaml", {})
    batch = config.training.batch_size * config.training.grad_accumulation_steps
    size = gradient_bytes(
        RlanTrainer(config, split_tasks(config.data), RunFolder(folder / "size"), open_fabric("cpu", "float32")).model
    )
    predicted = batch / (batch / 2 / rates[1] + links.allreduce(2, size))
    return (
        f"check, RLAN quick: 1 process {rates[1]:.0f} samples/s; 2 predicted {predicted:.0f}, measured {rates[2]:.0f} "
        f"({rates[2] / predicted:.2f} of it)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--price", type=float, default=3.0, help="dollars an hour of one GPU (default 3, an assumption)"
    )
    parser.add_argument("--allreduce", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.allreduce:
        measure_allreduce()
        return
    cuda = torch.cuda.is_available()
    console, cpu_batch = Console(width=150), None if cuda else CPU_BATCH
    links, measured = fit_links(max(2, torch.cuda.device_count()) if cuda else 2)
    times = ", ".join(f"{size >> 10} KiB {1000 * measured[size]:.2f} ms" for size in SIZES[::2])
    console.print(
        f"all-reduce of this machine's processes: {times}; a {1e6 * links.latency:.0f} us, "
        f"b {links.bandwidth / 1e9:.2f} GB/s"
    )
    with tempfile.TemporaryDirectory() as folder:
        console.print(check_model(links, Path(folder)))
        measurements = [
            (measure_rlan, "base"),
            (measure_hrm, "paper"),
            (measure_hrm, "trm"),
            (measure_jepa, "pretrain_gpu"),
        ]
        recipes = [measure(name, cpu_batch, RunFolder(Path(folder) / name)) for measure, name in measurements]
    if not cuda:
        console.print(
            f"no GPU here: a sample takes its operations / ({SHARE} x {PEAK / 1e12:.0f} T/s), links are assumed"
        )
    columns = ("recipe", "batch", "gradient", "operations / sample", "here, s / sample", "GPUs", "step", "samples / s",
               "efficiency", "whole recipe", "cost")  # fmt: skip
    table = Table(*columns)
    for recipe in recipes:
        seconds = recipe.seconds if cuda else recipe.operations / (SHARE * PEAK)
        alone = recipe.batch * seconds
        for processes in (1, 8, 64):
            exchange = 0.0 if processes == 1 else ASSUMED[processes].allreduce(processes, recipe.gradient)
            step = alone / processes + exchange
            hours = recipe.steps * step / 3600
            table.add_row(
                recipe.name, str(recipe.batch), f"{recipe.gradient / 1e6:.1f} MB", f"{recipe.operations / 1e9:.1f} G",
                f"{recipe.seconds:.3f}", str(processes), f"{1000 * step:.2f} ms", f"{recipe.batch / step:,.0f}",
                f"{alone / processes / step:.2f}", f"{hours:.2f} h", f"${hours * processes * args.price:,.0f}",
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
