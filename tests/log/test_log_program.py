"""Any program of appends, reads, acknowledgements, trims, removals and restarts: the log is what a list would be."""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headwater.clock import FixedClock
from headwater.log.base import TOPICS
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Record, Topic
from headwater.testing.log_checks import NOW, entry

AGE = timedelta(hours=1)
topics = st.sampled_from(TOPICS)
readers = st.sampled_from(["engine", "other"])


class Program(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FixedClock(NOW)
        self.number = 0
        self.model: dict[Topic, list[Record]] = {topic: [] for topic in TOPICS}
        self.ends: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self.positions: dict[tuple[str, Topic], int] = {}

    @initialize()
    def begin(self) -> None:
        self.log = SqliteLog(self.folder / "log.sqlite", max_age=AGE, clock=self.clock)

    @rule(sizes=st.lists(st.tuples(topics, st.integers(1, 30)), min_size=1, max_size=4))
    def append(self, sizes: list[tuple[Topic, int]]) -> None:
        entries = []
        for topic, size in sizes:
            for _ in range(size):
                entries.append(entry(self.number, topic, at=self.clock.now()))
                self.number += 1
        self.log.append(entries)
        for one in entries:
            self.ends[one.topic] += 1
            offset = self.ends[one.topic]
            self.model[one.topic].append(
                Record(offset, one.topic, one.source, one.key, one.message_id, one.received_at, one.payload)
            )

    @rule(topic=topics, after=st.integers(0, 200), limit=st.integers(1, 50))
    def read(self, topic: Topic, after: int, limit: int) -> None:
        expected = [record for record in self.model[topic] if record.offset > after][:limit]
        assert self.log.read(topic, after, limit) == expected

    @rule(reader=readers, topic=topics, share=st.sampled_from([0.0, 0.5, 1.0]))
    def acknowledge(self, reader: str, topic: Topic, share: float) -> None:
        offset = int(self.ends[topic] * share)
        self.log.acknowledge(reader, topic, offset)
        self.positions[reader, topic] = offset

    @rule(reader=readers)
    def dismiss(self, reader: str) -> None:
        self.log.dismiss(reader)
        self.positions = {key: at for key, at in self.positions.items() if key[0] != reader}

    @rule(minutes=st.sampled_from([0, 30, 61]))
    def trim(self, minutes: int) -> None:
        self.clock.push(timedelta(minutes=minutes))
        self.log.trim()
        too_old = int((self.clock.now() - AGE).timestamp() * 1_000_000)
        for topic, records in self.model.items():
            left = self.log.read(topic, 0, 1_000_000)
            gone = records[: len(records) - len(left)]
            assert left == records[len(gone) :], "something else than the oldest records went"
            read_by_all = min([at for (_, of), at in self.positions.items() if of == topic], default=0)
            assert all(record.offset <= read_by_all and record.received_at < too_old for record in gone)
            self.model[topic] = left

    @rule(topic=topics, person=st.integers(0, 6), quick=st.booleans())
    def remove(self, topic: Topic, person: int, quick: bool) -> None:
        key = f"user{person}"
        gone = [record for record in self.model[topic] if record.key == key]
        holding = [key.encode()] if quick else []
        assert self.log.remove(topic, lambda record: record.key == key, holding=holding) == len(gone)
        self.model[topic] = [record for record in self.model[topic] if record.key != key]

    @rule(topic=topics, offsets=st.sets(st.integers(1, 200), max_size=5))
    def remove_offsets(self, topic: Topic, offsets: set[int]) -> None:
        gone = [record for record in self.model[topic] if record.offset in offsets]
        assert self.log.remove(topic, lambda _: True, offsets=offsets) == len(gone)
        self.model[topic] = [record for record in self.model[topic] if record.offset not in offsets]

    @rule()
    def restart(self) -> None:
        self.log.close()
        self.begin()

    @invariant()
    def is_what_a_list_would_be(self) -> None:
        if not hasattr(self, "log"):
            return
        facts = self.log.facts()
        for topic, records in self.model.items():
            assert self.log.read(topic, 0, 1_000_000) == records
            assert self.log.end(topic) == facts.topics[topic].end == self.ends[topic]
        unread = {(reader, topic): count for reader, of in facts.unread.items() for topic, count in of.items()}
        assert unread == {key: max(0, self.ends[key[1]] - at) for key, at in self.positions.items()}

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
        shutil.rmtree(self.folder)


TestProgram = Program.TestCase
TestProgram.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
