from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from assistant.laptop.layout import Address, SharedSite
from tests.stage.processes import run_forked
from tests.stage.tenant_files import checkout_tenant

CHECKOUT = Path(__file__).parents[3]
KNOWLEDGE = CHECKOUT / "knowledge"
COLD = "# Cold delivery\n\nWhen a delivery that must stay cold arrives warm, keep it closed and call 4300.\n"
PROCEDURES = ("order-and-refill-status", "refill-too-soon-standard", "delivery-late-or-missing")
"""The procedures that name live values."""
ITEMS = "HU-"
"""Ids of the humidifiers, two of which the demo compares."""
CLINIC_LINES = 5


def open_demo(folder: Path, *, whole: bool = False) -> Shop:
    """Return a folder with the demo's tenants; ``whole`` takes all knowledge of pharmacy and shop, else a
    small part. Of the clinic it is always a part."""
    (folder / "tenants").mkdir()
    for tenant in ("pharmacy", "shop", "clinic"):
        (folder / "tenants" / f"{tenant}.toml").write_text(checkout_tenant(tenant), encoding="utf-8")
    if whole:
        for tenant in ("pharmacy", "shop"):
            shutil.copytree(KNOWLEDGE / tenant, folder / "knowledge" / tenant)
    else:
        _copy_a_part(folder / "knowledge")
        (folder / "knowledge" / "pharmacy" / "cold.md").write_text(COLD)
    lines = (KNOWLEDGE / "clinic" / "medquad.jsonl").read_text(encoding="utf-8").splitlines()[:CLINIC_LINES]
    (folder / "knowledge" / "clinic").mkdir()
    (folder / "knowledge" / "clinic" / "medquad.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Shop(folder)


def _copy_a_part(folder: Path) -> None:
    """Copy the procedures with live values, and the documents about humidifiers."""
    (folder / "pharmacy").mkdir(parents=True)
    (folder / "shop").mkdir()
    for name in PROCEDURES:
        shutil.copy(KNOWLEDGE / "pharmacy" / f"{name}.md", folder / "pharmacy")
    shutil.copy(KNOWLEDGE / "shop" / "help.jsonl", folder / "shop")
    for name in ("catalogue", "reviews", "community"):
        lines = (KNOWLEDGE / "shop" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["id"].startswith(ITEMS)]
        (folder / "shop" / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")


DESK = "# Help desk\n\nThe help desk answers the phone from 8:00 to 18:30, Monday to Saturday.\n"
RETURNS = (
    "# Returns\n\nA customer may return an unopened item within 14 days. The store gives the money back.\n"
)
PAIR = '{"id": "lost-card", "question": "A lost member card?", "answer": "Block it within one hour."}'


@dataclass(frozen=True)
class Shop:
    """A folder with one tenant, its knowledge and its state."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / ".state"

    def address(self) -> Address | None:
        """Where a command serves; None where none does."""
        return SharedSite(self.state).read()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "assistant.cli.main", "--port", "0", *arguments],
            cwd=self.folder,
            env=os.environ | {"CI": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command to its end and return its stdout; the status must be the given one."""
        done = run_forked(
            "assistant.cli.main",
            *("--port", "0", *arguments),
            folder=self.folder,
            environment=os.environ | {"CI": ""},
            timeout_s=180,
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def nothing_runs(self) -> bool:
        """Return whether no process is left that a command in this folder started, with its children."""
        folders: list[str] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                folders.append(process.cwd())
        return str(self.folder.resolve()) not in folders


def open_shop(folder: Path) -> Shop:
    (folder / "tenants").mkdir()
    (folder / "tenants" / "shop.toml").write_text(
        'schema_version = 1\nname = "shop"\ndisplay_name = "Shop"\n'
        '[[sources]]\nname = "notes"\nnamespace = ""\naccess = "everyone"\npaths = ["../notes"]\n'
    )
    (folder / "notes").mkdir()
    (folder / "notes" / "help-desk.md").write_text(DESK)
    (folder / "notes" / "returns.md").write_text(RETURNS)
    (folder / "notes" / "pairs.jsonl").write_text(PAIR + "\n")
    return Shop(folder)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(tmp_path_factory.mktemp("shop"))
    yield shop
    shop.run("tenant", "down")
    assert shop.nothing_runs()


@pytest.fixture(scope="session")
def asked(shop: Shop) -> str:
    """The output of the first question from cold: it loads the tenant file's knowledge by itself."""
    return shop.run("ask", "--tenant", "shop", "When does the help desk answer the phone?")
