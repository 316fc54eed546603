"""Which file holds what: a mapping proposed from profiles alone, by general words, types and keys.

Nothing is guessed. A field is mapped when the column's name means it and its values fit it; an entity when what makes it
that entity is there. What is assumed on the way is a note in the mapping, what is missing an open line that says what to
add. No data set is known by name: a folder of columns called c1 to cn ends with open lines only.

The order of the questions: which files are lists of things (customers, products, addresses, campaigns), which are logs of
events and spend, which hold lines of orders, where the orders themselves are, who the person behind an order is.
"""

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import replace

from headwater.collect import columns as cols
from headwater.collect import open_lines, remarks, vocabulary
from headwater.collect.columns import about, identifier, is_key, is_moment, is_number, match, named
from headwater.collect.mapping import FileEntry, Mapping, OpenLine, Part, SeedSource
from headwater.records.entities import ENTITIES
from headwater.records.files import ColumnProfile, FileProfile

NEGATIVE_IS_A_HABIT = 0.001
"""Share of negative quantities from which they are read as refunds; fewer look like mistakes."""
SHARED_KEY = 0.001
"""Share of order ids with several customers from which the customer belongs to the key; fewer look like mistakes."""

Matched = dict[str, ColumnProfile]


def recognise(profiles: Sequence[FileProfile], folder: str = ".") -> Mapping:
    """Propose a mapping of the profiled files; `folder` is where they are, as the mapping shall name it."""
    readable = [p for p in profiles if p.columns]
    twins: dict[str, list[FileProfile]] = {}
    for profile in sorted(readable, key=lambda p: -p.row_count):
        same = [group for group in twins.values() if cols.alike(group[0], profile)]
        if same:
            same[0].append(profile)
        else:
            twins[profile.table] = [profile]
    files = [p for p in readable if p.table in twins]
    return _Proposal(files, twins, folder, [p for p in profiles if not p.columns]).mapping()


class _Proposal:
    """The state of one recognition: what has been found so far, in the order of the questions."""

    def __init__(
        self, files: list[FileProfile], twins: dict[str, list[FileProfile]], folder: str, unreadable: list[FileProfile]
    ) -> None:
        self.files, self.twins, self.folder, self.unreadable = files, twins, folder, unreadable
        self.parts: dict[str, list[Part]] = {}
        self.notes: list[tuple[str, str]] = []
        self.open: list[OpenLine] = []
        self.seed: SeedSource | None = None
        self.partial: set[str] = set()
        self.unknown: set[str] = set()
        self.waiting: dict[str, list[tuple[FileProfile, Part, Sequence[str], dict[str, str]]]] = {}
        self.keys: dict[str, str] = {}
        self.person: tuple[FileProfile, ColumnProfile, ColumnProfile] | None = None

    def mapping(self) -> Mapping:
        self.scores()
        spend = self.spend()
        events = self.logs(taken=spend)
        for entity in ("addresses", "campaigns", "product_prices", "campaign_responses"):
            self.list_of(entity)
        self.customers()
        self.list_of("products")
        self.sales(taken=spend | events)
        self.people_behind()
        self.derived()
        self.unused()
        self.open = [self.settled(line) for line in self.open]
        self.notes += remarks.not_read(self.unreadable)
        used = {part.table for parts in self.parts.values() for part in parts}
        used |= {table for parts in self.parts.values() for part in parts for table in part.join}
        used |= self.partial | ({self.seed.table} if self.seed else set())
        mapping = Mapping(
            folder=self.folder,
            files={twin.table: FileEntry(twin.file) for f in self.files if f.table in used for twin in self.alike(f.table)},
            entities={
                name: tuple(for_twin for part in self.parts[name] for for_twin in self.for_twins(part))
                for name in ENTITIES
                if name in self.parts
            },
            mql_score=self.seed, notes=tuple(self.notes), open=tuple(self.open), currency=remarks.code(self.parts.get("orders", []), self.files),
        )  # fmt: skip
        groups = [self.alike(file.table) for file in self.files if file.table not in self.unknown]
        waiting = {e: tuple(open_lines.known_part(*one[1:]) for one in found) for e, found in self.waiting.items()}
        further = (*remarks.not_used(mapping, waiting, groups), *remarks.consent(mapping), *remarks.currency(mapping))
        return replace(mapping, notes=(*mapping.notes, *further))

    def alike(self, table: str) -> list[FileProfile]:
        """The files with the same columns as this one (itself among them), as exports by month or year are."""
        return sorted(self.twins[table], key=lambda twin: twin.file)

    def for_twins(self, part: Part) -> list[Part]:
        """The part, for each of the files that are alike."""
        return [
            replace(
                part,
                table=twin.table,
                join={other: on.replace(f"{part.table}.", f"{twin.table}.") for other, on in part.join.items()},
            )
            for twin in self.alike(part.table)
        ]

    # --- small tables -------------------------------------------------------------------------------------------------

    def scores(self) -> None:
        """A short file of event names and points is the seed of the lead score."""
        for file in self.files:
            names = named(file, vocabulary.FIELDS["events"]["event_name"])
            points = [c for c in named(file, vocabulary.SCORE) if is_number(c)]
            if (
                len(file.columns) == 2
                and file.row_count <= 1000
                and names
                and points
                and is_key(names[0], file.row_count)
            ):
                self.seed = SeedSource(file.table, names[0].name, points[0].name)
                return

    def spend(self) -> set[str]:
        """Files of money spent per day: one row per channel, or one column per channel."""
        found = set()
        for file in self.files:
            given = match(file, "ad_spend")
            day = given.get("spent_on")
            is_sale = {"order_id", "customer_id"} & set(match(file, "orders")) or "product_id" in match(
                file, "order_lines"
            )
            if day is None or is_sale or self.seeded(file):
                continue
            wide = [
                column for column in file.columns
                if is_number(column) and len(w := vocabulary.words(column.name)) > 1
                and w[-1] in vocabulary.SPEND_WORDS and w[0] not in vocabulary.CONTEXT["ad_spend"]
            ]  # fmt: skip
            if "amount" in given and ("channel" in given or "campaign_id" in given):
                if "channel" not in given:
                    self.note("ad_spend", f"{file.file} has no channel; its spend is booked under the channel 'all'")
                fields = self.fields("ad_spend", given) | ({} if "channel" in given else {"channel": "'all'"})
                self.add("ad_spend", Part(file.table, fields))
                found.add(file.table)
            elif wide and not ({"channel", "amount"} & set(given)):
                for column in wide:
                    channel = " ".join(vocabulary.words(column.name)[:-1])
                    fields = {
                        "spent_on": self.read(day, "date"),
                        "channel": f"'{channel}'",
                        "amount": cols.sql(column, "decimal"),
                    }
                    self.add("ad_spend", Part(file.table, fields))
                self.note(
                    "ad_spend",
                    f"each column of {file.file} that ends in spend is a channel: {', '.join(c.name for c in wide)}",
                )
                found.add(file.table)
        return found

    def logs(self, taken: set[str]) -> set[str]:
        """Files of events."""
        found = set()
        for file in self.files:
            given = match(file, "events")
            who = {"customer_id", "anonymous_id", "session_id"} & set(given)
            if file.table in taken or "occurred_at" not in given or not who or self.seeded(file):
                continue
            if "event_name" not in given:
                looks = {"session_id", "anonymous_id"} & set(given) and {"product_id", "page_url"} & set(given)
                if looks and "order_id" not in match(file, "orders"):
                    self.incomplete("events", file, Part(file.table, self.fields("events", given)), ("event_name",))
                continue
            fields = self.fields("events", given)
            names = given["event_name"]
            if names.kind != "text":
                self.note(
                    "events",
                    f"the event names in {file.file}, column {names.name}, are numbers ({', '.join(names.samples)})",
                )
                line = f"event_name: case {identifier(names.name)} when {names.samples[0]} then 'page_view' else 'other' end"
                self.ask(
                    "events.event_name",
                    f"{file.file} writes the event names as numbers; they are taken as they are. To name them, put a line "
                    f"like this in place of the one under events.fields: `{line}`",
                )
            if not {"customer_id", "anonymous_id"} & set(given):
                fields["anonymous_id"] = fields["session_id"]
                self.note("events", f"{file.file} names no visitor; each session is taken as a visitor of its own")
            self.add("events", Part(file.table, fields))
            found.add(file.table)
        return found

    def list_of(self, entity: str) -> None:
        """A file with one row per thing: its key, and something that tells about it."""
        wanted = {
            "addresses": ({"address_id"}, {"street", "city", "postal_code"}),
            "campaigns": ({"campaign_id"}, {"campaign_name", "started_at", "ended_at"}),
            "products": ({"product_id"}, {"product_name", "brand", "category", "price", "cost"}),
            "product_prices": ({"product_id", "valid_from", "price"}, {"valid_from"}),
            "campaign_responses": ({"campaign_id", "customer_id", "sent_at"}, {"sent_at"}),
        }
        needed, telling = wanted[entity]
        best: tuple[int, FileProfile, Matched] | None = None
        for file in self.files:
            given = match(file, entity)
            if not needed <= set(given) or not telling & set(given) or self.seeded(file):
                continue
            key = ENTITIES[entity].key
            if key in needed and not is_key(given[key], file.row_count):
                continue
            other = match(file, "orders")
            if entity not in ("campaign_responses", "campaigns") and "order_id" in other:
                continue
            score = len(given) + 3 * about(file, entity)
            if best is None or score > best[0]:
                best = (score, file, given)
        if best is not None:
            self.add(entity, Part(best[1].table, self.fields(entity, best[2])))

    def customers(self) -> None:
        """The file with one row per customer, and the person behind several ids of one."""
        best: tuple[int, FileProfile, Matched] | None = None
        for file in self.files:
            given = match(file, "customers")
            key = given.get("customer_id")
            if key is None or not is_key(key, file.row_count) or self.seeded(file):
                continue
            bought = match(file, "orders")
            if "order_id" in bought and not about(file, "customers"):
                continue
            score = len(given) + 3 * about(file, "customers")
            if best is None or score > best[0]:
                best = (score, file, given)
        if best is None:
            return
        _, file, given = best
        fields = self.fields("customers", given)
        taken = {c.name for c in given.values()}
        full = [c for c in named(file, vocabulary.FULL_NAME) if c.name not in taken and c.kind == "text"]
        if full and not {"first_name", "last_name"} & set(given):
            name = identifier(full[0].name)
            fields["first_name"] = f"split_part(trim({name}), ' ', 1)"
            fields["last_name"] = f"nullif(substr(trim({name}), length(split_part(trim({name}), ' ', 1)) + 2), '')"
            self.note("customers", f"{full[0].name} is cut at its first blank into first_name and last_name")
        persons = [
            c
            for c in named(file, vocabulary.PERSON_ID)
            if c.name != given["customer_id"].name and cols.is_id(c, file.row_count)
        ]
        part = Part(file.table, fields)
        if persons and persons[0].distinct < given["customer_id"].distinct:
            self.person = (file, given["customer_id"], persons[0])
            fields["customer_id"] = cols.sql(persons[0], "text")
            part = replace(part, fields=self.ordered("customers", fields), collapse="last")
            self.note(
                "customers",
                f"the person is {persons[0].name} ({persons[0].distinct:,} of them), {given['customer_id'].name} "
                f"({given['customer_id'].distinct:,}) only leads to him; the last row of a person counts",
            )  # fmt: skip
        else:
            self.notes += remarks.not_a_clean_key("customers", given["customer_id"], file)
        self.add("customers", replace(part, fields=self.ordered("customers", part.fields)))

    # --- sales --------------------------------------------------------------------------------------------------------

    def sales(self, taken: set[str]) -> None:
        """Orders and their lines."""
        candidates = [
            file for file in self.files
            if file.table not in taken and not self.seeded(file) and not self.is_list(file)
        ]  # fmt: skip
        headers = [f for f in candidates if self.is_orders(f)]
        lines = [f for f in candidates if self.is_lines(f) and not (f in headers and self.only_header(f))]
        header = max(
            headers,
            key=lambda f: (len(match(f, "orders")) + 3 * about(f, "orders"), -self.files.index(f)),
            default=None,
        )
        line = max(
            lines,
            key=lambda f: (len(match(f, "order_lines")) + 2 * about(f, "order_lines"), -self.files.index(f)),
            default=None,
        )
        if header is not None:
            self.orders(header, one_row_each=True)
        elif line is not None and "ordered_at" in match(line, "orders"):
            self.orders(line, one_row_each=False)
        else:
            repeated = [f for f in candidates if {"order_id", "ordered_at"} <= set(match(f, "orders"))]
            if repeated:
                self.orders(repeated[0], one_row_each=False)
            else:
                self.orders_without_id(candidates)
        if line is not None:
            self.order_lines(line)
        if all(part.negative_quantity != "refund" for part in self.parts.get("order_lines", [])):
            for part in self.parts.get("orders", []):  # else the lines say what was given back
                self.open += remarks.ended_orders(next(f for f in self.files if f.table == part.table), part)

    def is_orders(self, file: FileProfile) -> bool:
        given = match(file, "orders")
        return {"order_id", "ordered_at"} <= set(given) and is_key(given["order_id"], file.row_count)

    def is_lines(self, file: FileProfile) -> bool:
        given = match(file, "order_lines")
        priced = "unit_price" in given or bool(self.totals(file))
        return "order_id" in given and (
            ("quantity" in given and ("product_id" in given or priced))
            or ("product_id" in given and not is_key(given["order_id"], file.row_count))
        )

    def only_header(self, file: FileProfile) -> bool:
        """A file of orders that merely names a product, with no quantity and no price of it."""
        given = match(file, "order_lines")
        return not {"quantity", "unit_price"} <= set(given)

    def totals(self, file: FileProfile) -> list[ColumnProfile]:
        return [c for c in named(file, vocabulary.LINE_TOTAL) if is_number(c)]

    def orders(self, file: FileProfile, *, one_row_each: bool) -> None:
        given = match(file, "orders")
        if not one_row_each:
            given.pop("amount", None)
            given = {
                k: c
                for k, c in given.items()
                if k in ("order_id", "customer_id", "ordered_at")
                or file.decides(given["order_id"].name, c.name) is not False
            }
        fields = self.fields("orders", given)
        fields["order_id"] = self.order_key(file, given)
        part = Part(file.table, fields, collapse=None if one_row_each else "first")
        if not one_row_each:
            self.note(
                "orders", f"made out of the lines in {file.file}: one row per order, the first value of each column"
            )
        if "currency" in given and given["currency"].distinct > 1:
            most, *others = given["currency"].samples
            self.note(
                "orders", f"most orders are in {most}; those in {', '.join(others)} are not converted but quarantined"
            )
        if "customer_id" not in given:
            self.note("orders", f"{file.file} does not say who ordered: all orders are unattributed")
        missing = () if "ordered_at" in fields else ("ordered_at",)
        self.finish("orders", file, part, missing)

    def orders_without_id(self, candidates: list[FileProfile]) -> None:
        """Sales without an order id: the place in the file stands for it; who bought must be known."""
        for file in candidates:
            given = match(file, "orders")
            if not {"ordered_at", "amount"} <= set(given):
                continue
            fields = self.fields("orders", given) | {"order_id": "_line"}
            part = Part(file.table, self.ordered("orders", fields))
            if "customer_id" in given:
                self.note("orders", f"{file.file} has no order id; each row is an order, named by its line")
                self.finish("orders", file, part, ())
            else:
                self.incomplete("orders", file, part, ("customer_id",))
            return

    def order_key(self, file: FileProfile, given: Matched) -> str:
        """SQL of the order's id; the customer joins it where ids are shared by several customers."""
        order, customer = given["order_id"], given.get("customer_id")
        key = cols.sql(order, "text")
        if customer is not None:
            for dependency in file.dependencies:
                shared = dependency.mixed / max(dependency.groups, 1)
                if (dependency.column, dependency.other) == (order.name, customer.name) and shared >= SHARED_KEY:
                    who = cols.sql(customer, "text")
                    who = f"coalesce(cast({who} as varchar), '')" if customer.null_share else who
                    key = f"{key} || '-' || {who}"
                    self.note(
                        "orders",
                        f"{dependency.mixed:,} of {dependency.groups:,} values of {order.name} are shared by several customers: "
                        f"the key is {order.name} and {customer.name} together",
                    )  # fmt: skip
        self.keys[file.table] = key
        return key

    def order_lines(self, file: FileProfile) -> None:
        given = match(file, "order_lines")
        fields = self.fields("order_lines", given)
        fields["order_id"] = self.keys.get(file.table, cols.sql(given["order_id"], "text"))
        fields.pop("order_line_id", None)
        fields |= self.line_key(file, given, fields["order_id"])
        part = Part(file.table, fields)
        total = next((c for c in self.totals(file) if c.name not in {x.name for x in given.values()}), None)
        if "quantity" not in given:
            fields["quantity"] = "1"
            self.note("order_lines", f"{file.file} has no quantity: each line counts as one unit")
        if "unit_price" not in given and total is not None:
            if "quantity" in given:
                money, units = cols.sql(total, "decimal"), fields["quantity"]
                money = f"cast({money} as decimal(18, 4))" if total.sql_type == "VARCHAR" else money
                units = f"cast({units} as bigint)" if given["quantity"].sql_type == "VARCHAR" else units
                fields["unit_price"] = f"{money} / nullif({units}, 0)"
                self.note("order_lines", f"the unit price is {total.name} divided by the quantity")
            else:
                fields["unit_price"] = cols.sql(total, "decimal")
        elif "unit_price" not in given:
            part = self.price_of_product(file, given, part)
        negative = given["quantity"].negative_share if "quantity" in given else 0.0
        if negative >= NEGATIVE_IS_A_HABIT:
            part = replace(part, negative_quantity="refund")
            self.note(
                "order_lines",
                f"{negative:.1%} of the quantities are negative: they are read as given back or cancelled",
            )
        elif negative:
            self.ask(
                "order_lines.negative_quantity",
                f"{negative:.3%} of the quantities in {file.file} are negative; so few look like mistakes and are quarantined. "
                "If they mean refunds, take the # away from the line `negative_quantity` under order_lines",
                ("negative_quantity: refund",),
                file.table,
            )
        missing = tuple(f for f in ("unit_price",) if f not in part.fields)
        self.finish("order_lines", file, replace(part, fields=self.ordered("order_lines", part.fields)), missing)

    def line_key(self, file: FileProfile, given: Matched, order: str) -> dict[str, str]:
        """The line's id: a column of its own, or the order's id with the number of the line; else left to the position."""
        for column in ([given["order_line_id"]] if "order_line_id" in given else []) + named(
            file, vocabulary.LINE_NUMBER
        ):
            if is_key(column, file.row_count) and column.name != given["order_id"].name:
                return {"order_line_id": cols.sql(column, "text")}
            if (given["order_id"].name, column.name) in file.unique_pairs:
                return {"order_line_id": f"{order} || '-' || {cols.sql(column, 'text')}"}
        self.note(
            "order_lines",
            f"{file.file} has no id of the line: the place in the file stands for it, and lines that equal an earlier one are "
            f"kept and reported ({file.whole_row_duplicates:,} now)",
        )  # fmt: skip
        return {}

    def price_of_product(self, file: FileProfile, given: Matched, part: Part) -> Part:
        """Lines without a price take it from the list of products, which is its price now."""
        for product in self.parts.get("products", []):
            if "product_id" in given and "price" in product.fields:
                there = next(f for f in self.files if f.table == product.table)
                listed = match(there, "products")
                price, key = identifier(listed["price"].name), identifier(listed["product_id"].name)
                self.note(
                    "order_lines",
                    f"{file.file} has no price: the list price in {there.file} is taken, which is the price now",
                )
                condition = f"{file.table}.{identifier(given['product_id'].name)} = {there.table}.{key}"
                return replace(
                    part, join={there.table: condition}, fields={**part.fields, "unit_price": f"{there.table}.{price}"}
                )
        return part

    def people_behind(self) -> None:
        """Where customers have a person id of their own, every other file reaches it by a join."""
        if self.person is None:
            return
        home, key, person = self.person
        for entity, parts in self.parts.items():
            for position, part in enumerate(parts):
                if entity == "customers" or "customer_id" not in part.fields or part.table == home.table:
                    continue
                file = next(f for f in self.files if f.table == part.table)
                column = match(file, entity)["customer_id"]
                leads = [
                    r
                    for r in file.references
                    if (r.column, r.other_table, r.other_column) == (column.name, home.table, key.name)
                ]
                if leads and leads[0].share < 0.5:
                    continue
                condition = f"{file.table}.{identifier(column.name)} = {home.table}.{identifier(key.name)}"
                fields = {**part.fields, "customer_id": f"{home.table}.{identifier(person.name)}"}
                parts[position] = replace(part, join={**part.join, home.table: condition}, fields=fields)

    def derived(self) -> None:
        """Customers and products that are only told about in the files of orders."""
        for entity, skip in (
            ("customers", {"created_at", "updated_at", "customer_segment"}),
            ("products", {"price", "cost", "updated_at"}),
        ):
            if entity in self.parts:
                continue
            key = ENTITIES[entity].key
            for source in ("order_lines", "orders", *(("events",) if entity == "products" else ())):
                for part in self.parts.get(source, []):
                    file = next(f for f in self.files if f.table == part.table)
                    given = {name: c for name, c in match(file, entity).items() if name not in skip}
                    if entity in self.parts or key not in given or len(given) < 2:
                        continue
                    fields = self.fields(entity, given)
                    where = f"{identifier(given[key].name)} is not null" if given[key].null_share else None
                    moment = match(file, "orders").get("ordered_at")
                    by = self.read(moment, "timestamp") if moment is not None else None
                    self.add(entity, Part(file.table, fields, where=where, collapse="last", by=by))
                    self.note(
                        entity, f"made out of {file.file}: one row per {given[key].name}, the last value of each column"
                    )
                    self.notes += remarks.region(entity, given, file)

    # --- what is said -------------------------------------------------------------------------------------------------

    def unused(self) -> None:
        """Files that nothing was made of, and what is missing altogether."""
        used = {part.table for parts in self.parts.values() for part in parts} | self.partial
        used |= {self.seed.table} if self.seed else set()
        rest = [twin for f in self.files if f.table not in used for twin in self.alike(f.table)]
        for file in self.unreadable:
            if file.problem and file.format != "other":
                self.open.append(OpenLine(file.file, file.problem))
        for file in self.files:
            if file.sampled:
                self.note("files", f"of {file.file} only the first {file.row_count:,} rows were looked at")
        opened = {line.subject.split(".")[0] for line in self.open}
        if {"orders", "events"} & (set(self.parts) | opened):
            for file in rest:
                self.note("files", f"not used: {file.file}, with {open_lines.listed(file)}")
            return
        self.open += [open_lines.unrecognised(file) for file in rest]
        self.partial |= {file.table for file in rest}
        self.unknown |= {file.table for file in rest}
        for entity in ("customers", "orders", "order_lines", "events") if rest else ("orders",):
            if entity not in self.parts and entity not in self.waiting:
                self.open.append(open_lines.empty_block(entity, rest))

    def finish(self, entity: str, file: FileProfile, part: Part, missing: tuple[str, ...]) -> None:
        vague = [
            (name, column)
            for name, column in match(file, entity).items()
            if is_moment(column) and cols.ambiguous(column) and name in part.fields
        ]
        for name, column in vague:
            fields = dict(part.fields)
            del fields[name]
            part = replace(part, fields=fields)
            choices = " or ".join(f"strptime({identifier(column.name)}, '{pattern}')" for pattern in column.formats)
            self.note(entity, f"{column.name} of {file.file} can be read in two ways: {choices}")
        needed = (*missing, *(name for name, _ in vague if name in ENTITIES[entity].required))
        if needed:
            hints = {name: f"strptime({identifier(column.name)}, '{column.formats[0]}')" for name, column in vague}
            self.incomplete(entity, file, part, needed, hints)
        else:
            self.add(entity, part)

    def incomplete(
        self, entity: str, file: FileProfile, part: Part, missing: tuple[str, ...], hints: dict[str, str] | None = None
    ) -> None:
        """All but some columns of the entity were found: the block is written, the missing lines are to be filled."""
        self.partial.add(file.table)
        if entity not in self.waiting:
            self.open.append(OpenLine(entity, ""))
        self.waiting.setdefault(entity, []).append((file, part, missing, hints or {}))

    def settled(self, line: OpenLine) -> OpenLine:
        """The open line, or in place of a blank one that of all the incomplete parts of its entity."""
        if line.sentence:
            return line
        found = self.waiting[line.entity]
        tables = [[twin.table for twin in self.alike(part.table)] for _, part, _, _ in found]
        return open_lines.incomplete_block(line.entity, found, tables, further=line.entity in self.parts)

    def add(self, entity: str, part: Part) -> None:
        self.parts.setdefault(entity, []).append(replace(part, fields=self.ordered(entity, part.fields)))

    def note(self, entity: str, text: str) -> None:
        self.notes.append((entity, text))

    def ask(self, subject: str, sentence: str, lines: tuple[str, ...] = (), within: str = "") -> None:
        self.open.append(OpenLine(subject, sentence, lines, within))

    def fields(self, entity: str, given: Matched) -> dict[str, str]:
        kinds = {field.name: field.type for field in ENTITIES[entity].fields}
        for name, column in given.items():
            if column.misfits and kinds[name] != "text":
                text = f"{column.misfits:,} values of {column.name} cannot be read as {kinds[name]}: their rows will be quarantined"
                if (entity, text) not in self.notes:
                    self.note(entity, text)
        return {name: cols.sql(column, kinds[name]) for name, column in given.items()}

    def read(self, column: ColumnProfile, kind: str) -> str:
        return cols.sql(column, "date" if kind == "date" else "timestamp")

    def ordered(self, entity: str, fields: Dictionary[str, str]) -> dict[str, str]:
        return {column: fields[column] for column in ENTITIES[entity].columns if column in fields}

    def seeded(self, file: FileProfile) -> bool:
        return self.seed is not None and self.seed.table == file.table

    def is_list(self, file: FileProfile) -> bool:
        return any(
            part.table == file.table
            for entity in ("customers", "products", "addresses", "campaigns", "product_prices", "campaign_responses")
            for part in self.parts.get(entity, [])
        )
