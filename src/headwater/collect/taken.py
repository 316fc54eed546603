"""What one request came to: the entries for the log, and the answer to its sender."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headwater.records.logged import Entry


@dataclass(slots=True)
class Taken:
    """`sent` = accepted + rejected; a request that cannot be taken apart counts as one. `reasons`: the first code of each."""

    status: int
    body: bytes
    entries: list[Entry] = field(default_factory=list)
    source: str = ""
    accepted: int = 0
    rejected: int = 0
    reasons: Sequence[str] = ()
    content_type: bytes = b"application/json"
