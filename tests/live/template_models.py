"""The template's models without dbt's runs: compiled once, then built and changed in a DuckDB that lives in memory."""

import csv
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from headwater.collect import landed, staging
from headwater.collect.mapping import Mapping as ShopMapping
from headwater.live.analysis import AS_OF, Analysis, Relation
from headwater.live.lineage import analyse
from headwater.records.entities import ENTITIES, SQL_TYPES
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt

TEMPLATE = Path(__file__).resolve().parents[2] / "src" / "headwater" / "project"


@dataclass(frozen=True)
class Model:
    """One compiled model; `live` = a table that the engine keeps fresh."""

    name: str
    relation: str
    sql: str
    kind: str
    key: str | None
    mode: str
    touch: Mapping[str, str]

    @property
    def live(self) -> bool:
        return self.kind == "table" and self.key is not None


def compiled(folder: Path) -> list[Model]:
    """The template over tables `raw.<entity>` of the canonical columns, compiled for the engine, in dbt's order."""
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb*"))
    generated = folder / "models" / "staging"
    shutil.rmtree(generated, ignore_errors=True)
    staging.write(staging.render(ShopMapping()), folder)
    for path in generated.glob("*.yml"):
        path.unlink()
    for name, entity in ENTITIES.items():
        columns = ", ".join(entity.columns)
        (generated / f"{landed.file_model(name)}.sql").write_text(f"select {columns} from raw.{name}\n")
    (folder / "tests" / "staging_counts_conserved.sql").unlink()
    (folder / "warehouse").mkdir(exist_ok=True)
    result = Dbt(folder, folder / "warehouse" / "shop.duckdb").invoke(
        ["compile", "--vars", f"{{headwater_as_of: '{AS_OF}'}}"]
    )
    assert result.ok, result.problems
    manifest = json.loads((folder / "target" / "manifest.json").read_text())
    nodes = {n["unique_id"]: n for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    ordered: list[str] = []

    def place(name: str) -> None:
        if name in nodes and name not in ordered:
            for above in nodes[name]["depends_on"]["nodes"]:
                place(above)
            ordered.append(name)

    for name in sorted(nodes):
        place(name)
    found = []
    for node in (nodes[name] for name in ordered):
        meta = (node["config"].get("meta") or {}).get("headwater") or {}
        sql = node["compiled_code"].replace('"shop".', "")
        found.append(
            Model(
                node["name"],
                f"{node['schema']}.{node['alias']}",
                sql,
                node["config"]["materialized"],
                meta.get("key"),
                meta.get("mode", "auto"),
                meta.get("touch") or {},
            )
        )
    return found


def save(models: Sequence[Model], path: Path) -> None:
    path.write_text(json.dumps([asdict(model) for model in models]))


def load(path: Path) -> list[Model]:
    return [Model(**found) for found in json.loads(path.read_text())]


def shop_rows(seed: int, customers: int = 12) -> tuple[dict[str, list[dict[str, Any]]], datetime]:
    """Rows of every source table of a small shop, and the moment its clock stands at."""
    choose = random.Random(seed)
    now = datetime.fromisoformat("2026-03-31T12:00:00")

    def ago() -> datetime:
        days = choose.choice((0, 1, 29, 30, 30, 31, 60, 90, 365, 400))
        return now - timedelta(days=days, seconds=choose.choice((-86_400, -1, 0, 0, 1, 1800, 1801, 7200)))

    def some(prefix: str, count: int, none: float = 0.1) -> str | None:
        return None if choose.random() < none else f"{prefix}{choose.randrange(count)}"

    def money() -> Decimal | None:
        return choose.choice((None, Decimal(0), Decimal(5), Decimal(40), Decimal(200), Decimal(-3)))

    names = ("page_viewed", "demo_requested", "whitepaper_downloaded", "community_joined")
    rows: dict[str, list[dict[str, Any]]] = {}
    rows["raw.addresses"] = [{"address_id": f"a{i}", "city": some("city", 3)} for i in range(5)]
    rows["raw.customers"] = [
        {
            "customer_id": f"c{i}",
            "email": some("mail", 5),
            "nps_score": choose.choice((None, 3, 9)),
            "shipping_address_id": some("a", 6),
            "billing_address_id": some("a", 6),
            "created_at": ago(),
        }
        for i in range(customers)
    ]
    rows["raw.products"] = [
        {"product_id": f"p{i}", "product_name": some("name", 9), "price": money(), "cost": money()} for i in range(6)
    ]
    rows["raw.product_prices"] = [
        {
            "product_price_id": f"v{i}",
            "product_id": some("p", 7, 0),
            "valid_from": now - timedelta(days=20 * i),
            "price": money(),
        }
        for i in range(10)
    ]
    rows["raw.orders"] = [
        {
            "order_id": f"o{i}",
            "customer_id": some("c", customers + 2),
            "ordered_at": ago(),
            "channel": some("ch", 2, 0.3),
            "campaign_id": some("k", 3, 0.3),
            "amount": money(),
        }
        for i in range(40)
    ]
    rows["raw.order_lines"] = [
        {
            "order_line_id": f"l{i}",
            "order_id": some("o", 42, 0),
            "product_id": some("p", 7),
            "quantity": choose.choice((1, 2, -1)),
            "unit_price": choose.choice((0, 5, 20)),
        }
        for i in range(50)
    ]
    for table, count in (("raw.events", 50), ("collected.events", 30)):
        rows[table] = [
            {
                "event_id": f"{table[0]}{i}",
                "anonymous_id": some("v", 6, 0.2),
                "customer_id": some("c", customers + 2, 0.6),
                "event_name": choose.choice(names),
                "occurred_at": ago(),
                "session_id": some("s", 5, 0.8),
            }
            for i in range(count)
        ]
    rows["raw.campaigns"] = [{"campaign_id": f"k{i}", "campaign_name": some("name", 3)} for i in range(3)]
    rows["raw.campaign_responses"] = [
        {
            "campaign_response_id": f"r{i}",
            "campaign_id": some("k", 4, 0),
            "customer_id": some("c", customers, 0),
            "sent_at": ago(),
            "opened_at": choose.choice((None, ago())),
        }
        for i in range(15)
    ]
    rows["raw.ad_spend"] = [
        {
            "ad_spend_id": f"d{i}",
            "spent_on": ago().date(),
            "channel": some("ch", 2, 0),
            "campaign_id": some("k", 3),
            "amount": 5,
        }
        for i in range(10)
    ]
    rows["collected.identifies"] = [
        {
            "event_id": f"i{i}",
            "customer_id": some("c", customers + 3),
            "email": some("mail", 9, 0.5),
            "nps_score": choose.choice((None, 3, 9)),
            "occurred_at": ago(),
        }
        for i in range(8)
    ]
    rows["headwater.identities"] = [
        {"id_kind": "anonymous", "id": "v1", "person_id": "c2", "customer_id": "c2", "linked_at": now},
        {"id_kind": "anonymous", "id": "v2", "person_id": "anon:v2", "customer_id": None, "linked_at": now},
        {"id_kind": "user", "id": "c3", "person_id": "c2", "customer_id": "c2", "linked_at": now},
        {"id_kind": "user", "id": "c2", "person_id": "c2", "customer_id": "c2", "linked_at": now},
    ]
    return rows, now


def stamp(moment: datetime) -> str:
    return f"timestamp '{moment:%Y-%m-%d %H:%M:%S.%f}'"


def at(sql: str, moment: datetime) -> str:
    """Compiled SQL at a moment."""
    return sql.replace(AS_OF, f"{moment:%Y-%m-%d %H:%M:%S.%f}")


@dataclass
class Changes:
    """Rows of one table that went and came."""

    old: list[tuple[Any, ...]] = field(default_factory=list)
    new: list[tuple[Any, ...]] = field(default_factory=list)


def template_tables() -> dict[str, str]:
    """The tables that the template's models read and dbt does not make, with their columns."""
    found = {
        f"raw.{name}": ", ".join(f"{f.name} {SQL_TYPES[f.type]}" for f in entity.fields)
        for name, entity in ENTITIES.items()
    }
    return found | {
        "main.mql_score": "event_name varchar, mql_score bigint",
        "main.customer_segments": "customer_id varchar, segment_id bigint, segment_name varchar",
    }


def points() -> list[dict[str, Any]]:
    """The rows of the seed mql_score."""
    with (TEMPLATE / "seeds" / "mql_score.csv").open() as file:
        return [dict(line) for line in csv.DictReader(file)]


class World:
    """Tables, models built on them, and the clock; `step` changes them and holds lineage to what really happened."""

    def __init__(
        self,
        models: Sequence[Model],
        tables: Mapping[str, str],
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
        now: datetime,
        analyses: Mapping[str, Analysis] | None = None,
    ) -> None:
        self.warehouse = Warehouse(":memory:")
        self.models = models
        self.now = now
        for table, columns in tables.items():
            self.warehouse.execute(f"create table {table} ({columns})")
        for table, given in rows.items():
            for row in given:
                marks = ", ".join("?" for _ in row)
                self.warehouse.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", list(row.values()))
        for model in models:
            kind = "view" if model.kind == "view" else "table"
            self.warehouse.execute(f"create {kind} {model.relation} as {at(model.sql, now)}")
        self.relations = self._relations()
        self.analyses = analyses or {
            m.name: analyse(m.name, m.relation, m.sql, m.key, self.relations, m.touch) for m in models if m.live
        }
        self._removed: set[str] = set()

    def close(self) -> None:
        self.warehouse.close()

    def _relations(self) -> dict[str, Relation]:
        columns: dict[str, dict[str, str]] = {}
        for row in self.warehouse.rows(
            "select table_schema || '.' || table_name as name, column_name, data_type from information_schema.columns "
            "order by ordinal_position"
        ):
            columns.setdefault(row["name"], {})[row["column_name"]] = row["data_type"]
        views = {m.relation: m.sql for m in self.models if m.kind == "view"}
        return {name: Relation(name, found, views.get(name)) for name, found in columns.items()}

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.warehouse.execute(f"select * from {table}").fetchall()

    def step(self, changes: Mapping[str, Changes], to: datetime) -> list[str]:
        """Apply changes of sources and move the clock; the answer lists everything that lineage got wrong."""
        wrong: list[str] = []
        changed: set[str] = set()
        self._removed.clear()
        for table, change in changes.items():
            self._record(table, change.old, change.new)
            for row in change.old:
                self._delete_one(table, row)
            for row in change.new:
                marks = ", ".join("?" for _ in row)
                self.warehouse.execute(f"insert into {table} values ({marks})", list(row))
            changed.add(table)
        before, self.now = self.now, to
        for model in self.models:
            if not model.live:
                continue
            analysis = self.analyses[model.name]
            if not analysis.reads & changed and not (analysis.windows and to != before):
                continue
            new = f"fresh_{model.name}"
            self.warehouse.execute(f"create or replace temp table {new} as {at(model.sql, to)}")
            away = self.warehouse.execute(f"select * from {model.relation} except all select * from {new}").fetchall()
            came = self.warehouse.execute(f"select * from {new} except all select * from {model.relation}").fetchall()
            if analysis.mode == "keyed":
                wrong += self._check(model, analysis, new, away + came, changed, before, to)
            if away or came:
                self._record(model.relation, away, came)
                changed.add(model.relation)
                self.warehouse.execute(f"delete from {model.relation}")
                self.warehouse.execute(f"insert into {model.relation} select * from {new}")
        return wrong

    def touched(self, model: Model, analysis: Analysis, changed: set[str], before: datetime, to: datetime) -> set[Any]:
        """The keys that lineage names for what changed in this step; they are left in the table `touched`."""
        asked = [self._filled(p.sql, p.source) for p in analysis.paths if p.source in changed]
        for window in analysis.windows if to != before else ():
            asked.append(window.due.replace("{a0}", stamp(before)).replace("{a1}", stamp(to)))
        typed = f"select {analysis.key} as key from {model.relation} where false"
        union = " union all ".join([typed, *(f"select key from ({sql}) as path" for sql in asked)])
        self.warehouse.execute(f"create or replace temp table touched as select distinct key from ({union}) as asked")
        return {row[0] for row in self.warehouse.execute("select key from touched").fetchall()}

    def _check(
        self,
        model: Model,
        analysis: Analysis,
        new: str,
        differing: list[tuple[Any, ...]],
        changed: set[str],
        before: datetime,
        to: datetime,
    ) -> list[str]:
        touched = self.touched(model, analysis, changed, before, to)
        place = list(self.relations[model.relation].columns).index(analysis.key)
        moved = {row[place] for row in differing} - {None}
        wrong = [f"{model.name}: key {key!r} changed and was not touched" for key in sorted(moved - touched, key=repr)]
        scoped = at(analysis.scoped.replace("{touched}", "touched"), to)
        expected = f"select * from {new} where {analysis.key} in (select key from touched)"
        for one, other, word in ((scoped, expected, "only when scoped"), (expected, scoped, "missing when scoped")):
            for row in self.warehouse.execute(f"(from ({one})) except all (from ({other}))").fetchall():
                wrong.append(f"{model.name}: {word}: {row}")
        return wrong

    def _record(self, table: str, old: list[tuple[Any, ...]], new: list[tuple[Any, ...]]) -> None:
        slug = table.replace(".", "_")
        self._removed.add(table)
        for name, rows in ((f"delta_{slug}", old + new), (f"removed_{slug}", old)):
            self.warehouse.execute(f"create or replace temp table {name} as select * from {table} where false")
            for row in rows:
                marks = ", ".join("?" for _ in row)
                self.warehouse.execute(f"insert into {name} values ({marks})", list(row))

    def _filled(self, sql: str, source: str) -> str:
        sql = sql.replace("{delta}", f"delta_{source.replace('.', '_')}")
        for table in self.relations:
            removed = f"removed_{table.replace('.', '_')}"
            whole = f"(select * from {table} union all select * from {removed})" if table in self._removed else table
            sql = sql.replace("{plus:" + table + "}", whole)
        return sql

    def _delete_one(self, table: str, row: tuple[Any, ...]) -> None:
        columns = list(self.relations[table].columns)
        same = " and ".join(f"{column} is not distinct from ?" for column in columns)
        rowid = self.warehouse.value(f"select min(rowid) from {table} where {same}", list(row))
        assert rowid is not None, f"{table} has no row {row}"
        self.warehouse.execute(f"delete from {table} where rowid = ?", [rowid])

    # ---- random changes

    def draw(self, choose: random.Random, tables: Sequence[str]) -> dict[str, Changes]:
        """One to four rows of some tables inserted, deleted, or altered in one column."""
        found: dict[str, Changes] = {}
        for table in choose.sample(list(tables), choose.randrange(1, min(4, len(tables) + 1))):
            rows = self.rows(table)
            change = Changes()
            for _ in range(choose.randrange(1, 4)):
                kind = choose.choice(("insert", "delete", "alter", "alter"))
                if not rows:
                    continue
                row = choose.choice(rows)
                if kind in ("delete", "alter"):
                    rows.remove(row)
                    change.old.append(row)
                if kind in ("insert", "alter"):
                    change.new.append(self._altered(choose, table, row, kind == "insert"))
            found[table] = change
        return found

    def _altered(self, choose: random.Random, table: str, row: tuple[Any, ...], fresh: bool) -> tuple[Any, ...]:
        columns = list(self.relations[table].columns)
        values = list(row)
        key = 1 if table == "headwater.identities" else 0
        if fresh and columns[key].endswith("id"):
            values[key] = f"{values[key]}~{choose.randrange(10**6)}"
        others = self.rows(table)
        for place in choose.sample(range(key + 1, len(columns)), min(len(columns) - key - 1, 1 + choose.randrange(2))):
            kind = self.relations[table].columns[columns[place]]
            if kind == "TIMESTAMP":
                days = choose.choice((0, 0, 30, 90, 365, 1, 7))
                values[place] = self.now - timedelta(
                    days=days, seconds=choose.choice((-7200, -3600, -1, 0, 1, 3600, 86400))
                )
            else:
                drawn = choose.choice(others)[place] if others else None
                values[place] = choose.choice((drawn, drawn, drawn, None))
        return tuple(values)
