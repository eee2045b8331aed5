"""`distill-tinyvae`: a large image VAE is trained, then distilled into one a thirtieth of its size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from arc_core.progress import Progress
from arc_core.randomness import generator_for
from hrm.tinyvae.model import LATENT, Vae, VaeOutput, kl_divergence

_KL_WEIGHT = 1e-4  # of a pixel's mean squared error; more blurs cells of one colour into each other

Loss = Callable[[Tensor, VaeOutput], Tensor]  # of images and their reconstructions


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step.
        seed: of batches and noise.
    """

    steps: int
    batch_size: int
    seed: int


def train_vae(
    vae: Vae, images: Tensor, compute_loss: Loss, settings: TrainingSettings, progress: Progress, steps_before: int
) -> None:
    """Trains in place, by Adam with a one-cycle learning rate; batches and noise are functions of (seed, step).

    Args:
        vae: to train.
        images: (N, 3, 32, 32) in 0..1.
        compute_loss: of a batch and its reconstructions.
        settings: steps, batch size, seed.
        progress: shows the loss.
        steps_before: steps that the progress bar has shown already.
    """
    optimizer = torch.optim.AdamW(vae.parameters(), 1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, settings.steps + 1)
    for step in range(settings.steps):
        rng = generator_for(settings.seed, "distillation", step)
        batch = images[torch.from_numpy(rng.integers(len(images), size=settings.batch_size))]
        noise = torch.from_numpy(rng.standard_normal((settings.batch_size, LATENT), dtype="float32")).to(batch.device)
        loss = compute_loss(batch, vae(batch, noise))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress.update(steps_before + step + 1, f"loss {loss.item():.4f}")


def teacher_loss(images: Tensor, output: VaeOutput) -> Tensor:
    """Computes the mean squared error of reconstructions plus the weighted divergence of the latent."""
    return functional.mse_loss(output.reconstructions, images) + _KL_WEIGHT * kl_divergence(output)


def make_student_loss(teacher: Vae, latent_weight: float) -> Loss:
    """Makes the student's loss: the teacher's loss, plus the distances to its reconstructions and latent means."""

    def student_loss(images: Tensor, output: VaeOutput) -> Tensor:
        with torch.no_grad():
            target = teacher(images)
        reconstruction_distance = functional.mse_loss(output.reconstructions, target.reconstructions)
        latent_distance = functional.mse_loss(output.mean, target.mean)
        return teacher_loss(images, output) + reconstruction_distance + latent_weight * latent_distance

    return student_loss


@torch.no_grad()
def compare_vaes(teacher: Vae, student: Vae, images: Tensor) -> dict[str, float]:
    """Computes the content of report.json.

    Args:
        teacher, student: in evaluation mode.
        images: (N, 3, 32, 32) that neither was trained on.
    Returns:
        numbers of parameters, bytes as safetensors, their ratios, and mean squared errors.
    """
    vaes = {"teacher": teacher, "student": student}
    reconstructions = {name: vae(images).reconstructions for name, vae in vaes.items()}
    counts = {name: sum(p.numel() for p in vae.parameters()) for name, vae in vaes.items()}
    sizes = {name: len(save(dict(vae.state_dict()))) for name, vae in vaes.items()}
    mean = images.mean(dim=0, keepdim=True)
    return {
        "teacher_parameters": counts["teacher"], "student_parameters": counts["student"],
        "parameter_ratio": counts["teacher"] / counts["student"],
        "teacher_bytes": sizes["teacher"], "student_bytes": sizes["student"],
        "size_ratio": sizes["teacher"] / sizes["student"],
        "mse_teacher": float(functional.mse_loss(reconstructions["teacher"], images)),
        "mse_student": float(functional.mse_loss(reconstructions["student"], images)),
        "mse_student_to_teacher": float(functional.mse_loss(reconstructions["student"], reconstructions["teacher"])),
        "mse_mean_image": float((images - mean).square().mean()),
    }  # fmt: skip


@torch.no_grad()
def draw_reconstructions(teacher: Vae, student: Vae, images: Tensor) -> Figure:
    """Draws images, and the teacher's and the student's reconstructions below them.

    Args:
        teacher, student: in evaluation mode.
        images: (N, 3, 32, 32) in 0..1; each is a column.
    """
    rows = {
        "original": images,
        "teacher": teacher(images).reconstructions,
        "student": student(images).reconstructions,
    }
    figure = Figure(figsize=(len(images), 3.3), layout="constrained")
    grid = figure.subplots(3, len(images))
    for axes, (name, pictures) in zip(grid, rows.items(), strict=True):
        for axis, picture in zip(axes, pictures, strict=True):
            axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0].set_ylabel(name)
    return figure
