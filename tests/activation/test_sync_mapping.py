"""What a sync sends, as SQL, and every problem of a mapping at once."""

import pytest

from headwater.activation import mapping
from headwater.activation.settings import SyncSettings
from headwater.errors import ConfigError


def fields_of(desk, **fields):
    desk.with_sync(fields=fields)
    return [operation.fields for operation in desk.plan().operations()]


def test_a_field_is_a_column_a_template_or_a_constant(desk):
    desk.people(("c1", "Ann", "Oslo"))
    assert fields_of(
        desk,
        Name="name",
        Label="{name} of {city}",
        Status="'Lapsed'",
        Quote="'it''s'",
        Braces="{{{name}}}",
        Company="{city|Unknown}",
    ) == [
        {
            "Name": "Ann",
            "Label": "Ann of Oslo",
            "Status": "Lapsed",
            "Quote": "it''s",
            "Braces": "{Ann}",
            "Company": "Oslo",
        }
    ]


def test_a_template_with_a_null_is_null_unless_it_has_a_default(desk):
    desk.people(("c1", "Ann", None))
    assert fields_of(desk, plain="{name} of {city}", default="{name} of {city|nowhere}", empty="{city|}") == [
        {"default": "Ann of nowhere", "empty": ""}
    ]


def test_without_fields_every_column_is_sent(desk):
    desk.people(("c1", "Ann", "Oslo"))
    assert fields_of(desk) == [{"id": "c1", "name": "Ann", "city": "Oslo"}]


@pytest.mark.parametrize(
    ("form", "key"), [("as_is", " A@B.c "), ("trim", "A@B.c"), ("lower", "a@b.c"), ("digits", None)]
)
def test_the_key_is_normalised(desk, form, key):
    desk.people((" A@B.c ", "Ann", "Oslo"))
    desk.with_sync(key_form=form)
    assert [operation.key for operation in desk.plan().operations()] == ([key] if key else [])


def test_digits_make_one_person_of_two_spellings(desk):
    desk.people(("+47 22 33", "Ann", "Oslo"), ("0047-2233", "Bo", "Rome"))
    desk.with_sync(key_form="digits")
    assert sorted(operation.key for operation in desk.plan().operations()) == ["00472233", "472233"]


def test_a_key_may_be_a_template(desk):
    desk.people(("c1", "Ann", "Oslo"))
    desk.with_sync(key="{id}@{city}")
    assert [operation.key for operation in desk.plan().operations()] == ["c1@Oslo"]


def test_every_problem_is_told_at_once(desk):
    desk.people(("c1", "Ann", "Oslo"))
    desk.with_sync(
        key="idd",
        fields={"a": "nam", "A": "city", "b": "{name", "_headwater_x": "name", "secret": "city"},
        where="nowhere = 1",
        decisions=True,
    )
    with pytest.raises(ConfigError) as told:
        desk.plan(masked={"city"})
    lines = str(told.value).splitlines()
    assert lines[0] == "the sync 'people' has 9 problems:"
    assert lines[1:7] == [
        "  syncs.people.fields.a: the model has no column 'nam'; did you mean 'name'?",
        "  syncs.people.fields.A: the column 'city' is declared masked and must not leave the house; take this line out of the sync",
        "  syncs.people.fields.b: found '{name'; a brace is open. Write {column}, or {{ and }} for braces themselves",
        "  syncs.people.fields.secret: the column 'city' is declared masked and must not leave the house; take this line out of the sync",
        "  syncs.people.key: the model has no column 'idd'; did you mean 'id'?",
        "  syncs.people.fields: 'a' and 'A' differ only in case; keep one",
    ]
    assert lines[7] == "  syncs.people.fields._headwater_x: names that begin with _headwater_ are ours"
    assert lines[8].startswith("  syncs.people.where: found 'nowhere = 1'; the warehouse says: Binder Error")
    assert (
        lines[9]
        == "  syncs.people.decisions: is true, but the model 'main.people' has no column decision_id; add it, or say `decisions: false`"
    )


@pytest.mark.parametrize(
    "change", [{"fields": {"x": "{city} {name}"}}, {"key": "{city}"}, {"where": "length(city) > 3"}, {"fields": {}}]
)
def test_a_masked_column_never_leaves(desk, change):
    desk.people(("c1", "Ann", "Oslo"))
    desk.with_sync(**{"fields": {"name": "name"}, **change})
    with pytest.raises(ConfigError, match="'city' is declared masked"):
        desk.plan(masked={"city"})
    desk.plan(masked={"other"})


def test_a_model_that_is_not_there(desk):
    with pytest.raises(ConfigError) as told:
        desk.plan()
    assert (
        str(told.value)
        == "sync 'people' reads the model 'main.people', which is not in the warehouse. Run `headwater build`, or mend `model` of the sync"
    )


def test_a_tag_needs_somebody_to_say_which_model(desk):
    desk.people(("c1", "Ann", "Oslo"))
    desk.with_sync(model="tag:hightouch")
    with pytest.raises(ConfigError, match="no model of that tag was found"):
        desk.plan()
    assert desk.plan(relation="main.people").counts.creates == 1


def test_only_rows_that_meet_the_condition(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.with_sync(where="city = 'Rome' or false")
    assert [operation.key for operation in desk.plan().operations()] == ["c2"]


def test_odd_names_are_quoted(desk):
    desk.warehouse.execute('create table main.odd ("a ""b"" c" varchar, "select" varchar)')
    desk.warehouse.execute("insert into main.odd values ('k', 'v')")
    desk.sync = SyncSettings(
        name="odd", model="odd", destination="there", key='a "b" c', fields={'x "y" z': "select", "from": "{select}!"}
    )
    assert [operation.fields for operation in desk.plan().operations()] == [{'x "y" z': "v", "from": "v!"}]
    assert desk.deliver().confirmed == 1
    assert desk.deliver().status == "nothing"


WORDS = (
    "key operation version payload previous base in_scope attempts in_doubt decision_id customer_id segment rule sentence state "
    "sync k p m d w o u doubt code reason order select group row_count differs operation_id"
)


@pytest.mark.parametrize("mode", ["upsert", "mirror"])
def test_a_field_may_have_any_name(desk, mode):
    """Names that our own SQL uses too must not be mixed up with the user's."""
    words = WORDS.split()

    def write(suffix):
        columns = ", ".join(f"'{word}{suffix}' as {mapping.quoted(word)}" for word in words)
        desk.warehouse.execute(f"create or replace table main.words as select 'k1' as id, {columns}")

    desk.sync = SyncSettings(
        name="words",
        model="words",
        destination="there",
        key="id",
        mode=mode,
        fields={word: word for word in words},
        prefer="version desc",
        where="segment <> 'x'",
    )
    write("")
    desk.warehouse.execute("insert into main.words from main.words")
    assert [one.fields for one in desk.plan().operations()] == [{word: word for word in words}]
    desk.deliver(segment="segment")
    assert desk.delivered() == {"k1": tuple(words)}
    write("!")
    (change,) = desk.plan().operations()
    assert change.previous == {word: word for word in words}
    desk.deliver()
    assert desk.delivered() == {"k1": tuple(f"{word}!" for word in words)}
    assert desk.deliver().status == "nothing"


def test_quoting():
    assert mapping.quoted('a"b') == '"a""b"'
    assert mapping.literal("it's") == "'it''s'"
