"""Changes of database rows become rows of the schema `landed` (shapes.py says of which tables), inside the caller's transaction.

    change r c u d   the row as it is now, by the greatest lsn of its key, and a version of it
    change t         the table is empty, and every row has a version that says so
    snapshot         when one has finished: rows that it did not see are deleted
    schema           taken in between two batches (`prepare`), since it changes tables
    repeats          a (key, lsn) that is known, or older than what is known and recorded: nothing happens, counted
    late             older than what is known and not recorded: a version only, the row as it is now stays
    poison           a change that cannot be read -> headwater.rejected_events, and the rest goes on
    suppressed       of somebody who was forgotten: taken out before it lands, and out of the log

Idempotent: the same records again, in any order within what their lsn allow, give the same tables. What became of the rows is
handed to the models as deltas with old and new images; images in between count as touched too.

A record ends as change (late ones included), repeat, poison or suppressed. JSON is taken apart by SQL, once. Records of one table that stand
between two markers (truncate, snapshot, schema) are landed together; where a value was not sent (TOAST), one change of each
key after the other, because the old value may come with an earlier one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from headwater.live import contents, rejected, suppression, traces
from headwater.live.change_heads import SENTENCES, Head, readable, whole
from headwater.live.deltas import Delta, moment, quoted
from headwater.live.landing import Landed
from headwater.live.shapes import HELD, VERSION, Column, Declared, Shape, Shapes
from headwater.live.texts import AT_ONCE, END
from headwater.records.logged import Record
from headwater.warehouse import Warehouse


@dataclass(frozen=True)
class Moved:
    """What a batch changed in one table, for the models and for the sums of what tables hold."""

    columns: tuple[str, ...]
    delta: Delta


class Changes:
    """Lands the topic `changes` in one warehouse. One engine's, in its thread.

    `begin` at the start of a batch's transaction, `land` for each part, `moved` at its end. `prepare` between batches.
    """

    def __init__(self, warehouse: Warehouse, declared: Declared | None = None) -> None:
        self.warehouse = warehouse
        self.shapes = Shapes(warehouse, declared or {})
        self._came: dict[str, int] = {}
        self._went: dict[str, int] = {}
        self._columns: dict[str, tuple[str, ...]] = {}
        self._somebody = False
        self.suppressed: list[int] = []
        """Offsets of records of the batch that are somebody's who was forgotten; for `Log.remove`."""
        self._refused: dict[int, str] = {}  # offsets of records that ask for what no table can be

    def open(self) -> None:
        """Read which tables there are."""
        self._columns.clear()
        self.shapes.read()

    # ------------------------------------------------------------------ between batches

    def prepare(self, records: Sequence[Record], now: datetime) -> list[str] | None:
        """Change tables as the first of these records ask; None when no table was, else what models should know of it.

        Takes the records from the front that are of kind schema, and the first row of a table nobody has described. Each in a
        transaction of its own, followed by a checkpoint (unless somebody else is writing); running it again changes nothing.
        What cannot be followed is rejected when it lands.
        """
        sentences: list[str] = []
        self.shapes.altered = False
        for record in records:
            head = readable(record)
            if isinstance(head, str) or (head.kind != "schema" and not self._asks(record, head)):
                break
            if not self._asks(record, head):
                continue
            try:
                with self.warehouse.transaction():
                    if head.kind == "schema":
                        sentences += self.shapes.tell(record.source, msgspec.to_builtins(head), now)
                    else:
                        row = whole(record.payload).get("row")
                        self.shapes.infer(record.source, head.table, head.key or {}, row or {}, now)
            except Exception as error:  # whatever the warehouse says of such a table
                self._refused[record.offset] = f"bad_schema: {type(error).__name__}: {error}"
                self.shapes.read()
            else:
                if self._asks(record, head):
                    self._refused[record.offset] = "bad_schema: its columns cannot be those of a table"
        if not self.shapes.altered:
            return None
        self._columns.clear()
        self.warehouse.checkpoint()
        return sentences

    def _asks(self, record: Record, head: Head) -> bool:
        """Whether a table must be made or changed before this record can land."""
        if record.offset in self._refused:
            return False
        if head.kind == "schema":
            return not self.shapes.fits(record.source, msgspec.to_builtins(head))
        if head.kind != "change" or head.op == "t":
            return False
        shape = self.shapes.known.get((record.source, head.table))
        if shape is None:
            return True
        if shape.told:
            return False
        names = {column.name for column in shape.columns}
        row = whole(record.payload).get("row")
        return not shape.key or not names.issuperset(row if isinstance(row, dict) else ())

    # ------------------------------------------------------------------ the batch

    def begin(self) -> None:
        """Forget what the batch before has moved."""
        self._came, self._went = {}, {}
        self.suppressed = []
        self._somebody = suppression.anybody(self.warehouse)

    def land(self, records: Sequence[Record], now: datetime) -> tuple[Landed, int]:
        """Land records in the order of their offsets; how many of them were taken. The rest begins with one that `prepare`
        must see first."""
        landed = Landed()
        waiting: dict[tuple[str, str], list[Record]] = {}
        partly: set[tuple[str, str]] = set()  # tables with a value that was not sent
        taken = 0

        def land_waiting() -> Landed:
            done = Landed()
            for table, rows in waiting.items():
                done += self._rows(self.shapes.known[table], rows, partly=table in partly)
            waiting.clear()
            partly.clear()
            return done

        for record in records:
            head = self._refused.get(record.offset) or readable(record)
            if isinstance(head, str):
                self._reject(
                    [(record.offset, record.source, record.received_at, record.message_id, head, record.payload)]
                )
                landed += Landed(read=1, poison=1)
            elif self._asks(record, head):
                break
            elif head.kind == "change" and head.op != "t":
                waiting.setdefault((record.source, head.table), []).append(record)
                if head.unavailable:
                    partly.add((record.source, head.table))
            else:
                landed += land_waiting()
                landed += self._marker(record, head)
            taken += 1
        landed += land_waiting()
        return landed, taken

    def moved(self) -> Iterator[tuple[str, Moved]]:
        """What the batch has changed, by table."""
        for relation in {**self._came, **self._went}:
            columns = self._columns[relation]
            listed = ", ".join(map(quoted, columns))
            sides = [
                f"(select {listed} from {_side(which, relation)})" if number.get(relation) else None
                for which, number in (("went", self._went), ("came", self._came))
            ]
            yield relation, Moved(columns, Delta(*sides))

    # ------------------------------------------------------------------ markers

    def _marker(self, record: Record, head: Head) -> Landed:
        w, one = self.warehouse, Landed(read=1, changes=1)
        at = head.at.astimezone(UTC).replace(tzinfo=None)
        if head.kind == "schema":  # `prepare` has followed it
            return one
        if head.op == "t":
            shape = self.shapes.known.get((record.source, head.table))
            if shape is None:
                return one
            if shape.floor is not None and shape.floor >= head.lsn:
                return Landed(read=1, repeats=1)
            self._remove(shape, f"_lsn <= {head.lsn}", head.lsn, at, "t")
            self.shapes.raise_floor(shape, head.lsn)
            return one
        if head.state == "started":
            w.execute(
                "insert into headwater.landed_snapshots select ?, ?, ?, ?, ?, null, null where not exists"
                " (select 1 from headwater.landed_snapshots where source = ? and snapshot_id = ?)",
                [record.source, head.id, json.dumps(head.tables or []), head.lsn, at, record.source, head.id],
            )
            return one
        removed = 0
        for table in head.tables or ():
            shape = self.shapes.known.get((record.source, table))
            if shape is not None and shape.key:
                unseen = f"_snapshot is distinct from {_literal(head.id)} and _lsn <= {head.lsn}"
                removed += self._remove(shape, unseen, head.lsn, at, "d")
        w.execute(
            "update headwater.landed_snapshots set ended_at = ?, removed_rows = ? where source = ? and snapshot_id = ? and ended_at is null",
            [at, removed, record.source, head.id],
        )
        return one

    def _remove(self, shape: Shape, condition: str, lsn: int, at: datetime, op: str) -> int:
        """Delete the rows of the condition, with a version and a mark of each; how many there were."""
        w = self.warehouse
        w.execute(f"create or replace temp table change_gone as select * from {shape.relation} where {condition}")
        count = int(w.value("select count(*) from change_gone"))
        if not count:
            return 0
        self._move("went", shape, "change_gone", count)
        w.execute(f"delete from {shape.relation} where {condition}")
        key = {column.landed for column in shape.key}
        data = [
            quoted(c.landed) if c.landed in key else f"cast(null as {c.kind}) as {quoted(c.landed)}"
            for c in shape.columns
        ]
        w.execute(
            f"create or replace temp table change_versions as select {', '.join(data)}, {moment(at)} as _valid_from,"
            f" cast({lsn} as bigint) as _seq, '{op}' as _op, true as _deleted from change_gone"
        )
        self._versions(shape, alone=True)
        if op == "d":
            w.execute(
                f"insert into headwater.landed_deletes select '{shape.relation}', {_key_text(shape, 'g')}, {lsn}, {moment(at)}"
                " from change_gone as g"
            )
        return count

    # ------------------------------------------------------------------ rows

    def _rows(self, shape: Shape, rows: Sequence[Record], *, partly: bool) -> Landed:
        """Changes of one table, none of which changes the table itself. `partly`: of some of them a value was not sent."""
        self._take_apart(shape, rows)
        poison = self._poison(shape)
        suppressed = self._suppressed(shape) if self._somebody else 0
        applied = 0
        if partly:
            keys = ", ".join(quoted(c.landed) for c in shape.key)
            w = self.warehouse
            w.execute(
                f"create or replace temp table change_all as select *, row_number() over (partition by {keys} order by _lsn, _position)"
                " as _round from change_read"
            )
            for number in range(1, int(w.value("select coalesce(max(_round), 0) from change_all")) + 1):
                w.execute(
                    f"create or replace temp table change_read as select * exclude (_round) from change_all where _round = {number}"
                )
                poison += self._complete(shape)
                applied += self._apply(shape)
        else:
            applied = self._apply(shape)
        repeats = len(rows) - poison - suppressed - applied
        return Landed(read=len(rows), changes=applied, repeats=repeats, poison=poison, suppressed=suppressed)

    def _suppressed(self, shape: Shape) -> int:
        """Take out the changes of people who were forgotten; how many there were."""
        gone: list[int] = []
        for column in shape.columns:
            if column.name.lower() in traces.USERS:
                gone += suppression.take_out(self.warehouse, "change_read", quoted(column.landed), "_position")
        self.suppressed += gone
        return len(gone)

    def _take_apart(self, shape: Shape, records: Sequence[Record]) -> None:
        """`change_read`: the records, each column in its own type, with the reason why one cannot be used."""
        texts: tuple[list[str], list[str]] = ([], [])
        for start in range(0, len(records), AT_ONCE):
            part = records[start : start + AT_ONCE]
            texts[0].append(END.join([record.payload.decode() for record in part]))
            texts[1].append(END.join([str(record.offset) for record in part]))
        paths = ["$.op", "$.lsn", "$.at", "$.snapshot", "$.unavailable"]
        paths += [_path("key" if column.is_key else "row", column.name) for column in shape.columns]
        said = [f"said[{number}]" for number in range(1, len(paths) + 1)]
        columns = list(zip(shape.columns, said[5:], strict=True))
        typed = [f"{_typed(column, text)} as {quoted(column.landed)}" for column, text in columns]
        wrong = [_misfit(column, text) for column, text in columns]
        self.warehouse.execute(
            f"""create or replace temp table change_read as
            select
                {", ".join(typed)},
                said[1] as _op, cast(said[2] as bigint) as _lsn, try_cast(said[3] as timestamp) as _at, said[4] as _snapshot,
                said[5] as _unavailable, _position,
                case
                    when said[3] is null or not isfinite(try_cast(said[3] as timestamp)) then 'bad_time'
                    when {" or ".join(f"{text} is null" for column, text in columns if column.is_key)} then 'no_key'
                    when {" or ".join(wrong)} then 'bad_value'
                end as _poison,
                {self._misfits(columns)} as _misfits
            from (
                select _position, json_extract_string(payload, [{", ".join(map(_literal, paths))}]) as said
                from (
                    select
                        unnest(string_split(payloads, '{END}')) as payload,
                        cast(unnest(string_split(positions, '{END}')) as bigint) as _position
                    from (select unnest(?) as payloads, unnest(?) as positions)
                )
            )""",
            list(texts),
        )
        self._records = {record.offset: record for record in records}

    @staticmethod
    def _misfits(columns: Sequence[tuple[Column, str]]) -> str:
        """SQL: the columns whose value does not fit its type, where there is one."""
        listed = ", ".join(
            f"case when {_misfit(column, text)} then {_literal(column.name)} end" for column, text in columns
        )
        anything = " or ".join(_misfit(column, text) for column, text in columns)
        return f"case when {anything} then list_filter([{listed}], name -> name is not null) end"

    def _poison(self, shape: Shape) -> int:
        found = self.warehouse.execute(
            "select _position, _poison, _misfits from change_read where _poison is not null"
        ).fetchall()
        if not found:
            return 0
        kinds = {column.name: column.kind for column in shape.columns}
        rows = []
        for position, code, misfits in found:
            record = self._records[position]
            reason = code
            if code == "bad_value":
                reason += f": {shape.table}: " + ", ".join(f"{name} is no {kinds[name]}" for name in misfits)
            rows.append((position, record.source, record.received_at, record.message_id, reason, record.payload))
        self._reject(rows)
        self.warehouse.execute("delete from change_read where _poison is not null")
        return len(found)

    def _reject(self, rows: Sequence[tuple[int, str, int, str, str, bytes]]) -> None:
        for position, source, received_at, message_id, reason, payload in rows:
            code, _, message = reason.partition(": ")
            record = Record(position, "changes", source, "", message_id, received_at, payload)
            rejected.put(self.warehouse, record, code, message or SENTENCES[code])

    def _complete(self, shape: Shape) -> int:
        """Fill in values that were not sent from the newest older version of the row; how many rows have none."""
        w = self.warehouse
        keys = [column.landed for column in shape.key]
        same = " and ".join(f"v.{quoted(k)} = r.{quoted(k)}" for k in keys)
        w.execute(
            f"create or replace temp table change_before as select r._position, arg_max(v, v._seq) as held from change_read as r"
            f" inner join {shape.versions} as v on {same} and v._seq < r._lsn where r._unavailable is not null group by r._position"
        )
        lacking = w.execute(
            "select _position from change_read where _unavailable is not null and _unavailable <> '[]' and _position not in"
            " (select _position from change_before where not held._deleted)"
        ).fetchall()
        for (position,) in lacking:
            record = self._records[position]
            self._reject(
                [(position, record.source, record.received_at, record.message_id, "value_not_sent", record.payload)]
            )
        w.execute(
            "delete from change_read where _unavailable is not null and _unavailable <> '[]' and _position not in"
            " (select _position from change_before where not held._deleted)"
        )
        for column in shape.data:
            w.execute(
                f"update change_read set {quoted(column.landed)} = b.held.{quoted(column.landed)} from change_before as b"
                " where b._position = change_read._position and"
                f" list_contains(from_json(change_read._unavailable, '[\"VARCHAR\"]'), {_literal(column.name)})"
            )
        return len(lacking)

    def _apply(self, shape: Shape) -> int:
        """Bring `change_read` into the tables; how many of its records are news."""
        w = self.warehouse
        keys = [quoted(column.landed) for column in shape.key]
        listed = ", ".join(keys)
        same = " and ".join(f"h.{key} = r.{key}" for key in keys)
        alike = (
            " and ".join(f"h.{quoted(c.landed)} is not distinct from r.{quoted(c.landed)}" for c in shape.data)
            or "true"
        )
        floor = "cast(null as bigint)" if shape.floor is None else str(shape.floor)
        # most batches have one change of each row: nothing has to be put in order then
        distinct = listed if len(keys) == 1 else f"({listed})"
        alone = bool(w.value(f"select count(*) = count(distinct {distinct}) from change_read"))
        nth = f"row_number() over (partition by {', '.join(f'r.{key}' for key in keys)}, r._lsn order by r._position)"
        seen = (
            f"last_value(_snapshot ignore nulls) over (partition by {listed} order by _lsn, _position"
            " rows between unbounded preceding and unbounded following)"
        )
        w.execute(
            f"create or replace temp table change_held as select rowid as _row, * from {shape.relation}"
            f" where ({listed}) in (select {'(' + listed + ')' if len(keys) > 1 else listed} from change_read)"
        )
        w.execute(
            f"""create or replace temp table change_judged as
            select
                *,
                _nth = 1 and (_known is null or _lsn > _known) as _fresh,
                _nth = 1 and _lsn < _known as _old,
                {"_snapshot" if alone else seen} as _seen
            from (
                select
                    r.*, h._row, greatest(coalesce(h._lsn, d.lsn), {floor}) as _known, d.lsn is not null as _was_gone,
                    h._snapshot as _held_snapshot,
                    r._op = 'r' and h._row is not null and {alike} as _same,
                    {"1" if alone else nth} as _nth
                from change_read as r
                left join change_held as h on {same}
                left join headwater.landed_deletes as d on d.relation = '{shape.relation}' and d.key = {_key_text(shape, "r")}
            )"""
        )
        last = "" if alone else f" qualify row_number() over (partition by {listed} order by _lsn desc) = 1"
        w.execute(f"create or replace temp table change_newest as select * from change_judged where _fresh{last}")
        columns = ", ".join(quoted(column.landed) for column in shape.columns)
        counts = w.execute(
            "select count(*) filter (_row is not null and not (_op = 'r' and _same)), count(*) filter (_op <> 'd' and not _same),"
            " count(*) filter (_op = 'd'), count(*) filter (_was_gone), count(*) filter (_same) from change_newest"
        ).fetchone()
        assert counts is not None
        went, came, deleted, returned, seen = map(int, counts)
        if went:
            w.execute(
                "create or replace temp table change_gone as select * from change_held where _row in"
                " (select _row from change_newest where not _same)"
            )
            self._move("went", shape, "change_gone", went)
            w.execute(f"delete from {shape.relation} where rowid in (select _row from change_gone)")
        if returned:
            w.execute(
                f"delete from headwater.landed_deletes where relation = '{shape.relation}' and key in"
                f" (select {_key_text(shape, 'r')} from change_newest as r)"
            )
        if came:
            w.execute(
                f"create or replace temp table change_images as select {columns}, _at, _lsn,"
                " coalesce(_seen, _held_snapshot) as _snapshot from change_newest where _op <> 'd' and not _same order by _position"
            )
            self._move("came", shape, "change_images", came)
            w.execute(f"insert into {shape.relation} ({columns}, {', '.join(HELD)}) select * from change_images")
        if deleted:
            w.execute(
                f"insert into headwater.landed_deletes select '{shape.relation}', {_key_text(shape, 'r')}, _lsn, _at"
                " from change_newest as r where _op = 'd'"
            )
        if seen:
            w.execute(
                f"update {shape.relation} set _lsn = n._lsn, _snapshot = coalesce(n._seen, n._held_snapshot) from change_newest as n"
                f" where n._same and {shape.relation}.rowid = n._row"
            )
        if w.value(
            "select count(*) from change_judged where not _fresh and _row is not null and _snapshot is not null"
        ):
            w.execute(
                f"update {shape.relation} set _snapshot = n._snapshot from change_judged as n where not n._fresh"
                f" and n._snapshot is not null and {shape.relation}.rowid = n._row"
            )
        return self._record(shape, alone=alone)

    def _record(self, shape: Shape, *, alone: bool) -> int:
        """Write the versions; how many records were news."""
        w = self.warehouse
        key = {column.landed for column in shape.key}
        data = [
            quoted(c.landed)
            if c.landed in key
            else f"case when _op <> 'd' then {quoted(c.landed)} end as {quoted(c.landed)}"
            for c in shape.columns
        ]
        w.execute(
            f"create or replace temp table change_versions as select {', '.join(data)}, _at as _valid_from, _lsn as _seq, _op,"
            " _op = 'd' as _deleted from change_judged where (_fresh or _old) and not _same order by _position"
        )
        known = self._versions(shape, alone=alone)
        news = int(w.value("select count(*) from change_judged where _fresh or _old"))
        return news - known

    def _versions(self, shape: Shape, *, alone: bool) -> int:
        """Bring `change_versions` into the table of versions, one per key and moment; how many of them were there already.

        `alone`: there is one of each key.
        """
        w = self.warehouse
        keys = [quoted(column.landed) for column in shape.key]
        first = w.value("select min(_valid_from) from change_versions")
        if first is None:
            return 0
        same = " and ".join(f"v.{key} = n.{key}" for key in keys)
        listed = ", ".join(keys)
        at = f"{listed}, _valid_from"
        w.execute(
            f"create or replace temp table change_recorded as select rowid as _row, * from {shape.versions}"
            f" where _valid_from >= {moment(first)} and ({at}) in (select ({at}) from change_versions)"
        )
        there = f"from change_recorded as v where {same} and v._valid_from = n._valid_from"
        known, recorded = 0, bool(w.value("select count(*) from change_recorded"))
        if recorded:
            known = int(
                w.value(
                    f"select count(*) from change_versions as n where exists (select 1 {there} and v._seq = n._seq)"
                )
            )
        news = f" where not exists (select 1 {there} and v._seq >= n._seq)" if recorded else ""
        last = "" if alone else f" qualify row_number() over (partition by {at} order by _seq desc) = 1"
        w.execute(f"create or replace temp table change_fresh as select * from change_versions as n{news}{last}")
        went = 0
        if recorded:
            replaced = f"exists (select 1 from change_fresh as n where {same} and v._valid_from = n._valid_from)"
            w.execute(
                f"create or replace temp table change_gone as select * from change_recorded as v where {replaced}"
            )
            went = int(w.value("select count(*) from change_gone"))
        if went:
            self._move("went", shape, "change_gone", went, versions=True)
            w.execute(f"delete from {shape.versions} where rowid in (select _row from change_gone)")
        came = int(w.value("select count(*) from change_fresh"))
        if came:
            self._move("came", shape, "change_fresh", came, versions=True)
            columns = ", ".join([*(quoted(c.landed) for c in shape.columns), *VERSION])
            w.execute(
                f"insert into {shape.versions} ({columns}) select {columns} from change_fresh order by _valid_from, _seq"
            )
        return known

    def _move(self, side: str, shape: Shape, table: str, count: int, *, versions: bool = False) -> None:
        """Note rows that came or went."""
        relation = shape.versions if versions else shape.relation
        if relation not in self._columns:
            self._columns[relation] = tuple(contents.summed(relation, contents.types(self.warehouse, relation)))
        columns = self._columns[relation]
        listed = ", ".join(map(quoted, columns))
        number = self._came if side == "came" else self._went
        if relation in number:
            self.warehouse.execute(f"insert into {_side(side, relation)} select {listed} from {table}")
        else:
            self.warehouse.execute(
                f"create or replace temp table {_side(side, relation)} as select {listed} from {table}"
            )
        number[relation] = number.get(relation, 0) + count


def _typed(column: Column, text: str) -> str:
    return text if column.kind == "VARCHAR" else f"try_cast({text} as {column.kind})"


def _misfit(column: Column, text: str) -> str:
    """SQL: true when a value is there that the type does not hold; never null."""
    if column.kind == "VARCHAR":
        return "false"
    value = _typed(column, text)
    if column.kind.startswith("DECIMAL("):  # a cast rounds
        scale = int(column.kind.rstrip(")").split(",")[1])
        return f"({text} is not null and {value} is distinct from try_cast({text} as decimal(38,{min(scale + 6, 38)})))"
    return f"({text} is not null and {value} is null)"


def _path(part: str, column: str) -> str:
    return f'$.{part}."{column}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _key_text(shape: Shape, alias: str) -> str:
    """SQL: the key as a text, for the ledger of deletes."""
    columns = [f"cast({alias}.{quoted(column.landed)} as varchar)" for column in shape.key]
    return columns[0] if len(columns) == 1 else f"cast(to_json([{', '.join(columns)}]) as varchar)"


def _side(side: str, relation: str) -> str:
    return f"{side}_{relation.replace('.', '_')}"
