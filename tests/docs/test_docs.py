"""The pages are promises: every block in them runs, every output shown is what is printed, every link leads somewhere.

A fenced block says with its second word where it runs:

    ```console              in a copy of the demo project (one copy per page; later blocks see what earlier ones did)
    ```console files        in an empty folder with the shop's files in `files/`
    ```console clone        in a clone: the verbs of the root Makefile, which CI runs; here only that they exist
    ```console admin        on the machine of whoever sets things up; not run
    ```python, ```sql       in the demo project, as a script or a query
    ```python a/file.py     a file of the demo project, written there before later blocks run (any language)
    ```yaml headwater       a valid piece of headwater.yml; `merge` instead also puts it into the demo project's
    ```yaml mapping         a valid mapping.yml; `mapping/merge` puts a piece into the demo project's
    ```text                 not a command

`long` as a last word: takes a while, so it runs in `make test-all` only. In an output `…` stands for any text, and a line of its own for any lines.
`REWRITE_DOCS=1 pytest tests/docs` puts what is printed now in the place of what is shown and differs.
"""

import difflib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)(?: (?!long)([\w./]+))?( long)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KNOWN = {
    "console": {"", "files", "clone", "admin"},
    "python": {"", "fragment"},
    "sql": {"", "dbt"},
    "yaml": {"headwater", "merge", "mapping", "mapping/merge"},
    "text": {""},
    "html": {""},
    "json": {""},
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    where: str
    long: bool
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_file(self) -> bool:
        """Whether the block is a file of the project."""
        return "." in self.where

    @property
    def in_project(self) -> bool:
        """Whether checking the block needs the demo project."""
        return (
            self.is_file
            or self.where.endswith("merge")
            or (self.where == "" and self.language in ("console", "python", "sql"))
        )


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    return [
        Block(name, text[: found.start()].count("\n") + 1, found[1], found[2] or "", bool(found[3]), found[4])
        for found in FENCE.finditer(text)
    ]


ALL = [block for page in PAGES for block in blocks(page)]


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output shown under it."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (found[-1][0][:-1] + line.strip(), "")
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
        else:
            raise AssertionError(f"{block}: a console block starts with a line like `$ command`")
    return found


def fits(shown: str, printed: str) -> bool:
    """Whether an output is what the page shows, `…` standing for anything."""
    pattern = "\n".join(
        "@@LINES@@" if line.strip() == "…" else ".*".join(re.escape(part) for part in line.rstrip().split("…"))
        for line in shown.strip().splitlines()
    )
    pattern = pattern.replace("@@LINES@@\n", "(?:.*\n)*?").replace("\n@@LINES@@", "(?:\n.*)*?")
    found = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern, found) is not None


def rewrite(block: Block, command: str, shown: str, printed: str) -> None:
    """Show under the command what it printed: a line that fits none gives way to the one nearest to it."""
    now = [line.rstrip() for line in printed.strip().splitlines()]
    lines = shown.rstrip().splitlines()
    if any(line.strip() == "…" for line in lines):
        lines = [
            line
            if line.strip() == "…" or any(fits(line, one) for one in now)
            else (difflib.get_close_matches(line, now, 1, 0) or [line])[0]
            for line in lines
        ]
    else:
        lines = now
    path = ROOT / block.page
    before = path.read_text(encoding="utf-8")
    after = before.replace(f"$ {command}\n{shown.rstrip()}", "\n".join([f"$ {command}", *lines]))
    path.write_text(after, encoding="utf-8")


def environment() -> dict[str, str]:
    """A user's shell: our commands on the PATH, a wide dumb terminal, none of our variables."""
    ours = ("HEADWATER_", "SEGMENT", "DRY_RUN", "GOAL", "DISCOUNT_CAP", "SUPPRESS_HOURS", "MAKE", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), text=True, capture_output=True, timeout=240, check=False
    )


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_says_how_it_is_checked(block: Block) -> None:
    if block.is_file:
        return
    assert block.language in KNOWN, f"{block}: no way to check a block of {block.language!r}; known: {', '.join(KNOWN)}"
    assert block.where in KNOWN[block.language], f"{block}: `{block.language} {block.where}` is not known"
    if block.language in ("text", "json", "html"):
        assert not re.search(r"^\$ |^(headwater|make|dbt) ", block.text, re.MULTILINE), (
            f"{block}: a command that is never run"
        )


PAGES_THAT_RUN = [page for page in PAGES if any(b.in_project or b.where == "files" for b in blocks(page))]


SLOW_PAGES = (
    *("CONTRIBUTING", "activation", "decisions", "decisions-that-learn", "getting-started", "identity", "live", "llm"),
    *("segments", "send-events"),
)
"""Pages whose blocks take ten seconds and more together; `make test-all` runs them."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=pytest.mark.long if p.stem in SLOW_PAGES else (), id=str(p.relative_to(ROOT)))
        for p in PAGES_THAT_RUN
        if not (p.stem in SLOW_PAGES and any(block.long for block in blocks(p)))  # the whole page runs below
    ],
)
def test_everything_shown_runs_and_prints_what_is_shown(page: Path, demo, tmp_path: Path) -> None:
    follow([block for block in blocks(page) if not block.long], demo, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.long for b in blocks(p))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_everything_shown_runs_in_its_order_also_what_takes_a_while(page: Path, demo, tmp_path: Path) -> None:
    follow(blocks(page), demo, tmp_path)


def follow(here: list[Block], demo, tmp_path: Path) -> None:
    """Do what the blocks say, one after the other, in a copy of the demo project."""
    project = tmp_path / "shop"
    if any(block.in_project for block in here):
        shutil.copytree(demo.folder, project)
    if any(block.where == "files" for block in here):
        shutil.copytree(demo.files, tmp_path / "files")
    wrong = [problem for block in here for problem in check(block, project, tmp_path, demo)]
    assert not wrong, "\n\n".join(wrong)


def check(block: Block, project: Path, empty: Path, demo) -> list[str]:
    """What is wrong with a block that runs; nothing when it does what the page says."""
    if block.is_file:
        (project / block.where).parent.mkdir(parents=True, exist_ok=True)
        (project / block.where).write_text(block.text, encoding="utf-8")
        return []
    if block.where.endswith("merge"):
        path = project / ("headwater.yml" if block.where == "merge" else "mapping.yml")
        merged = merge(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, yaml.safe_load(block.text))
        path.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")
        return []
    if not (block.in_project or block.where == "files"):
        return []
    if block.language == "python":
        done = subprocess.run(
            [sys.executable, "-c", block.text],
            cwd=project,
            env=environment(),
            text=True,
            capture_output=True,
            check=False,
        )
        return [f"{block}: exit code {done.returncode}\n{done.stdout}{done.stderr}"] if done.returncode else []
    if block.language == "sql":
        with duckdb.connect(str(next((project / "warehouse").glob("*.duckdb"))), read_only=True) as connection:
            try:
                connection.execute(block.text).fetchall()
            except duckdb.Error as error:
                return [f"{block}: {error}"]
        return []
    wrong = []
    for command, shown in commands(block):
        if command == demo.command:
            printed, code = demo.output, 0
        else:
            done = run(command, empty if block.where == "files" else project)
            printed, code = done.stdout + done.stderr, done.returncode
        expected = int(found[1]) if (found := re.search(r"# exit code (\d+)$", command)) else 0
        if code != expected:
            wrong.append(f"{block}: `{command}` ended with exit code {code}, expected {expected}\n{printed}")
        elif shown.strip() and not fits(shown, printed):
            if os.environ.get("REWRITE_DOCS"):
                rewrite(block, command, shown, printed)
            wrong.append(f"{block}: `{command}` is shown with\n{shown}\nbut prints\n{printed}")
    return wrong


def merge(one: Any, other: Any) -> Any:
    """Mappings key by key, a list goes behind what is there, anything else takes its place."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: merge(one[key], other[key]) if key in one and key in other else {**one, **other}[key]
            for key in {**one, **other}
        }
    if isinstance(other, list):
        return [*(one if isinstance(one, list) else [one]), *other]
    return other


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "yaml" and not b.is_file], ids=str)
def test_a_piece_of_settings_is_valid(block: Block, tmp_path: Path) -> None:
    if block.where == "mapping/merge":
        return
    if block.where == "mapping":
        from headwater.collect import mapping

        (tmp_path / "mapping.yml").write_text(block.text, encoding="utf-8")
        mapping.read(tmp_path / "mapping.yml")
        return
    from headwater.config import Config

    Config.model_validate(yaml.safe_load(block.text))


@pytest.mark.parametrize("block", [b for b in ALL if (b.language, b.where) == ("console", "clone")], ids=str)
def test_a_verb_of_the_clone_exists(block: Block, request: pytest.FixtureRequest) -> None:
    targets = re.findall(r"^([a-z- ]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    known = {target for line in targets for target in line.split()}
    for command, shown in commands(block):
        verbs = re.sub(r"#.*|\b[A-Z_]+=\S*", "", command).split()
        if "make" in verbs:
            assert set(verbs[verbs.index("make") + 1 :]) <= known, (
                f"{block}: `{command}`: the Makefile has no such verb"
            )
        if shown.strip():
            assert command == "make demo", f"{block}: nothing checks what is shown under `{command}`"
            demo = request.getfixturevalue("demo")
            if os.environ.get("REWRITE_DOCS") and not fits(shown, demo.output):
                rewrite(block, command, shown, demo.output)
            assert fits(shown, demo.output), f"{block}: `{command}` prints\n{demo.output}"


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(re.sub(FENCE, "", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(target)
    assert not dead, f"{page.name}: dead links {dead}"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    text = re.sub(FENCE, "", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def test_every_page_is_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = LINK.findall(page.read_text(encoding="utf-8"))
        todo += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links
            if "://" not in link and not link.startswith("#")
        ]
    assert not [str(page.relative_to(ROOT)) for page in PAGES if page not in seen]


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "reference.py", "--check"], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("12 rows", "12 rows\n", True),
        ("12 rows", "13 rows\n", False),
        ("12 rows in … s", "12 rows in 0.4 s", True),
        ("first\n…\nlast", "first\none\ntwo\nlast", True),
        ("first\n…\nlast", "first\nlast", True),
        ("first\n…", "first\none\ntwo", True),
        ("first\n…\nlast", "first\none", False),
        ("a.c", "abc", False),
    ],
)
def test_an_output_fits_only_what_is_shown(shown: str, printed: str, *, expected: bool) -> None:
    assert fits(shown, printed) is expected
