"""The difference between a model now and what its destination last confirmed, computed in SQL on the mapped columns.

`compute` leaves two temporary tables behind: one row per operation, and one row per key that cannot become an
operation (quarantined). Rows that agree are told by their hash and never leave the join; typed columns are compared for the
others, and only what changed is turned into JSON.

    mode      new key    changed row      key gone from the model          null now
    upsert    create     update           left alone                       left alone, unless write_nulls
    update    update     update           left alone                       left alone, unless write_nulls
    insert    create     left alone       left alone                       –
    mirror    create     update           delete                           left alone, unless write_nulls
    delete    delete     –                forgotten (so it may come back)  –

An operation that was sent and never answered is *in doubt*: the destination may or may not have it. Its key is planned
again even when the model and the last confirmation agree, because the destination may hold what was sent; where the
model still says the same, the same operation goes out again under its own id. A key in doubt that has left the model is
deleted by a mirror and not touched by the other modes (it is planned again should it come back).
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import count

from headwater.activation import delivered, exact, places
from headwater.activation.mapping import Field, FieldMap, literal, quoted
from headwater.activation.settings import SyncSettings
from headwater.errors import UsageError
from headwater.warehouse import Warehouse

OPEN = "('ready', 'claimed', 'failed', 'held')"
_NUMBERS = count(1)


@dataclass(frozen=True)
class Difference:
    """The tables that `compute` made and what it counted.

    `model_rows` = rows the model gives to this sync; `unusable` of them have no key or share one with a row that says
    something else, `collapsed` of them repeat a row that is new or changed; `delivered_rows` = keys the destination has confirmed.
    """

    table: str
    changed: str
    quarantined: str
    model_rows: int
    collapsed: int
    unusable: int
    delivered_rows: int
    forgotten: int


def compute(
    warehouse: Warehouse,
    sync: SyncSettings,
    fields: FieldMap,
    segment: str | None,
    moment: datetime,
    *,
    only: str | None = None,
) -> Difference:
    """Compare, and leave the outcome in temporary tables of this connection; `drop` removes them.

    `moment` (naive UTC) is the time by which rows have settled or not. `only`: a table whose column `key` holds the keys to
    look at; the mapping is narrowed to them already. Reads only, but for these tables.
    """
    return _Comparison(warehouse, sync, fields, segment, moment, only).run()


def drop(warehouse: Warehouse, *tables: str) -> None:
    """Remove the tables of a difference that nobody needs any more."""
    for table in tables:
        warehouse.execute(f"drop table if exists {table}")


class _Comparison:
    def __init__(
        self,
        warehouse: Warehouse,
        sync: SyncSettings,
        fields: FieldMap,
        segment: str | None,
        moment: datetime,
        only: str | None,
    ) -> None:
        self.warehouse = warehouse
        self.sync = sync
        self.fields = fields
        self.moment = moment
        self.only = f"where _headwater_key in (select key from {only})" if only else ""
        self.confirmed = delivered.columns(warehouse, sync.name)
        self.segment = None if segment == "all" else segment
        name = f"plan_{sync.name}_{next(_NUMBERS)}"
        self.table = f"temp.{quoted(name)}"
        self.changed = f"temp.{quoted(name + '__changed')}"
        self.quarantined = f"temp.{quoted(name + '__quarantined')}"
        self.candidates = f"temp.{quoted(name + '__candidates')}"
        self.repeated = f"temp.{quoted(name + '__repeated')}"
        self.names = [quoted(field.name) for field in fields.fields]
        if self.segment is not None and not fields.has("segment"):
            raise UsageError(
                f"sync {sync.name!r} cannot be narrowed to segment {segment!r}: its model has no column `segment`. Leave the segment out, or add the column"
            )

    def run(self) -> Difference:
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.quarantined)} (key varchar, rule varchar, sentence varchar, row_count bigint)"
        )
        collapsed = 0
        if not (self._is_first() and self._first()):
            self._find_candidates()
            self._quarantine_keyless()
            collapsed = self._settle_repeated()
            self._compare()
            self._number()
            drop(self.warehouse, self.candidates, self.repeated)
        unusable = self.warehouse.value(f"select coalesce(sum(row_count), 0) from {self.quarantined}")
        return Difference(
            table=self.table,
            changed=self.changed,
            quarantined=self.quarantined,
            model_rows=self.warehouse.value(f"select count(*) from {self.fields.relation} {self._where()}"),
            collapsed=collapsed,
            unusable=int(unusable),
            delivered_rows=self._delivered_rows(),
            forgotten=self.warehouse.value(
                f"select count(*) from {self.changed} where _headwater_operation = 'forget'"
            ),
        )

    def _delivered_rows(self) -> int:
        return self.warehouse.value(f"select count(*) from {delivered.table(self.sync.name)}") if self.confirmed else 0

    def _where(self) -> str:
        return f"where ({self.fields.where})" if self.fields.where else ""

    # the first delivery of all

    def _is_first(self) -> bool:
        """Whether nothing is confirmed, nothing open and no version used: there is nothing to compare with."""
        return not self._delivered_rows() and not self.warehouse.value(
            f"select exists (select 1 from headwater.outbox where sync = {literal(self.sync.name)} "
            f"and (state <> 'done' or operation = 'delete'))"
        )

    def _first(self) -> bool:
        """Make each row of the model an operation, in one go; False, and nothing made, when a row has no key of its own."""
        created, _ = self._verbs()
        rule, sentence = self._held()
        kept = "".join(f", {name}" for name in self.names)
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.table)} as "
            f"with wanted as (select *, '{created}' as _headwater_operation from ({self._model()})), "
            f"versioned as (select _headwater_key, _headwater_operation, 0::bigint as _headwater_base, _headwater_decision_id, "
            f"_headwater_customer_id, _headwater_in_scope, {self._payload()} as _headwater_payload, '{{}}' as _headwater_previous, "
            f"{rule} as _headwater_rule, {sentence} as _headwater_sentence{kept}, true as _headwater_plain, "
            f"0::bigint as _headwater_attempts, false as _headwater_in_doubt, {places.started(self.warehouse, self.sync.name) + 1}::bigint as _headwater_version from wanted) "
            f"select *, {self._operation_id()} as _headwater_operation_id from versioned"
        )
        if self.warehouse.value(f"select count(*) - count(distinct _headwater_key) from {self.table}"):
            drop(self.warehouse, self.table)
            return False
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.changed)} (_headwater_key varchar, _headwater_operation varchar)"
        )
        return True

    # which rows to look at

    def _model(self, more: str = "", qualify: str = "") -> str:
        extra = [
            f"{self._optional('decision_id')} as _headwater_decision_id",
            f"{self._optional('customer_id')} as _headwater_customer_id",
            f"{self._moved_at()} as _headwater_moved_at",
            f"{self._orphaned()} as _headwater_orphaned",
            f"{'true' if self.segment is None else f'segment is not distinct from {literal(self.segment)}'} as _headwater_in_scope",
        ]
        filled = [f"{field.expression} as {quoted(field.name)}" for field in self.fields.fields]
        listed = ", ".join([f"{self.fields.key} as _headwater_key", *extra, *filled])
        return f"select {listed}{more} from {self.fields.relation} {self._where()} {qualify}"

    def _optional(self, column: str) -> str:
        return f"cast({quoted(column)} as varchar)" if self.fields.has(column) else "cast(null as varchar)"

    def _moved_at(self) -> str:
        """When the row last changed, where the sync lets rows settle."""
        if not self.sync.settle_seconds:
            return "cast(null as timestamp)"
        return f"cast({quoted(self.sync.settle_by)} as timestamp)"

    def _orphaned(self) -> str:
        """The first sync in which the row's parent is not confirmed; null when it may go."""
        cases = []
        for parent, column in self.sync.parents.items():
            known = f"select _headwater_key from {delivered.table(parent)}"
            there = (
                f"trim(cast({quoted(column)} as varchar)) in ({known})"
                if delivered.exists(self.warehouse, parent)
                else "false"
            )
            cases.append(f"when {quoted(column)} is not null and not ({there}) then {literal(parent)}")
        return f"case {' '.join(cases)} end" if cases else "cast(null as varchar)"

    def _looks_for_gone(self) -> bool:
        return self.sync.mode in ("mirror", "delete")

    def _compares(self) -> bool:
        return self.sync.mode in ("upsert", "update", "mirror")

    def _find_candidates(self) -> None:
        """Rows that are new, gone or in doubt, or whose fields do not have the hash of the confirmed fields.

        Only hashes of the confirmed rows go into the join, which halves its time and memory; columns are compared afterwards,
        for candidates only. A change that leaves a 64-bit hash as it was would be missed: one in 10^13 plans of a million rows.
        """
        if not self.confirmed:
            self.warehouse.execute(
                f"create or replace temp table {_bare(self.candidates)} as select *, cast(null as bigint) as _headwater_version from ({self._model()})"
            )
            return
        wanted = ["d._headwater_version is null"]
        if self._compares() and self.fields.fields:
            wanted.append("m._headwater_hash <> d._headwater_hash")
        if self._compares() and self.warehouse.value(f"select count(*) from ({self._doubts()})"):
            wanted.append(f"m._headwater_key in ({self._doubts()})")
        if self._looks_for_gone():
            wanted.append("m._headwater_key is null")
        old = _hash([delivered.recast(field, self.confirmed) for field in self.fields.fields])
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.candidates)} as "
            f"select m.* exclude (_headwater_hash) replace (coalesce(m._headwater_key, d._headwater_key) as _headwater_key, "
            f"coalesce(m._headwater_in_scope, {'true' if self.segment is None else 'false'}) as _headwater_in_scope), "
            f"d._headwater_version, m._headwater_in_scope is null as _headwater_gone "
            f"from ({self._model(', ' + _hash([field.expression for field in self.fields.fields]))}) m "
            f"{'full' if self._looks_for_gone() else 'left'} join "
            f"(select _headwater_key, _headwater_version, {old} from {delivered.table(self.sync.name)} {self.only}) d "
            f"on m._headwater_key = d._headwater_key where {' or '.join(wanted)}"
        )

    def _doubts(self) -> str:
        return f"select key from headwater.outbox where sync = {literal(self.sync.name)} and state in {OPEN} and (in_doubt or state = 'claimed')"

    def _quarantine_keyless(self) -> None:
        """Rows without a key match nothing, so they are all among the candidates."""
        count = self.warehouse.value(f"select count(*) from {self.candidates} where _headwater_key is null")
        if count:
            what, them = ("row of the model has", "it") if count == 1 else ("rows of the model have", "them")
            sentence = f"{count:,} {what} no key ({self.sync.key} is null or blank); give {them} one, or leave {them} out with `where`"
            self.warehouse.execute(f"insert into {self.quarantined} values (null, 'key', ?, ?)", [sentence, count])
            self.warehouse.execute(f"delete from {self.candidates} where _headwater_key is null")

    def _settle_repeated(self) -> int:
        """Make candidates have each key once: collapsed, picked by `prefer`, or in quarantine; returns how many rows were collapsed.

        Only candidates are looked for: rows of one key that all agree with what was confirmed do no harm.
        """
        keys = f"select {self.fields.key} as _headwater_key from {self.fields.relation} {self._where()}"
        among = f"where _headwater_key in (select _headwater_key from {self.candidates})"
        if not self.confirmed:  # every row is a candidate
            keys, among = f"select _headwater_key from {self.candidates}", ""
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.repeated)} as "
            f"select _headwater_key as key from ({keys}) {among} group by 1 having count(*) > 1"
        )
        if not self.warehouse.value(f"select count(*) from {self.repeated}"):
            return 0
        compared = [*self.names, "_headwater_decision_id", "_headwater_in_scope"]
        labels = [*(field.name for field in self.fields.fields), "decision_id", "segment"]
        differs = ", ".join(
            f"case when count(distinct {name}) + (count({name}) between 1 and count(*) - 1)::int > 1 then {literal(label)} end"
            for name, label in zip(compared, labels, strict=True)
        )
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.repeated)} as select _headwater_key as key, count(*) as row_count, "
            f"concat_ws(', ', {differs}) as differs from ({self._model()}) "
            f"where _headwater_key in (select key from {self.repeated}) group by 1"
        )
        if self.sync.prefer:
            ties = ", ".join([self.sync.prefer, *(field.expression for field in self.fields.fields)])
            single = self._model(
                qualify=f"qualify row_number() over (partition by {self.fields.key} order by {ties}) = 1"
            )
            kept = f"select key from {self.repeated}"
        else:
            single = self._model()
            kept = f"select key from {self.repeated} where differs = ''"
            self.warehouse.execute(
                f"insert into {self.quarantined} select key, 'duplicate', row_count || ' rows of the model have this key and differ in ' || differs || "
                f"'; make the key unique in the model, or say with `prefer` which row to take', row_count from {self.repeated} where differs <> ''"
            )
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.candidates)} as "
            f"with once as (select * exclude (_headwater_moved_at, _headwater_orphaned), max(_headwater_moved_at) as _headwater_moved_at, "
            f"max(_headwater_orphaned) as _headwater_orphaned "
            f"from ({single}) where _headwater_key in ({kept}) group by all), "
            f"known as (select _headwater_key, any_value(_headwater_version) as _headwater_version from {self.candidates} group by 1) "
            f"select * from {self.candidates} where _headwater_key not in (select key from {self.repeated}) "
            f"union all by name select once.*, known._headwater_version from once join known on known._headwater_key = once._headwater_key"
        )
        return int(
            self.warehouse.value(f"select coalesce(sum(row_count - 1), 0) from {self.repeated} where key in ({kept})")
        )

    # the comparison

    def _compare(self) -> None:
        """The candidates, column by column: what is new, what changed and from what, what is gone."""
        created, removed = self._verbs()
        gone = "coalesce(m._headwater_gone, false)" if self.confirmed else "false"
        wanted = ["m._headwater_version is null", gone]
        if self._compares():
            wanted += [self._differs(field) for field in self.fields.fields]
            wanted.append(f"m._headwater_key in ({self._doubts()})")
        listed = "".join(
            f", m.{name}, d.{name} as {quoted('_headwater_old_' + field.name)}" for name, field in self._pairs()
        )
        self.warehouse.execute(
            f"create or replace temp table {_bare(self.changed)} as select m._headwater_key, "
            f"case when {gone} then '{removed}' when m._headwater_version is null then '{created}' else 'update' end as _headwater_operation, "
            f"coalesce(m._headwater_version, 0) as _headwater_base, m._headwater_decision_id, m._headwater_customer_id, "
            f"m._headwater_moved_at, m._headwater_orphaned, m._headwater_in_scope{listed} "
            f"from {self.candidates} m left join ({self._delivered()}) d on m._headwater_key = d._headwater_key where {' or '.join(wanted)}"
        )

    def _verbs(self) -> tuple[str, str]:
        """What becomes of a new key, and of one that has left the model."""
        kinds = {"mirror": ("create", "delete"), "delete": ("delete", "forget"), "update": ("update", "none")}
        return kinds.get(self.sync.mode, ("create", "none"))

    def _pairs(self) -> list[tuple[str, Field]]:
        return list(zip(self.names, self.fields.fields, strict=True))

    def _differs(self, field: Field) -> str:
        name = quoted(field.name)
        differs = f"m.{name} is distinct from d.{name}"
        return differs if self.fields.write_nulls else f"(m.{name} is not null and {differs})"

    def _delivered(self) -> str:
        """The confirmed rows in the types of the mapping as it is now; a field that is new in the mapping is null."""
        if not self.confirmed:
            nulls = "".join(f", cast(null as {field.type}) as {quoted(field.name)}" for field in self.fields.fields)
            return f"select cast(null as varchar) as _headwater_key{nulls} where false"
        values = "".join(
            f", {delivered.recast(field, self.confirmed)} as {quoted(field.name)}" for field in self.fields.fields
        )
        return f"select _headwater_key{values} from {delivered.table(self.sync.name)} {self.only}"

    # ids and versions

    def _number(self) -> None:
        """Give each changed row its operation: payload, version above every version used before, and id.

        An open operation that says the same keeps its version and id, so planning twice changes nothing.
        """
        sync = literal(self.sync.name)
        targets = "".join(f", {self._target(field)} as {quoted(field.name)}" for field in self.fields.fields)
        targets += f", {self._plain()} as _headwater_plain"
        kept = "".join(f", w.{name}" for name in [*self.names, "_headwater_plain"])
        nulls = "".join(f", cast(null as {field.type})" for field in self.fields.fields) + ", false"
        rule, sentence = self._held()
        payload = "w._headwater_payload"
        if self.sync.mode == "insert":
            payload = f"case when o.unanswered then o.payload else {payload} end"
        scope = "true" if self.segment is None else "false"
        started = places.started(self.warehouse, self.sync.name)
        self.warehouse.execute(f"""
            create or replace temp table {_bare(self.table)} as
            with open_rows as (
                select operation_id, key, version, operation, cast(payload as varchar) as payload,
                    cast(previous as varchar) as previous, decision_id, coalesce(in_doubt, false) or state = 'claimed' as doubt, attempts,
                    doubt and claimed_by is not null as unanswered
                from headwater.outbox where sync = {sync} and state in {OPEN}
            ),
            used as (
                select key, max(version) as version from headwater.outbox
                where sync = {sync} and (state <> 'done' or operation = 'delete') group by key
            ),
            wanted as (
                select _headwater_key, _headwater_operation, _headwater_base, _headwater_decision_id, _headwater_customer_id,
                    _headwater_in_scope, {self._payload()} as _headwater_payload, {self._previous()} as _headwater_previous,
                    {rule} as _headwater_rule, {sentence} as _headwater_sentence{targets}
                from {self.changed} where _headwater_operation in ('create', 'update', 'delete')
            ),
            in_doubt_and_gone as (
                select o.key, 'delete', 0, o.decision_id, cast(null as varchar), {scope}, '{{}}', o.previous,
                    cast(null as varchar), cast(null as varchar){nulls}
                from open_rows o where o.doubt and {"true" if self.sync.mode == "mirror" else "false"}
                and o.key not in (select _headwater_key from wanted)
                and o.key not in (select key from {self.quarantined} where key is not null)
            ),
            every as (
                select w._headwater_key, w._headwater_operation, w._headwater_base, w._headwater_decision_id,
                    w._headwater_customer_id, w._headwater_in_scope, {payload} as _headwater_payload, w._headwater_previous,
                    w._headwater_rule, w._headwater_sentence{kept}
                from wanted w left join open_rows o on o.key = w._headwater_key
                union all select * from in_doubt_and_gone
            ),
            versioned as (
                select w.*, coalesce(o.attempts, 0) as _headwater_attempts, coalesce(o.doubt, false) as _headwater_in_doubt,
                    case when o.operation = w._headwater_operation and o.payload = w._headwater_payload then o.version
                        else greatest(coalesce(u.version, 0), w._headwater_base, {started}) + 1 end as _headwater_version
                from every w left join open_rows o on o.key = w._headwater_key left join used u on u.key = w._headwater_key
            )
            select w.*, {self._operation_id()} as _headwater_operation_id from versioned w""")

    def _operation_id(self) -> str:
        """SQL for an id that is the same whenever the same is sent: of sync, key, version, verb and payload."""
        sync = literal(self.sync.name)
        return (
            f"substr(sha256(concat('[', to_json({sync}), ',', to_json(_headwater_key), ',\"', _headwater_version, '\",\"', "
            f"_headwater_operation, '\",', to_json(_headwater_payload), ']')), 1, 32)"
        )

    def _payload(self) -> str:
        """JSON text of what is sent. Nulls are left out, or written as null where the sync says so."""
        parts = []
        for field in self.fields.fields:
            value = quoted(field.name)
            if field.approximate:
                value = f"case when isfinite({value}) then {value} end"
            text = f"{literal(_label(field.name))} || {field.json(value)}"
            if self.fields.write_nulls:
                text = f"coalesce({text}, {literal(_label(field.name) + 'null')})"
            parts.append(text)
        whole = f"'{{' || concat_ws(',', {', '.join(parts)}) || '}}'" if parts else "'{}'"
        return f"case when _headwater_operation = 'delete' then '{{}}' else {whole} end"

    def _previous(self) -> str:
        """JSON text of what the destination confirmed last; `{}` for a new key."""
        parts = []
        for field in self.fields.fields:
            parts.append(f"{literal(_label(field.name))} || {field.json(quoted('_headwater_old_' + field.name))}")
        return f"'{{' || concat_ws(',', {', '.join(parts)}) || '}}'" if parts else "'{}'"

    def _target(self, field: Field) -> str:
        """What the destination holds once this is confirmed: what is sent, and, where nothing is sent, what it had.

        Where an earlier operation of the key is in doubt nobody knows what it had: null, so that the next value is sent.
        """
        now, old = quoted(field.name), quoted("_headwater_old_" + field.name)
        if self.fields.write_nulls:
            return now
        return f"case when _headwater_key in (select key from open_rows where doubt) then {now} else coalesce({now}, {old}) end"

    def _plain(self) -> str:
        """Whether the row as it will be is exactly what is sent, a null being a field that is not sent (or cleared)."""
        if self.sync.mode == "insert":
            return "_headwater_key not in (select key from open_rows where unanswered)"
        if self.fields.write_nulls or not self.confirmed:
            return "true"
        kept = [
            f"({quoted(field.name)} is null and {quoted('_headwater_old_' + field.name)} is not null)"
            for field in self.fields.fields
        ]
        return f"not ({' or '.join(kept)})" if kept else "true"

    def _held(self) -> tuple[str, str]:
        """SQL for the rule that keeps a row here, and for its sentence; removals are never kept."""
        rules = [
            (
                "value",
                f"not isfinite({quoted(field.name)})",
                f"{field.name} is not a finite number; mend it in the model",
            )
            for field in self.fields.fields
            if field.approximate
        ]
        rules += [
            (
                "requires",
                f"{self._lacks(name)}",
                f"{name} has no value, and the sync requires one; give it in the model or a default in the mapping",
            )
            for name in self.sync.requires
        ]
        rules += [
            (
                "parent",
                f"_headwater_orphaned = {literal(parent)}",
                f"the row that {column} names is not confirmed by the sync {parent} yet; it goes after that one",
            )
            for parent, column in self.sync.parents.items()
        ]
        if self.sync.settle_seconds:
            settled = f"timestamp '{self.moment.isoformat(sep=' ')}' - to_microseconds({round(self.sync.settle_seconds * 1e6)})"
            sentence = f"the row changed less than {self.sync.settle_seconds:g} s ago and may change again; a later run sends it"
            rules.append(("settle", f"_headwater_moved_at > {settled}", sentence))
        if not rules:
            return "cast(null as varchar)", "cast(null as varchar)"

        def cases(outcomes: list[str]) -> str:
            whens = [
                f"when {condition} then {literal(said)}"
                for (_, condition, _), said in zip(rules, outcomes, strict=True)
            ]
            return f"case when _headwater_operation = 'delete' then null {' '.join(whens)} end"

        return cases([rule for rule, _, _ in rules]), cases([sentence for _, _, sentence in rules])

    def _lacks(self, name: str) -> str:
        """A required field is null or blank."""
        (field,) = (field for field in self.fields.fields if field.name == name)
        blank = f" or trim({quoted(name)}) = ''" if field.type == "VARCHAR" else ""
        return f"({quoted(name)} is null{blank})"


def _hash(values: list[str]) -> str:
    return f"{'hash(' + ', '.join(values) + ')' if values else '0'} as _headwater_hash"


def _bare(table: str) -> str:
    """The table's name without the catalog, as CREATE TEMP TABLE wants it."""
    return table.removeprefix("temp.")


def _label(name: str) -> str:
    return exact.dumps(name) + ":"
