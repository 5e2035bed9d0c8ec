"""The matrix of contracts finds its holes, with xdist and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = """
import pytest
from tests.contracts.matrix import CONTRACT, ContractMatrix

def pytest_configure(config):
    config.pluginmanager.register(ContractMatrix(config, suites={"test_port": ("here", "there")}))

def pytest_collection_modifyitems(items):
    for item in items:
        name = item.callspec.params["twin_name"]
        item.user_properties.append((CONTRACT, (item.path.stem, item.originalname, name)))
"""
BEGINNING = """
import pytest

@pytest.mark.parametrize("twin_name", ["here", "there"])
def test_one(twin_name):
    pass

"""
BODIES = {
    "passed": "",
    "skipped": "if twin_name == 'there': pytest.skip('not here')",
    "expected": "if twin_name == 'there': pytest.xfail('not here')",
}
SECOND = """
@pytest.mark.parametrize("twin_name", ["here", "there"])
def test_two(twin_name):
    {body}
"""


def run(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    (folder / "test_port.py").write_text(BEGINNING + test)
    return pytest_in(folder, *arguments)


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the folder's tests with no plugin but xdist: loading all of them takes a second a process."""
    command = [sys.executable, "-m", "pytest", *["-q", "-p", "no:cacheprovider", "-p", "xdist"]]
    return subprocess.run(
        [*command, *arguments, str(folder)],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def second(body: str) -> str:
    return SECOND.format(body=body or "pass")


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_a_whole_matrix_is_shown_and_passes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = run(tmp_path, second(""), *arguments)
    assert ended.returncode == 0
    assert ended.stdout.count("2/2") == 2


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
@pytest.mark.parametrize("body", [BODIES["skipped"], BODIES["expected"]])
def test_a_case_without_a_result_on_one_adapter_fails(
    tmp_path: Path, body: str, arguments: tuple[str, ...]
) -> None:
    ended = run(tmp_path, second(body), *arguments)
    assert ended.returncode == 1
    assert "HOLE test_port: test_two on there" in ended.stdout


def test_a_case_that_is_not_made_for_an_adapter_fails(tmp_path: Path) -> None:
    ended = run(tmp_path, second("").replace(', "there"]', "]"))
    assert ended.returncode == 1
    assert "HOLE test_port: test_two on there" in ended.stdout


def test_a_suite_that_never_ran_fails(tmp_path: Path) -> None:
    ended = run(tmp_path, "")
    assert ended.returncode == 0
    (tmp_path / "conftest.py").write_text(CONFTEST.replace("suites={", 'suites={"test_other": ("here",), '))
    ended = pytest_in(tmp_path)
    assert ended.returncode == 1
    assert "HOLE test_other: nothing" in ended.stdout
