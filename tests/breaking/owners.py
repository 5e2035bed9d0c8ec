"""Knowledge owners who add, narrow, withdraw and add again, and what each was promised by a 202."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import httpx

from tests.breaking.site import LABEL, Site, headers

COMMON = (
    "The wait is two days.",
    "Ask the desk on the third day.",
    "The desk opens at nine.",
    "Call the team lead before noon.",
    "Keep the form for a year.",
    "Send the form by mail.",
)
"""Sentences of every document: what the model writes is supported, whichever document it reads."""
_PAUSE_S = 0.03
_AGAIN_S = 0.1
_TAKES_EFFECT_S = 30.0
"""How long an owner waits for what takes a second where nothing is killed. What is true in the end is asked
when the kills are over."""


@dataclass
class KnownDocument:
    """One document, and what its owner knows of it. One owner at a time changes it."""

    document_id: str
    version: int = 0
    labels: tuple[str, ...] = ()
    withdrawn: bool = False
    changing: bool = False
    """A request is on its way whose effect may show before its answer."""
    hidden: bool = False
    """Its owner saw that no agent without the label finds it, and has not asked for anything else since."""
    unreadable: bool = False
    """Its text is not for agents without the label, by what was accepted last."""
    epoch: int = 0
    """Grows with each request: what was seen while it grew proves nothing."""

    @property
    def marker(self) -> str:
        """Return the word that only this version of this document has."""
        return f"{self.document_id.replace('-', '')}v{self.version}"

    def body(self) -> dict[str, object]:
        long = self.version % 3 == 1
        paragraphs = [f"The code of {self.document_id} is {self.marker}.", " ".join(COMMON)]
        if long:
            paragraphs += [f"## Part {part}\n\n" + " ".join(COMMON * 6) for part in range(3)]
        return {
            "document_id": self.document_id,
            "title": f"Code of {self.document_id}",
            "content": "\n\n".join(paragraphs),
            "media_type": "text/markdown",
            "labels": list(self.labels),
        }


@dataclass
class Knowledge:
    """All documents of the run, and how their owners change them."""

    site: Site
    client: httpx.AsyncClient
    documents: dict[str, KnownDocument] = field(default_factory=dict[str, KnownDocument])
    faults: list[str] = field(default_factory=list[str])
    """What no owner should see."""
    accepted: int = 0
    withdrawals_s: list[float] = field(default_factory=list[float])
    """From a withdrawal's 202 until its status says that its passages are out."""

    def document(self, name: str) -> KnownDocument:
        return self.documents.setdefault(name, KnownDocument(name))

    async def add(self, document: KnownDocument, *, labels: tuple[str, ...]) -> None:
        """Send a new version until it is accepted."""
        document.version += 1
        document.epoch += 1
        document.changing = True
        document.labels = labels
        if not labels:
            document.hidden = document.unreadable = False
        elif document.version == 1:
            document.hidden = document.unreadable = True  # it never was anything else
        await self._until_accepted(
            lambda: self.client.post("/v1/documents", json=document.body(), headers=_owner())
        )
        document.withdrawn = False
        document.changing = False
        document.unreadable = bool(labels)

    async def withdraw(self, document: KnownDocument) -> None:
        """Withdraw it until that is accepted."""
        document.epoch += 1
        document.changing = True
        path = f"/v1/documents/{document.document_id}"
        await self._until_accepted(lambda: self.client.delete(path, headers=_owner()))
        document.withdrawn = True
        document.changing = False
        document.unreadable = True

    async def takes_effect(self, document: KnownDocument) -> None:
        """Wait until the newest request shows in the document's status, or the owner has waited enough."""
        began_s = time.monotonic()
        while not await self._shows(document):
            if time.monotonic() - began_s > _TAKES_EFFECT_S:
                return
            await asyncio.sleep(_AGAIN_S)
        if document.withdrawn:
            self.withdrawals_s.append(time.monotonic() - began_s)
        document.hidden = document.withdrawn or bool(document.labels)

    async def _shows(self, document: KnownDocument) -> bool:
        status = await self.status(document.document_id)
        if status is None:
            return False
        if document.withdrawn:
            return status["state"] == "withdrawn" and status["live_content_hash"] is None
        return status["state"] == "live" and status["live_content_hash"] == status["content_hash"]

    async def status(self, document_id: str) -> dict[str, object] | None:
        """Return a document's status; None while the service is away."""
        try:
            response = await self.client.get(f"/v1/documents/{document_id}/status", headers=_owner())
        except httpx.TransportError:
            return None
        return response.json() if response.status_code == 200 else None

    async def _until_accepted(self, send: Callable[[], Awaitable[httpx.Response]]) -> None:
        while True:
            try:
                response = await send()
            except httpx.TransportError:  # killed before it answered: sent again, as its owner would
                await asyncio.sleep(_AGAIN_S)
                continue
            if response.status_code == 202:
                self.accepted += 1
                return
            problem = response.json()
            if response.status_code == 500 or not problem["retryable"]:
                self.faults.append(f"{response.status_code} {problem['code']}: {problem['detail']}")
            if response.status_code < 500 and not problem["retryable"]:
                return
            await asyncio.sleep(_AGAIN_S)


async def bring_stock(knowledge: Knowledge, names: Iterable[str]) -> None:
    """Add many documents at once, every third of them labelled from its first version on."""
    waiting = iter(names)

    async def bring(waiting: Iterator[str]) -> None:
        for name in waiting:
            labels = (LABEL,) if int(name[-1]) % 3 == 0 else ()
            await knowledge.add(knowledge.document(name), labels=labels)

    await asyncio.gather(*(bring(waiting) for _ in range(8)))


async def bring_again(knowledge: Knowledge, names: Sequence[str], stopping: asyncio.Event) -> None:
    """Bring new versions of all of them, again and again, so that the worker always has a batch in hand."""
    while not stopping.is_set():
        await bring_stock(knowledge, names)
        for name in names[-8:]:  # the last of a wave: the next one waits for the worker
            await knowledge.takes_effect(knowledge.document(name))


async def own(knowledge: Knowledge, names: list[str], random: Random, stopping: asyncio.Event) -> None:
    """Change one's documents, one after the other, until asked to stop."""
    for name in itertools.cycle(names):
        if stopping.is_set():
            return
        document = knowledge.document(name)
        deed = random.choice(("open", "narrow", "narrow", "withdraw", "narrow and wait", "withdraw and wait"))
        if deed.startswith("withdraw") and document.version > 0:
            await knowledge.withdraw(document)
        else:
            await knowledge.add(document, labels=() if deed == "open" else (LABEL,))
        if deed.endswith("wait"):
            await knowledge.takes_effect(document)
        await asyncio.sleep(_PAUSE_S)


def _owner() -> dict[str, str]:
    return headers("olga", roles=("knowledge_owner", "agent"), labels=(LABEL,))
