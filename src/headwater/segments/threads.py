"""One thread for small sums: on a busy machine the threads of OpenMP and BLAS wait for each other a hundred times longer
than they calculate, and a fit of a few thousand customers takes seconds instead of milliseconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def one_thread() -> Iterator[None]:
    """Numerical libraries run on one thread inside; process-wide, so not for code that runs beside something large."""
    with _controller().limit(limits=1):
        yield


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401, PLC0415  (every library must be loaded before they are looked up, once)
    import sklearn.cluster  # noqa: F401, PLC0415
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415

    return ThreadpoolController()
