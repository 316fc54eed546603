"""What `init` says of what is missing, left over, or not as it seems."""

from pathlib import Path

import pytest

from headwater.collect import mapping as mappings
from headwater.collect import vocabulary
from headwater.collect.currencies import DEFAULT
from headwater.collect.mapping import Mapping
from headwater.collect.recognise import recognise
from headwater.config import Config
from headwater.warehouse.files import profile


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def propose(folder: Path) -> Mapping:
    return recognise(profile(folder), "here")


ORDERS = [f"{i},c{i % 3},2025-01-{i + 1:02d},9.50" for i in range(20)]


def test_what_is_not_used_and_not_read_is_said_in_one_line_each(tmp_path: Path) -> None:
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,amount,Delivery_Charges,Coupon_Status",
        *(f"{o},3,Used" for o in ORDERS),
    )
    (tmp_path / "report.xlsx").write_bytes(b"PK")
    (tmp_path / "later.csv").write_text("")
    said = propose(tmp_path).sentences()
    assert "files: not used of orders.csv: Delivery_Charges, Coupon_Status" in said
    assert "files: not read: report.xlsx, which is neither CSV nor Parquet" in said
    assert "files: not read: later.csv, which is empty" in said


def test_files_that_are_alike_are_said_once(tmp_path: Path) -> None:
    for month in range(1, 4):
        write(
            tmp_path / f"orders_{month}.csv",
            "order_id,customer_id,ordered_at,amount,tax",
            *(f"{o},1.5" for o in ORDERS),
        )
    notes = [text for _, text in propose(tmp_path).notes if text.startswith("not used")]
    assert notes == ["not used of orders_1.csv and 2 files like it: tax"]


def test_without_a_column_of_consent_it_says_that_nobody_is_contacted(tmp_path: Path) -> None:
    write(tmp_path / "customers.csv", "customer_id,email", *(f"{i},a{i}@example.com" for i in range(20)))
    text = (
        "no column says who has agreed to be contacted, so nobody will be; where one does, add a line under customers.fields, "
        "like `email_opt_in: newsletter = 'Y'` (or sms_opt_in)"
    )
    assert ("customers", text) in propose(tmp_path).notes
    assert f"customers: {text}" in propose(tmp_path).sentences()
    write(
        tmp_path / "customers.csv",
        "customer_id,email,newsletter",
        *(f"{i},a{i}@example.com,{'yn'[i % 2]}" for i in range(20)),
    )
    assert "agreed" not in mappings.text(propose(tmp_path))


def test_without_a_column_of_currency_it_says_which_is_taken(tmp_path: Path) -> None:
    assert Config.model_fields["currency"].default == DEFAULT
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,amount", *ORDERS)
    text = "no column names a currency, so amounts are taken to be in USD; if they are not, change `currency: USD` in headwater.yml"
    assert ("files", text) in propose(tmp_path).notes
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,amount,currency", *(f"{o},EUR" for o in ORDERS))
    assert "names a currency" not in mappings.text(propose(tmp_path))


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("cancelled", True), ("Canceled by customer", True), ("REFUNDED", True), ("payment_failed", True), ("unavailable", True),
        ("Rückerstattet", True), ("teilweise storniert", False), ("partially_refunded", False), ("completed", False), ("invoiced", False), ("non-refundable", False), ("avoidable", False),
    ],
)  # fmt: skip
def test_a_status_is_judged_alike_by_python_and_sql(stage, tmp_path: Path, status: str, ended: bool) -> None:
    (tmp_path / "files").mkdir()
    rows = [f"{order},{status if i < 2 else 'Paid'}" for i, order in enumerate(ORDERS)]
    write(tmp_path / "files" / "orders.csv", "order_id,customer_id,ordered_at,amount,status", *rows)
    shop = stage(tmp_path / "files")
    assert vocabulary.ended(status) == ended
    assert [line.subject for line in shop.mapping.open] == ["orders.where"] * ended
    assert (
        shop.rows("select row_count, amount from row_counts where outcome = 'ended'")
        == [{"row_count": 2, "amount": 19}] * ended
    )


def test_orders_of_which_nothing_came_are_said_with_their_money_and_left_out_by_one_line(stage, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    statuses = ["Cancelled", "Cancelled", "it's refunded", "", *["paid"] * 16]
    rows = [f"{order},{status}" for order, status in zip(ORDERS, statuses, strict=True)]
    write(tmp_path / "files" / "orders.csv", "order_id,customer_id,ordered_at,amount,status", *rows)
    mapping = propose(tmp_path / "files")
    (line,) = mapping.open
    assert line.sentence == (
        "3 orders of 20 in orders.csv came to nothing by status: 2 Cancelled (19.00), 1 it's refunded (9.50); they count as revenue "
        "all the same. To leave them out, take the # away from the line `where` under orders"
    )
    path = tmp_path / "taken.yml"
    mappings.write(mapping, path)
    path.write_text(
        path.read_text().replace("#where", "where").replace("folder: here", f"folder: {tmp_path / 'files'}")
    )
    shop = stage(tmp_path / "files", mappings.read(path))
    assert shop.value("select count(*) from stg_orders") == 17, "an order without a status stays"
    assert shop.counts("orders")["excluded"] == 3
    assert "ended" not in shop.counts("orders")


def test_lines_that_net_their_refunds_need_no_word(stage, tmp_path: Path) -> None:
    """Where refunds are lines of their own the money is right already; only an order with money left is said."""
    (tmp_path / "files").mkdir()
    write(
        tmp_path / "files" / "orders.csv",
        "order_id,customer_id,ordered_at,status",
        *(f"{i},c{i % 3},2025-01-01,{'refunded' if i < 3 else 'paid'}" for i in range(20)),
    )
    lines = [f"{i},p{i % 4},1,5" for i in range(20)] + ["0,p0,-1,5", "1,p1,-1,4.99"]
    write(tmp_path / "files" / "lines.csv", "order_id,product_id,quantity,unit_price", *lines)
    shop = stage(tmp_path / "files")
    assert shop.mapping.open == ()
    assert shop.rows("select row_count, amount from row_counts where outcome = 'ended'") == [
        {"row_count": 1, "amount": 5}
    ]


def test_columns_of_a_file_whose_block_is_open_are_named_too(tmp_path: Path) -> None:
    """Of every file each column is in the mapping, in an open block, or named as not used."""
    head = "order_id,customer_id,date,amount,Financial Status,Delivery,Note"
    rows = [f"{i},c{i % 3},{i % 9 + 1}/{i % 7 + 1}/2025,5,{'paid' if i else 'voided'},3," for i in range(40)]
    write(tmp_path / "orders.csv", head, *rows)
    mapping = propose(tmp_path)
    assert "orders" not in mapping.entities and "date (ordered_at) can be read in two ways" in mapping.open[0].sentence
    assert "#status: '\"Financial Status\"'\n" in mappings.text(mapping)
    assert ("files", "not used of orders.csv: Delivery, Note (empty)") in mapping.notes


def test_how_an_order_stands_is_not_where_the_customer_lives(tmp_path: Path) -> None:
    words = ("bezahlt", "storniert", "offen", "teilweise storniert")
    rows = [f"{o},Berlin" for o in ORDERS]
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,amount,City,State",
        *(f"{row},{words[i % 4]}" for i, row in enumerate(rows)),
    )
    mapping = propose(tmp_path)
    assert mapping.entities["orders"][0].fields["status"] == "State"
    assert "state" not in mapping.entities["customers"][0].fields
    assert "5 storniert" in next(line.sentence for line in mapping.open if line.subject == "orders.where")
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,amount,City,State",
        *(f"{row},{('Bremen', 'Hessen')[i % 2]}" for i, row in enumerate(rows)),
    )
    mapping = propose(tmp_path)
    assert "status" not in mapping.entities["orders"][0].fields
    text = (
        "State of orders.csv is taken for the region in which the customer lives; where it says something else, take the line "
        "`state` away"
    )
    assert mapping.entities["customers"][0].fields["state"] == "State" and ("customers", text) in mapping.notes


def test_an_id_that_is_missing_and_one_that_repeats_are_not_the_same(tmp_path: Path) -> None:
    people = [f"{i},a{i}@example.com,{('yes', 'no', 'YES', '')[i % 4]},no" for i in range(1, 80)]
    head = "Customer ID,Email,Accepts Email Marketing,Accepts SMS Marketing"
    write(tmp_path / "customers.csv", head, *people, ",x@example.com,yes,no")
    mapping = propose(tmp_path)
    said = [text for entity, text in mapping.notes if entity == "customers"]
    assert said == ["Customer ID is missing in 1 row of customers.csv, which is quarantined"]
    fields = mapping.entities["customers"][0].fields
    assert fields["email_opt_in"] == '"Accepts Email Marketing"' and fields["sms_opt_in"] == '"Accepts SMS Marketing"'
    write(tmp_path / "customers.csv", head, *people, "7,x@example.com,yes,no")
    assert [text for entity, text in propose(tmp_path).notes if entity == "customers"] == [
        "Customer ID repeats in customers.csv: of 1 row with an id that stands there already, those that say something else are "
        "quarantined"
    ]
