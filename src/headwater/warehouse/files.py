"""CSV and Parquet into raw tables, one table per file, nothing lost and nothing loaded twice.

    raw.<table>              all columns of the file + `_file`, `_line`; CSV columns are VARCHAR as they stand in the file
                             (an empty value is null), Parquet columns keep their types
    headwater.file_loads     one row per raw table: which bytes it holds and how many rows were read, loaded, rejected
    headwater.file_rejects   one row per line that is no row, with line, start of the line, reason and advice

A file is loaded in one transaction: after a kill the table holds the file as it was before or as it is now. Loading the
same bytes again with the same masks changes nothing and is skipped. A file that cannot be read stops no other one.
`_line` is the line of the file on which the row starts (the header is line 1); for Parquet the number of the row.

Masked columns are masked in the statement that stores them; of a rejected line of a masked file only length and digest
are kept. The key is the environment variable HEADWATER_MASK_KEY.
"""

from headwater.warehouse.loading import SeedWrite, load, raw_types, table_name, write_seed
from headwater.warehouse.profiles import profile

__all__ = ["SeedWrite", "load", "profile", "raw_types", "table_name", "write_seed"]
