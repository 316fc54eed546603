"""The lowest layer: clock, failpoints, registry, configuration."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headwater import config, failpoint, registry
from headwater.clock import FixedClock, SystemClock, naive_utc
from headwater.errors import ConfigError


def test_a_fixed_clock_moves_only_forward() -> None:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.push(timedelta(days=2))
    assert clock.now() == datetime(2026, 1, 3, tzinfo=UTC)
    with pytest.raises(ValueError, match="cannot be pushed back"):
        clock.push(timedelta(seconds=-1))


def test_the_warehouse_sees_utc_without_zone() -> None:
    assert SystemClock().now().tzinfo is UTC
    assert naive_utc(datetime.fromisoformat("2026-01-01T01:00:00+02:00")) == datetime(2025, 12, 31, 23)  # noqa: DTZ001
    assert naive_utc(datetime(2026, 1, 1)) == datetime(2026, 1, 1)  # noqa: DTZ001


def test_a_failpoint_ends_the_process_the_nth_time_it_is_passed() -> None:
    code = "from headwater.failpoint import failpoint\nfor i in range(3):\n    failpoint('run.seeded'); print(i, flush=True)"
    env = {"HEADWATER_FAILPOINT": "run.seeded:2"}
    child = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout) == (137, "0\n")


def test_an_undeclared_failpoint_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_FAILPOINT", "x")
    with pytest.raises(KeyError, match="is not declared"):
        failpoint.failpoint("nowhere")


def test_the_registry_says_what_it_knows() -> None:
    assert registry.load("clock", "system", {"system": "headwater.clock:SystemClock"}) is SystemClock
    assert registry.load("clock", "headwater.clock:FixedClock", {}) is FixedClock
    with pytest.raises(ConfigError, match=r"there is no clock named 'lunar'; known: system\. Use one of these"):
        registry.load("clock", "lunar", {"system": "headwater.clock:SystemClock"})
    with pytest.raises(ConfigError, match=r"points to 'headwater.clock:Nope', which cannot be loaded"):
        registry.load("clock", "headwater.clock:Nope", {})


def test_all_problems_of_a_configuration_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "headwater.yml").write_text(
        "name: shop\ncurency: EUR\ndecisions: {discount_cap: 120, goal: fame}\nmql: {treshold: 3}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError) as error:
        config.load(tmp_path)
    text = str(error.value)
    assert "has 4 problem(s)" in text
    assert "curency: no such setting; did you mean 'currency'?" in text
    assert "mql.treshold: no such setting; did you mean 'threshold'?" in text
    assert "decisions.discount_cap: found 120; input should be less than or equal to 100" in text
    assert "decisions.goal: found 'fame'; input should be '90d_clv', 'engagement', 'conversion' or 'retention'" in text


def test_a_sync_to_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "headwater.yml").write_text("syncs: [{name: a, model: m, key: k, destination: nowhere}]\n")
    with pytest.raises(
        ConfigError, match=r"syncs.a.destination: found 'nowhere'; there is no such destination. Known: none"
    ):
        config.load(tmp_path)


def test_a_folder_without_settings_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a Headwater project"):
        config.load(tmp_path)


def test_the_digest_follows_the_settings() -> None:
    assert config.Config().digest() == config.Config().digest()
    assert config.Config(currency="EUR").digest() != config.Config().digest()


def test_a_section_given_twice_is_refused_instead_of_the_last_one_winning(tmp_path: Path) -> None:
    twice = "decisions: {holdout_share: 0.5}\nname: shop\ndecisions: {goal: retention}\n"
    (tmp_path / "headwater.yml").write_text(twice, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 3, column 1: the key 'decisions' stands there already, in line 1"):
        config.load(tmp_path)
