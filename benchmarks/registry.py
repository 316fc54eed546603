"""Every row of the table and every input that rows share, in plain sight: name to `module:function`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Bench:
    """One row. `bar` is what it must reach, in words; `inputs` are made before it, each once; `large` rows run with FULL=1."""

    target: str
    bar: str
    inputs: tuple[str, ...] = ()
    large: bool = False


INPUTS: dict[str, str] = {
    "shop_100k": "benchmarks.shop:files_100k",
    "shop_1m": "benchmarks.shop:files_1m",
}

BENCHES: dict[str, Bench] = {
    "shop_100k_customers": Bench("benchmarks.shop:generate_100k", "≥ 1,000,000 rows/s, written to Parquet"),
    "shop_1m_customers": Bench("benchmarks.shop:generate_1m", "≥ 1,000,000 rows/s, written to Parquet", large=True),
    "core_install": Bench("benchmarks.install:core", "≤ 450 MB installed"),
}


def load(target: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
