"""Headwater's speed, measured against what the same machine does without Headwater. `make bench` runs it.

Each row runs in a process of its own, so that its peak memory is its own. Where a row has a bound, the bound is measured in
the same process and minute, turn by turn with the product, and the ratio of the two is what the bar judges: seconds differ
between machines, ratios hardly do.

    registry.py   every row and every input, by name
    row.py        what a row is, and how seconds are measured
    __main__.py   runs rows, prints the table, writes results.json
    child.py      one row or input, in its own process
    page.py       writes the table into docs/benchmarks.md

To add a row: a function that takes the folder of inputs and returns a `Measured`, and a line in `registry.BENCHES`.
"""
