"""Documents of older readers are read again, live, while agents ask over HTTP.

``READ_AGAIN`` documents, 12 by default: ``READ_AGAIN=1000`` gives the figure of docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSources, Writer
from assistant.domain.clock import SystemClock
from assistant.domain.documents import Document, DocumentState
from assistant.terminal.terminal import GlobalOptions
from tests.processes.cli.conftest import Shop, open_shop
from tests.stage.knowledge import converted_before, older_readers
from tests.stage.running_service import eventually

pytestmark = pytest.mark.integration
COUNT = int(os.environ.get("READ_AGAIN", "12"))
AT_ONCE = 2
KILLED = 3
OLD, NEW, SAME = "510 mg before breakfast", "5, 10 mg after breakfast", "7 mg at noon"
_LIMIT_S = 60.0 + COUNT


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path)
    tenant = tmp_path / "tenants" / "shop.toml"
    tenant.write_text(f"{tenant.read_text()}[limits]\nquestions_per_minute = 100000\n")
    yield made
    made.run("tenant", "down")


def name_of(number: int) -> str:
    """Return a name that no other document has: Zababa, Zababe, …"""
    return "Z" + "".join(
        "bdfgklmnprst"[number // 12**at % 12] + "aeiou"[(number + at) % 5] for at in range(4)
    )


def older_document(number: int) -> tuple[SourceDocument, bytes]:
    """Return a document of older readers, and the file that is kept of it: of each fourth its own text."""
    name = name_of(number)
    if number % 4:
        raw = f"The dose of {name} is {NEW}.\n".encode()
        return converted_before(f"{name}.txt", f"The dose of {name} is {OLD}.", raw), raw
    text = f"The dose of {name} is {SAME}."
    document = Document(document_id=name, title=name, content=text, media_type="text/markdown")
    return SourceDocument(document, f"{name}.md"), b""


async def know(shop: Shop, numbers: range, *others: tuple[SourceDocument, bytes]) -> None:
    """Store documents of older readers, and wait until they are live."""
    options = GlobalOptions(
        tenants_dir=shop.folder / "tenants", state_dir=shop.folder / ".state", port=None, json=True
    )
    source = KnowledgeSources.of(options.tenant("shop")).named("notes")
    made = [*map(older_document, numbers), *others]
    async with options.stores("shop") as stores:
        for item, raw in made:
            if raw and item.document.original is not None:
                await stores.knowledge.documents.put_original(
                    item.document.document_id, item.document.original, raw
                )
        with older_readers():
            add = AddDocuments(stores.knowledge, clock=SystemClock())
            await add([item for item, _ in made], source=source, writer=Writer("olga"))

        async def all_live() -> bool:
            counts = await stores.knowledge.states.count_by_state()
            return set(counts) == {DocumentState.LIVE}

        await eventually(all_live, within_s=_LIMIT_S)


@dataclass
class Agents:
    """Ask for each document's dose, over and over."""

    url: str
    token: str
    count: int
    """Documents that they ask for."""
    answers: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    """By document, the text of the last answers, with the texts of its sources."""
    asked: int = 0
    unanswered: list[str] = field(default_factory=list[str])
    both: list[str] = field(default_factory=list[str])

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[None]:
        stopping = asyncio.Event()
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client, asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._ask(client, stopping))
            try:
                yield
            finally:
                stopping.set()

    async def ask_all(self) -> None:
        """Wait until each document was asked for again, and answered."""
        until = self.asked + self.count + AT_ONCE
        await eventually(lambda: self.asked >= until, within_s=_LIMIT_S)

    @property
    def last(self) -> set[str]:
        """What the last answers for all documents say."""
        return {told[-1] for told in self.answers.values()}

    async def _ask(self, client: httpx.AsyncClient, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            number, self.asked = self.asked % self.count, self.asked + 1
            who = {"authorization": f"Bearer {self.token}", "accept": "application/json"}
            question = {"question": f"What is the dose of {name_of(number)}?"}
            response = await client.post("/v1/answers", json=question, headers=who)
            whole = response.json()
            self.judge(number, whole if response.status_code == 200 else {"text": "", "problem": whole})

    def judge(self, number: int, whole: dict[str, Any]) -> None:
        own = [one for one in whole.get("sources", ()) if one["document_id"].startswith(name_of(number))]
        told = json.dumps([whole["text"], own])
        found = [each for each in (OLD, NEW, SAME) if each in told]
        if not found or not any(each in whole["text"] for each in found):
            self.unanswered.append(json.dumps(whole))
        elif len(found) > 1 or len({one["content_hash"] for one in own}) != 1:
            self.both.append(told)
        self.answers.setdefault(number, []).append(found[0] if found else "")


async def begin_and_kill(shop: Shop) -> None:
    """Begin to read again, and kill the command when a document is read."""
    results = shop.folder / ".state" / "tenants" / "shop" / "uploads"
    before = len([*results.glob("*/*/result.json")])
    process = shop.start("--json", "knowledge", "read-again", "--tenant", "shop")
    try:
        await eventually(lambda: len([*results.glob("*/*/result.json")]) > before, within_s=_LIMIT_S)
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)


def read_again(shop: Shop) -> dict[str, Any]:
    process = shop.start("--json", "knowledge", "read-again", "--tenant", "shop")
    told, complained = process.communicate(timeout=3 * _LIMIT_S)
    assert process.returncode == 1, complained
    return json.loads(told)


@pytest.mark.timeout(600 + 5 * COUNT)
async def test_documents_are_read_again_while_agents_ask(shop: Shop) -> None:
    for path in (shop.folder / "notes").iterdir():
        path.unlink()
    rows = json.loads(shop.run("--json", "tenant", "up"))["processes"]
    url = next(row["address"] for row in rows if row["name"] == "service")
    token = shop.run("tenant", "token", "--tenant", "shop", "--agent", "ana").strip()
    lost = converted_before("lost.txt", "The lost file says 8:30.", b"lost"), b""
    broken = converted_before("broken.docx", "The broken file says 9:15.", b"no Word"), b"no Word"
    await know(shop, range(COUNT), lost, broken)
    agents = Agents(url, token, COUNT)
    async with agents.at_work():
        await agents.ask_all()
        assert {each for told in agents.answers.values() for each in told} == {OLD, SAME}
        began_s, before = time.monotonic(), agents.asked
        report = await asyncio.to_thread(read_again, shop)
        seconds, during = time.monotonic() - began_s, agents.asked - before
        await agents.ask_all()
        assert agents.last == {NEW, SAME}
        await know(shop, range(COUNT, COUNT + KILLED))
        agents.count += KILLED
        await begin_and_kill(shop)
        again = await asyncio.to_thread(read_again, shop)
        await agents.ask_all()
    assert (agents.unanswered, agents.both) == ([], [])
    assert agents.last == {NEW, SAME}
    changed = {name: (one["words_changed"], one["words"]) for name, one in report["changed"].items()}
    assert changed == {f"{name_of(number)}.txt": (5, 10) for number in range(COUNT) if number % 4}
    assert (report["current"], report["unchanged"]) == (0, len(range(0, COUNT, 4)))
    for one in (report, again):
        assert one["without_original"] == ["lost.txt"]
        assert "truncated or damaged" in one["refused"]["broken.docx"]
    assert again["current"] >= COUNT
    sys.stdout.write(f"\n{COUNT} documents read again in {seconds:.1f} s, {during} questions meanwhile\n")
