"""Folders of options are deleted, and the rest imports, answers a question over HTTP, and synthesizes.

By day two halves of the options: each is once left out, and once there without those of the other half.
By night each option alone. import-linter says at each change that no room imports an option."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from assistant.option import installed
from assistant.tenant.toml_file import lines_of_keys
from assistant.tenant.toml_file import without as without_tables
from tests.stage.tenant_files import with_own_llm

ROOT = Path(__file__).parents[2]
LIFTED = (
    "bedrock",
    "desk",
    "helpdesk",
    "live",
    "mcp",
    "models_lab",
    "office",
    "openai",
    "overview",
    "panel",
    "reply",
    "shop",
    "sources",
)
LIVE_SOURCE = r'(?m)^\[\[sources\]\]\n(\w+ = .*\n)*kind = "live".*\n(\w+ = .*\n)*'
KEPT = ("assistant", "stacks", "template_checks", "lambdas", "containers", "requirements", "evaluation")
READ_BY_STACKS = ("model_artifacts", "docs")
FILES = ("app.py", "images.lock.toml", "jumpstart.lock.toml", "pyproject.toml")
OF_THE_CORE = ("tests/stories", "tests/unit/answer", "tests/unit/service", "tests/unit/test_settings.py")
OF_THE_WHOLE = "tests/unit/service/test_openapi.py"
"""Compares a committed file that has the routes of all options."""
HALVES = [pytest.param(LIFTED[first::2], id=f"every second from {LIFTED[first]}") for first in (0, 1)]
ALONE = [pytest.param((name,), id=name, marks=pytest.mark.night) for name in LIFTED]
TENANTS = ("sandbox", "pharmacy", "clinic")
"""The tests' tenants. The first one's file names most options; the others' turn is at night."""
QUESTION = "When is the help desk there?"
IMPORT_ALL = """
import importlib, pkgutil, assistant, stacks
for package in (assistant, stacks):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
import assistant.cli.main
assistant.cli.main.run()
"""
TENANT = """
schema_version = 1
name = "desk"
display_name = "Desk"
[[sources]]
name = "knowledge"
namespace = ""
access = "everyone"
paths = ["../knowledge"]
[answers]
mode = "quoted"
"""


CONNECTOR = """
[sources.connector]
kind = "mediawiki"
api = "https://wiki.example/w/api.php"
"""
OF_OPTIONS = {
    "models_lab": (
        "[models_lab]\ntraining = true\n",
        r"desk.toml: line 10: unknown key models_lab; allowed here: ",
    ),
    "sources": (CONNECTOR, r"desk.toml: line 11: unknown key sources\.0\.connector; allowed here: "),
}
"""Option = keys that a tenant file cannot have without it, and how they are refused."""
LOAD = "import pathlib as p, assistant.tenant.tenant as t; t.load_tenant(p.Path('desk.toml'))"


@pytest.fixture(params=[*HALVES, *ALONE])
def left_out(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the names of the options whose folders are deleted."""
    return request.param


@pytest.fixture
def gone(left_out: tuple[str, ...]) -> list[str]:
    """Return the names of the options and of those that need one of them."""
    needy = (other.name for other in installed() if {*other.needs}.intersection(left_out))
    return list(dict.fromkeys((*left_out, *needy)))


@pytest.fixture
def without(gone: list[str], tmp_path: Path) -> Path:
    """Return a copy of the product without these options."""
    ignored = shutil.ignore_patterns(
        "node_modules", "recorded"
    )  # compiled code is copied: its times are kept
    for name in (*KEPT, *READ_BY_STACKS):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "build" / "functions").mkdir(parents=True)
    for packages in (ROOT / "build" / "functions").iterdir():
        (tmp_path / "build" / "functions" / packages.name).symlink_to(packages)
    for name in gone:
        shutil.rmtree(tmp_path / "assistant" / "options" / name)
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PATH": path, "CI": ""} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def leave_out_tables(tenants: Path, gone: list[str]) -> None:
    names = {*gone} - {"sources"}  # [[sources]] is the core's
    for file in tenants.glob("*.toml"):
        text = file.read_text()
        if "bedrock" in gone and "[bedrock]" in text:  # then an endpoint writes
            text = with_own_llm(text)
        if "live" in gone:
            text = re.sub(LIVE_SOURCE, "", text)
        file.write_text(
            without_tables(text, [path for path in lines_of_keys(text) if names.intersection(path)])
        )


def test_the_rest_imports_and_answers(without: Path, left_out: tuple[str, ...]) -> None:
    (without / "tenants").mkdir()
    (without / "tenants" / "desk.toml").write_text(TENANT)
    (without / "knowledge").mkdir()
    (without / "knowledge" / "hours.md").write_text(
        "# Help desk\n\nThe help desk answers from 8:00 to 18:30.\n"
    )
    command = ("-c", IMPORT_ALL, "--port", "0", "ask", "--tenant", "desk", QUESTION)
    assert "8:00 to 18:30" in run(without, *command)
    for keys, refused in (OF_OPTIONS[option] for option in left_out if option in OF_OPTIONS):
        (without / "desk.toml").write_text(TENANT.replace("[answers]", f"{keys}[answers]"))
        with pytest.raises(AssertionError, match=refused):
            run(without, "-c", LOAD)


@pytest.mark.parametrize(
    "tenant", [TENANTS[0], *(pytest.param(name, marks=pytest.mark.night) for name in TENANTS[1:])]
)
def test_the_rest_synthesizes(without: Path, gone: list[str], tenant: str) -> None:
    tenants = without / "tests" / "tenants"
    shutil.copytree(ROOT / "tests" / "tenants", tenants)
    context = orjson.dumps({"tenants": str(tenants), "tenant": tenant}).decode()
    leave_out_tables(tenants, gone)
    out = without / "cdk.out"
    run(without, "app.py", CDK_CONTEXT_JSON=context, CDK_OUTDIR=str(out), CDK_VALIDATION="false")
    assert [*(out / f"assembly-{tenant.capitalize()}").glob("*.template.json")]


@pytest.mark.parametrize("left_out", [HALVES[1], *ALONE], indirect=True)
def test_the_other_tests_are_collected_and_those_of_the_core_pass(without: Path, gone: list[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    left = tuple(f"{folder}/options/{name}/" for folder in ("assistant", "tests") for name in gone)
    for name in listed.stdout.splitlines():
        if not (name.startswith(left) or (without / name).exists() or (ROOT / name).is_dir()):
            (without / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, without / name)
    for tenants in ("tests/tenants", "tests/company/tenants", "tenants"):
        leave_out_tables(without / tenants, gone)
    quiet = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "-n0")
    run(without, *quiet, "--collect-only", "tests")
    of_the_core = OF_THE_CORE if os.environ.get("EXAMPLES") == "new" else OF_THE_CORE[:1]
    assert " passed" in run(without, *quiet, *of_the_core, "--ignore", OF_THE_WHOLE, EXAMPLES="same")
