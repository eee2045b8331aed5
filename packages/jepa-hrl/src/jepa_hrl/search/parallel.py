"""Searches of many tasks at once: on the cores of this machine, or on the cluster of joblib's backend."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from arc_core.task import Task
from arc_core.workers import run_in_workers
from jepa_hrl.search.engine import Heuristic, Limits, Outcome, Search
from jepa_hrl.search.policy_guided import Policy

PrimitiveCosts = Mapping[str, float] | None  # bits by name; None for the primitives' own costs
HeuristicFactory = Callable[[Task], Heuristic]
PolicyFactory = Callable[[Task], Policy]


def _search_task(
    index: int,
    task: Task,
    limits: Limits,
    costs: PrimitiveCosts = None,
    make_heuristic: HeuristicFactory | None = None,
    make_policy: PolicyFactory | None = None,
) -> tuple[int, Outcome]:
    """Searches one task and returns the outcome with the task's index; for the arguments see `search_tasks`."""
    heuristic, policy = make_heuristic and make_heuristic(task), make_policy and make_policy(task)
    return index, Search(task, limits, costs, heuristic=heuristic, policy=policy).run()


def search_tasks(
    tasks: Sequence[Task],
    limits: Limits,
    costs: Sequence[PrimitiveCosts] | None = None,
    workers: int = -1,
    make_heuristic: HeuristicFactory | None = None,
    make_policy: PolicyFactory | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Searches tasks in parallel and yields each task's index and outcome as soon as it is done, in any order.

    Within `joblib.parallel_config(backend="dask")` the searches run on a Dask cluster. That backend returns the results
    of a call all at once, so they come a few tasks at a time.

    Args:
        tasks: their test outputs are removed before the search.
        limits: of each task's search.
        costs: the costs of primitives for each task.
        workers: number of processes; -1 for one per core.
        make_heuristic: returns the heuristic for a task, see `Search`; it must be picklable.
        make_policy: returns the policy for a task, see `Search`; it must be picklable.
    """
    task_costs: Sequence[PrimitiveCosts] = [None] * len(tasks) if costs is None else costs
    jobs = [
        delayed(_search_task)(index, task.without_answers(), limits, cost, make_heuristic, make_policy)
        for index, (task, cost) in enumerate(zip(tasks, task_costs, strict=True))
    ]
    backend, _ = get_active_backend()
    if backend.supports_return_generator or len(jobs) < 2:
        yield from run_in_workers(jobs, workers, return_as="generator_unordered", pre_dispatch="n_jobs")
        return
    run = Parallel(n_jobs=workers)
    step = 4 * backend.effective_n_jobs(workers)
    for start in range(0, len(jobs), step):
        yield from run(jobs[start : start + step])
