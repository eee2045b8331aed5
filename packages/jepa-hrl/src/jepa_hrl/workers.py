"""Worker processes of joblib."""

import ctypes
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from joblib import Parallel

_SECONDS = 2.0  # between two returns of memory
_returned = 0.0


def in_workers(jobs: Iterable[Any], workers: int, return_as: str = "generator", **settings: Any) -> Iterator[Any]:
    """Results of joblib's delayed calls as they come, in the order of the calls.

    joblib starts a worker anew whose memory has grown, which takes seconds, and says so. So free memory is given back
    to the system, which C libraries do not do by themselves; what still grows are caches, of which it need not tell.

    Args:
        workers: processes; -1 for one a core.
        return_as, settings: of `joblib.Parallel`.
    """
    tidy = ((_tidily, (code, *arguments), named) for code, arguments, named in jobs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        yield from Parallel(n_jobs=workers, return_as=return_as, **settings)(tidy)


def _tidily(code: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a call gives, free memory given back after it."""
    global _returned
    found = code(*arguments, **named)
    if sys.platform == "linux" and time.monotonic() - _returned > _SECONDS:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, others need none
        if trim is not None:
            trim(0)
        _returned = time.monotonic()
    return found
