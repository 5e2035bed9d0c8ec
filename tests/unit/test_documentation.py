"""README and docs name only what exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assistant.cli.main import app
from assistant.process.settings import ServiceSettings, StoreSettings, WorkerSettings
from tools.pages import DATA, PAGE, VARIABLES, tenant_tables, with_keys, with_variables

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "assistant").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def is_there(path: str, *folders: Path) -> bool:
    pattern = re.sub(r"<\w+>", "*", path.rstrip("/"))
    return any(found for folder in (ROOT, *folders) for found in folder.glob(pattern))


def missing_paths(text: str, *, beside: Path = ROOT) -> list[str]:
    """Return the paths of this repository, and modules run by ``python -m``, that ``text`` names and lacks.

    A path is one between backticks with a folder: one below a folder of the repository, or any Python file.
    ``*`` and ``<name>`` stand for any name. A path may also begin at the page's own folder, ``beside``.
    """
    top = {path.name for path in ROOT.iterdir() if path.is_dir()}
    paths = [
        path
        for path in re.findall(r"`([\w<>*.-]+/[\w<>*./-]*)`", text)
        if path.split("/")[0] in top or path.endswith(".py")
    ]
    modules = re.findall(
        r"python3? -m ((?:assistant|benchmarks|stacks|template_checks|tests|tools)[\w.]*)", text
    )
    missing = [path for path in paths if not is_there(path, beside)]
    for module in modules:
        place = ROOT.joinpath(*module.rstrip(".").split("."))
        if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
            missing.append(module)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_is_named_exists(page: Path) -> None:
    assert missing_paths(page.read_text(encoding="utf-8"), beside=page.parent) == []


def test_the_commands_of_many_tenants_exist_with_their_options() -> None:
    text = (ROOT / "docs/many-tenants.md").read_text(encoding="utf-8")
    told = set(re.findall(r"\bassistant ((?:aws )?[a-z]+)([^`#\n]*)", text))
    assert len(told) > 4
    for command, arguments in told:
        done = CliRunner().invoke(app, [*command.split(), "--help"])
        options = re.findall(r"--[a-z-]+", arguments)
        assert done.exit_code == 0, command
        assert [option for option in options if option not in done.output] == [], command


def test_a_path_that_does_not_exist_is_found() -> None:
    text = "`stacks/gone.py`, `service/old.py`, `docs/decisions/0016`, `python -m assistant.gone`"
    assert missing_paths(text) == [
        "stacks/gone.py",
        "service/old.py",
        "docs/decisions/0016",
        "assistant.gone",
    ]
    assert (
        missing_paths("`stacks/keys.py`, `lambdas/<name>.py`, `python -m assistant.service`, `/v1/x`") == []
    )


def entries_of_the_threat_model() -> list[list[str]]:
    """Return the cells of each row of its table of entries."""
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("\n## Entries\n")[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize("entry", entries_of_the_threat_model(), ids=lambda entry: entry[0])
def test_what_holds_an_entry_is_shown_by_tests_that_exist(entry: list[str]) -> None:
    _, holds, shown_by, remains = entry
    named = re.findall(r"`(tests/[^`]+)`", shown_by)
    assert named
    assert [path for path in named if not re.search(r"^(async )?def test_", read(path), re.MULTILINE)] == []
    assert holds
    assert remains


def read(path: str) -> str:
    """Return a file's text; of a folder that of its tests."""
    found = ROOT / path
    files = sorted(found.rglob("test_*.py")) if found.is_dir() else [found]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_the_first_block_of_the_readme_is_exactly_the_two_commands() -> None:
    block = re.search(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    commands = [line.split("#")[0].strip() for line in block.group(1).strip().splitlines()]
    assert commands == ["make demo", "make test"]


def test_make_help_shows_the_ten_targets_that_a_user_needs() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert set(re.findall(r"\x1b\[1m([a-z-]+)", shown.stdout)) == {
        *("ask", "check-company", "clean", "demo", "evaluate", "images", "setup", "synth", "tenant", "test"),
    }


def test_every_target_named_in_the_readme_is_explained_by_make_help() -> None:
    named = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    shown = subprocess.run(
        ["make", "help", "ALL=1"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    explained = set(re.findall(r"\x1b\[1m([a-z-]+)", shown.stdout))
    assert named <= explained
    assert {"demo", "ask", "test", "lint", "format", "typecheck", "bench", "evaluate", "check"} <= explained


def test_the_variables_of_the_page_are_those_of_the_settings() -> None:
    page = VARIABLES.read_text(encoding="utf-8")
    assert page == with_variables(page), "run: make synth && python -m tools.pages"


def test_the_keys_of_the_page_are_those_of_the_tenant_file() -> None:
    page, data = (path.read_text(encoding="utf-8") for path in (PAGE, DATA))
    assert page == with_keys(page, json.loads(data)), "run: python -m tools.pages keys"


def test_every_key_of_the_tenant_file_says_what_it_is_for() -> None:
    tables = list(tenant_tables())
    keys = [key for table in tables for key in table.keys]
    assert len(keys) > 150
    assert [key.path for key in keys if len(key.what) < 10] == []
    assert [table.path for table in tables[1:] if len(table.what) < 10] == []


@pytest.mark.parametrize("settings", [ServiceSettings, WorkerSettings])
def test_every_variable_is_on_the_page_with_what_it_is_for(settings: type[StoreSettings]) -> None:
    page = VARIABLES.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^- `(\w+)` \(.*?\): (.+)$", page, re.MULTILINE))
    shared = re.findall(r"`(\w+)`", re.findall(r"^As those of the service: (.+)$", page, re.MULTILINE)[0])
    rows |= {name: rows[name.replace("WORKER", "SERVICE")] for name in shared}
    assert [name for name in settings.model_fields if len(rows[settings.variable(name)]) < 10] == []
