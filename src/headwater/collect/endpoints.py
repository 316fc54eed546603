"""The paths that take events: Segment's, long and short, and those of tools that say what became of things."""

from dataclasses import dataclass
from typing import Literal

Shape = Literal["single", "batch", "webhook", "tool"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a request went. `kind` is the type of a single; `name` the long path, without what varies."""

    name: str
    shape: Shape
    kind: str | None = None


_SHORT = {"track": "t", "identify": "i", "page": "p", "screen": "s", "group": "g", "alias": "a"}

ENDPOINTS: dict[str, Endpoint] = {
    **{f"/v1/{kind}": Endpoint(f"/v1/{kind}", "single", kind) for kind in _SHORT},
    **{f"/v1/{short}": Endpoint(f"/v1/{kind}", "single", kind) for kind, short in _SHORT.items()},
    **{path: Endpoint("/v1/batch", "batch") for path in ("/v1/batch", "/v1/b", "/v1/import")},
}
WEBHOOK_PATH = "/v1/webhook/"
WEBHOOK = Endpoint("/v1/webhook", "webhook")
NAMED: dict[str, Endpoint] = {
    WEBHOOK_PATH: WEBHOOK,
    "/v1/hubspot/": Endpoint("/v1/hubspot", "tool"),
    "/v1/salesforce/": Endpoint("/v1/salesforce", "tool"),
}
"""What stands before the name of a source."""


def with_source(path: str) -> tuple[Endpoint, str] | None:
    """The endpoint of a path that ends in the name of a source, and that name."""
    for before, endpoint in NAMED.items():
        if path.startswith(before):
            return endpoint, path[len(before) :]
    return None


def named(name: str) -> Endpoint | None:
    """The endpoint as a rejected event remembers it."""
    return next((endpoint for endpoint in NAMED.values() if endpoint.name == name), None) or ENDPOINTS.get(name)
