"""Inference programs against the live model."""

import re
import warnings
from pathlib import Path

import pytest

from arc_core.task import Task
from hrm.conversion.cli import export_hrm


@pytest.mark.slow
def test_exported_programs_equal_the_live_model(
    trained: tuple[Path, list[Task]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form, suffix in (("torch", "pt2"), ("onnx", "onnx"), ("safetensors", "safetensors")):
        out = tmp_path / f"program.{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters' own making
            status = export_hrm([str(trained[0]), "--format", form, "--segments", "2", "--out", str(out)])
        shown = capsys.readouterr()
        assert status == 0, shown.err
        said = shown.out.replace("\n", " ")
        difference = re.search(r"tasks of arc1:train: ([0-9.e+-]+), of logits up to ([0-9.e+-]+);", said)
        assert difference is not None
        assert float(difference[1]) < 1e-4 * float(difference[2])
        assert "100.00% of the cells agree" in said
