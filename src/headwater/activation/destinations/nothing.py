"""A destination that takes everything and keeps nothing."""

from collections.abc import Sequence

from headwater.activation.destinations.base import BaseDestination, Batch, Limits, Result


class Nothing(BaseDestination):
    """Confirms every row and does nothing with it.

    For a sync whose rows the destination has already (the next run then sends only what changes), for rehearsals and for
    benchmarks. Guarantee: none is needed. Limits: none. Idempotent.
    """

    limits = Limits(max_rows=100_000)

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Confirm."""
        return self.done(batch)
