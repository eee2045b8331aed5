"""`distill-tinyvae`: a large image VAE taught, then distilled into one a thirtieth of its size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from arc_core.progress import Progress
from arc_core.randomness import generator_for
from hrm.tinyvae.model import LATENT, Coded, Vae, divergence

_PIXELS = 3 * 32 * 32
_KL_WEIGHT = 1e-4  # of a pixel's mean squared error; more blurs cells of one colour into each other

Loss = Callable[[Tensor, Coded], Tensor]


@dataclass(frozen=True)
class Setting:
    """What a training takes."""

    steps: int
    batch: int
    seed: int


def train(vae: Vae, images: Tensor, loss_of: Loss, setting: Setting, progress: Progress, done: int) -> None:
    """Adam with a cosine rate; batches and noise are functions of (seed, step)."""
    optimizer = torch.optim.AdamW(vae.parameters(), 1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, setting.steps + 1)
    for step in range(setting.steps):
        rng = generator_for(setting.seed, "distillation", step)
        batch = images[torch.from_numpy(rng.integers(len(images), size=setting.batch))]
        noise = torch.from_numpy(rng.standard_normal((setting.batch, LATENT), dtype="float32")).to(batch.device)
        loss = loss_of(batch, vae(batch, noise))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress.update(done + step + 1, f"loss {loss.item():.4f}")


def teacher_loss(images: Tensor, coded: Coded) -> Tensor:
    """Mean squared error and the latent's divergence."""
    return functional.mse_loss(coded.images, images) + _KL_WEIGHT * divergence(coded)


def student_loss(master: Vae, latent_weight: float) -> Loss:
    """The teacher's loss, its reconstructions, and its latent means."""

    def loss(images: Tensor, coded: Coded) -> Tensor:
        with torch.no_grad():
            wanted = master(images)
        copied = functional.mse_loss(coded.images, wanted.images)
        matched = functional.mse_loss(coded.mean, wanted.mean)
        return teacher_loss(images, coded) + copied + latent_weight * matched

    return loss


@torch.no_grad()
def report(master: Vae, pupil: Vae, images: Tensor) -> dict[str, float]:
    """Sizes, ratios and mean squared errors on images that neither was trained on."""
    copies = {"teacher": master(images).images, "student": pupil(images).images}
    counts = {
        "teacher": sum(p.numel() for p in master.parameters()),
        "student": sum(p.numel() for p in pupil.parameters()),
    }
    sizes = {name: len(save(dict(vae.state_dict()))) for name, vae in (("teacher", master), ("student", pupil))}
    mean = images.mean(dim=0, keepdim=True)
    return {
        "teacher_parameters": counts["teacher"], "student_parameters": counts["student"],
        "parameter_ratio": counts["teacher"] / counts["student"],
        "teacher_bytes": sizes["teacher"], "student_bytes": sizes["student"],
        "size_ratio": sizes["teacher"] / sizes["student"],
        "mse_teacher": float(functional.mse_loss(copies["teacher"], images)),
        "mse_student": float(functional.mse_loss(copies["student"], images)),
        "mse_student_to_teacher": float(functional.mse_loss(copies["student"], copies["teacher"])),
        "mse_mean_image": float((images - mean).square().mean()),
    }  # fmt: skip


@torch.no_grad()
def draw(master: Vae, pupil: Vae, images: Tensor) -> Figure:
    """Originals, the teacher's and the student's reconstructions, below each other."""
    rows = {"original": images, "teacher": master(images).images, "student": pupil(images).images}
    figure = Figure(figsize=(len(images), 3.3), layout="constrained")
    grid = figure.subplots(3, len(images))
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name)
    return figure
