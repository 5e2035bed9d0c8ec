"""The command line as a program: statuses, one sentence an error, what goes to which stream."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.cli.main import COMMANDS
from tests.stage.processes import run_forked

TENANT = 'schema_version = 1\nname = "bakery"\ndisplay_name = "Bakery"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "bakery.toml").write_text(TENANT)
    return tmp_path


def assistant(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_forked("assistant.cli.main", *arguments, folder=folder)


def test_help_needs_none_of_the_heavy_packages() -> None:
    heavy = {"pydantic", "httpx", "orjson", "psutil", "joserfc", "rich.progress", "fastapi", "tantivy"}
    code = "import sys, assistant.cli.main; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert heavy.isdisjoint(done.stdout.split())


def test_help_names_every_command(folder: Path) -> None:
    done = assistant("--help", folder=folder)
    assert done.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["tenant", "token", "--tenant", "bakery", "--agent", "a", "--role", "baker"],
        ["knowledge", "withdraw", "--tenant", "bakery"],
    ],
)
def test_wrong_usage_is_status_2(folder: Path, arguments: list[str]) -> None:
    done = assistant(*arguments, folder=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["tenant", "token", "--tenant", "baker", "--agent", "a"],
            "There is no tenant baker in tenants; there are bakery.",
        ),
        (
            ["--tenants", "nowhere", "ask", "--tenant", "x", "Why?"],
            "nowhere: there is no such folder of tenant files. Run the command in the root of the repository",
        ),
        (["--state", "tenants/bakery.toml", "tenant", "down"], "tenants/bakery.toml"),
        (["desk", "replay", "--tenant", "bakery", "nothing-like-it"], "nothing-like-it"),
        (["ask", "--tenant", "bakery", "  "], "The question is empty."),
        (["ask", "--tenant", "bakery", "caf\udce9"], "The question is not UTF-8."),
        (["knowledge", "add", "--tenant", "bakery"], "names no paths for any source"),
        (
            ["knowledge", "add", "--tenant", "bakery", "nowhere.md"],
            "There is no such file or folder: nowhere.md.",
        ),
        (["knowledge", "withdraw", "--receipt", "--tenant", "bakery", "x"], "bakery has no document x."),
    ],
)
def test_a_failure_is_one_sentence_and_status_1(folder: Path, arguments: list[str], said: str) -> None:
    done = assistant(*arguments, folder=folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_tenant_s_typo_is_named_and_stops_nobody(folder: Path) -> None:
    (folder / "tenants" / "cafe.toml").write_text(TENANT.replace('"bakery"', '"cafe"') + "oven = 1\n")
    done = assistant("tenant", "token", "--tenant", "bakery", "--agent", "ann", folder=folder)
    assert done.returncode == 0, done.stderr
    warned = re.findall(r"warning: .*cafe\.toml: line 4: unknown key oven; allowed here: ", done.stderr)
    assert len(warned) == 1
    assert "Tenant cafe is left out." in done.stderr

    refused = assistant("tenant", "token", "--tenant", "cafe", "--agent", "ann", folder=folder)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.match(r"assistant: .*cafe\.toml: line 4: unknown key oven; allowed here: ", refused.stderr)


def test_local_down_works_with_a_broken_tenant_file(folder: Path) -> None:
    (folder / "tenants" / "bakery.toml").write_text("broken")
    done = assistant("tenant", "down", folder=folder)
    assert done.returncode == 0
    assert done.stdout == "Nothing was running.\n"
