"""How the data products run on Flink."""

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Settings


class FlinkSettings(Settings):
    """Section `flink:`. The brokers are those of `log.kafka`."""

    source: Annotated[
        str | None,
        Field(
            description="database of `collect.databases` or `collect.topics` whose tables are read; null = the only one"
        ),
    ] = None
    products_prefix: Annotated[
        str,
        Field(
            description="what stands before the names of the data products' topics", pattern=r"^[A-Za-z0-9._-]{0,200}$"
        ),
    ] = "products."
    group: Annotated[
        str, Field(description="consumer group of the job; its offsets are those of its newest checkpoint")
    ] = "headwater-flink"
    parallelism: Annotated[int, Field(ge=1, description="tasks of each step of the job")] = 2
    checkpoint_seconds: Annotated[float, Field(gt=0, description="seconds between two checkpoints")] = 10
    checkpoint_dir: Annotated[
        str | None,
        Field(
            description="where checkpoints go, e.g. s3://bucket/flink; null = run/flink-checkpoints of the project, for a local cluster"
        ),
    ] = None
    state_backend: Annotated[
        Literal["hashmap", "rocksdb"], Field(description="where state lives: hashmap = memory, rocksdb = disk")
    ] = "rocksdb"
    state_days: Annotated[
        int,
        Field(
            ge=0,
            description="state that was not touched for so long is dropped, and what depends on it is not corrected any more, days; 0 = never",
        ),
    ] = 0
    mini_batch_ms: Annotated[
        int,
        Field(
            ge=0, description="milliseconds that rows wait for company, so that updates of one key become one; 0 = none"
        ),
    ] = 200
    gateway: Annotated[
        str | None, Field(description="address of the cluster's SQL gateway, http://host:8083; null = a local cluster")
    ] = None
