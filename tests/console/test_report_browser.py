"""The page in a real browser, on a phone and on a desk, light and dark."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from headwater.console.report import write
from headwater.warehouse.connection import Warehouse

pytestmark = pytest.mark.browser

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

COLOURS = """async (shot) => {
    const image = new Image();
    image.src = 'data:image/png;base64,' + shot;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
    return new Set(pixels).size;
}"""
OUTSIDE = """() => [...document.querySelectorAll('figure')].flatMap((figure) => {
    const frame = figure.getBoundingClientRect();
    return [...figure.querySelectorAll('.chart text')]
        .filter((text) => { const box = text.getBoundingClientRect(); return box.left < frame.left || box.right > frame.right; })
        .map((text) => figure.querySelector('h3').textContent + ': ' + text.textContent);
})"""
GAPS = """() => Object.fromEntries([...document.querySelectorAll('.cards td:not(:empty)')].filter((cell) => cell.getClientRects().length).map((cell) => {
    // the name is made by the style sheet and has no box of its own: measure it by setting it again
    const name = document.createElement('span'), style = getComputedStyle(cell, '::before');
    name.textContent = cell.dataset.label;
    Object.assign(name.style, {position: 'absolute', whiteSpace: 'nowrap', fontVariantNumeric: style.fontVariantNumeric});
    Object.assign(name.style, {fontFamily: style.fontFamily, fontSize: style.fontSize, fontWeight: style.fontWeight});
    document.body.append(name);
    const text = document.createRange();
    text.selectNodeContents(cell);
    const first = text.getClientRects()[0];
    const gap = first.left - cell.getBoundingClientRect().left - name.getBoundingClientRect().width;
    name.remove();
    return [cell.dataset.label, gap];
}))"""
OVERLAPPING = """() => [...document.querySelectorAll('.bars .mark, .stacked')].flatMap((row) => {
    const boxes = (kind) => [...row.querySelectorAll(kind)].map((text) => [text.textContent, text.getBoundingClientRect()]);
    return boxes('.label').flatMap(([label, a]) => boxes('.number')
        .filter(([_, b]) => a.top < b.bottom && b.top < a.bottom && a.right > b.left)
        .map(([number]) => label + ' | ' + number));
})"""


@pytest.fixture(scope="session")
def report(full: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(full, tmp_path_factory.mktemp("bi") / "report.html", name="Riverside").path


@pytest.fixture(scope="session")
def bare_report(nothing: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(nothing, tmp_path_factory.mktemp("bi") / "report.html").path


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open a file; at the end, fail when the page complained or asked for anything but itself."""
    complaints: list[str] = []
    contexts = []

    def opened(file: Path, size: dict[str, int] = DESK, theme: str = "light", *, script: bool = True) -> Page:
        context = browser.new_context(
            viewport=size, color_scheme=theme, java_script_enabled=script, reduced_motion="reduce"
        )  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_all_parts_are_seen_and_nothing_overflows(
    size: dict[str, int], theme: str, visit: Visit, report: Path, tmp_path: Path
) -> None:
    page = visit(report, size, theme)
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    parts = page.locator("main > section")
    assert parts.count() == 13
    for i in range(12):
        box = parts.nth(i).bounding_box()
        assert box is not None
        assert box["height"] > 100
    assert page.locator(".chart").count() >= 14
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(OVERLAPPING) == []
    shot = page.screenshot(path=tmp_path / "report.png")
    assert colours(page, shot) > 100


def colours(page: Page, shot: bytes) -> int:
    """How many different colours a screenshot has; counted on a page without a content policy."""
    counter = page.context.new_page()
    found = counter.evaluate(COLOURS, base64.b64encode(shot).decode())
    counter.close()
    return found


def test_an_empty_screen_would_be_noticed(visit: Visit, report: Path) -> None:
    page = visit(report)
    page.evaluate("document.body.replaceChildren()")
    assert colours(page, page.screenshot()) == 1


def test_a_narrow_phone_does_not_scroll_sideways_either(visit: Visit, report: Path, bare_report: Path) -> None:
    for file in (report, bare_report):
        page = visit(file, {"width": 320, "height": 600})
        assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_on_a_phone_a_value_stands_right_behind_its_name(visit: Visit, report: Path) -> None:
    page = visit(report, PHONE)
    gaps = page.evaluate(GAPS)
    assert {"Of", "State", "Customer"} <= set(gaps)
    assert {name: gap for name, gap in gaps.items() if not 3 < gap < 12} == {}
    assert page.locator(".cards td:empty").count()
    assert not page.locator(".cards td:empty >> visible=true").count()


def ground(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def ink(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.querySelector('.chart .fill.t1')).fill")


def test_the_theme_follows_the_system_and_the_button(visit: Visit, report: Path) -> None:
    light, dark = visit(report, theme="light"), visit(report, theme="dark")
    assert ground(light) != ground(dark)
    assert ink(light) != ink(dark)
    light.get_by_role("button", name="Dark").click()
    assert (ground(light), ink(light)) == (ground(dark), ink(dark))
    light.reload()
    assert ground(light) == ground(dark)
    light.get_by_role("button", name="Light").click()
    assert ground(light) != ground(dark)


def test_no_script_of_the_data_runs(visit: Visit, report: Path) -> None:
    page = visit(report)
    assert page.title().replace("\u00a0", " ") == "Riverside · customers as of 31 Jan 2026, 18:30 UTC"


def test_the_policy_holds_where_escaping_would_fail(browser: Browser, report: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.html"
    hostile = "<script>document.title = 'taken'</script><img src='http://127.0.0.1:9/x.png' onerror=\"document.title = 'taken'\"><main>"
    torn.write_text(report.read_text(encoding="utf-8").replace("<main>", hostile, 1), encoding="utf-8")
    page = browser.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfinished", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: requests.append(request.failure or ""))
    page.goto(torn.as_uri())
    assert page.title().startswith("Riverside")
    assert sum("Content Security Policy" in text for text in complaints) >= 2
    assert {url for url in requests if not url.startswith(("file:", "data:"))} <= {"csp"}
    assert page.locator("main > section").count() == 13
    page.close()


def test_a_mark_tells_its_number_under_the_pointer(visit: Visit, report: Path) -> None:
    page = visit(report)
    mark = page.locator("#segments .bars .mark").first
    mark.scroll_into_view_if_needed()
    tip = page.locator("#tip")
    expect(tip).not_to_have_class("on")
    mark.hover(position={"x": 40, "y": 20})
    mark.hover(position={"x": 60, "y": 20})
    expect(tip).to_have_class("on")
    assert "Champions (VIPs): 30 customers" in tip.inner_text()
    assert page.locator(".chart .mark title").count() == 0


def test_the_numbers_behind_a_picture_open_by_keyboard(visit: Visit, report: Path) -> None:
    page = visit(report)
    summary = page.locator("#rfm summary")
    table = page.locator("#rfm table")
    assert not table.is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    assert table.is_visible()


def test_without_script_the_page_is_whole(visit: Visit, report: Path) -> None:
    page = visit(report, script=False)
    assert page.locator("main > section").count() == 13
    assert not page.locator("#theme").is_visible()
    assert page.locator(".chart .mark title").count() > 50


def test_an_empty_project_has_a_page_too(visit: Visit, bare_report: Path) -> None:
    page = visit(bare_report, PHONE)
    assert page.locator("section .empty:visible").count() >= 12
    assert page.get_by_text("headwater run").first.is_visible()
