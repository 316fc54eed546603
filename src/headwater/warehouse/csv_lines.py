"""CSV by the line: what a file looks like, and a reader that loses no line of a broken one.

`shape` looks at a file once and says how it is written. A file of the plain kind is then read by DuckDB itself; every
other one goes through `records`, which yields each row with the line it starts on, and each line that is no row with the
reason. Both give the same rows where both can read (tested).

A row that goes wrong after an opening quote is given up at its first line only: reading resumes on the next line, so one
stray quote costs one line and not the rest of the file.
"""

import codecs
import csv
import gzip
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

from headwater.errors import DataError

MAX_LINE = 2_000_000  # bytes; a longer line is rejected
DELIMITERS = (",", ";", "\t", "|")
_CHUNK = 1 << 22
_SAMPLE_LINES = 50
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Shape:
    """How a CSV file is written.

    `header` holds the trimmed, distinct column names, empty when the file has no line. `header_line` is the line on which
    the header ends. `plain`: DuckDB reads it in one go and row n stands on line header_line + n. `lines` counts physical
    lines. `latin_lines` counts lines that are no UTF-8; `mixed`: other lines of the same file are UTF-8 beyond ASCII.
    """

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    header_line: int
    lines: int
    plain: bool
    gzipped: bool
    cr_only: bool = False
    latin_lines: int = 0
    mixed: bool = False
    warnings: tuple[str, ...] = ()


class Row(NamedTuple):
    """One row; `line` is where it starts. Empty values are None."""

    line: int
    values: list[str | None]


class Reject(NamedTuple):
    """One line that is no row. `value` is the start of the line."""

    line: int
    value: str
    reason: str
    advice: str


def shape(path: Path, delimiter: str | None = None, encoding: str | None = None) -> Shape:
    """Read the file once and say how it is written; `delimiter` and `encoding` given win over what is seen.

    Raises DataError when it is no text at all (UTF-16, a broken gzip stream).
    """
    gzipped = _is_gzip(path)
    try:
        seen = _look(path)
        if encoding is None and not seen.utf8:
            seen.count_latin(path)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise DataError(f"{path.name} cannot be read: {error}. Copy the file again, it seems to be cut off") from error
    mixed = seen.latin_lines > 0 and seen.utf8_lines > 0
    chosen = encoding or ("utf-8" if seen.utf8 or mixed else "latin-1")
    lines = _lines(path, cr_only=seen.cr_only)
    first = [text.decode(chosen, "replace") for _, text, _ in _take(lines, _SAMPLE_LINES)]
    if first:
        first[0] = first[0].removeprefix("\ufeff").removeprefix("ï»¿")
    said = re.fullmatch(r"sep=(.)[\r\n]*", first[0]) if first else None
    skip = 1 if said else 0
    body = first[skip:]
    while body and not body[0].strip():
        body, skip = body[1:], skip + 1
    chosen_delimiter = delimiter or (said[1] if said else _sniff(body))
    names: list[str] = []
    header_line = skip
    if body:
        reader = csv.reader(iter(body), delimiter=chosen_delimiter)
        names = next(reader)
        header_line += reader.line_num
    header, warnings = distinct(names)
    if names and sum(_looks_like_data(name) for name in names) * 2 > len(names):
        warnings.append(
            f"the first line ({', '.join(names)[:80]}) looks like data, not like column names; it was taken as the header. "
            "If it is data, put a line with column names above it"
        )
    plain = (
        seen.utf8 and not (seen.blank or seen.cr or seen.nul or seen.loose_quote or seen.too_long or encoding or said)
    ) and header_line == 1
    return Shape(
        encoding=chosen, delimiter=chosen_delimiter, header=tuple(header), header_line=header_line, lines=seen.lines,
        plain=plain, gzipped=gzipped, cr_only=seen.cr_only, latin_lines=seen.latin_lines, mixed=mixed, warnings=tuple(warnings),
    )  # fmt: skip


def records(path: Path, form: Shape) -> Iterator[Row | Reject]:
    """Every row after the header, and every line that is none; blank lines are neither. In the order of the file."""
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_LINE))
    width = len(form.header)
    waiting: deque[tuple[int, bytes, bool]] = deque()
    source = _lines(path, cr_only=form.cr_only)
    for _ in _take(source, form.header_line):
        pass

    while True:
        line = waiting.popleft() if waiting else next(source, None)
        if line is None:
            return
        number, raw, too_long = line
        is_simple = not too_long and raw.isascii() and b"\0" not in raw and b"\r" not in raw[:-2]
        problem = None if is_simple else _problem(raw, too_long, form)
        if problem:
            yield _reject(number, raw, form, *problem)
            continue
        text = raw.decode(form.encoding)
        bare = text.rstrip("\r\n")
        if not bare:
            continue
        if '"' not in bare:
            fields = bare.split(form.delimiter)
            if len(fields) == width:
                yield Row(number, [field or None for field in fields])
            else:
                yield _reject(number, raw, form, *_width_problem(len(fields), width))
            continue
        pulled: list[tuple[int, bytes, bool]] = []

        def feed(text: str = text, size: int = len(raw), pulled: list = pulled) -> Iterator[str]:
            yield text
            while True:
                more = waiting.popleft() if waiting else next(source, None)
                if more is None:
                    return
                pulled.append(more)
                size += len(more[1])
                if size > MAX_LINE or _problem(more[1], more[2], form, inside_quotes=True):
                    raise csv.Error("a quote is opened and not closed")
                yield more[1].decode(form.encoding)

        try:
            fields = next(csv.reader(feed(), delimiter=form.delimiter, strict=True))
        except csv.Error as error:
            waiting.extendleft(reversed(pulled))
            yield _reject(number, raw, form, *_quote_problem(str(error)))
            continue
        if len(fields) == width:
            yield Row(number, [field or None for field in fields])
        else:
            waiting.extendleft(reversed(pulled))
            yield _reject(number, raw, form, *_width_problem(len(fields), width))


@dataclass
class _Look:
    lines: int = 0
    utf8: bool = True
    blank: bool = False
    cr: bool = False
    cr_only: bool = False
    nul: bool = False
    loose_quote: bool = False
    too_long: bool = False
    latin_lines: int = 0
    utf8_lines: int = 0

    def count_latin(self, path: Path) -> None:
        """Lines that are not UTF-8, and lines that are UTF-8 but not ASCII."""
        for _, raw, _ in _lines(path, cr_only=self.cr_only):
            if not raw.isascii():
                try:
                    raw.decode("utf-8")
                    self.utf8_lines += 1
                except UnicodeDecodeError:
                    self.latin_lines += 1


_LOOSE_QUOTE = re.compile(rb'[,;\t|\n] +"|" +[,;\t|\r\n]')


def _look(path: Path) -> _Look:
    """One pass over the bytes, in chunks: a few hundred MB/s."""
    seen = _Look()
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = returns = pairs = run = 0
    tail = b"\n"
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK):
            if tail == b"\n" and newlines == 0 and chunk.startswith(_UTF16):
                raise DataError(
                    f"{path.name} is written in UTF-16; expected UTF-8. Save it again as CSV in UTF-8 "
                    "(in Excel: 'CSV UTF-8'), then run this again"
                )
            joined = tail[-3:] + chunk
            newlines += chunk.count(b"\n")
            returns += chunk.count(b"\r")
            pairs += joined.count(b"\r\n") - tail[-3:].count(b"\r\n")
            seen.blank = seen.blank or b"\n\n" in joined or b"\n\r\n" in joined
            seen.nul = seen.nul or b"\0" in chunk
            if not seen.loose_quote and (b' "' in joined or b'" ' in joined):
                seen.loose_quote = _LOOSE_QUOTE.search(joined) is not None
            if seen.utf8:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    seen.utf8 = False
            at = 0
            while not seen.too_long and len(chunk) - at + run > MAX_LINE:
                end = chunk.rfind(b"\n", at, at + MAX_LINE - run)
                seen.too_long = end < 0
                at, run = end + 1, 0
            run = len(chunk) - at if b"\n" in chunk[at:] or at else run + len(chunk)
            run = len(chunk) - 1 - chunk.rfind(b"\n") if b"\n" in chunk else run
            tail = joined[-3:]
    if seen.utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            seen.utf8 = False
    seen.cr_only = returns > 0 and newlines == 0
    seen.cr = returns > 0 and (seen.cr_only or returns != pairs or pairs != newlines)
    ends = returns if seen.cr_only else newlines
    last_is_open = tail[-1:] not in (b"\r", b"\n") if (ends or tail != b"\n") else False
    seen.lines = ends + int(last_is_open)
    return seen


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked when it is gzipped (whatever it is called)."""
    return cast(IO[bytes], gzip.open(path, "rb")) if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _lines(path: Path, *, cr_only: bool) -> Iterator[tuple[int, bytes, bool]]:
    """(line number from 1, the line with its end, whether it was cut at MAX_LINE)."""
    with open_bytes(path) as file:
        if cr_only:
            for number, line in enumerate(file.read().split(b"\r"), 1):
                if line:
                    yield number, line[:MAX_LINE] + b"\n", len(line) > MAX_LINE
            return
        number = 0
        while line := file.readline(MAX_LINE + 2):
            number += 1
            if len(line) <= MAX_LINE + 1 or line.endswith(b"\n"):
                yield number, line, False
                continue
            yield number, line[:1000], True
            while line and not line.endswith(b"\n"):
                line = file.readline(_CHUNK)


def _take(lines: Iterator[tuple[int, bytes, bool]], count: int) -> Iterator[tuple[int, bytes, bool]]:
    for _ in range(count):
        line = next(lines, None)
        if line is None:
            return
        yield line


def _problem(raw: bytes, too_long: bool, form: Shape, *, inside_quotes: bool = False) -> tuple[str, str] | None:
    if too_long:
        return (
            f"the line is longer than {MAX_LINE // 1_000_000} MB",
            "look for a missing line end or an unclosed quote near here, mend the file and load it again",
        )
    if b"\0" in raw:
        return "the line holds a NUL character", "the file seems damaged or binary here: export it again"
    if not inside_quotes and b'"' not in raw and b"\r" in raw.rstrip(b"\r\n"):
        return "a carriage return stands in the middle of the line", "write all line ends alike, then load it again"
    if form.encoding == "utf-8" and not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            return (
                f"byte {error.start + 1} of the line is not UTF-8, while other lines of the file are",
                "the file mixes encodings: export it again as UTF-8, or mend this line",
            )
    return None


def _quote_problem(error: str) -> tuple[str, str]:
    if "expected after" in error:
        return (
            "text follows a closing quote",
            'double the quotes inside a quoted value ("") or take them out, then load the file again',
        )
    if "field limit" in error:
        return f"a value is longer than {MAX_LINE // 1_000_000} MB", "look for an unclosed quote near here"
    return "a quote is opened and not closed", "close the quote or take it out, then load the file again"


def _width_problem(found: int, expected: int) -> tuple[str, str]:
    return (
        f"{found} values, the header has {expected}",
        "a value that holds the delimiter must stand in quotes; mend the line and load the file again",
    )


def _reject(number: int, raw: bytes, form: Shape, reason: str, advice: str) -> Reject:
    return Reject(
        number, raw[:400].decode(form.encoding, "replace").rstrip("\r\n").replace("\0", "\\0"), reason, advice
    )


def _sniff(lines: list[str]) -> str:
    """The delimiter that cuts the header into several names and the most lines into as many."""
    best, best_score = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        widths = [len(fields) for fields in csv.reader(iter(lines), delimiter=delimiter) if fields]
        if widths and widths[0] > 1:
            score = (round(sum(width == widths[0] for width in widths) / len(widths), 1), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def distinct(names: list[str]) -> tuple[list[str], list[str]]:
    """Names trimmed, empty ones numbered, repeated ones numbered; `_file` and `_line` are taken."""
    taken, header, warnings = {"_file", "_line"}, [], []
    for position, given in enumerate(names, 1):
        name = given.strip().replace("\0", "") or f"column_{position}"
        final, nth = name, 2
        while final.lower() in taken:
            final, nth = f"{name}_{nth}", nth + 1
        if final != name:
            warnings.append(f"column {position} is named {name!r} like another one; it is called {final!r} here")
        taken.add(final.lower())
        header.append(final)
    return header, warnings


def _looks_like_data(name: str) -> bool:
    return re.fullmatch(r"\s*(-?\d+([.,]\d+)?|\d{4}-\d\d-\d\d.*|[^@\s]+@[^@\s]+\.\w+)\s*", name) is not None
