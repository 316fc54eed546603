"""The engine that keeps the dbt models fresh as the log grows.

In one warehouse transaction per micro-batch it lands the raw rows, resolves identities, moves the clock, refreshes the
rows of every live model for the touched keys, records what changed and stores the log's position.

    lineage     which keys a change touches, and the SQL for those keys (proved on the compiled SQL): expand writes views and
                CTEs out, level reads one SELECT, scope pushes the filter on the key down, paths goes from changed rows to
                keys, windows finds what is due; explain says it in words
    analysis    what lineage found, as a record
    landing     log records to rows of the schema `collected`
    persons     identity links out of landed rows, and who is who (plain_links: the ones that need no thought)
    engine      the batch; windows that shrink; models that fail
    verify      live rows against the same SQL in full

What follows the engine, or answers for it:

    memberships entries and exits of rule segments
    why         the chain of one customer, from events to deliveries
    forget      a person deleted everywhere (traces: where he stands; scrub: files; suppression: who must not come back)
"""
