"""The only place that opens the warehouse.

    connection.py   one DuckDB file, one writer; transactions; the tables of `ledgers.sql`
    dbt.py          dbt in this process
    files.py        CSV and Parquet: profile (look), load (bring into raw.<table>), write_seed
                    profiles.py, loading.py and csv_lines.py are its parts
    lock.py         one command at a time

Schemas: `raw` holds one table per file, as it stands; `headwater` what we write ourselves (ledgers.sql); `main` what dbt
makes; `delivered` what each sync has last confirmed. A file is loaded in one transaction and known again by its bytes, so
a load that was cut off repeats as a whole and one that was done repeats not at all; read = loaded + rejected in
`headwater.file_loads`, and every rejected line stands in `headwater.file_rejects`. What dbt makes is made again at will.

Other stages are handed a `Warehouse` and speak SQL to it; they never import DuckDB.
"""

from headwater.warehouse.connection import Warehouse

__all__ = ["Warehouse"]
