"""Agents who ask with a key and come back after each kill; one without the label looks for what is hidden."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.breaking.owners import Knowledge
from tests.breaking.site import LABEL, headers
from tests.fakes.running_service import events_of

_AGAIN_S = 0.1
_MOST_TRIES = 300
"""Answers to one question that all say to try again: half a minute of a service that is there."""
_MOST_INTERRUPTED = 5
"""Of one question: more kills than that do not meet it. A key that goes on to say "interrupted, try again" is
one that nobody freed."""
_EVENT_STREAM = {"accept": "text/event-stream"}


@dataclass
class AskedQuestion:
    """One question under one key, and everything that its agent was shown."""

    question: str
    key: str
    agent: str
    shown: dict[str, list[tuple[float, int, str]]] = field(
        default_factory=dict[str, list[tuple[float, int, str]]]
    )
    """By answer: (when, sequence, text) of each token."""
    ended: dict[str, str] = field(default_factory=dict[str, str])
    """By answer: ``done`` or the code of its error."""
    refused: str | None = None
    """The problem that ended it, when nothing could be had."""
    tries: int = 0
    interruptions: int = 0

    def text_of(self, answer_id: str, *, until_s: float = float("inf")) -> str:
        return "".join(text for at_s, _, text in self.shown[answer_id] if at_s <= until_s)


@dataclass
class Agents:
    knowledge: Knowledge
    client: httpx.AsyncClient
    asked: list[AskedQuestion] = field(default_factory=list[AskedQuestion])
    faults: list[str] = field(default_factory=list[str])
    looks: int = 0
    reads: int = 0

    async def ask(self, name: str, stopping: asyncio.Event, random: Random) -> None:
        """Ask one question after the other; each is brought to its end, whatever is killed meanwhile."""
        while not stopping.is_set():
            number = len(self.asked)
            document = random.choice(list(self.knowledge.documents))
            asked = AskedQuestion(
                question=f"How long is the wait for {document}, case {number}?",
                key=f"key-{number}",
                agent=name,
            )
            self.asked.append(asked)
            await self.bring_to_end(asked)

    async def bring_to_end(self, asked: AskedQuestion) -> None:
        """Ask, resume and ask again under the same key until there is an answer or a final refusal."""
        answer_id: str | None = None
        while asked.tries < _MOST_TRIES and asked.interruptions < _MOST_INTERRUPTED:
            try:
                answer_id, problem = await self._try(asked, answer_id)
                asked.tries += 1
            except (httpx.TransportError, TimeoutError):
                problem = dict[str, Any](retryable=True)
            if problem is None:
                return
            if not problem["retryable"]:
                asked.refused = str(problem["code"])
                return
            asked.interruptions += problem.get("code") == "interrupted"
            if problem.get("code") in ("interrupted", "not_found"):
                answer_id = None  # nothing follows: asked again, under the same key
            await asyncio.sleep(_AGAIN_S)
        asked.refused = f"told to try again, {asked.interruptions} times as interrupted"

    async def _try(
        self, asked: AskedQuestion, answer_id: str | None
    ) -> tuple[str | None, dict[str, Any] | None]:
        """Return the answer's id as far as known, and the problem that it ended with."""
        who = headers(asked.agent, labels=(LABEL,)) | _EVENT_STREAM
        if answer_id is None:
            body = {"question": asked.question, "resume_window_s": 15}
            call = self.client.stream(
                "POST", "/v1/answers", json=body, headers=who | {"idempotency-key": asked.key}
            )
        else:
            after = asked.shown[answer_id][-1][1] if asked.shown[answer_id] else 0
            seen = {"last-event-id": f"{answer_id}:{after}"} if after else {}
            call = self.client.stream("GET", f"/v1/answers/{answer_id}/events", headers=who | seen)
        async with call as response:
            if response.status_code != 200:
                await response.aread()
                problem = response.json()
                if answer_id is not None and response.status_code in (404, 409):
                    problem |= {"retryable": True}
                return answer_id, problem
            return await self._read(asked, answer_id, response)

    async def _read(
        self, asked: AskedQuestion, answer_id: str | None, response: httpx.Response
    ) -> tuple[str | None, dict[str, Any] | None]:
        async for sequence, name, data in _events(response):
            if name == "started":
                answer_id = str(data["answer_id"])
                asked.shown[answer_id] = []  # a second time: the whole answer comes again
            if name == "token" and answer_id is not None:
                shown = asked.shown[answer_id]
                if not shown or shown[-1][1] < sequence:
                    shown.append((time.monotonic(), sequence, data["text"]))
            if name == "done" and answer_id is not None:
                asked.ended[answer_id] = "done"
                if data["finish_reason"] == "no_evidence":
                    self.faults.append(f"{asked.key}: no evidence, and there is: {asked.question}")
                return answer_id, None
            if name == "error" and answer_id is not None:
                asked.ended[answer_id] = str(data["code"])
                return answer_id, data
        return answer_id, {"retryable": True}

    async def come_back_at_last(self) -> None:
        """Look once more after each answer whose own end its agent never saw, as who opens the page again:
        ``withdrawn`` ends the reading, while the answer goes on."""
        for asked in self.asked:
            for answer_id in asked.shown:
                if asked.ended.get(answer_id) in (None, "withdrawn"):
                    path = f"/v1/answers/{answer_id}/events"
                    await self.client.get(path, headers=headers(asked.agent, labels=(LABEL,)))

    async def look_for_hidden(self, stopping: asyncio.Event, random: Random) -> None:
        """Without the label: ask for each hidden document by its own word, and try to read it."""
        who = headers("pat")
        while not stopping.is_set():
            hidden = [each for each in self.knowledge.documents.values() if each.hidden or each.unreadable]
            if not hidden:
                await asyncio.sleep(_AGAIN_S)
                continue
            document = random.choice(hidden)
            try:
                if document.unreadable and random.random() < 0.3:
                    await self._read_hidden(document.document_id, who)
                elif document.hidden:
                    await self._ask_for(document.document_id, who)
            except (httpx.TransportError, TimeoutError):
                await asyncio.sleep(_AGAIN_S)
            who = headers("pat")

    async def _ask_for(self, document_id: str, who: dict[str, str]) -> None:
        before = {name: each.epoch for name, each in self.knowledge.documents.items() if each.hidden}
        body = {"question": f"What is the code {self.knowledge.documents[document_id].marker}?"}
        async with self.client.stream(
            "POST", "/v1/answers", json=body, headers=who | _EVENT_STREAM
        ) as response:
            if response.status_code != 200:
                return
            async for _, name, data in _events(response):
                if name != "sources":
                    continue
                self.looks += 1
                for source in data["sources"]:
                    found = self.knowledge.documents[source["document_id"]]
                    if before.get(found.document_id) == found.epoch and found.hidden:
                        self.faults.append(f"found without the label: {found}, {source['snippet'][:80]!r}")
                return  # leaving ends the answer

    async def _read_hidden(self, document_id: str, who: dict[str, str]) -> None:
        document = self.knowledge.documents[document_id]
        epoch = document.epoch
        response = await self.client.get(f"/v1/documents/{document_id}", headers=who)
        if response.status_code == 503:
            return
        self.reads += 1
        if response.status_code != 404 and epoch == document.epoch and document.unreadable:
            self.faults.append(f"read without the label: {document}, {response.status_code}")


async def _events(response: httpx.Response) -> AsyncGenerator[tuple[int, str, Any]]:
    """Yield (sequence, event, data) as they come; 0 for an event without an id."""
    text = ""
    async for part in response.aiter_text():
        *blocks, text = (text + part).split("\n\n")
        for block in blocks:
            for name, data in events_of(f"{block}\n\n"):
                identifier = next((line for line in block.split("\n") if line.startswith("id: ")), ":0")
                yield int(identifier.rpartition(":")[2]), name, data


@asynccontextmanager
async def at_work(*tasks: Any) -> AsyncGenerator[None]:
    """Run coroutines beside the block; the first of them that fails ends it."""
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)
        yield
