from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.decisions.hashing import digest, digest_sql, text_sql, unit, unit_sql
from headwater.warehouse import Warehouse

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=50))
def test_python_and_sql_compute_the_same_to_the_last_bit(pairs):
    with Warehouse(":memory:") as warehouse:
        for left, right in pairs:
            parts = (text_sql(left), text_sql(right))
            found = warehouse.execute(f"select {digest_sql(*parts)}, {unit_sql(*parts)}").fetchone()
            assert found == (digest(left, right), unit(left, right))
            assert 0 <= found[1] < 1


def test_the_border_between_parts_matters():
    assert digest("ab", "c") != digest("a", "bc")


def test_the_values_never_change():
    """They are in every log: changing the hash would draw a new holdout for everybody."""
    assert digest("decision", "1") == "fc98d0196baeac7e493a96f399cd7389"
    assert unit("holdout", "headwater", "C1") == 0.5282995280593702
