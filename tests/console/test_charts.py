"""The pictures: well-formed, escaped, true to their numbers."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from headwater.console.charts import (
    Bar,
    Bin,
    Cell,
    Link,
    Node,
    Part,
    Point,
    Stack,
    Svg,
    area,
    bars,
    flow,
    heat_map,
    histogram,
    stacked,
)

EVIL = "<script>alert(1)</script>\"'&"

DRAWN: dict[str, Callable[[str], Svg]] = {
    "bars": lambda text: bars([Bar(text, 2, text, tip=text, second=1), Bar("b", -1, "")], name=text),
    "stacked": lambda text: stacked(
        [Stack(text, text, (Part(text, 3, text, "good"), Part("b", 0, "0", "bad")))], name=text
    ),
    "heat_map": lambda text: heat_map([text], [text], [[Cell(0.5, text, text, text)]], name=text, across=text),
    "histogram": lambda text: histogram([Bin(3, text), Bin(0)], [(0, text)], name=text, written=lambda _: text),
    "area": lambda text: area([Point(text, 1, text), Point("b", -2, text)], name=text, written=lambda _: text),
    "flow": lambda text: flow([Node(text, "t0")], [Node(text, "t1")], [Link(text, text, 3, text)], name=text),
}
NOTHING: dict[str, Callable[[], Svg]] = {
    "bars": lambda: bars([], name="n"),
    "stacked": lambda: stacked([], name="n"),
    "heat_map": lambda: heat_map([], [], [], name="n"),
    "histogram": lambda: histogram([], [], name="n"),
    "area": lambda: area([], name="n"),
    "flow": lambda: flow([], [], [], name="n"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_text_from_outside_stays_text(kind: str) -> None:
    drawn = DRAWN[kind](EVIL)
    tree = ET.fromstring(drawn)  # raises where the markup is not well-formed
    assert not tree.findall(".//script")
    assert tree.attrib["aria-label"] == EVIL
    assert tree.attrib["role"] == "img"
    assert any(EVIL in (element.text or "") for element in tree.iter("title"))


@pytest.mark.parametrize("kind", NOTHING)
def test_nothing_to_draw_is_still_a_picture(kind: str) -> None:
    assert ET.fromstring(NOTHING[kind]()).tag == "svg"


@pytest.mark.parametrize("kind", DRAWN)
def test_the_same_numbers_give_the_same_bytes(kind: str) -> None:
    assert DRAWN[kind]("x") == DRAWN[kind]("x")


@pytest.mark.parametrize("kind", DRAWN)
def test_a_picture_needs_nothing_from_elsewhere(kind: str) -> None:
    assert not re.search(r"https?:|url\(|href|style=", DRAWN[kind]("x"))


def widths(drawn: Svg, tone: str) -> list[float]:
    return [float(w) for w in re.findall(rf'class="(?:mark )?fill {tone}"[^>]*? width="([\d.]+)%"', drawn)]


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars([Bar("a", 50, "50"), Bar("b", 100, "100", "t1"), Bar("c", 0, "0", "t2")], name="n")
    assert widths(drawn, "t0") == [50]
    assert widths(drawn, "t1") == [100]
    assert widths(drawn, "t2") == []


def test_a_share_is_a_part_of_its_track_and_without_a_whole_there_is_none() -> None:
    rows = [Bar("a", 0.1, "10%", second=0.44), Bar("b", 0.67, "67%", "t1")]
    drawn = bars(rows, name="n", whole=1)
    assert (widths(drawn, "t0"), widths(drawn, "second"), widths(drawn, "t1")) == ([10], [44], [67])
    assert drawn.count('class="track"') == 3
    alone = bars(rows, name="n")
    assert widths(alone, "t1") == [100]
    assert "track" not in alone


def test_bars_to_scale_have_no_track_that_would_call_the_largest_a_whole() -> None:
    rows = [Stack("a", "", (Part("x", 1, "", "good"),)), Stack("b", "", (Part("x", 2, "", "good"),))]
    drawn = stacked(rows, name="n", to_scale=True)
    assert widths(drawn, "good") == [50, 100]
    assert "track" not in drawn
    assert stacked(rows, name="n").count('class="track"') == 2


def test_parts_fill_their_bar_and_none_vanishes() -> None:
    drawn = stacked([Stack("a", "", (Part("x", 9_999, "", "good"), Part("y", 1, "", "bad")))], name="n")
    assert widths(drawn, "bad")[0] > 1
    assert sum(widths(drawn, "good") + widths(drawn, "bad")) == pytest.approx(100, abs=0.02)


def test_a_cell_without_level_is_left_blank() -> None:
    drawn = heat_map(["a"], ["x", "y"], [[Cell(1.0, "100"), Cell(None)]], name="n")
    assert drawn.count('class="cell"') == 1
    assert "q8 hot" in drawn


def test_histogram_columns_are_as_high_as_their_values() -> None:
    drawn = histogram([Bin(100), Bin(50, tone="t1")], [], name="n", height=226)
    heights = dict(re.findall(r'class="fill (t\d)"[^>]*height="([\d.]+)"', drawn))
    assert float(heights["t0"]) == pytest.approx(2 * float(heights["t1"]))


def test_flow_keeps_proportions_and_leaves_out_idle_nodes() -> None:
    nodes = [Node("a", "t0"), Node("b", "t1"), Node("idle", "t2")]
    drawn = flow(nodes, nodes, [Link("a", "a", 3), Link("a", "b", 1)], name="n")
    assert "idle" not in drawn
    assert drawn.count("<path") == 2
    assert ">a " in drawn
    assert "75" in drawn


@pytest.mark.parametrize(
    ("value", "top"),
    [
        (0.2, "1"),
        (7, "7"),
        (10, "10"),
        (10.5, "12"),
        (23_000, "24k"),
        (584, "600"),
        (2_600_000, "3M"),
        (3, "3"),
        (0, "1"),
    ],
)
def test_the_axis_ends_at_a_round_number(value: float, top: str) -> None:
    drawn = histogram([Bin(value)], [], name="n")
    assert re.findall(r'class="axis"[^>]*>([^<]+)<', drawn)[-1] == top


def test_long_labels_leave_room_for_the_number() -> None:
    drawn = bars([Bar("x" * 80, 1, "12 345 · $1.2M")], name="n")
    label = re.search(r'class="label"[^>]*>([^<]+)<', drawn)
    assert label is not None
    assert len(label[1]) <= 30
    assert label[1].endswith("…")
