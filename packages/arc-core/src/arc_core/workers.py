"""Worker processes of joblib whose memory does not grow without need."""

import ctypes
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from joblib import Parallel

_TRIM_SECONDS = 2.0  # between two returns of free memory to the system
_last_trim = 0.0


def run_in_workers(jobs: Iterable[Any], workers: int, return_as: str = "generator", **settings: Any) -> Iterator[Any]:
    """Runs joblib's delayed calls in worker processes and yields their results in the order of the calls.

    joblib replaces a worker whose memory has grown, which takes seconds, and warns of it. Therefore each worker returns
    free memory to the system, which C libraries do not do by themselves; only caches still grow, so that the warning
    says nothing new.

    Args:
        jobs: calls as `joblib.delayed` makes them.
        workers: number of processes; -1 for one per core.
        return_as: "generator", or another value of `joblib.Parallel`.
        settings: further arguments of `joblib.Parallel`.
    """
    trimming_jobs = ((_call_and_trim, (code, *arguments), named) for code, arguments, named in jobs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        yield from Parallel(n_jobs=workers, return_as=return_as, **settings)(trimming_jobs)


def _call_and_trim(code: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Returns the result of a call, after which free memory goes back to the system."""
    global _last_trim
    result = code(*arguments, **named)
    if sys.platform == "linux" and time.monotonic() - _last_trim > _TRIM_SECONDS:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, others need none
        if trim is not None:
            trim(0)
        _last_trim = time.monotonic()
    return result
