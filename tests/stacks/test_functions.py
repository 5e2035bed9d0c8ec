"""Properties of every function of a stack, and the reproducible archives of code and dependencies."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from assistant.tenant.tenant import load_tenant
from stacks import function_package
from stacks.function_package import FUNCTIONS, PROBE, FunctionDependencies, code_archive
from stacks.processes import effective_tenant_file
from stacks.tenant import ROOT
from tests.stacks.synthesized import LIMIT_S
from tests.stacks.values import deployed

UNPACKED_LIMIT_BYTES = 250_000_000


@pytest.mark.parametrize("dependencies", [FUNCTIONS, PROBE], ids=lambda each: each.lock)
def test_code_and_dependencies_fit_into_a_function(dependencies: FunctionDependencies) -> None:
    sizes = [
        entry.file_size
        for archive in (code_archive(), dependencies.archive())
        for entry in zipfile.ZipFile(archive.path).infolist()
    ]

    assert sum(sizes) < UNPACKED_LIMIT_BYTES


def test_archives_are_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_archive()
    monkeypatch.setattr(function_package, "BUILD", tmp_path)
    code_archive.cache_clear()
    again = code_archive()
    code_archive.cache_clear()

    assert again.path != first.path
    assert again.hash == first.hash
    assert again.path.read_bytes() == first.path.read_bytes()


def test_the_code_archive_contains_only_what_functions_run() -> None:
    names = zipfile.ZipFile(code_archive().path).namelist()

    assert "assistant/documents/work.py" in names
    assert not [
        name
        for name in names
        if "console/" in name or "/view/" in name or "__pycache__" in name or name.endswith(".pyc")
    ]


def test_the_dependencies_archive_is_independent_of_the_build_machine() -> None:
    names = zipfile.ZipFile(FUNCTIONS.archive().path).namelist()

    assert "python/botocore/__init__.py" in names
    assert not [name for name in names if name.endswith("/RECORD") or name.startswith("python/bin/")]


@pytest.mark.parametrize("name", ["pharmacy", "clinic", "sandbox"])
def test_the_deployed_tenant_file_answers_alike_and_contains_no_account(name: str, tmp_path: Path) -> None:
    tenant = deployed(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(effective_tenant_file(tenant), encoding="utf-8")

    served = load_tenant(path)
    expected = tenant.config.model_copy(update={"secrets": served.secrets})
    assert served.settings_hash() == expected.settings_hash()
    assert tenant.place.account not in path.read_text(encoding="utf-8")
    assert not {"deployment", "network", "edge", "models"} & set(tomllib.loads(path.read_text("utf-8")))


IMPORTS = """
import importlib, sys
code, dependencies, *modules = sys.argv[1:]
sys.path[:0] = [code, f"{dependencies}/python"]
for name in modules:
    module = importlib.import_module(f"lambdas.{name}")
    assert callable(module.handle), name
    foreign = [m.__file__ for m in (module, importlib.import_module("assistant.tenant"))]
    assert all(path.startswith(code) for path in foreign), foreign
"""


@pytest.mark.parametrize("dependencies", [FUNCTIONS, PROBE], ids=lambda each: each.lock)
def test_handlers_import_only_from_their_archives(dependencies: FunctionDependencies, tmp_path: Path) -> None:
    """Uses wheels of the running Python, because wheels for Lambda's Python import only there."""
    modules = {path.stem for path in (ROOT / "lambdas").glob("*.py")} - {"__init__"}
    of_probe = {"ask_probe"}
    assert of_probe < modules
    for name, archive in (("code", code_archive()), ("packed", dependencies.for_this_python().fetch())):
        zipfile.ZipFile(archive.path).extractall(tmp_path / name)

    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c", IMPORTS, str(tmp_path / "code"), str(tmp_path / "packed")),
            *sorted(of_probe if dependencies is PROBE else modules - of_probe),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
