"""The pages of the twins: what changed last is seen first, and every record is found by any of its values."""

import html
import re

import httpx2
import pytest

from headwater.testing.twins.hubspot import HubSpot
from headwater.testing.twins.page import ROWS, page
from headwater.testing.twins.salesforce import Salesforce
from headwater.testing.twins.serving import serve
from headwater.testing.twins.shelf import Nowhere, Shelf

HOSTILE = "<script>document.title='taken'</script>"
TWINS = ["hubspot", "salesforce"]


def deliver(address, name, people):
    """Put people (key → last name) into a twin, as a sync would."""
    if name == "hubspot":
        inputs = [{"id": f"{key}@example.org", "idProperty": "email", "properties": {"lastname": last}} for key, last in people.items()]  # fmt: skip
        done = httpx2.post(
            f"{address}/crm/v3/objects/contacts/batch/upsert",
            json={"inputs": inputs},
            headers={"authorization": "Bearer pat-twin"},
        )
    else:
        form = {"grant_type": "client_credentials", "client_id": "twin-app", "client_secret": "twin-secret"}
        token = httpx2.post(f"{address}/services/oauth2/token", data=form).json()["access_token"]
        records = [
            {"attributes": {"type": "Lead"}, "Person_Id__c": key, "LastName": last, "Company": "Acme"}
            for key, last in people.items()
        ]
        done = httpx2.patch(
            f"{address}/services/data/v60.0/composite/sobjects/Lead/Person_Id__c",
            json={"records": records},
            headers={"authorization": f"Bearer {token}"},
        )
    assert done.status_code == 200, done.text


def made(name, shelf):
    return HubSpot(shelf=shelf) if name == "hubspot" else Salesforce(shelf=shelf)


def last_names(shown):
    cells = re.findall(r'<td data-label="(?:lastname|LastName)">(.*?)</td>', shown)
    return [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells]


@pytest.mark.parametrize("name", TWINS)
def test_the_newest_change_comes_first_also_after_a_restart(name, tmp_path):
    shelf = Shelf(tmp_path / "twin.sqlite")
    with serve(made(name, shelf)) as address:
        bare = httpx2.get(address).text
        assert "Nothing has arrived yet." in bare
        assert '<link rel="icon" href="data:,">' in bare
        deliver(address, name, {"a": "Adams", "b": "Brown", "c": "Clark"})
        deliver(address, name, {"a": "Archer"})
        deliver(address, name, {"c": "Clark"})  # as it was: no change
        assert last_names(httpx2.get(address).text) == ["Archer", "Clark", "Brown"]
        deliver(address, name, {"b": "Black", "d": "Davis"})
    shelf.close()
    shelf = Shelf(tmp_path / "twin.sqlite")
    with serve(made(name, shelf)) as address:
        assert last_names(httpx2.get(address).text) == ["Davis", "Black", "Archer", "Clark"]
        deliver(address, name, {"c": "Cole"})
        assert last_names(httpx2.get(address).text)[0] == "Cole"
    shelf.close()


@pytest.mark.parametrize("name", TWINS)
def test_a_record_is_found_by_any_of_its_values(name):
    with serve(made(name, Nowhere())) as address:
        deliver(address, name, {f"p{number}": f"Person {number}" for number in range(90)})
        deliver(address, name, {"ada": "Łovelace", "evil": HOSTILE})

        def found(query):
            return httpx2.get(address, params={"q": query}).text

        assert last_names(found("łOVE")) == ["Łovelace"]
        assert last_names(found(" ada ")) == ["Łovelace"]
        assert "1 of 92 records contains “ada”" in found("ada")
        assert last_names(found("Person 8")) == [f"Person {number}" for number in (*range(89, 79, -1), 8)]
        assert "0 of 92 records contain “nobody.*”" in found("nobody.*")
        assert last_names(found(HOSTILE)) == [HOSTILE]
        assert "<script" not in found(HOSTILE)
        assert 'value="&quot;&gt;x"' in found('">x')


def test_older_records_are_on_further_pages_and_none_is_left_out():
    rows = [{"id": str(number), "note": "even" if number % 2 == 0 else None} for number in range(2 * ROWS + 30)]

    def ids(**asked):
        text = page("Twin", {"contacts": rows, "companies": rows[:3]}, **asked).body.decode()
        first = text.split("<h2>")[1]
        return re.findall(r'<td data-label="id">(\d+)</td>', first), re.findall(r'<a href="([^"]+)">(\S+ \S+)</a>', first), text  # fmt: skip

    pages = [ids(number=number) for number in (1, 2, 3)]
    assert [one for found, _, _ in pages for one in found] == [row["id"] for row in rows]
    assert [links for _, links, _ in pages] == [
        [("?page=2", "older →")],
        [("?page=1", "← newer"), ("?page=3", "older →")],
        [("?page=2", "← newer")],
    ]
    assert "201 to 230 of 230" in pages[2][2]
    assert 'data-label="id">2</td>' in pages[2][2].split("<h2>")[2]
    assert ids(number=99)[0] == pages[2][0]
    assert ids(query="even", number=2)[:2] == ([str(number) for number in range(200, 230, 2)], [("?q=even&amp;page=1", "← newer")])  # fmt: skip


@pytest.mark.parametrize("asked", ["-1", "x", "9" * 5000, "²", ""])
def test_a_page_that_is_no_number_is_the_first_or_the_last(asked):
    twin = HubSpot()
    with serve(twin) as address:
        deliver(address, "hubspot", {"a": "Adams"})
        assert last_names(httpx2.get(address, params={"page": asked}).text) == ["Adams"]


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(width, theme, browser):
    twin = HubSpot(open_schema=True)
    with serve(twin) as address:
        deliver(address, "hubspot", {"ada.with.a.long.name.of.her.own": "Lovelace", "b": HOSTILE})
        for record in twin.records["contacts"].values():
            record.properties |= {f"property_number_{number}": "a value of its own" for number in range(9)}
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        shown = context.new_page()
        asked, complaints = [], []
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: complaints.append(message.text))
        shown.goto(address)
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        ground, ink = shown.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")  # fmt: skip
        assert (brightness(ground) > brightness(ink)) == (theme == "light")
        if width == 390:
            assert shown.evaluate(CUT) == []
        shown.get_by_role("searchbox", name="Search in every value").fill("lovelace")
        shown.get_by_role("button", name="Search").click()
        assert shown.locator("tbody tr").count() == 1
        assert shown.locator("mark").inner_text() == "Lovelace"
        shown.get_by_role("link", name="show all").click()
        assert shown.locator("tbody tr").count() == 2
        assert shown.title() == "HubSpot twin"
        assert {url.partition("?")[0] for url in asked if not url.startswith("data:")} == {f"{address}/"}
        assert complaints == []
        context.close()


CUT = """() => [...document.querySelectorAll('td')].filter((cell) => {
    const text = document.createRange();
    text.selectNodeContents(cell);
    return [...text.getClientRects()].some((box) => box.left < 0 || box.right > innerWidth);
}).map((cell) => cell.textContent)"""


def brightness(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])
