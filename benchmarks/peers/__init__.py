"""Headwater beside other engines: one input, one query, one rule of emission, and one oracle that none of them is.

    events.py           the input: a CSV file in the order of arrival, some events late, one heartbeat 31 silent days later
    pace.py             the rule of emission: batches that grow and shrink with how long a result takes
    headwater_child.py  each engine as its users would run it, in a process (and, where its packages are others, in an
    flink_child.py      environment) of its own; prints one line of JSON, and leaves the rows that a reader sees in two
    pathway_child.py    CSV files: after the last event, and after the heartbeat
    postgres_child.py
    rows.py             runs them under one meter and counts the rows that differ from DuckDB in batch

The query: for each customer the sum and the number of the events of the last 30 days (`ts > as_of - 30 days`), where `as_of`
is the newest event's time. It is meant to be answered at every moment, not when a report is run: a result may be emitted at
most 250 ms after its input was handed over. So nobody gets the input in one piece. Engines that work in batches (Headwater,
Postgres) are given as many events as they commit in about 200 ms, by the same controller; an event that took longer is
counted as late. Engines that work by the record (Flink, Pathway) read at their own pace and are set up so that they emit
within that time; nothing is committed there, and no checkpoint is taken, which spares them work that the others do.
"""
