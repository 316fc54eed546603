"""Every customer as decisions see them, in memory, so that looking one up takes a microsecond.

What is loaded is `int_decision_candidates` at one moment. `follow` reads the rows of those whom the engine's batches have
changed since (`headwater.model_changes`, and memberships of ML segments); `load` reads all again, because buckets like "no order for 90 days" also change with
the clock. Customers who look the same share one profile, so a million of them take some 200 MB.

Not thread-safe but for `find` and `as_of`: one thread loads and follows, any thread may look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from headwater.decisions import log
from headwater.decisions.customer import COLUMNS, FEATURES, FLAGS, Customer
from headwater.errors import DataError
from headwater.warehouse import Warehouse

RELATION = "main.int_decision_candidates"
FOLLOWED = ("int_customer_360", "mart_marketing__segment_scores")
"""The live models behind the candidates; their changed keys are customers."""
_LOOKS = COLUMNS[1:]
_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class _Profile:
    segment: str | None
    flags: tuple[bool | None, bool | None, bool | None, bool | None]
    time_zone: str | None
    margin_pct: float | None
    features: dict[str, str | None]


class _Known(NamedTuple):
    """Whom there is. `places`: the customer's place among `profiles`; a number and no object, so that the garbage collector need
    not go through a million customers again and again."""

    places: dict[str, int]
    profiles: list[_Profile]


class Present:
    """The customers of one relation. `find` gives nothing before the first `load`."""

    def __init__(self, warehouse: Warehouse, relation: str = RELATION) -> None:
        self._warehouse = warehouse
        self._relation = relation
        self._known = _Known({}, [])
        self._shared: dict[tuple, int] = {}
        self._version = self._members = 0
        self.as_of: datetime | None = None
        """The moment of the data, naive UTC; None before the first load."""

    def __len__(self) -> int:
        return len(self._known.places)

    def find(self, customer_id: str) -> Customer | None:
        """The customer; None when there is nobody of that id."""
        places, profiles = self._known
        place = places.get(customer_id)
        if place is None:
            return None
        found = profiles[place]
        email, phone, email_yes, sms_yes = found.flags
        look = (email, phone, email_yes, sms_yes, found.time_zone, found.margin_pct, found.features)
        return Customer(customer_id, found.segment, *look)

    def load(self) -> None:
        """Read everybody, at one moment of the warehouse. Raises DataError when there is nothing to read yet."""
        if not self._warehouse.exists(self._relation):
            raise DataError(f"{self._relation} is not in the warehouse yet; run `headwater build` first")
        with self._warehouse.transaction():
            as_of, version, members = self._moment()
            self._warehouse.execute(f"create or replace temp table present_rows as {self._select('')}")
            columns = ", ".join(_LOOKS)
            self._warehouse.execute(
                f"create or replace temp table present_looks as select (row_number() over () - 1)::integer as look, * from"
                f" (select distinct {columns} from present_rows)"
            )
            looks = self._warehouse.execute(f"select {columns} from present_looks order by look").fetchall()
            same = " and ".join(f"r.{name} is not distinct from l.{name}" for name in _LOOKS)
            found = self._warehouse.execute(
                f"select r.customer_id, l.look from present_rows r join present_looks l on {same}"
            ).fetchnumpy()
            for name in ("present_rows", "present_looks"):
                self._warehouse.execute(f"drop table {name}")
        self._shared = {}
        profiles: list[_Profile] = []
        places = [self._share(look, profiles) for look in looks]
        made: dict[str, int] = {}
        for start in range(0, len(found["look"]), _CHUNK):  # other threads get their turn between two chunks
            ids = found["customer_id"][start : start + _CHUNK].tolist()
            made.update(
                zip(ids, [places[look] for look in found["look"][start : start + _CHUNK].tolist()], strict=True)
            )
        self._known, self._version, self._members, self.as_of = _Known(made, profiles), version, members, as_of

    def follow(self) -> int:
        """Read those whom batches have changed since the last look; how many they are."""
        with self._warehouse.transaction():
            as_of, version, members = self._moment()
            rows, keys = [], []
            if version > self._version or members > self._members:
                keys = [
                    row[0]
                    for row in self._warehouse.execute(
                        f"select key from headwater.model_changes where version > $version and model in {FOLLOWED!r} union"
                        " select customer_id from headwater.segment_assignments"
                        " where entered_version > $members or left_version > $members",
                        {"version": self._version, "members": self._members},
                    ).fetchall()
                ]
            if keys:
                given, parameters = log.given({"customer_id": keys})
                rows = self._warehouse.execute(
                    self._select(f"where customer_id in (from {given})"), parameters
                ).fetchall()
        there = {row[0]: self._share(row[1:], self._known.profiles) for row in rows}
        for key in keys:
            if key not in there:
                self._known.places.pop(key, None)
        self._known.places.update(there)
        self._version, self._members, self.as_of = version, members, as_of
        return len(keys)

    def _moment(self) -> tuple[datetime, int, int]:
        """The clock, the newest change, and the change up to which memberships of ML segments follow."""
        as_of = self._warehouse.value("select max(as_of) from headwater.clock")
        if as_of is None:
            raise DataError("the clock is not set: run `headwater seed` first, it loads the files and sets it")
        newest, members = self._warehouse.execute(
            "select (select coalesce(max(version), 0) from headwater.model_changes),"
            " (select coalesce(max(version), 0) from headwater.change_cursors where consumer = 'segment_assignments')"
        ).fetchone() or (0, 0)
        return as_of, int(newest), int(members)

    def _select(self, where: str) -> str:
        kinds = dict.fromkeys(FLAGS, "boolean") | {"margin_pct": "double"}
        columns = ", ".join(f"{name}::{kinds.get(name, 'varchar')} as {name}" for name in COLUMNS)
        return f"select {columns} from {self._relation} {where}"

    def _share(self, look: Sequence, profiles: list[_Profile]) -> int:
        """The place of a look among the profiles, where it is put when it is new; places are never used again for another."""
        key = tuple(look)
        known = self._shared.get(key)
        if known is None:
            segment, *flags, time_zone, margin = key[: len(_LOOKS) - len(FEATURES)]
            features = dict(zip(FEATURES, key[-len(FEATURES) :], strict=True))
            known = self._shared[key] = len(profiles)
            profiles.append(_Profile(segment, (flags[0], flags[1], flags[2], flags[3]), time_zone, margin, features))
        return known
