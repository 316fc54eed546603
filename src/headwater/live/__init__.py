"""The engine that keeps the dbt models fresh as the log grows.

In one warehouse transaction per micro-batch it lands the raw rows, resolves identities, moves the clock, refreshes the
rows of every live model for the touched keys, records what changed and stores the log's position.

    project      which models are live, in which order
    lineage      which keys a change touches, and the SQL for those keys (proved on the compiled SQL; expand, level, paths,
                 scope, windows); `analysis` is what it found, as a record
    landing      log records to rows of the schema `collected`; changes: of a database's rows to the schema `landed` (shapes, change_heads)
    persons      new links to who is who
    engine       the batch: opening, parking, the transaction
    upkeep       one pass over the models in a batch; refresh: one model of it; deltas: what changed so far
    horizon      when the clock alone moves something
    standing     what each model owes, and whether it is live, rebuilt or stopped
    aside        a large model that has changed, built beside the batches
    isolate      models and keys that fail
    contents     what tables hold, to see what somebody else has changed
    storage      the file written anew, snapshots for readers
    verify       live rows against the same SQL in full
    redrive      rejected events through the log again
    memberships  rule segments from recorded changes; forget: a person deleted everywhere

What is owed (`headwater.due_keys`), failing (`headwater.stale_keys`) or late is always in a table, never only in memory.
"""
