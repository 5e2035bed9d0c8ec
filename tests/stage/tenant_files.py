"""The tests' own tenant files, the address of a site, who may use the files of a folder, and the actions by
which docs/from-nothing.md makes a tenant's file.

The files of ``tenants/`` are examples that anybody may edit or delete.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from assistant.laptop.layout import Address
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


# --- a site -----------------------------------------------------------------------------------------------
def address(**changes: object) -> Address:
    given: dict[str, object] = {
        "service": "http://127.0.0.1:1",
        "issuer": "http://127.0.0.1:2",
        "systems": {},
        "command": "assistant demo",
        "pid": os.getpid(),
        "folder": "/here",
        "started_at": 0.0,
        "options": {},
        "digest": "d",
        "stays": True,
    }
    return Address.model_validate(given | changes)


# --- permissions ------------------------------------------------------------------------------------------
def wider(folder: Path) -> list[str]:
    """Return the files and folders that anyone but their owner may use, the folder itself among them."""
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(folder)}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]


# --- docs/from-nothing.md ----------------------------------------------------------------------------------
PAGE = (ROOT / "docs" / "from-nothing.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Action:
    """One numbered step of the page."""

    number: int
    kind: str
    text: str

    @property
    def blocks(self) -> list[str]:
        return re.findall(r"```sh\n(.*?)```", self.text, re.DOTALL)

    @property
    def checks(self) -> list[str]:
        return re.findall(r"^\*Check:\* (.+)", self.text, re.MULTILINE)


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def actions(text: str) -> list[Action]:
    found = re.split(r"^\*\*(\d+) · [^*]+\*\* \((command|edit|ticket|person)\)", text, flags=re.MULTILINE)
    numbers, kinds, bodies = found[1::3], found[2::3], found[3::3]
    return [Action(int(n), kind, body) for n, kind, body in zip(numbers, kinds, bodies, strict=True)]


def edited_as_told(text: str, action: Action, told: Callable[[str], str] = str) -> str:
    """Return a TOML file after an action's edits: each value of its block in place of its key's, without the
    keys that it deletes. ``told``: puts a walker's values in place of the page's."""
    (block,) = re.findall(r"```toml\n(.*?)```", action.text, re.DOTALL)
    table = ""
    for line in filter(None, told(block).splitlines()):
        if line.startswith("["):
            table = line
            continue
        before = rf"(?ms)^({re.escape(table)}\n(?:(?!^\[).)*?)^{line.partition(' = ')[0]} = [^\n]*"
        text, count = re.subn(before, lambda found, line=line: found[1] + line, text)
        assert count == 1, line
    for key in re.findall(r"Delete `(\w+)`", action.text):
        text = re.sub(rf"(?m)^{key} = .*\n", "", text)
    return text


FIRST = actions(section("To the first answer"))
