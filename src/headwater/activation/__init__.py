"""Who was told: plan, outbox, delivery.

A sync sends the rows of a model to a destination. Three steps, each of which can be looked at before the next:

    plan      the difference between the model now and what the destination last confirmed, in SQL (`difference`, `plan`)
    outbox    one row per operation, with an id that stays the same however often it is sent (`outbox`)
    deliver   claim, send, record, until nothing is ready (`deliver`, `send`, `destinations/`)

Tables
    delivered.<sync>          one row per key that the destination confirmed: the left side of every difference
    delivered.<sync>__next    one row per open operation: the confirmed row as it will be
    headwater.outbox          one row per operation: ready → claimed → done | failed | held, or superseded
    headwater.sync_runs       one row per run; headwater.sync_rows: one row per operation and try

States
    ready       waits for the next run
    claimed     is being sent by a run; after a crash: may have been sent
    done        the destination confirmed it; only then does delivered.<sync> change
    failed      the destination refused it, or the tries are used up; the next plan asks for it again
    held        a rule keeps it back (consent, kill switch, frequency …); the next plan asks again
    superseded  a newer version took its place, or the model no longer asks for it

What repeats after a crash
    before `claimed` is committed     nothing: nothing was sent
    between claimed and recorded      the claimed rows are *in doubt*: the next run sends them again, under the same ids and,
                                      for files, under the same file names; at most one claim (1,000 rows, or one call where
                                      the destination takes more or cannot tell a repetition), or two sets (`sets`)
    after recorded                    nothing: the rows are done
    A repetition has no second effect where the destination knows keys or idempotency keys; each says so in its docstring.

Rules that must be asked again at send (`recheck`) and what must be written when a person is contacted (`release`) come in
as callables: activation knows no rule.
"""
