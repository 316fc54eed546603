from console_warehouse import HOSTILE

from headwater.console import experiment_queries as queries
from headwater.console.charts import Span, spans
from headwater.console.reader import Reader
from headwater.console.sections.experiment import experiment


def test_an_interval_that_reaches_over_no_difference_is_drawn_as_chance(full):
    section = experiment(Reader(full, "USD"))
    assert section.lead == (
        "Conversion within 14 days: 22.0% of the customers who were decided for, 10.0% of those held out: +12.0 points [+2.0, +22.0], "
        "not yet more than chance explains to somebody who looks more than once. Nothing below 9 points can be seen."
    )
    assert [figure.title for figure in section.figures] == [
        "conversion: lift within 14 days",
        "90d_clv: lift within 14 days",
    ]
    first, second = section.figures
    assert '<circle class="fill mute"' in first.picture
    assert "+12.0 points [+2.0, +22.0]" in first.picture
    assert HOSTILE not in first.picture
    assert len(first.table.rows) == 4
    assert second.note == "No customer's 90 days are over yet."
    assert second.table.rows == (("treatment", "360"), ("holdout", "40"))
    assert section.badges[0].text == "groups as they were meant"


def test_before_anything_was_compared_it_says_what_to_do(nothing):
    section = experiment(Reader(nothing, "USD"))
    assert section.empty.command == "headwater outcomes attribute"
    assert queries.experiments(nothing) == queries.lifts(nothing) == []


def test_a_failed_check_stands_above_the_picture(empty):
    empty.execute(
        """insert into headwater.experiment_reports values ('conversion', 14, 'points', '{"treatment": 5}', '{}', false,
               'nothing can be concluded: groups', 'x', '[{"name": "sample_ratio", "ok": false, "sentence": "groups: lost"}]', null)"""
    )
    section = experiment(Reader(empty, "USD"))
    assert section.alerts == ("conversion: groups: lost",)
    assert section.badges[0].tone == "bad"


def test_spans_share_one_scale_with_the_line_of_no_difference():
    picture = spans([Span("a", 1, 0.5, 2, "one", wide=(-2, 4)), Span("b", -1, -1.5, -0.5, "two")], name="x")
    assert picture.count("<circle") == 2
    assert 'x1="34%"' in picture, "a third of the way from -2 to 4"
    assert picture.count('class="track"') == 1
