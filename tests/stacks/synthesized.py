"""The templates of the tests' own files, synthesized and judged by cdk-nag once for the same sources: the
tests of stacks read them, and ``make check-templates`` judges them further.

They stay in ``build/synth/<digest of the sources>`` for all workers and steps, until the sources change.
``python -m tests.stacks.synthesized`` makes what is missing, proves the rules and paths of each tenant, and
prints the folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from filelock import FileLock

from assistant.tenant.tenant import load_tenants
from tools.template_proofs import proof

ROOT = Path(__file__).parents[2]
FIXTURES: dict[str, Any] = {"tenants": "tests/tenants", "care_app": "tests/care_app"}
"""Context of the application: the tests' own files, relative to the folder of the application."""
COMPANY: dict[str, Any] = {name: f"tests/company/{name}" for name in ("tenants", "care_app", "accounts")}
"""Context for a company's own folder of files, whose tenant sets every key that those do not."""
GOVCLOUD: dict[str, Any] = {name: f"tests/govcloud/{name}" for name in ("tenants", "care_app")}
GOVCLOUD["images"] = "tests/govcloud/images.lock.toml"
KEPT: Mapping[str, Mapping[str, Any]] = {"tests": FIXTURES, "company": COMPANY, "govcloud": GOVCLOUD}
SECOND_EMBEDDING = "second_embedding"
"""The company with a second embedding model."""
LIMIT_S = 1500
_METADATA = {f"aws:cdk:enable-{kind}-metadata": "true" for kind in ("path", "asset")}
"""As the CDK's command line has it: findings name constructs."""
WHOLE = "whole"
"""File of a folder whose synthesis ended: what it wrote to standard error."""
_FILES = tuple(f"tests/{name}/" for name in ("tenants", "care_app", "company", "govcloud"))
"""What a synth reads of the tests."""
_NO_SOURCES = (".ci/", ".github/", "Makefile", "benchmarks/", "tests/")


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
        "CDK_CONTEXT_JSON": json.dumps(settings | _METADATA | FIXTURES | context),
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


@cache
def _sources() -> list[str]:
    """Return all files on which a template may depend."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        name
        for name in sorted(set(listed.split("\0")) - {""})
        if (name.startswith(_FILES) or not name.startswith(_NO_SOURCES)) and (ROOT / name).is_file()
    ]


@cache
def _digest() -> str:
    digest = hashlib.sha256()
    for name in _sources():
        digest.update(f"\0{name}\0".encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def kept(name: str) -> Path:
    """Return the folder of a name of ``KEPT``, or of ``SECOND_EMBEDDING``, with all its stages."""
    folder = ROOT / "build/synth" / _digest()
    for other in folder.parent.glob("*"):
        if other != folder:  # of sources that are no more: 80 MB of functions each
            shutil.rmtree(other, ignore_errors=True)
    return once(folder / name, partial(_made, name))


def once(out: Path, make: Callable[[Path], subprocess.CompletedProcess[str]]) -> Path:
    """Synthesize into a folder in the first process that needs it; return the folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{out}.lock", timeout=LIMIT_S):
        if not (out / WHOLE).exists():
            shutil.rmtree(out, ignore_errors=True)
            done = make(out)
            assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
            (out / WHOLE).write_text(done.stderr, encoding="utf-8")
    return out


def _made(name: str, out: Path) -> subprocess.CompletedProcess[str]:
    if name in KEPT:
        return synthesize(out, validated=True, stage="every", **KEPT[name])
    with TemporaryDirectory() as folder:
        clone = Path(folder)
        _plant_second_embedding(clone)
        done = synthesize(out, validated=True, source=clone, **COMPANY)
        if done.returncode:
            return done
        proofs = ["-m", "tools.template_proofs", str(out), "--tenants", COMPANY["tenants"]]
        return subprocess.run(
            [sys.executable, *proofs], cwd=clone, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )


def _plant_second_embedding(clone: Path) -> None:
    """Copy the sources, with the company as its only tenant, which rolls in a second embedding model. The
    repository has one model: the second is its manifest under another name and hash."""
    for name in _sources():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name)
    (clone / "build").mkdir()
    (clone / "build/functions").symlink_to(ROOT / "build/functions")
    shipped, model = "all-minilm-l6-v2-cpu", "tuned"
    models = clone / "model_artifacts/embedding"
    manifest = (models / shipped / "manifest.toml").read_text(encoding="utf-8")
    planted = manifest.replace(f'name = "{shipped}"', f'name = "{model}"').replace(
        "sentence-transformers/all-MiniLM-L6-v2", "acme/tuned"
    )
    (models / model).mkdir()
    (models / model / "manifest.toml").write_text(planted, encoding="utf-8")
    tenants = clone / COMPANY["tenants"]
    (tenants / "scribe.toml").unlink()
    text = (tenants / "company.toml").read_text(encoding="utf-8")
    second = '[embedding_next]\nendpoint = "company-embedding-next"\nmodel = "acme/tuned"\n'
    for shown, meant in {
        f'embedding = "{shipped}"\n': f'embedding = "{shipped}"\nembedding_next = "{model}"\n',
        "[generation]\n": f"{second}\n[generation]\n",
    }.items():
        assert shown in text, shown
        text = text.replace(shown, meant)
    (tenants / "company.toml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def assembly() -> Path:
    """The folder of all stages of the tests' own files: ``assembly-Pharmacy``, ``assembly-Account-…``, …."""
    return kept("tests")


@pytest.fixture(scope="session")
def company_assembly() -> Path:
    """The folder of all stages of the company, whose files set what no other does."""
    return kept("company")


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


def main() -> None:
    """Prove each tenant's templates, and print the folders."""
    for name, context in KEPT.items():
        tenants = ROOT / context["tenants"]
        for tenant in load_tenants(tenants).tenants.values():
            if tenant.deployment is not None:
                sys.stderr.write(f"{proof(tenant, kept(name), tenants=tenants)}\n")
    sys.stdout.write(" ".join(str(kept(name)) for name in (*KEPT, SECOND_EMBEDDING)) + "\n")


if __name__ == "__main__":
    main()
