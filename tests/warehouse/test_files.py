"""Files into raw tables: what is loaded, what is rejected and what is said of it."""

import csv
import gzip
import hashlib
import hmac
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.clock import FixedClock
from headwater.errors import ConfigError, DataError
from headwater.records.files import FileLoad, FileSource
from headwater.warehouse import Warehouse, csv_lines, files
from headwater.warehouse.files import load, profile, raw_types, table_name

CLOCK = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with Warehouse(":memory:") as opened:
        yield opened


def bring(warehouse: Warehouse, path: Path, content: bytes | str, **options) -> FileLoad:
    """Write the file and load it as raw.t."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (loaded,) = load(warehouse, {"t": FileSource(path, path.name, **options)}, CLOCK)
    assert loaded.read_rows == loaded.loaded_rows + loaded.rejected_rows
    if loaded.outcome in ("loaded", "empty", "unchanged"):
        assert warehouse.value("select count(*) from raw.t") == loaded.loaded_rows
        ledger = warehouse.rows("select read_rows, loaded_rows, rejected_rows from headwater.file_loads")
        assert [tuple(row.values()) for row in ledger] == [(loaded.read_rows, loaded.loaded_rows, loaded.rejected_rows)]
        assert warehouse.value("select count(*) from headwater.file_rejects") == loaded.rejected_rows
    return loaded


def rows(warehouse: Warehouse) -> list[tuple]:
    return warehouse.execute("select * exclude (_file) from raw.t order by _line").fetchall()


def rejects(warehouse: Warehouse) -> list[tuple]:
    return warehouse.execute("select line, value, reason from headwater.file_rejects order by line").fetchall()


def test_values_stay_as_they_stand_in_the_file(warehouse: Warehouse, tmp_path: Path) -> None:
    loaded = bring(warehouse, tmp_path / "a.csv", 'id,zip,note\n1,01234, x \n2,,"a, ""b"""\n')
    assert loaded == FileLoad("a.csv", "t", "loaded", 2, 2, 0)
    assert rows(warehouse) == [("1", "01234", " x ", 2), ("2", None, 'a, "b"', 3)]
    assert raw_types(warehouse) == {
        "t": {"id": "VARCHAR", "zip": "VARCHAR", "note": "VARCHAR", "_file": "VARCHAR", "_line": "BIGINT"}
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", "\ufeff id , name\n1,x\n"),
        ("semicolon.csv", "id;name\n1;x\n"),
        ("tab.tsv", "id\tname\n1\tx\n"),
        ("pipe.txt", "id|name\n1|x\n"),
        ("windows.csv", "id,name\r\n1,x\r\n"),
        ("old_mac.csv", "id,name\r1,x\r"),
        ("mixed_ends.csv", "id,name\r\n1,x\n"),
        ("no_last_end.csv", "id,name\n1,x"),
        ("blank_lines.csv", "id,name\n1,x\n\n\n"),
        ("said.csv", "sep=;\nid;name\n1;x\n"),
        ("commas_inside.csv", 'id;name;sum\n1;x;"3,50"\n'),
    ],
)
def test_dialects_are_seen(warehouse: Warehouse, tmp_path: Path, name: str, content: str) -> None:
    assert bring(warehouse, tmp_path / name, content).outcome == "loaded"
    assert warehouse.execute("select id, name from raw.t").fetchall() == [("1", "x")]


def test_gzip_is_seen_by_its_bytes(warehouse: Warehouse, tmp_path: Path) -> None:
    packed = gzip.compress(b"id,name\n1,x\n2,y\n")
    assert bring(warehouse, tmp_path / "a.csv.gz", packed).loaded_rows == 2
    assert bring(warehouse, tmp_path / "misnamed.csv", packed).loaded_rows == 2


def test_a_row_over_several_lines_keeps_the_line_it_starts_on(warehouse: Warehouse, tmp_path: Path) -> None:
    bring(warehouse, tmp_path / "a.csv", 'id,note\n1,"two\nlines"\n2,x\n')
    assert rows(warehouse) == [("1", "two\nlines", 2), ("2", "x", 4)]


def test_bad_lines_are_told_and_the_rest_goes_on(warehouse: Warehouse, tmp_path: Path) -> None:
    content = 'id,name\n1,a\n2\n3,b,c\n4,"open\n5,d\n6,"x"y\n7,e\n'
    loaded = bring(warehouse, tmp_path / "a.csv", content)
    assert rows(warehouse) == [("1", "a", 2), ("5", "d", 6), ("7", "e", 8)]
    assert rejects(warehouse) == [
        (3, "2", "1 values, the header has 2"),
        (4, "3,b,c", "3 values, the header has 2"),
        (5, '4,"open', "text follows a closing quote"),
        (7, '6,"x"y', "text follows a closing quote"),
    ]
    assert loaded.warnings == (
        "a.csv: 4 of 7 rows cannot be read; each stands in headwater.file_rejects with line, value and what to do",
    )


def test_one_stray_quote_costs_one_line(warehouse: Warehouse, tmp_path: Path) -> None:
    lines = [f"{i},ok" for i in range(1, 500)]
    lines[10] = '11,"never closed'
    loaded = bring(warehouse, tmp_path / "a.csv", "id,name\n" + "\n".join(lines) + "\n")
    assert (loaded.loaded_rows, loaded.rejected_rows) == (498, 1)
    assert rejects(warehouse) == [(12, '11,"never closed', "a quote is opened and not closed")]


def test_a_50_mb_line_is_one_reject(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"id,name\n1,a\n2,")
        for _ in range(50):
            file.write(b"x" * 1_000_000)
        file.write(b"\n3,c\n")
    (loaded,) = load(warehouse, {"t": FileSource(path, "a.csv")}, CLOCK)
    assert (loaded.read_rows, loaded.loaded_rows, loaded.rejected_rows) == (3, 2, 1)
    ((line, value, reason),) = rejects(warehouse)
    assert (line, reason) == (3, "the line is longer than 2 MB")
    assert value == "2," + "x" * 198


def test_latin_1_is_read_and_said(warehouse: Warehouse, tmp_path: Path) -> None:
    loaded = bring(warehouse, tmp_path / "a.csv", "id,name\n1,Zoë\n2,Max\n3,José\n".encode("latin-1"))
    assert [row[1] for row in rows(warehouse)] == ["Zoë", "Max", "José"]
    assert (loaded.encoding, loaded.repaired_rows) == ("latin-1", 2)
    assert loaded.warnings == (
        "a.csv is not UTF-8: 2 lines with other letters were read as latin-1. If names look wrong, export the file again as UTF-8",
    )


def test_mixed_encodings_reject_the_lines_that_do_not_fit(warehouse: Warehouse, tmp_path: Path) -> None:
    loaded = bring(
        warehouse, tmp_path / "a.csv", b"id,name\n" + "1,Zoë\n".encode() + "2,José\n".encode("latin-1") + b"3,Max\n"
    )
    assert [row[1] for row in rows(warehouse)] == ["Zoë", "Max"]
    assert (loaded.encoding, loaded.repaired_rows) == ("utf-8", 0)
    assert rejects(warehouse) == [
        (3, "2,Jos\ufffd", "byte 6 of the line is not UTF-8, while other lines of the file are")
    ]


@pytest.mark.parametrize(
    ("content", "outcome", "sentence"),
    [
        ("", "empty", "a.csv is empty: not even a header. Put the file's content there, or take it out of the mapping"),
        ("id,name\n", "empty", "a.csv has a header and no row"),
        (
            "id,name\n1,x\n".encode("utf-16"), "failed",
            "a.csv is written in UTF-16; expected UTF-8. Save it again as CSV in UTF-8 (in Excel: 'CSV UTF-8'), then run this again. "
            "Mend the file and run again",
        ),
        (
            gzip.compress(b"id,name\n" + b"1,x\n" * 1000, mtime=0)[:-20], "failed",
            "a.csv cannot be read: Compressed file ended before the end-of-stream marker was reached. Copy the file again, "
            "it seems to be cut off. Mend the file and run again",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence(
    warehouse: Warehouse, tmp_path: Path, content, outcome: str, sentence: str
) -> None:
    loaded = bring(warehouse, tmp_path / "a.csv", content, columns=("id", "name"))
    assert loaded.outcome == outcome
    assert sentence in loaded.warnings
    assert warehouse.execute("select id, name from raw.t").fetchall() == []


def test_a_missing_file_stops_no_other_and_keeps_what_was_there(warehouse: Warehouse, tmp_path: Path) -> None:
    here, gone = tmp_path / "here.csv", tmp_path / "gone.csv"
    here.write_text("id\n1\n")
    gone.write_text("id\n2\n")
    sources = {"gone": FileSource(gone, "gone.csv", columns=("id",)), "here": FileSource(here, "here.csv")}
    load(warehouse, sources, CLOCK)
    gone.unlink()
    here.write_text("id\n1\n3\n")
    lost, found = load(warehouse, sources, CLOCK)
    assert (lost.outcome, found.outcome, found.loaded_rows) == ("missing", "loaded", 2)
    assert lost.warnings == (
        f"gone.csv is not at {gone}; raw.gone keeps what it held. Put the file there, or take it out of the mapping",
    )
    assert warehouse.value("select id from raw.gone") == "2"


def test_a_file_that_breaks_later_leaves_the_last_good_table(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    warehouse.execute(f"copy (select 1 as id) to '{path}' (format parquet)")
    load(warehouse, {"t": path}, CLOCK)
    path.write_bytes(b"PAR1 and nothing more")
    (loaded,) = load(warehouse, {"t": path}, CLOCK)
    assert loaded.outcome == "failed" and loaded.warnings[0].startswith("a.parquet cannot be read: ")
    assert warehouse.execute("select id, _line from raw.t").fetchall() == [(1, 1)]
    path.write_text("no parquet at all")
    assert (
        load(warehouse, {"t": path}, CLOCK)[0].warnings[0]
        == "a.parquet is named .parquet and is no Parquet file. Export it again. raw.t keeps what it held; mend the file and run again"
    )
    path.unlink()
    assert load(warehouse, {"never": path}, CLOCK)[0].warnings == (
        f"a.parquet is not at {path}. Put the file there, or take it out of the mapping",
    ), "there is no raw.never that could keep anything"


def test_parquet_keeps_its_types_and_numbers_its_rows(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "odd *.parquet"
    (tmp_path / "odd other.parquet").write_bytes(b"not to be read")
    warehouse.execute(
        f"copy (select i::integer as \" Id\", (i / 4)::decimal(9, 2) as price, date '2026-01-01' + i::int as day from range(5000) t(i)) to '{path}' (format parquet)"
    )
    (loaded,) = load(warehouse, {"t": path}, CLOCK)
    assert (loaded.outcome, loaded.read_rows, loaded.encoding) == ("loaded", 5000, "parquet")
    assert list(raw_types(warehouse)["t"].values()) == ["INTEGER", "DECIMAL(9,2)", "DATE", "VARCHAR", "BIGINT"]
    assert warehouse.value("select bool_and(Id + 1 = _line) from raw.t") is True


def test_loading_twice_changes_nothing_and_is_skipped(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    first = bring(warehouse, path, "id,name\n1,x\nbad\n")
    before = warehouse.rows("select * from headwater.file_loads"), rejects(warehouse)
    later = FixedClock(CLOCK.now() + timedelta(days=1))
    (second,) = load(warehouse, {"t": FileSource(path, "a.csv")}, later)
    assert second.outcome == "unchanged"
    assert second.warnings == first.warnings, "what is wrong with the file is still said"
    assert (warehouse.rows("select * from headwater.file_loads"), rejects(warehouse)) == before
    path.write_text("id,name\n1,x\n2,y\n")
    (third,) = load(warehouse, {"t": FileSource(path, "a.csv")}, later)
    assert (third.outcome, third.loaded_rows, rejects(warehouse)) == ("loaded", 2, [])


def test_a_load_that_is_cut_off_leaves_everything_as_it_was(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(warehouse, tmp_path / "a.csv", "id,name\n1,x\nbad\n")
    before = rows(warehouse), rejects(warehouse), warehouse.rows("select * from headwater.file_loads")
    whole = csv_lines.records

    def cut_off(path: Path, form: csv_lines.Shape) -> Iterator[csv_lines.Row | csv_lines.Reject]:
        yield from list(whole(path, form))[:2]
        raise OSError("the disk went away")

    monkeypatch.setattr(csv_lines, "records", cut_off)
    path = write(tmp_path / "a.csv", "id,name\n2,y\nworse\n3,z\n")
    (loaded,) = load(warehouse, {"t": FileSource(path, "a.csv")}, CLOCK)
    assert (loaded.outcome, loaded.warnings[0].split(". ")[0]) == ("failed", "a.csv cannot be read: the disk went away")
    assert (rows(warehouse), rejects(warehouse), warehouse.rows("select * from headwater.file_loads")) == before


def test_a_missing_column_is_empty_and_told(warehouse: Warehouse, tmp_path: Path) -> None:
    sentence = (
        "a.csv has no column 'custmer', which the mapping uses: found id, customer; did you mean 'customer'? "
        "It is read as empty; mend the file or the mapping"
    )
    for outcome in ("loaded", "unchanged"):
        loaded = bring(warehouse, tmp_path / "a.csv", "id,customer\n1,x\n", columns=("ID", "custmer"))
        assert (loaded.outcome, loaded.warnings) == (outcome, (sentence,))
    assert warehouse.execute("select id, custmer from raw.t").fetchall() == [("1", None)]
    assert bring(warehouse, tmp_path / "a.csv", "id,customer\n1,x\n", columns=("id", "customer")).warnings == ()


def test_a_name_that_wants_quotes_is_shown_with_them(warehouse: Warehouse, tmp_path: Path) -> None:
    """`E-Mail` in a mapping is E minus Mail."""
    path = tmp_path / "a.csv"
    path.write_text("id,E-Mail\n1,x\n")
    with pytest.raises(ConfigError) as refused:
        load(warehouse, {"a": FileSource(path, path.name, columns=("E", "Mail"), needed=("E", "Mail"))}, CLOCK)
    said = "which the mapping uses: found id, E-Mail; did you mean 'E-Mail'? In the mapping such a name stands in quotes: '\"E-Mail\"'."
    assert str(refused.value).splitlines()[1:] == [
        f"  a.csv has no column '{name}', {said} Mend mapping.yml, or the file" for name in ("E", "Mail")
    ]


def test_a_needed_column_that_is_missing_is_an_error(warehouse: Warehouse, tmp_path: Path) -> None:
    """Of every file at once; the tables that are there stay, and the other files are loaded."""
    csv, parquet, good = tmp_path / "a.csv", tmp_path / "b.parquet", tmp_path / "c.csv"
    csv.write_text("CustomerID,name\n1,x\n")
    good.write_text("id\n1\n")
    warehouse.execute(f"copy (select 1 as id, 2 as amount) to '{parquet}' (format parquet)")
    sources = {"a": FileSource(csv, csv.name), "b": FileSource(parquet, parquet.name)}
    load(warehouse, sources, CLOCK)
    lines = [
        "the mapping needs columns that are not there:",
        "  a.csv has no column 'custid', which the mapping uses: found CustomerID, name; did you mean 'CustomerID'? Mend mapping.yml, or the file",
        "  b.parquet has no column 'when', which the mapping uses: found id, amount. Mend mapping.yml, or the file",
    ]
    wrong = {
        "a": FileSource(csv, csv.name, columns=("custid", "name"), needed=("custid",)),
        "b": FileSource(parquet, parquet.name, columns=("when", "ID"), needed=("when", "ID")),
        "c": FileSource(good, good.name, columns=("id",), needed=("id", "_line")),
    }
    for changed in ("", "3,z\n"):
        csv.write_text("CustomerID,name\n1,x\n" + changed)
        with pytest.raises(ConfigError) as error:
            load(warehouse, wrong, CLOCK)
        assert str(error.value).splitlines() == lines
        assert warehouse.execute("select CustomerID, name from raw.a").fetchall() == [("1", "x")]
        assert warehouse.execute("select id from raw.c").fetchall() == [("1",)]


def test_header_names_are_made_distinct(warehouse: Warehouse, tmp_path: Path) -> None:
    loaded = bring(warehouse, tmp_path / "a.csv", "id,,Id,_line\n1,2,3,4\n")
    assert warehouse.execute("select id, column_2, Id_2, _line_2 from raw.t").fetchall() == [("1", "2", "3", "4")]
    assert "a.csv: column 3 is named 'Id' like another one; it is called 'Id_2' here" in loaded.warnings
    data = bring(warehouse, tmp_path / "b.csv", "1,2026-01-01\n2,2026-01-02\n")
    assert "looks like data, not like column names" in data.warnings[0]


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masked_columns_are_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_MASK_KEY", "a long random key")
    secret = "Ann@Example.com"
    masks = {"email": "hash", "phone": "constant", "note": "drop"}
    good = f"id,email,phone,note\n1, {secret} ,555-0100,{secret}\n2,,,x\n"
    expected = hmac.new(b"a long random key", secret.lower().encode(), hashlib.sha256).hexdigest()
    for content in (good, good + f'3,"{secret}\n'):  # the plain way, and the way of broken files
        path = tmp_path / f"w{len(content)}.duckdb"
        with Warehouse(path) as warehouse:
            (loaded,) = load(warehouse, {"t": FileSource(write(tmp_path / "a.csv", content), "a.csv", masks)}, CLOCK)
            assert loaded.outcome == "loaded"
            assert warehouse.execute("select * exclude (_file) from raw.t order by _line").fetchall() == [
                ("1", expected, "masked", 2), ("2", None, None, 3),
            ]  # fmt: skip
            if loaded.rejected_rows:
                value = warehouse.value("select value from headwater.file_rejects")
                assert value.startswith("hidden, the file has masked columns (18 characters, digest ")
            assert warehouse.value("select getvariable('headwater_mask_inner')") is None
            warehouse.execute("checkpoint")
        assert secret.encode() not in path.read_bytes() and b"example.com" not in path.read_bytes().lower()


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_hashing_without_a_key_is_refused(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWATER_MASK_KEY", raising=False)
    path = write(tmp_path / "a.csv", "id,email\n1,a@b.com\n")
    with pytest.raises(ConfigError) as refused:
        load(warehouse, {"t": FileSource(path, "a.csv", {"email": "hash"})}, CLOCK)
    assert str(refused.value) == (
        "the mapping hashes a.csv: email, but HEADWATER_MASK_KEY is not set in the environment. Nothing was loaded. "
        "Set it to a long random text (keep it: another key gives other hashes), or use the mask 'constant' or 'drop'"
    )
    assert not warehouse.exists("raw.t")


def test_a_mask_that_fits_no_column_lets_nothing_through(warehouse: Warehouse, tmp_path: Path) -> None:
    loaded = bring(warehouse, tmp_path / "a.csv", "id,email\n1,a@b.com\n", mask={"e_mail": "constant"})
    assert loaded.outcome == "failed"
    assert loaded.warnings == (
        "a.csv has no column 'e_mail', which the mapping masks: found id, email; did you mean 'email'? Nothing of the file was "
        "loaded. Mend the file and run again",
    )
    assert warehouse.value("select count(*) from raw.t") == 0
    assert bring(warehouse, tmp_path / "a.csv", "id,email\n1,a@b.com\n", mask={"EMAIL": "constant"}).outcome == "loaded"
    assert rows(warehouse) == [("1", "masked", 2)]


def test_another_mask_loads_the_same_bytes_again(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "id,email\n1,a@b.com\n"
    bring(warehouse, tmp_path / "a.csv", content)
    for key in ("one", "another"):
        monkeypatch.setenv("HEADWATER_MASK_KEY", key)
        assert bring(warehouse, tmp_path / "a.csv", content, mask={"email": "hash"}).outcome == "loaded"
        assert bring(warehouse, tmp_path / "a.csv", content, mask={"email": "hash"}).outcome == "unchanged"


# --- any file ---------------------------------------------------------------------------------------------------------


def tables_of(letters: str) -> st.SearchStrategy[list[list[str]]]:
    value = st.text(st.sampled_from(letters), max_size=6)
    return st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(value, min_size=n, max_size=n), max_size=12))


quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(
    table=tables_of('ab1 ,;"\n\té'),
    delimiter=st.sampled_from(csv_lines.DELIMITERS),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_csv_writer_writes_is_loaded_as_it_is(
    tmp_path: Path, warehouse: Warehouse, table, delimiter, end, quoting
) -> None:
    width = len(table[0]) if table else 2
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow([f"c{i}" for i in range(width)])
    writer.writerows(table)
    loaded = bring(warehouse, tmp_path / "a.csv", buffer.getvalue(), delimiter=delimiter, encoding="utf-8")
    assert loaded.rejected_rows == 0
    assert [row[:-1] for row in rows(warehouse)] == [tuple(value or None for value in row) for row in table]


@quick
@given(table=tables_of('ab1 ,;"\n\r\té'), delimiter=st.sampled_from(csv_lines.DELIMITERS))
def test_duckdb_and_the_line_reader_agree(tmp_path: Path, warehouse: Warehouse, table, delimiter) -> None:
    width = len(table[0]) if table else 2
    lines = [delimiter.join(f"c{i}" for i in range(width))]
    lines += [
        delimiter.join(value if value.isalnum() else f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row)
        for row in table
    ]
    path = tmp_path / "a.csv"
    path.write_bytes(("\n".join(lines) + "\n").encode())
    form = csv_lines.shape(path, delimiter)
    by_line = [(*part.values, part.line) for part in csv_lines.records(path, form) if isinstance(part, csv_lines.Row)]
    bring(warehouse, path, path.read_bytes(), delimiter=delimiter)
    assert rows(warehouse) == by_line


dirty = st.lists(
    st.text(st.sampled_from(list('a1,"\r é')), max_size=9).map(lambda t: t.encode())
    | st.just(b"x,\xe9")
    | st.just(b'"a\nb",1'),
    max_size=15,
)


@quick
@given(lines=dirty)
def test_no_line_is_lost(tmp_path: Path, warehouse: Warehouse, lines: list[bytes]) -> None:
    content = b"\n".join([b"c1,c2", *lines]) + b"\n"
    bring(warehouse, tmp_path / "a.csv", content, delimiter=",")
    physical = content.replace(b"\r\n", b"\n").split(b"\n")
    wanted = [number for number, line in enumerate(physical, 1) if number > 1 and line.strip(b"\r")]
    placed = [row[0] for row in rejects(warehouse)]
    for *cells, line in rows(warehouse):
        placed += range(line, line + 1 + sum(cell.count("\n") for cell in cells if cell))
    assert set(wanted) <= set(placed), "a line was lost"
    assert len(placed) == len(set(placed)), "a line was placed twice"


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_profile_says_what_columns_look_like(tmp_path: Path) -> None:
    lines = ["id,when,us,price,flag,zip,mail,who,euro"]
    lines += [
        f'{i},2026-01-{i:02d} 10:00:00,{i}/13/2026,{i}.50,{i % 2},0{i:03d},p{i}@x.com,{"NA" if i % 3 else i},"{i},25"'
        for i in range(1, 10)
    ]
    write(tmp_path / "Few Orders.csv", "\n".join(lines) + "\n")
    write(tmp_path / "notes.md", "no table")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    orders, broken, notes = profile(tmp_path)
    assert (broken.columns, notes.problem) == ((), "notes.md is neither CSV nor Parquet; it is not read")
    assert broken.problem is not None and broken.problem.startswith("broken.parquet cannot be read")
    assert (orders.table, orders.row_count, orders.whole_row_duplicates) == ("few_orders", 9, 0)
    assert {c.name: c.kind for c in orders.columns} == {
        "id": "integer", "when": "timestamp", "us": "date", "price": "decimal", "flag": "integer", "zip": "integer",
        "mail": "text", "who": "integer", "euro": "decimal",
    }  # fmt: skip
    column = orders.column
    assert column("us").formats == ("%m/%d/%Y",)
    assert (column("id").unique, column("flag").unique, column("flag").two_valued) == (True, False, True)
    assert (column("zip").leading_zero, column("mail").email_share, column("euro").decimal_comma) == (True, 1.0, True)
    assert (column("who").null_words, column("who").distinct, round(column("who").null_share, 2)) == (("NA",), 3, 0.67)


def test_a_few_odd_values_do_not_change_what_a_column_is(tmp_path: Path) -> None:
    lines = [f"{i},2026-01-05,{i}.5" for i in range(29)] + ["x,never,lots"]
    (found,) = profile(write(tmp_path / "a.csv", "\n".join(["n,day,sum", *lines])).parent)
    assert [(c.kind, c.misfits) for c in found.columns] == [("integer", 1), ("date", 1), ("decimal", 1)]
    (found,) = profile(write(tmp_path / "a.csv", "\n".join(["n,day,sum", *lines[-5:]])).parent)
    assert [(c.kind, c.misfits) for c in found.columns] == [("text", 0)] * 3, "one in five is no oddity"


def test_profile_of_nothing_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as nothing:
        profile(tmp_path)
    assert str(nothing.value) == (
        f"{tmp_path} holds no file that can be read (found nothing); expected .csv, .tsv, .txt, .parquet, .csv.gz, .tsv.gz, .txt.gz. "
        "Export your tables as one of these"
    )
    with pytest.raises(DataError, match="does not exist; expected a folder with CSV or Parquet files"):
        profile(tmp_path / "nowhere")


def test_profile_tests_keys(tmp_path: Path) -> None:
    content = "order,line,customer,day\n1,1,a,x\n1,2,a,x\n2,1,a,x\n2,2,b,x\n3,1,c,y\n3,2,c,y\n4,1,d,y\n"
    write(tmp_path / "sales.csv", content)
    write(tmp_path / "customers.csv", "Customer\na\nb\nc\n")
    customers, sales = profile(tmp_path)
    facts = {(d.column, d.other): (d.groups, d.mixed) for d in sales.dependencies}
    assert facts["order", "customer"] == (4, 1), "order 2 has two customers"
    assert sales.decides("order", "day") is True
    assert ("order", "line") in sales.unique_pairs
    (reference,) = [r for r in sales.references if r.column == "customer"]
    assert (reference.other_table, reference.share) == ("customers", 0.75)
    assert customers.row_count == 3


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("Online_Sales.parquet", "online_sales"),
        ("CustomersData.csv", "customers_data"),
        ("a b-c.csv.gz", "a_b_c"),
        ("2019-Oct.parquet", "f_2019_oct"),
        ("öä.csv", "file"),
    ],
)
def test_tables_are_named_after_files(file: str, table: str) -> None:
    assert table_name(file) == table


def test_large_files_are_profiled_by_their_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.warehouse import profiles

    monkeypatch.setattr(profiles, "SAMPLE_ROWS", 10)
    write(tmp_path / "a.csv", "id,v\n" + "".join(f"{i % 10},{i}\n" for i in range(50)))
    (found,) = profile(tmp_path)
    assert (found.sampled, found.row_count, found.column("id").unique) == (True, 10, True)


def test_exports() -> None:
    assert set(files.__all__) == {"SeedWrite", "load", "profile", "raw_types", "table_name", "write_seed"}
