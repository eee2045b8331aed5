"""Worker processes of joblib."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unwarned_renewal() -> Iterator[None]:
    """Within it joblib does not tell that it renewed a worker whose memory had grown, which caches make it do here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        yield
