"""A user's project folder: made from the template, and the files in it that are written from others.

    headwater.yml  ->  macros/headwater_settings.sql     so that plain `dbt build` sees the same thresholds
    mapping.yml    ->  models/staging/*                   so that the shop's own files become Headwater's entities

Generated files say so in their first line; they are written again only when their content changes, so that dbt parses
nothing twice.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from headwater.collect import mapping as mappings
from headwater.collect import staging
from headwater.collect.recognise import recognise
from headwater.config import FILE, Config, load
from headwater.errors import UsageError
from headwater.warehouse.files import profile, write_seed

MAPPING = "mapping.yml"
_RENAMED = {"gitignore": ".gitignore", "env.example": ".env.example"}
_ignored = shutil.ignore_patterns("target", "__pycache__", "*.pyc", "*.duckdb*")

TEMPLATES = {"online-retailer": "online_retailer"}
"""Ready projects, by the name that `init --template` takes: the folder under `headwater/templates`."""
SHARED = ("macros", "tests/generic", "models/sources.yml", "profiles.yml", "gitignore")
"""What every project has of the one dbt project; a template brings the rest."""


@dataclass(frozen=True)
class Made:
    """What `init` made. `sentences`: what was mapped, what was assumed, what is open and which line to add."""

    folder: Path
    entities: tuple[str, ...]
    open_lines: int
    sentences: tuple[str, ...]


def init_template(folder: Path, template: str, *, on_step: Callable[[str], None] = lambda _: None) -> Made:
    """Make a ready project in `folder` from a named template: what it shares with every project, and its own files over it.

    Raises UsageError for a template that there is not, and when the folder holds a project already.
    """
    if template not in TEMPLATES:
        raise UsageError(f"there is no template {template!r}; there are: {', '.join(TEMPLATES)}")
    _not_there(folder)
    on_step(f"writing {folder}")
    _copy_template(folder, only=SHARED)
    with as_file(files("headwater") / "templates" / TEMPLATES[template]) as own:
        shutil.copytree(own, folder, dirs_exist_ok=True, ignore=_ignored)
    _rename_dotted(folder)
    settings = (folder / FILE).read_text(encoding="utf-8")
    write_if_changed(folder / FILE, re.sub(r"(?m)^name: \w+", f"name: {_name(folder)}", settings))
    config = load(folder)
    write_sql_settings(folder, config)
    said = [
        f"{base.name}: {', '.join(base.tables)} of the database in {base.url_env}" for base in config.collect.databases
    ]
    said += [
        f"{base.name}.{name}: {'; '.join(_masks(table.mask))}"
        for base in config.collect.databases
        for name, table in base.tables.items()
        if table.mask
    ]
    said += [f"{sync.model} to {sync.destination}" for sync in config.syncs]
    return Made(folder, (), 0, tuple(said))


def _masks(masks: Mapping[str, str]) -> Iterator[str]:
    """What becomes of the columns of a table that `mask` names."""
    plain = [column for column, kind in masks.items() if kind == "plain"]
    masked = [f"{column} ({kind})" for column, kind in masks.items() if kind != "plain"]
    if masked:
        yield f"{', '.join(masked)} masked before it is stored"
    if plain:
        yield f"{', '.join(plain)} stored as it is, on purpose"


def _not_there(folder: Path) -> None:
    if (folder / FILE).exists():
        raise UsageError(
            f"{folder} holds a project already ({FILE} is there); choose another folder, or edit {MAPPING} in it"
        )


def init(folder: Path, source: Path | None, *, on_step: Callable[[str], None] = lambda _: None) -> Made:
    """Make a project in `folder`, with a mapping proposed from the files in `source` (none: an empty mapping).

    Raises UsageError when the folder holds a project already (nothing is overwritten) or `source` is not a folder,
    DataError when nothing in `source` can be read. Nothing is made when it raises.
    """
    _not_there(folder)
    if source is not None and not source.is_dir():
        raise UsageError(f"{source} is not a folder; --from takes the folder that holds the shop's files")
    on_step(f"reading {source}" if source else "no files given")
    profiles = profile(source) if source else []
    on_step("recognising what the files hold")
    proposal = recognise(profiles, folder=os.path.relpath(source, folder) if source else "data")
    on_step(f"writing {folder}")
    _copy_template(folder)
    (folder / "data").mkdir(exist_ok=True)
    settings = (folder / FILE).read_text(encoding="utf-8")
    settings = re.sub(r"(?m)^name: \w+", f"name: {_name(folder)}", settings)
    if proposal.currency:
        settings = re.sub(r"(?m)^currency: \w+", f"currency: {proposal.currency}", settings)
    write_if_changed(folder / FILE, settings)
    mappings.write(proposal, folder / MAPPING)
    staging.write(staging.render(proposal, staging.types_of(profiles)), folder)
    sentences = list(proposal.sentences())
    if source and proposal.mql_score:
        scores = proposal.mql_score
        columns = {"event_name": scores.event_name, "mql_score": scores.mql_score}
        seed = write_seed(source / proposal.files[scores.table].path, columns, folder / "seeds" / "mql_score.csv")
        repaired = f", {seed.repaired} repaired (blanks around a value)" if seed.repaired else ""
        sentences += [f"seeds/mql_score.csv: {seed.rows} scores{repaired}", *seed.warnings]
    return Made(folder, tuple(proposal.entities), len(proposal.open), tuple(sentences))


def _name(folder: Path) -> str:
    """The folder's name as a project may be called: small letters, digits and underscores, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"shop_{name}".rstrip("_")


def _copy_template(folder: Path, *, only: Sequence[str] = (".",)) -> None:
    with as_file(files("headwater") / "project") as template:
        for part in only:
            if (template / part).is_dir():
                shutil.copytree(template / part, folder / part, dirs_exist_ok=True, ignore=_ignored)
            else:
                (folder / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(template / part, folder / part)
    _rename_dotted(folder)


def _rename_dotted(folder: Path) -> None:
    for plain, dotted in _RENAMED.items():
        if (folder / plain).exists():
            (folder / plain).rename(folder / dotted)


def write_sql_settings(folder: Path, config: Config) -> None:
    """Write the settings that SQL sees, if they have changed."""
    write_if_changed(folder / "macros" / "headwater_settings.sql", sql_settings(config))


def sql_settings(config: Config) -> str:
    """The macro `setting(name)` with the values of `headwater.yml`."""
    rules, ml, decisions = config.segments.rules, config.segments.ml, config.decisions
    values: dict[str, Any] = {
        "currency": config.currency,
        "mql_threshold": config.mql.threshold,
        "mql_window_days": config.mql.window_days,
        "rule_order": list(rules.order),
        "churn_rescue_nps_below": rules.churn_rescue_nps_below,
        "high_value_revenue_90d": rules.high_value_revenue_90d,
        "high_value_quiet_days": rules.high_value_quiet_days,
        "new_users_events_30d": rules.new_users_events_30d,
        "ml_seed_limit": ml.seed_limit,
        "clv_horizon_days": ml.clv_horizon_days,
        "discount_cap": decisions.discount_cap,
        "suppress_hours": decisions.suppress_hours,
        "holdout_share": decisions.holdout_share,
        "before_first": config.data_products.before_first,
    }
    lines = [f"    '{name}': {_jinja(value)}," for name, value in values.items()]
    return "\n".join(
        [
            f"{{# Written by headwater from {FILE}; change it there. #}}",
            "{% macro setting(name) %}",
            "  {%- set settings = {",
            *lines,
            "  } -%}",
            "  {%- do settings.update(var('headwater_settings', {})) -%}",
            "  {%- if name not in settings -%}",
            "    {{ exceptions.raise_compiler_error('there is no setting ' ~ name ~ '; there are: ' ~ settings.keys() | join(', ')) }}",
            "  {%- endif -%}",
            "  {{ return(settings[name]) }}",
            "{% endmacro %}",
            "",
        ]
    )


def _jinja(value: Any) -> str:
    return "none" if value is None else repr(value)


def write_if_changed(path: Path, text: str) -> bool:
    """Write a text file when its content differs; whether it was written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True
