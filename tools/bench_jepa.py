"""Times the JEPA: tasks a second of the training step, what SIGReg costs, and what pre-tokenised shards save.

    uv run tools/bench_jepa.py                    all three; about three minutes on two cores
    uv run tools/bench_jepa.py --part sigreg      one of step, sigreg, shards

Tasks are those of configs/jepa/quick.yaml, generated when they are missing. Every ratio is of times taken in turn in
one run; medians of several repeats.
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


def recipe(name: str) -> JepaConfig:
    """A recipe of configs/jepa, on the quick recipe's tasks."""
    path = workspace_folder() / "configs" / METHOD / f"{name}.yaml"
    config, _ = load_config(JepaConfig, METHOD, {}, path, {"data.curriculum": "jepa_quick"})
    return config


def synchronised(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def bench_step(repeats: int) -> None:
    """Tasks a second of whole training steps, augmentation and all losses included."""
    for name in ("quick", "sigreg"):
        config = recipe(name)
        if name == "sigreg" and not torch.cuda.is_available():
            training = dataclasses.replace(config.training, batch_size=128, grad_accum_steps=1)
            config = dataclasses.replace(config, training=training)
        fabric = open_fabric("auto", config.training.precision)
        data = load_data(config, QUIET)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(config, data, RunFolder(Path(folder)), fabric)
            trainer.training_step()
            seconds = [synchronised(trainer.training_step) for _ in range(3 * repeats)]
        rates = sorted(config.training.batch_size / taken for taken in seconds)
        print(
            f"{name:8s} hidden {config.object_encoder.hidden_dim}, batch {config.training.batch_size}, "
            f"{fabric.device}: {median(rates):7.1f} tasks/s ({rates[0]:.1f} to {rates[-1]:.1f})"
        )


def straightforward(
    vectors: torch.Tensor, slices: torch.Tensor, nodes: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The statistic's formula as it stands, with complex exponentials, all slices at once, in float32."""
    angles = (vectors @ slices)[:, :, None] * nodes
    phi = torch.exp(1j * angles).mean(dim=0)
    gauss = torch.exp(-nodes.square() / 2)
    return len(vectors) * (((phi - gauss).abs().square() * gauss) @ weights).mean()


def sigreg_once(kind: str, batch: int, repeats: int) -> None:
    """Prints the median milliseconds of forward and backward, and the process's growth in MiB."""
    rule, slices = quadrature_rule(17, "trapezoid"), draw_slices(CHANNELS, SLICES, np.random.default_rng(0))
    vectors = torch.randn(batch, CHANNELS, requires_grad=True)
    small = vectors[:4]
    code = epps_pulley if kind == "ours" else straightforward
    torch.autograd.grad(code(small, slices, *rule), vectors)
    before = resident()
    seconds = [synchronised(lambda: torch.autograd.grad(code(vectors, slices, *rule), vectors)) for _ in range(repeats)]
    peaks: list[float] = []
    done = threading.Event()
    watch = threading.Thread(target=lambda: [peaks.append(resident()) for _ in iter(lambda: done.wait(5e-4), True)])
    watch.start()
    torch.autograd.grad(code(vectors, slices, *rule), vectors)
    done.set()
    watch.join()
    print(f"{1000 * median(seconds):.3f} {max(peaks, default=before) - before:.1f}")


def resident() -> float:
    """MiB of memory that the process holds, from /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def bench_sigreg(repeats: int) -> None:
    """SIGReg, forward and backward, against the straightforward code, each in a process of its own for its memory."""
    print(f"SIGReg on the CPU, {SLICES} slices of {CHANNELS} channels, forward and backward")
    for batch in (128, 256, 512, 1024):
        found = {}
        for kind in ("ours", "plain"):
            command = [sys.executable, __file__, "--part", f"sigreg-{kind}-{batch}", "--repeats", str(repeats)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[kind] = [float(part) for part in output.split()]
        (ours, grown), (plain, wasted) = found["ours"], found["plain"]
        print(
            f"batch {batch:5d}: {ours:8.1f} ms, {grown:7.1f} MiB   straightforward {plain:8.1f} ms, {wasted:7.1f} MiB"
            f"   {plain / ours:.2f} times faster"
        )


def bench_shards(repeats: int) -> None:
    """Runs that compute their tokens, and epochs that would, against tokens read from shards."""
    fabric = open_fabric("auto", "float32")
    for spec in (None, "arc1:train", "arc2:train"):
        config = on_tasks(recipe("quick"), spec)
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
                    seconds[kind].append(synchronised(call))
            taken = {kind: median(some) for kind, some in seconds.items()}
            print(
                f"{len(tasks)} tasks of {spec or config.data.curriculum}: tokens by one process "
                f"{taken['one process']:.2f} s, by all cores {taken['all cores']:.2f} s; load and compute tokens "
                f"{taken['computed']:.2f} s, load and read shards {taken['read']:.2f} s"
            )
            for network in ("tiny", "quick"):
                read = with_shards(on_tasks(recipe(network), spec), name)
                trainer = Trainer(read, load_data(read, QUIET), RunFolder(Path(name) / network), fabric)
                trainer.training_step()
                epoch = trainer.steps_per_epoch * median(
                    synchronised(trainer.training_step) for _ in range(3 * repeats)
                )
                made, kept = taken["computed"], taken["read"]
                print(
                    f"  {network}: epoch {epoch:.2f} s; one that computes its tokens takes "
                    f"{1 + taken['one process'] / epoch:.2f} times as long (one process); with shards a run of one "
                    f"epoch is {(made + epoch) / (kept + epoch):.2f} times faster, "
                    f"of five {(made + 5 * epoch) / (kept + 5 * epoch):.2f} times"
                )


def on_tasks(config: JepaConfig, spec: str | None) -> JepaConfig:
    """The recipe on a data spec's tasks; on its own for None."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tasks=spec))


def with_shards(config: JepaConfig, folder: str) -> JepaConfig:
    """The recipe with tokens read from a folder."""
    return dataclasses.replace(config, pre_tokenized=dataclasses.replace(config.pre_tokenized, path=folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="all", help="step, sigreg, shards or all")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.part.startswith("sigreg-"):
        _, kind, batch = args.part.split("-")
        sigreg_once(kind, int(batch), args.repeats)
        return
    for name, bench in (("step", bench_step), ("sigreg", bench_sigreg), ("shards", bench_shards)):
        if args.part in ("all", name):
            bench(args.repeats)


if __name__ == "__main__":
    main()
