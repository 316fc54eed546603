"""What landing must do, as checks: whatever reads a log at least once leaves every event in the warehouse exactly once.

    from headwater.testing import landing_checks

    class MyBench(landing_checks.LandingBench): ...   # how to land records, and what is there then

    @pytest.mark.parametrize("check", landing_checks.CHECKS, ids=lambda check: check.__name__)
    def test_my_landing(check, tmp_path):
        check(MyBench(tmp_path))

A check takes a fresh bench, asserts, and returns nothing. Each call of `land` is one batch in one transaction; the records
are those that a log gives, in the order of their offsets, and may come again.
"""

import json
import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater.records.logged import Record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPEATS_KEPT = timedelta(hours=24)
"""A repeat that is received so long after its first, or sooner, is dropped."""


class LandingBench:
    """One place to land in, in a test. `folder` is empty and belongs to this bench."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def land(self, records: Sequence[Record]) -> None:
        """Land one batch of topic events, durable when this returns."""
        raise NotImplementedError

    @abstractmethod
    def landed(self) -> list[tuple[str, str, str]]:
        """What is there: source, message id, and for a track call its property `mark` (else empty), by offset."""
        raise NotImplementedError

    @abstractmethod
    def quarantined(self) -> list[str]:
        """Message ids of records that could not be read."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forget everything that is not durable, as a kill does; called between two batches."""

    def close(self) -> None:
        """Put everything away; called once at the end of a check."""


Check = Callable[[LandingBench], None]


def record(
    offset: int, message_id: str, *, source: str = "shop", mark: str = "", at: datetime = NOW, **fields: Any
) -> Record:
    """One record of topic events: a track call, unless `fields` say another type."""
    payload = {
        "type": "track",
        "messageId": message_id,
        "userId": f"user{offset % 5}",
        "event": "Product Viewed",
        "properties": {"mark": mark},
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        **fields,
    }
    received = int(at.timestamp() * 1_000_000)
    return Record(offset, "events", source, "user", message_id, received, json.dumps(payload).encode())


# ---------------------------------------------------------------------- the checks


def what_is_landed_is_there_in_its_order(bench: LandingBench) -> None:
    """Every kind of call, every character."""
    texts = ["plain", "Zoë · 東京 · 👋", "quote \" ' \\", "line\nbreak\ttab", "x" * 20_000, "null", "{}"]
    kinds: list[dict[str, Any]] = [
        {"type": "page", "name": "Home"},
        {"type": "screen", "name": "Start"},
        {"type": "identify", "traits": {"email": "ada@example.com"}},
        {"type": "group", "groupId": "g", "traits": {"name": "Acme"}},
        {"type": "alias", "previousId": "visitor"},
    ]
    records = [record(n, f"m{n}", mark=text) for n, text in enumerate(texts, 1)]
    others = [record(n, f"m{n}", **fields) for n, fields in enumerate(kinds, len(texts) + 1)]
    with _closing(bench):
        bench.land(records + others)
        found = bench.landed()
        assert [(source, one) for source, one, _ in found] == [("shop", f"m{n}") for n in range(1, len(found) + 1)]
        assert len(found) == len(texts) + len(kinds), f"{len(texts) + len(kinds)} records came, {len(found)} landed"
        for (_, one, mark), text in zip(found, texts, strict=False):
            assert mark == text, f"{one} was sent with {text[:50]!r}, {mark[:50]!r} landed"


def a_repeat_is_dropped_and_the_first_wins(bench: LandingBench) -> None:
    """Within a batch and between batches, though its body differs."""
    with _closing(bench):
        bench.land([record(1, "a", mark="first"), record(2, "b"), record(3, "a", mark="second")])
        bench.land([record(4, "b", mark="late"), record(5, "c")])
        bench.restart()
        bench.land([record(6, "a", mark="third"), record(7, "c", type="identify", traits={})])
        assert bench.landed() == [("shop", "a", "first"), ("shop", "b", ""), ("shop", "c", "")]


def ids_belong_to_their_source(bench: LandingBench) -> None:
    """The same message id from another source is another event."""
    with _closing(bench):
        bench.land([record(1, "a", source="web"), record(2, "a", source="app"), record(3, "a", source="web")])
        assert [(source, one) for source, one, _ in bench.landed()] == [("web", "a"), ("app", "a")]


def a_repeat_is_known_for_a_day(bench: LandingBench) -> None:
    """An SDK may keep a batch for hours before it sends it again."""
    with _closing(bench):
        bench.land([record(1, "a", mark="first")])
        for hour in range(1, 24):
            bench.land([record(hour + 1, f"other{hour}", at=NOW + timedelta(hours=hour))])
        bench.land([record(30, "a", mark="again", at=NOW + REPEATS_KEPT - timedelta(seconds=1))])
        assert [mark for _, one, mark in bench.landed() if one == "a"] == ["first"]


def reading_again_changes_nothing(bench: LandingBench) -> None:
    """After a crash a reader goes back to where it was; what it landed already comes again."""
    records = [record(n, f"m{n}", mark=str(n)) for n in range(1, 101)]
    with _closing(bench):
        bench.land(records[:60])
        before = bench.landed()
        bench.restart()
        bench.land(records[20:60])
        assert bench.landed() == before, "records that came again changed what is there"
        bench.land(records[50:])
        assert [one for _, one, _ in bench.landed()] == [f"m{n}" for n in range(1, 101)]


def any_cut_gives_the_same(bench: LandingBench) -> None:
    """Where batches begin and end does not show: the same log in batches of 1, 7 and all lands alike."""
    draw = random.Random(5)  # noqa: S311 (repeatable on purpose)
    records = [record(n, f"m{draw.randrange(60)}", mark=str(n)) for n in range(1, 121)]
    first = {one.message_id: one for one in reversed(records)}
    expected = [("shop", one.message_id, str(one.offset)) for one in sorted(first.values(), key=lambda r: r.offset)]
    with _closing(bench):
        position = 0
        for size in (1, 7, 1, 40, 3, 1, 200):
            bench.land(records[position : position + size])
            position += size
        assert bench.landed() == expected


def a_record_that_cannot_be_read_does_not_stop_the_others(bench: LandingBench) -> None:
    """It is quarantined, and its neighbours land."""
    received = int(NOW.timestamp() * 1_000_000)

    def broken(offset: int, payload: bytes) -> Record:
        return Record(offset, "events", "shop", "user", f"poison{offset}", received, payload)

    with _closing(bench):
        poison = [
            broken(2, b'{"type": "track", "messageId": "poison2"'),
            broken(4, b'{"type": "track", "messageId": "\xff\xfe"}'),
            broken(6, b'{"type": "dance", "messageId": "poison6"}'),
            broken(8, b'{"type": "track", "messageId": "poison8", "event": "e", "userId": "u", "timestamp": "soon"}'),
        ]
        good = [record(n, f"m{n}") for n in (1, 3, 5, 7, 9)]
        bench.land(sorted([*poison, *good], key=lambda one: one.offset))
        assert [one for _, one, _ in bench.landed()] == ["m1", "m3", "m5", "m7", "m9"]
        assert sorted(bench.quarantined()) == ["poison2", "poison4", "poison6", "poison8"]


CHECKS: tuple[Check, ...] = (
    what_is_landed_is_there_in_its_order,
    a_repeat_is_dropped_and_the_first_wins,
    ids_belong_to_their_source,
    a_repeat_is_known_for_a_day,
    reading_again_changes_nothing,
    any_cut_gives_the_same,
    a_record_that_cannot_be_read_does_not_stop_the_others,
)


@contextmanager
def _closing(bench: LandingBench) -> Iterator[None]:
    try:
        yield
    finally:
        bench.close()
