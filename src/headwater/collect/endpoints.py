"""The paths that take events: Segment's, long and short."""

from dataclasses import dataclass
from typing import Literal

Shape = Literal["single", "batch", "webhook"]


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


def named(name: str) -> Endpoint | None:
    """The endpoint as a rejected event remembers it."""
    return WEBHOOK if name == WEBHOOK.name else ENDPOINTS.get(name)
