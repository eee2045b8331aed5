"""Worker processes of joblib."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from joblib import Parallel


def in_workers(jobs: Iterable[Any], workers: int, return_as: str = "generator", **settings: Any) -> Iterator[Any]:
    """Results of joblib's delayed calls as they come, in the order of the calls.

    joblib does not tell that it renewed a worker whose memory had grown, which caches make it do here.

    Args:
        workers: processes; -1 for one a core.
        return_as, settings: of `joblib.Parallel`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        yield from Parallel(n_jobs=workers, return_as=return_as, **settings)(jobs)
