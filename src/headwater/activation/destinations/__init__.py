"""Where rows go: one file per destination, registered here in plain sight.

Adding one is one file: a class with `deliver(batch)`, most easily a `BaseDestination`, named below, or in the settings as
`type: package.module:Class`, or published as an entry point in the group `headwater.destination`.
`headwater.testing.checks` holds the checks that it must pass.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from headwater import registry
from headwater.activation.destinations.base import (
    BaseDestination,
    Batch,
    CallFailed,
    Destination,
    Later,
    Limits,
    Operation,
    Rejected,
    Result,
    RowSet,
    Unusable,
    Verb,
)
from headwater.activation.settings import DestinationSettings

DESTINATIONS: dict[str, str] = {
    "files": "headwater.activation.destinations.files:Files",
    "webhook": "headwater.activation.destinations.webhook:Webhook",
    "postgres": "headwater.activation.destinations.postgres:Postgres",
    "hubspot": "headwater.activation.destinations.hubspot:HubSpot",
    "salesforce": "headwater.activation.destinations.salesforce:Salesforce",
    "kafka": "headwater.activation.destinations.kafka:Kafka",
    "nothing": "headwater.activation.destinations.nothing:Nothing",
}

__all__ = [
    "DESTINATIONS",
    "BaseDestination",
    "Batch",
    "CallFailed",
    "Destination",
    "Later",
    "Limits",
    "Operation",
    "Rejected",
    "Result",
    "RowSet",
    "Unusable",
    "Verb",
    "make",
]


def make(
    name: str, settings: DestinationSettings, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Destination:
    """The destination `name`, not yet opened: no file is touched, no address called, no secret read.

    Raises ConfigError with all problems of its options at once.
    """
    kind = registry.load("destination", settings.type, DESTINATIONS)
    return kind(name, settings.options, folder=folder, environment=os.environ if environment is None else environment)
