"""Segment's own SDKs for Node and for browsers, unchanged, pointed at the collector."""

import json
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from collecting import Running, collecting
from playwright.sync_api import Browser
from sdk_world import LOCKED, MoodyLog, landed, sdks

from headwater.clock import SystemClock
from headwater.collect.settings import CollectLimits, CollectSettings

pytestmark = pytest.mark.browser

REFUSALS = [["full"], ["busy"], ["lost", "busy", "full", "lost"]]


@pytest.fixture(scope="module")
def modules() -> Path:
    return sdks()


def settings(modules: Path) -> CollectSettings:
    return CollectSettings(
        bundles=str(modules / "node_modules" / "@segment" / "analytics-next" / "dist" / "umd"),
        limits=CollectLimits(retry_after_seconds=1),
    )


# ---------------------------------------------------------------------- Node


def in_node(modules: Path, url: str, count: int) -> list[str]:
    """Run the shop; what it says has failed."""
    shutil.copy(LOCKED / "shop.mjs", modules / "shop.mjs")
    done = subprocess.run(
        ["node", "shop.mjs", url, str(count)], cwd=modules, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kind_of_call_arrives_from_node(modules: Path) -> None:
    with collecting(settings(modules), clock=SystemClock()) as running:
        assert in_node(modules, running.url, 0) == []
        events = {event["messageId"]: event for event in running.events()}
    assert {name: event["type"] for name, event in events.items()} == {
        "i1": "identify", "t1": "track", "p1": "page", "s1": "screen", "g1": "group", "a1": "alias",
    }  # fmt: skip
    assert events["t1"]["properties"] == {"plan": "pro", "price": 12.5}
    assert events["t1"]["context"]["library"]["name"] == "@segment/analytics-node"


@pytest.mark.parametrize("moods", REFUSALS)
def test_a_collector_that_refuses_node_loses_and_doubles_nothing(modules: Path, moods: list[str]) -> None:
    log = MoodyLog(moods)
    with collecting(settings(modules), log=log, clock=SystemClock()) as running:
        assert in_node(modules, running.url, 60) == []
        kept = Counter(event["messageId"] for event in running.events())
        arrived = landed(log)
    assert not log.moods, "not every refusal was met"
    assert sorted(arrived) == sorted(["i1", "t1", "p1", "s1", "g1", "a1", *(f"m{n}" for n in range(60))])
    assert (max(kept.values()) > 1) == ("lost" in moods)


# ---------------------------------------------------------------------- a page


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def shop_page(modules: Path, folder: Path) -> Iterator[str]:
    """The shop's own server, on an origin that is not the collector's."""
    shutil.copy(LOCKED / "page.html", folder / "page.html")
    bundles = modules / "node_modules" / "@segment" / "analytics-next" / "dist" / "umd"
    shutil.copy(bundles / "index.js", folder / "analytics.js")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/page.html"
        finally:
            server.shutdown()
            thread.join()


def until(condition: Callable[[], bool], page: Any) -> None:
    for _ in range(600):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come true in a minute")


def in_page(browser: Browser, running: Running, page_url: str, count: int, delivery: dict[str, Any]) -> list[str]:
    """Open the page, let it send, wait until everything it sent was answered; the message ids."""
    page = browser.new_page()
    problems: list[str] = []
    asked: set[str] = set()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.add(f"{request.method} {urlsplit(request.url).path}"))
    page.goto(f"{page_url}?{urlencode({'collector': running.url, 'delivery': json.dumps(delivery)})}")
    sent = page.evaluate(f"() => window.send({count})")
    until(lambda: set(sent) <= {event["messageId"] for event in running.events()}, page)
    page.close()
    assert problems == []
    assert "GET /v1/projects/website/settings" in asked
    assert ("POST /v1/b" if delivery else "POST /v1/t") in asked
    return sent


BATCHED = {"deliveryStrategy": {"strategy": "batching", "config": {"size": 10, "timeout": 200}}}


@pytest.mark.parametrize("delivery", [{}, BATCHED], ids=["singles", "batches"])
def test_every_kind_of_call_arrives_from_a_page_of_another_origin(
    browser: Browser, modules: Path, tmp_path: Path, delivery: dict[str, Any]
) -> None:
    with (
        collecting(settings(modules), clock=SystemClock()) as running,
        shop_page(modules, tmp_path) as page_url,
    ):
        sent = in_page(browser, running, page_url, 3, delivery)
        events = {event["messageId"]: event for event in running.events()}
    kinds = ["page", "track", "identify", "group", "alias", "track", "track", "track"]
    assert [events[one]["type"] for one in sent] == kinds
    assert events[sent[1]]["properties"] == {"plan": "pro", "price": 12.5}
    assert events[sent[0]]["context"]["page"]["url"].startswith("http://localhost:")
    assert events[sent[1]]["context"]["library"]["name"] == "analytics.js"
    assert events[sent[1]]["anonymousId"] == events[sent[0]]["anonymousId"]
    assert events[sent[2]]["userId"] == "u1"


@pytest.mark.parametrize("moods", REFUSALS)
@pytest.mark.parametrize("delivery", [{}, BATCHED], ids=["singles", "batches"])
def test_a_collector_that_refuses_a_page_loses_and_doubles_nothing(
    browser: Browser, modules: Path, tmp_path: Path, delivery: dict[str, Any], moods: list[str]
) -> None:
    log = MoodyLog(moods)
    with (
        collecting(settings(modules), log=log, clock=SystemClock()) as running,
        shop_page(modules, tmp_path) as page_url,
    ):
        sent = in_page(browser, running, page_url, 30, delivery)
        kept = Counter(event["messageId"] for event in running.events())
        arrived = landed(log)
    assert not log.moods, "not every refusal was met"
    assert sorted(arrived) == sorted(sent)
    assert len(set(sent)) == 35
    assert max(kept.values()) > 1 or "lost" not in moods
