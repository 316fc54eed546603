"""The only place that opens the warehouse.

    connection.py   one DuckDB file, one writer; transactions; the tables of `ledgers.sql`
    dbt.py          dbt in this process
    files.py        CSV and Parquet into raw tables
    lock.py         one command at a time

Other stages are handed a `Warehouse` and speak SQL to it; they never import DuckDB.
"""

from headwater.warehouse.connection import Warehouse

__all__ = ["Warehouse"]
