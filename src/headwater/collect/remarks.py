"""What `init` says besides the mapping: what was not read or not used, and what it means for the shop that something is missing."""

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dictionary

from headwater.collect import vocabulary
from headwater.collect.columns import identifier, match
from headwater.collect.currencies import CODES, DEFAULT
from headwater.collect.mapping import Mapping, OpenLine, Part
from headwater.records.counted import counted
from headwater.records.files import ColumnProfile, FileProfile

Note = tuple[str, str]


def not_read(files: Iterable[FileProfile]) -> list[Note]:
    """A line for each file of the folder that is no table, or has nothing in it."""
    said = []
    for file in files:
        if file.format == "other":
            said.append(("files", f"not read: {file.file}, which is neither CSV nor Parquet"))
        elif not file.problem:
            said.append(("files", f"not read: {file.file}, which is empty"))
    return said


def not_used(
    mapping: Mapping, waiting: Dictionary[str, tuple[Part, ...]], groups: Iterable[Sequence[FileProfile]]
) -> list[Note]:
    """A line for each used file with columns that fill nothing, neither in the mapping nor in the blocks that are `waiting`;
    `groups` are files with the same columns."""
    said = []
    scores = mapping.mql_score
    for group in groups:
        file = group[0]
        used = {column.lower() for one in (mapping, Mapping(entities=waiting)) for column in one.columns(file.table)}
        if not used or (scores is not None and scores.table == file.table):
            continue
        free = [
            column.name + (" (empty)" if column.kind == "empty" else "")
            for column in file.columns
            if column.name.lower() not in used
        ]
        if free:
            names = ", ".join(free)
            others = f" and {counted(len(group) - 1, 'file')} like it" if len(group) > 1 else ""
            said.append(("files", f"not used of {file.file}{others}: {names}"))
    return said


def region(entity: str, given: Dictionary[str, ColumnProfile], file: FileProfile) -> list[Note]:
    """That a column of a file of orders is taken for where the customer lives: it could mean something else."""
    if "state" not in given:
        return []
    text = (
        f"{given['state'].name} of {file.file} is taken for the region in which the customer lives; where it says something else, "
        "take the line `state` away"
    )
    return [(entity, text)]


def not_a_clean_key(entity: str, key: ColumnProfile, file: FileProfile) -> list[Note]:
    """That a key is missing in some rows, or stands in several: what becomes of these."""
    missing = round(key.null_share * file.row_count)
    said = []
    if missing:
        fate = "which is quarantined" if missing == 1 else "which are quarantined"
        said.append((entity, f"{key.name} is missing in {counted(missing, 'row')} of {file.file}, {fate}"))
    if key.distinct < file.row_count - missing:
        repeats = counted(file.row_count - missing - key.distinct, "row")
        text = f"{key.name} repeats in {file.file}: of {repeats} with an id that stands there already, those that say something else are quarantined"
        said.append((entity, text))
    return said


def consent(mapping: Mapping) -> list[Note]:
    """That nobody can be contacted, where no column says who has agreed to it."""
    fields = {field for part in mapping.entities.get("customers", ()) for field in part.fields}
    if not mapping.entities or fields & {"email_opt_in", "sms_opt_in"}:
        return []
    text = (
        "no column says who has agreed to be contacted, so nobody will be; where one does, add a line under customers.fields, "
        "like `email_opt_in: newsletter = 'Y'` (or sms_opt_in)"
    )
    return [("customers", text)]


def code(orders: Iterable[Part], files: Sequence[FileProfile]) -> str | None:
    """The currency that most orders carry, None where no column says it."""
    for part in orders:
        column = match(next(f for f in files if f.table == part.table), "orders").get("currency")
        codes = [value.upper() for value in column.samples if value.upper() in CODES] if column is not None else []
        if codes:
            return codes[0]
    return None


def currency(mapping: Mapping) -> list[Note]:
    """That amounts are taken to be in the default currency, where no column says which it is."""
    money = {"orders": {"amount"}, "order_lines": {"unit_price"}, "products": {"price"}, "ad_spend": {"amount"}}
    has_money = any(
        money[name] & set(part.fields) for name in money for part in mapping.entities.get(name, ())
    )  # fmt: skip
    if mapping.currency or not has_money:
        return []
    text = f"no column names a currency, so amounts are taken to be in {DEFAULT}; if they are not, change `currency: {DEFAULT}` in headwater.yml"
    return [("files", text)]


def ended_orders(file: FileProfile, part: Part) -> list[OpenLine]:
    """Orders of which nothing came, by their status, and the line that would leave them out; `part` reads orders from `file`."""
    column = match(file, "orders").get("status")
    if column is None or "status" not in part.fields or part.where is not None:
        return []
    ended = [(value, rows) for value, rows in column.values if vocabulary.ended(value)]
    if not ended:
        return []
    amount = match(file, "orders").get("amount")
    said = []
    for value, rows in ended:
        money = (
            file.sums.get((column.name, value), {}).get(amount.name)
            if amount is not None and "amount" in part.fields
            else None
        )
        said.append(f"{rows:,} {value}" + (f" ({money:,.2f})" if money is not None else ""))
    what = "row" if part.collapse else "order"
    number = sum(rows for _, rows in ended)
    text = (
        f"{counted(number, what)} of {file.row_count:,} in {file.file} came to nothing by {column.name}: {', '.join(said)}; "
        f"{'it counts' if number == 1 else 'they count'} as revenue all the same. To leave "
        f"{'it' if number == 1 else 'them'} out, take the # away from the line `where` under orders"
    )
    values = ", ".join("'" + value.lower().replace("'", "''") + "'" for value, _ in ended)
    line = f"coalesce(lower(trim({identifier(column.name)})), '') not in ({values})"
    return [OpenLine("orders.where", text, (f"where: {line}",), part.table)]
