"""The engine that keeps the dbt models fresh as the log grows.

In one warehouse transaction per micro-batch it lands the raw rows, resolves identities, moves the clock, refreshes the
rows of every live model for the touched keys, records what changed and stores the log's position.

    lineage     which keys a change touches, and the SQL for those keys (proved on the compiled SQL)
    analysis    what lineage found, as a record
    landing     log records to rows of the schema `collected`
    engine      the batch; windows that shrink; models that fail
    verify      live rows against the same SQL in full
"""
