"""The order of things: which stage follows which, and who is handed what.

    run = seed → build upstream of customer_segments → segment → build what follows it → outcomes → decide → plan → compare the groups → export

Each stage reads what the one before has left in the warehouse and leaves something there itself; each can be run alone,
and running one twice gives the same result as once. A killed run leaves the last good tables in place: start it again and
it goes through the same order, skipping what is done already (unchanged files, a fresh segment model, decisions that were
taken under the same settings and `as_of`).

    project     the folder, its settings, its warehouse, its lock
    building    seed, build, test, docs      segmenting    segment and its parts      acting    decide, plan, activate
    learning    what came of decisions: outcomes, policies, experiment
    watching    what there is to see of a live project: sources, models, checks
    people      one person: forgotten, or told apart again
    order       all of them, in their order: Stack
"""

from headwater.log.opening import FILE as LOG
from headwater.stack.building import Part
from headwater.stack.order import ORDER, Exporter, Report, Stack
from headwater.stack.project import OnProgress, log_to_write

__all__ = ["LOG", "ORDER", "Exporter", "OnProgress", "Part", "Report", "Stack", "log_to_write"]
