"""Every tenant's templates as ``cdk synth`` writes them, synthesized once per test run for all its workers.

Validation is off here; ``make synth`` validates, and ``test_synth`` tests it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
FIXTURES = {"tenants": "tests/tenants", "care_app": "tests/care_app"}
"""Context of the application: the tests' own files, relative to the folder of the application."""
COMPANY = {name: f"tests/company/{name}" for name in ("tenants", "care_app", "accounts")}
"""Context for a company's own folder of files, whose tenant sets every key that those do not."""
LIMIT_S = 500
WHOLE = "whole"
"""File of a folder whose synthesis ended: what it wrote to standard error."""


def synthesize(
    out: Path,
    *,
    validated: bool = False,
    source: Path = ROOT,
    python: Path = Path(sys.executable),
    **context: str,
) -> subprocess.CompletedProcess[str]:
    """Run the application of a folder as the CDK's command line does."""
    settings = json.loads((source / "cdk.json").read_text(encoding="utf-8"))["context"]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # jsii starts node by name
        "CDK_OUTDIR": str(out),
        "CDK_CONTEXT_JSON": json.dumps(settings | FIXTURES | context),
        "CDK_VALIDATION": "true" if validated else "false",
    }
    return subprocess.run(
        [python, "app.py"],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of all tenants' templates: ``assembly-Pharmacy`` and so on."""
    return once(tmp_path_factory, worker_id, name="cdk")


@pytest.fixture(scope="session")
def account_assembly(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the account stage's templates."""
    return once(tmp_path_factory, worker_id, name="account", stage="account")


@pytest.fixture(scope="session")
def care_assembly(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the templates of the pharmacy's care side."""
    return once(tmp_path_factory, worker_id, name="care", stage="care_app", tenant="pharmacy")


@pytest.fixture(scope="session")
def company_assembly(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the templates of the company's tenants, whose files set what no other does."""
    return once(tmp_path_factory, worker_id, name="company", **COMPANY)


def once(factory: pytest.TempPathFactory, worker_id: str, *, name: str, **context: Any) -> Path:
    """Synthesize once per test run, in the first worker that needs it; return the folder."""
    base = factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    out = shared / f"{name}.out"
    with FileLock(shared / f"{name}.lock", timeout=LIMIT_S):
        if not (out / WHOLE).exists():
            done = synthesize(out, validated=False, **context)
            assert done.returncode == 0, done.stderr[-4000:]
            (out / WHOLE).write_text(done.stderr, encoding="utf-8")
    return out


def templates_in(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the templates of one stage's folder, by the name of the stack in its stage (``Network``)."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        entry["displayName"].split("/")[1].split(" ")[0]: json.loads(
            (folder / entry["properties"]["templateFile"]).read_text(encoding="utf-8")
        )
        for entry in manifest["artifacts"].values()
        if entry["type"] == "aws:cloudformation:stack"
    }


def assembly_folder(assembly: Path, tenant: str) -> Path:
    """Return the folder of one tenant's stage."""
    return assembly / f"assembly-{''.join(part.capitalize() for part in tenant.split('-'))}"
