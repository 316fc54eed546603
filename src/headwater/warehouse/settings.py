"""The settings of the warehouse."""

from typing import Annotated

from pydantic import Field

from headwater.settings import Settings


class WarehouseSettings(Settings):
    path: Annotated[str, Field(description="DuckDB file, relative to the project")] = "warehouse/shop.duckdb"
    threads: Annotated[int, Field(ge=1, description="models built at the same time")] = 2
    memory_limit: Annotated[str, Field(description="most memory DuckDB may use, e.g. 4GB")] = "4GB"
