"""A tenant's service and worker as processes on a state folder of their own, killed and started again.

Agents ask with a key and come back after each kill; one without the label looks for what is hidden; owners
know what each was promised by a 202. When the kills are over, nothing may be lost, doubled, public or failed
by them."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Literal

import httpx

from assistant.domain.clock import Deadline, SystemClock
from assistant.process.settings import ServiceSettings, WorkerSettings, inherited_environment
from tests.stage.processes import ForkedProcess, start_forked
from tests.stage.running_service import (
    ANYTHING_IS_NEAR,
    DIGEST,
    Scene,
    events_of,
    published_keys,
    service_settings,
)
from tests.stage.sagemaker_runtime import DIMENSIONS, SageMakerSocket, sagemaker_socket
from tests.stage.tenant_stores import TenantStores, stored_bodies
from tests.stage.tokens import EC_KEY, claims, token

TENANT = "clinic"
LABEL = "hr"
Part = Literal["service", "worker"]
PARTS: tuple[Part, ...] = ("service", "worker")
_START_LIMIT_S = 90.0
"""A busy machine takes long for what takes two seconds alone."""
_TENANT_FILE = f"""
schema_version = 1
name = "{TENANT}"
display_name = "Clinic"
labels = ["{LABEL}"]
[[sources]]
name = "knowledge"
namespace = ""
access = "everyone"
[embedding]
endpoint = "{TENANT}-embedding"
model = "tiny-embedding"
dimensions = {DIMENSIONS}
[generation]
endpoint = "{TENANT}-llm"
model = "tiny-llm"
[gate]
{ANYTHING_IS_NEAR}
[answers.escalation]
default = "Team Lead, ext. 1"
[limits]
streams = 60
streams_per_agent = 20
questions_per_minute = 100000
writes_per_minute = 100000
reads_per_minute = 100000
first_token_timeout_s = 10.0
answer_deadline_s = 8.0
embedding_timeout_s = 5.0
"""


@dataclass
class Site:
    """One tenant's processes. Times are of ``time.monotonic``."""

    folder: Path
    service_settings: ServiceSettings
    worker_settings: WorkerSettings
    url: str
    children: dict[Part, ForkedProcess] = field(default_factory=dict[Part, ForkedProcess])
    logs: list[asyncio.subprocess.Process] = field(default_factory=list[asyncio.subprocess.Process])
    killed_at_s: dict[Part, list[float]] = field(
        default_factory=lambda: {part: list[float]() for part in PARTS}
    )

    @property
    def tenant_folder(self) -> Path:
        return self.folder / "state" / "tenants" / TENANT

    async def begin(self, part: Part) -> None:
        """Start a process and return at once. Another one writes its log, which a full disk would end."""
        settings = self.service_settings if part == "service" else self.worker_settings
        room = "assistant.service" if part == "service" else "assistant.laptop.worker"
        environment = inherited_environment() | settings.environment()
        read, write = os.pipe()
        with (self.folder / f"{part}.log").open("ab") as file, os.fdopen(write, "wb") as log:
            self.logs.append(await asyncio.create_subprocess_exec("cat", stdin=read, stdout=file))
            os.close(read)
            self.children[part] = await start_forked(room, environment=environment, log=log)

    async def ready(self, part: Part) -> None:
        """Wait for a process's ready line."""
        stdout = self.children[part].stdout
        assert stdout is not None
        line = await asyncio.wait_for(stdout.readline(), _START_LIMIT_S)
        assert line, f"the {part} ended while it started: {self.tail(part)}"

    async def kill(self, part: Part) -> None:
        """End a process as ``kill -9`` does, and wait until it is gone."""
        child = self.children.pop(part)
        assert child.returncode is None, f"the {part} ended by itself: {self.tail(part)}"
        child.kill()
        self.killed_at_s[part].append(time.monotonic())
        await child.communicate()

    async def end(self) -> None:
        for part in list(self.children):
            child = self.children.pop(part)
            if child.returncode is None:
                child.kill()
            await child.communicate()
        for log in self.logs:  # each ends with its process
            await asyncio.wait_for(log.wait(), _START_LIMIT_S)

    def tail(self, part: Part) -> str:
        return (self.folder / f"{part}.log").read_text()[-2000:]

    def client(self) -> httpx.AsyncClient:
        """Return a client whose connections nobody else uses up."""
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=30.0, limits=limits, trust_env=False)


def headers(
    agent: str, *, roles: tuple[str, ...] = ("agent",), labels: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return a caller's token of ten minutes."""
    payload = claims(datetime.now(UTC), sub=agent, tenant=TENANT, roles=list(roles), labels=list(labels))
    return {"authorization": f"Bearer {token(payload)}"}


@asynccontextmanager
async def running_site(folder: Path) -> AsyncGenerator[tuple[Site, SageMakerSocket]]:
    """Start both processes, with endpoints and an issuer's keys on sockets of this process."""
    with _held_port() as port:
        async with sagemaker_socket() as sagemaker, published_keys([EC_KEY]) as jwks_url:
            scene = Scene(tenants=(TENANT,))
            made = service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
            (made.tenants_dir / f"{TENANT}.toml").write_text(_TENANT_FILE)
            site = Site(
                folder=folder,
                service_settings=made.model_copy(update={"port": port}),
                worker_settings=WorkerSettings(
                    tenants_dir=made.tenants_dir,
                    state_dir=made.state_dir,
                    model_artifacts_dir=made.model_artifacts_dir,
                    sagemaker_endpoint_url=sagemaker.url,
                ),
                url=f"http://127.0.0.1:{port}",
            )
            try:
                for part in PARTS:
                    await site.begin(part)
                for part in PARTS:
                    await site.ready(part)
                yield site, sagemaker
            finally:
                await site.end()


@contextmanager
def _held_port() -> Generator[int]:
    """Keep a port for a service that is started again and again.

    A socket that is bound and does not listen keeps the kernel from giving the port to anyone who asks for
    any free one; the service, which binds with SO_REUSEADDR as this does, can still listen on it.
    """
    with socket.socket() as holding:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.bind(("127.0.0.1", 0))
        yield holding.getsockname()[1]


# --- agents and owners ------------------------------------------------------------------------------------
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


GONE = "[withdrawn]"
_FINAL = (None, "withdrawn")
"""What may end a question: an answer, or word that its source is gone."""
_RECORDED_WITHIN_S = 60.0
_DRAINED_WITHIN_S = 200.0
_AT_ONCE = 16
"""Records that are read back together."""


async def faults_of_documents(site: Site, knowledge: Knowledge) -> list[str]:
    """Wait until nothing is in the queues, then return what is not as it was accepted last."""
    faults = [f"an owner saw: {fault}" for fault in knowledge.faults]
    until_s = time.monotonic() + _DRAINED_WITHIN_S
    for document in knowledge.documents.values():
        state = await _settled(knowledge, document, until_s=until_s)
        wanted = "withdrawn" if document.withdrawn else "live"
        if state != wanted:
            faults.append(f"{document.document_id}: accepted as {wanted}, now {state}")
        else:
            faults += await _faults_of_text(knowledge, document)
    return faults + await _faults_of_index(site, knowledge)


async def _settled(knowledge: Knowledge, document: KnownDocument, *, until_s: float) -> str:
    """Return the document's state, once it is none on the way."""
    while True:
        status = await knowledge.status(document.document_id)
        if status is None:
            state = "unknown"
        else:
            state = str(status["state"])
            if state == "withdrawn" and status["live_content_hash"] is None:
                return state
            if state in ("live", "failed", "stale"):
                return f"{state} ({status['failure_reason']})" if status["failure_code"] else state
        if time.monotonic() > until_s:
            return f"still {state}"
        await asyncio.sleep(_AGAIN_S)


async def _faults_of_text(knowledge: Knowledge, document: KnownDocument) -> list[str]:
    path = f"/v1/documents/{document.document_id}"
    reader = headers("olga", labels=(LABEL,))
    response = await knowledge.client.get(path, headers=reader)
    if document.withdrawn:
        return [] if response.status_code == 404 else [f"{document.document_id}: withdrawn, and still read"]
    if document.marker not in response.text:
        return [f"{document.document_id}: its newest text {document.marker} is not what is read"]
    if document.labels and (await knowledge.client.get(path, headers=headers("pat"))).status_code != 404:
        return [f"{document.document_id}: read without its label"]
    return []


async def _faults_of_index(site: Site, knowledge: Knowledge) -> list[str]:
    """Hold the index against the documents: each that is live once, with its newest text and labels."""
    stores = TenantStores(
        site.tenant_folder, embedding_model="tiny-embedding", dimensions=DIMENSIONS, model_digest=DIGEST
    )
    faults: list[str] = []
    names = list(knowledge.documents)
    passages = documents = 0
    try:
        for start in range(0, len(names), 20):
            chunk = names[start : start + 20]
            deadline = Deadline.after(30.0, clock=SystemClock())
            found = await stores.search.read_documents(chunk, labels=frozenset((LABEL,)), deadline=deadline)
            public = await stores.search.read_documents(chunk, labels=frozenset(), deadline=deadline)
            for name in chunk:
                document = knowledge.documents[name]
                if document.withdrawn:
                    if name in found:
                        faults.append(f"{name}: withdrawn, and still in the index")
                    continue
                if name not in found:
                    faults.append(f"{name}: live, and not in the index")
                    continue
                ordinals = [passage.ordinal for passage in found[name].passages]
                documents, passages = documents + 1, passages + len(ordinals)
                if ordinals != list(range(len(ordinals))):
                    faults.append(f"{name}: has the passages {ordinals} in the index")
                if document.marker not in found[name].passages[0].text:
                    faults.append(f"{name}: the index does not have its newest text {document.marker}")
                if (name in public) == bool(document.labels):
                    faults.append(f"{name}: its labels are {document.labels}, the index says otherwise")
        info = await stores.search.info()
    finally:
        await stores.close()
    if (info.document_count, info.passage_count) != (documents, passages):
        faults.append(
            f"the index has {info.document_count} documents and {info.passage_count} passages,"
            f" of live documents {documents} and {passages}"
        )
    return faults


async def faults_of_answers(site: Site, agents: Agents) -> list[str]:
    """Return what agents were shown and the records do not have, or have twice."""
    await agents.come_back_at_last()
    file = site.tenant_folder / "records.sqlite"
    records = stored_bodies(file, partition="answer#*", sort="answer")
    ended = {record["answer_id"] for record in records}
    begun = stored_bodies(file, partition="answer#*", sort="interrupted")
    rows = records + [record for record in begun if record["answer_id"] not in ended]
    twice = [name for name, count in Counter(row["answer_id"] for row in rows).items() if count > 1]
    faults = [f"the record {answer_id} is there twice" for answer_id in twice]
    whole = Counter(row["question"] for row in rows if row["outcome"] == "done")
    for asked in agents.asked:
        if whole[asked.question] > 1:
            faults.append(f"{asked.key}: {whole[asked.question]} whole answers")
        if asked.refused not in _FINAL:
            faults.append(f"{asked.key}: refused with {asked.refused} ({asked.tries} tries)")
    shown = [(asked, answer_id) for asked in agents.asked for answer_id in asked.shown]
    for start in range(0, len(shown), _AT_ONCE):
        some = shown[start : start + _AT_ONCE]
        judged = await asyncio.gather(*(_faults_of_answer(agents, *one) for one in some))
        faults += [fault for found in judged for fault in found]
    return faults


async def _faults_of_answer(agents: Agents, asked: AskedQuestion, answer_id: str) -> list[str]:
    shown = asked.text_of(answer_id).strip()
    how = asked.ended.get(answer_id, "cut off")
    response = await record_of(agents, asked, answer_id)
    if response.status_code != 200:
        return [f"{asked.key}: {how} after {len(shown)} characters, its record is {response.status_code}"]
    record = response.json()["record"]
    text = str(record["text"]).strip()
    if how == "done":
        is_whole = record["outcome"] == "done" and _agree(text, shown) and len(text) == len(shown)
        return [] if is_whole else [f"{asked.key}: shown {shown!r}, recorded {record['outcome']} {text!r}"]
    return [] if _agree(text, shown) else [f"{asked.key}: shown {shown!r}, recorded {text!r}"]


async def record_of(agents: Agents, asked: AskedQuestion, answer_id: str) -> httpx.Response:
    """Return the answer's record; that of an interrupted answer counts when its deadline is over."""
    until_s = time.monotonic() + _RECORDED_WITHIN_S
    while True:
        reader = headers(asked.agent, labels=(LABEL,))
        response = await agents.client.get(f"/v1/answers/{answer_id}", headers=reader)
        if response.status_code == 200 or time.monotonic() > until_s:
            return response
        await asyncio.sleep(_AGAIN_S)


def _agree(first: str, second: str) -> bool:
    """Say whether one text begins the other. A notice may stand where a document was withdrawn or changed."""
    return GONE in first or first.startswith(second) or second.startswith(first)
