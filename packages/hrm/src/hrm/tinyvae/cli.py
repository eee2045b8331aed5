"""`distill-tinyvae`: a large image VAE is trained, then distilled into a small one."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console
from rich.table import Table
from safetensors.torch import save

from arc_core.config import workspace_folder
from arc_core.errors import InputError, run_command
from arc_core.files import show_path, write_atomically, write_json
from arc_core.progress import Progress
from arc_core.randomness import seed_for
from hrm.tinyvae.distillation import (
    TrainingSettings,
    compare_vaes,
    draw_reconstructions,
    make_student_loss,
    teacher_loss,
    train_vae,
)
from hrm.tinyvae.images import load_images
from hrm.tinyvae.model import build_student, build_teacher


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `distill-tinyvae` and returns its exit status."""
    parser = argparse.ArgumentParser(
        "distill-tinyvae",
        description="Train a large VAE on images, distil it into a small one, and report sizes, errors and a picture.",
        epilog="example: uv run distill-tinyvae --data photos/ --teacher-steps 5000 --student-steps 5000",
    )
    parser.add_argument("--data", default="arc1:train", help="folder, .npz, or data spec of tasks (default arc1:train)")
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--student-steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--latent-weight", type=float, default=0.01, help="weight of the latent means' distance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--out", type=Path, help="folder; default results/tinyvae")
    args = parser.parse_args(argv)
    return run_command(lambda: _distill(args, Console(emoji=False)))


def _distill(args: argparse.Namespace, console: Console) -> int:
    for name in ("teacher_steps", "student_steps", "batch"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1; got {getattr(args, name)}")
    out = args.out or workspace_folder() / "results" / "tinyvae"
    images, held_out = (part.to(args.device) for part in load_images(args.data, args.seed))
    console.print(
        f"{len(images)} images of {args.data}, {len(held_out)} more to report on; writing to {show_path(out)}",
        soft_wrap=True,
    )
    with torch.random.fork_rng(devices=()):  # the weights are made on the CPU
        torch.default_generator.manual_seed(seed_for(args.seed, "weights", 0))
        teacher, student = build_teacher().to(args.device), build_student().to(args.device)
    start_time = time.perf_counter()
    settings = [TrainingSettings(steps, args.batch, args.seed) for steps in (args.teacher_steps, args.student_steps)]
    with Progress(console, args.teacher_steps + args.student_steps, "distilling") as progress:
        train_vae(teacher, images, teacher_loss, settings[0], progress, 0)
        teacher.eval()
        student_loss = make_student_loss(teacher, args.latent_weight)
        train_vae(student, images, student_loss, settings[1], progress, args.teacher_steps)
    report = compare_vaes(teacher, student.eval(), held_out) | {"seconds": round(time.perf_counter() - start_time, 1)}
    out.mkdir(parents=True, exist_ok=True)
    for name, vae in (("teacher", teacher), ("student", student)):
        content = save({key: value.contiguous().cpu() for key, value in vae.state_dict().items()})
        write_atomically(out / f"{name}.safetensors", lambda file, content=content: file.write(content))  # type: ignore[misc]
    figure = draw_reconstructions(teacher, student, held_out[:: max(1, len(held_out) // 12)][:12])
    FigureCanvasAgg(figure)
    write_atomically(out / "reconstructions.png", lambda file: figure.savefig(file, format="png", dpi=110))
    write_json(out / "report.json", report)
    table = Table("", "parameters", "size", "MSE", title=f"{len(held_out)} images not trained on")
    for name in ("teacher", "student"):
        table.add_row(
            name, f"{report[f'{name}_parameters']:,.0f}", f"{report[f'{name}_bytes'] / 2**20:.2f} MiB",
            f"{report[f'mse_{name}']:.4f}",
        )  # fmt: skip
    table.add_row("mean image", "", "", f"{report['mse_mean_image']:.4f}")
    console.print(table)
    console.print(
        f"{report['size_ratio']:.1f} times smaller, {report['parameter_ratio']:.1f} times fewer parameters; student to "
        f"teacher MSE {report['mse_student_to_teacher']:.4f}; {report['seconds']:.0f} s\n"
        f"pictures in {show_path(out / 'reconstructions.png')}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
