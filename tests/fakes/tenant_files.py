"""The tests' own tenant files. Those of ``tenants/`` are examples that anybody may edit or delete."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from assistant.process.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
TENANTS = ROOT / "tests/tenants"
CARE_APP = ROOT / "tests/care_app"
BESIDE = ("evaluation", "knowledge", "model_artifacts")
"""Folders of the product that commands look for beside the folder of tenant files."""


def committed_tenant(name: str) -> str:
    """Return the text of ``tests/tenants/<name>.toml``, with paths of connectors that hold in any folder."""
    text = (TENANTS / f"{name}.toml").read_text(encoding="utf-8")
    return text.replace('connector = "', f'connector = "{TENANTS}/')


def checkout_tenant(name: str) -> str:
    """Return the same text, with its knowledge beside the folder of tenant files as in a checkout."""
    return committed_tenant(name).replace('"../../knowledge/', '"../knowledge/')


def with_own_llm(text: str) -> str:
    """Return a tenant file that writes by Bedrock with the smallest LLM, on an endpoint, in its place."""
    name = re.search(r'(?m)^name = "(.+)"', text)
    assert name is not None
    text = re.sub(r"(?m)^\[bedrock\]\n(.+\n)+", "", text)
    text = re.sub(r"(?m)^\[generation\]\n(.+\n)+", f'[generation]\nendpoint = "{name[1]}-llm"\n', text)
    return text.replace("[models]\n", '[models]\nllm = "smollm2-135m-cpu"\n')


def checkout_tenants(folder: Path) -> Path:
    """Return ``folder/tenants`` with all of them, laid out as a checkout has them; make it the first time."""
    tenants = folder / "tenants"
    if not tenants.exists():
        shutil.copytree(TENANTS, tenants)
        for path in tenants.glob("*.toml"):
            path.write_text(checkout_tenant(path.stem), encoding="utf-8")
        for name in BESIDE:
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
    return tenants


def settings_in(folder: Path, **changed: object) -> WorkerSettings:
    tenants = folder / "tenants"
    tenants.mkdir()
    (tenants / "clinic.toml").write_text('schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n')
    return WorkerSettings.read(tenants_dir=tenants, state_dir=folder / "state", **changed)
