"""Images, the two autoencoders, and distillation end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hrm.tinyvae import cli as tinyvae
from hrm.tinyvae.images import SIDE, load_images, render_grid
from hrm.tinyvae.model import VaeOutput, build_student, build_teacher, kl_divergence


def test_grids_are_drawn_as_whole_cells_in_the_middle() -> None:
    image = render_grid(np.array([[1, 2, 3]], dtype=np.uint8))
    assert image.shape == (SIDE, SIDE, 3)
    assert (image[11:21, 1:11] == image[11, 1]).all()
    assert not image[:11].any()
    train, held_out = load_images("arc1:train", 0)
    assert len(train) > 8 * len(held_out)
    assert float(train.max()) == 1.0


def test_divergence_equals_torch_distributions() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 8), torch.randn(5, 8)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()), normal(torch.zeros(5, 8), torch.ones(5, 8))
    )
    torch.testing.assert_close(kl_divergence(VaeOutput(mean, mean, log_variance)), expected.sum(1).mean())


def test_teacher_and_student_have_the_sizes_of_the_guide() -> None:
    counts = [sum(p.numel() for p in vae.parameters()) for vae in (build_teacher(), build_student())]
    assert 9e6 < counts[0] < 11e6
    assert 2.5e5 < counts[1] < 3.5e5


@pytest.mark.slow
def test_distillation_learns_and_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["--teacher-steps", "60", "--student-steps", "120", "--batch", "32"]
    assert tinyvae.main([*steps, "--out", str(tmp_path / "vae")]) == 0
    report = json.loads((tmp_path / "vae" / "report.json").read_text())
    assert report["mse_student"] < report["mse_mean_image"]
    assert report["parameter_ratio"] > 30
    assert {file.name for file in (tmp_path / "vae").iterdir()} == {
        "report.json", "reconstructions.png", "teacher.safetensors", "student.safetensors",
    }  # fmt: skip
    assert tinyvae.main(["--data", str(tmp_path)]) == 2
    assert "at least 10 images" in capsys.readouterr().err
