"""Many searches at once: over the cores of this machine, or over whatever joblib's backend reaches."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from arc_core.task import Task
from jepa_hrl.search.engine import Heuristic, Limits, Outcome, Search
from jepa_hrl.search.policy_guided import Policy
from jepa_hrl.workers import run_in_workers

Bits = Mapping[str, float] | None
HeuristicFactory = Callable[[Task], Heuristic]
PolicyFactory = Callable[[Task], Policy]


def search_task(
    number: int,
    task: Task,
    limits: Limits,
    bits: Bits = None,
    guide: HeuristicFactory | None = None,
    leader: PolicyFactory | None = None,
) -> tuple[int, Outcome]:
    """One task's search, with its number."""
    delay, policy = guide and guide(task), leader and leader(task)
    return number, Search(task, limits, bits, delay=delay, policy=policy).run()


def search_tasks(
    tasks: Sequence[Task],
    limits: Limits,
    bits: Sequence[Bits] | None = None,
    workers: int = -1,
    guide: HeuristicFactory | None = None,
    leader: PolicyFactory | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Each task's number and outcome as soon as it is done, in any order.

    Within `joblib.parallel_config(backend="dask")` the searches run on a Dask cluster; that backend gives its
    results all at once, so they come a few tasks at a time.

    Args:
        bits: costs of primitives for each task.
        workers: processes; -1 for one a core.
        guide, leader: give each task's delays and policy, see `Search`.
    """
    costs: Sequence[Bits] = [None] * len(tasks) if bits is None else bits
    jobs = [
        delayed(search_task)(number, task.without_answers(), limits, cost, guide, leader)
        for number, (task, cost) in enumerate(zip(tasks, costs, strict=True))
    ]
    backend, _ = get_active_backend()
    if backend.supports_return_generator or len(jobs) < 2:
        yield from run_in_workers(jobs, workers, return_as="generator_unordered", pre_dispatch="n_jobs")
        return
    run = Parallel(n_jobs=workers)
    step = 4 * backend.effective_n_jobs(workers)
    for start in range(0, len(jobs), step):
        yield from run(jobs[start : start + step])
