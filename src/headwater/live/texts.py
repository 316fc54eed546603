"""How records get into SQL: joined to long texts, which SQL splits again."""

from collections.abc import Sequence

from headwater.records.logged import Record

END = "\x1e"
"""Between two records of a text: no JSON can contain it unescaped."""

AT_ONCE = 1_000
"""Records that go into one text."""


class Texts:
    """Records of a topic as SQL takes them: a few long texts of `AT_ONCE` records each, which costs a quarter of an array of
    Python strings. They can be made beside the landing of others; the records themselves need not be kept.

    `count` of records, their `size` in characters, `last` offset, and the records that are `broken`: no text.
    """

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.columns: tuple[list[str], ...] = ([], [], [], [], [])
        self.broken: list[Record] = []
        self.count = self.size = self.last = 0
        self.add(records)

    def add(self, records: Sequence[Record]) -> None:
        """Append records, in the order of their offsets."""
        mark = END.encode()
        for start in range(0, len(records), AT_ONCE):
            part: Sequence[Record] = records[start : start + AT_ONCE]
            self.count += len(part)
            self.last = part[-1].offset
            try:
                joined = mark.join([record.payload for record in part]).decode()
            except UnicodeDecodeError:
                joined = None
            if joined is None or joined.count(END) != len(part) - 1 or not all(record.payload for record in part):
                whole = [record for record in part if _is_text(record)]
                self.broken += [record for record in part if not _is_text(record)]
                part = whole
                joined = mark.join([record.payload for record in part]).decode()
            payloads, message_ids, sources, offsets, received = self.columns
            self.size += len(joined)
            payloads.append(joined)
            message_ids.append(END.join([record.message_id.replace(END, "") for record in part]))
            sources.append(END.join([record.source.replace(END, "") for record in part]))
            offsets.append(END.join([str(record.offset) for record in part]))
            received.append(END.join([str(record.received_at) for record in part]))


def _is_text(record: Record) -> bool:
    if not record.payload or END.encode() in record.payload:
        return False
    try:
        record.payload.decode()
    except UnicodeDecodeError:
        return False
    return True
