"""A folder with one tenant and the knowledge of some files, and the commands run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from assistant.laptop.layout import Address, SharedSite
from tests.fakes.forked import run_forked

DESK = "# Help desk\n\nThe help desk answers the phone from 8:00 to 18:30, Monday to Saturday.\n"
RETURNS = (
    "# Returns\n\nA customer may return an unopened item within 14 days. The store gives the money back.\n"
)
ORDERS = "# Order status\n\nThe agent reads the status of an order to the caller: {{orders.status}}\n"
CONNECTOR = Path(__file__).parents[3] / "tests/tenants/connectors" / "orders.toml"
REACH = f"""elements = true
[care_context]
issuer = "https://care.shop.example"
[[reach]]
name = "orders"
port = 443
auth = "token"
live.connector = "{CONNECTOR}"
"""
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


def open_shop(folder: Path, *, tenant: str = "shop", orders: bool = False) -> Shop:
    """Return a shop; with ``orders`` its notes name live data of the checkout's sample order system."""
    (folder / "tenants").mkdir()
    (folder / "tenants" / f"{tenant}.toml").write_text(
        f'schema_version = 1\nname = "{tenant}"\ndisplay_name = "Shop"\n'
        '[[sources]]\nname = "notes"\nnamespace = ""\naccess = "everyone"\npaths = ["../notes"]\n'
        + (REACH if orders else "")
    )
    (folder / "notes").mkdir()
    if orders:
        (folder / "notes" / "orders.md").write_text(ORDERS)
    (folder / "notes" / "help-desk.md").write_text(DESK)
    (folder / "notes" / "returns.md").write_text(RETURNS)
    (folder / "notes" / "pairs.jsonl").write_text(PAIR + "\n")
    return Shop(folder)
