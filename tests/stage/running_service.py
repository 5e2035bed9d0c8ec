"""The service on a real port: real stores, real SageMaker adapters, a scripted SageMaker, static keys."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvicorn
from joserfc.jwk import ECKey, RSAKey
from starlette.types import ASGIApp
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from assistant.answer.answer import AnswerQuestion
from assistant.documents.parsing import parse_document
from assistant.documents.passages import PassageCutter, TokenCounts
from assistant.documents.withdraw import remove_documents
from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    MediaType,
    OriginalFile,
    ParsedDocument,
    Passage,
)
from assistant.domain.live import LiveElements
from assistant.process.http import open_socket, server_config
from assistant.process.settings import ServiceSettings
from assistant.service.__main__ import open_application
from assistant.service.health import ServiceMetrics, TenantReads
from assistant.service.opened import ServedTenant, open_tenants
from assistant.service.served import LiveTenant, ServedTenants
from assistant.service.streams import StreamLimits
from assistant.text.language import language
from tests.contracts.samples import indexed
from tests.stage.sagemaker_runtime import DIMENSIONS, SageMakerSocket, sagemaker_socket, vector_of
from tests.stage.servers import socket_server
from tests.stage.tenant_stores import TenantStores
from tests.stage.tokens import EC_KEY, ISSUER, claims, token

DIGEST = "d" * 64
TWO_SENTENCES = ("Wait two days. ", "The wait ", "is two days.")
"""What a model may write: the first sentence is certain, and released, after two texts."""
ANYTHING_IS_NEAR = "model_cosine = -1.0"
NOTHING_IS_NEAR = "model_cosine = 1.0"


def facts_of(name: str, content: bytes) -> OriginalFile:
    digest = hashlib.sha256(content).hexdigest()
    return OriginalFile(name=name, sha256=digest, size_bytes=len(content))


KNOWLEDGE_SOURCE = '[[sources]]\nname = "knowledge"\nnamespace = ""\naccess = "everyone"\n'
TENANT_FILE = """
schema_version = 1
name = "{name}"
display_name = "{name}"
labels = ["board", "desk", "hr", "label-hr-4410"]
[embedding]
endpoint = "{name}-embedding"
model = "tiny-embedding"
dimensions = 8
[generation]
endpoint = "{name}-llm"
model = "tiny-llm"
[gate]
{gate}
[answers.escalation]
default = "Team Lead, ext. 1"
[limits]
streams = {streams}
streams_per_agent = {streams_per_agent}
questions_per_minute = {per_minute}
writes_per_minute = {per_minute}
reads_per_minute = {per_minute}
first_token_timeout_s = {first_token_timeout_s}
answer_deadline_s = {answer_deadline_s}
embedding_timeout_s = 4.0
"""


@dataclass(frozen=True)
class Scene:
    """What a test sets up before the service starts."""

    tenants: Sequence[str] = ("clinic", "pharmacy")
    limits: StreamLimits = field(default_factory=StreamLimits)
    first_token_timeout_s: float = 10.0
    answer_deadline_s: float = 30.0
    publishes_keys: bool = True
    artifact_dimensions: int = DIMENSIONS
    writes: bool = True
    """Whether the tenants' model writes their answers; otherwise they are quoted."""
    checks: bool = False
    """Whether its checks of sentences are believed."""
    gate: str = ANYTHING_IS_NEAR
    """The gate's part of their files."""
    more_of_tenants: str = ""
    """What their files say more."""
    frame_ancestors: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    streams: int = 8
    streams_per_agent: int = 3
    per_minute: int = 100_000
    """Questions, writes and reads of one agent, each."""
    live: LiveElements | None = None
    """What every tenant's connectors offer."""


NO_TENANTS = ServedTenants({})
"""Of a service in another process, whose tenants a test cannot reach."""


@dataclass
class RunningService:
    url: str
    sagemaker: SageMakerSocket
    tenants: ServedTenants
    state_dir: Path
    client: httpx.AsyncClient
    settings: ServiceSettings | None = None
    operations_url: str = ""

    async def operated(self, path: str) -> httpx.Response:
        """Ask the operators' listener."""
        async with httpx.AsyncClient(base_url=self.operations_url, timeout=20, trust_env=False) as client:
            return await client.get(path)

    def headers(
        self,
        agent: str = "ann",
        *,
        tenant: str = "clinic",
        roles: Sequence[str] = ("agent",),
        labels: Sequence[str] = (),
        accept: str = "application/json",
    ) -> dict[str, str]:
        good = claims(datetime.now(UTC), sub=agent, tenant=tenant, roles=list(roles), labels=list(labels))
        return {"authorization": f"Bearer {token(good)}", "accept": accept}

    async def call(
        self, method: str, path: str, *, json: Any = None, content: Any = None, params: Any = None, **who: Any
    ) -> httpx.Response:
        headers = self.headers(**who)
        return await self.client.request(
            method, path, json=json, content=content, params=params, headers=headers
        )

    async def ask(self, question: str = "How long is the wait?", **who: Any) -> httpx.Response:
        body = {"question": question} | who.pop("body", {})
        return await self.client.post("/v1/answers", json=body, headers=self.headers(**who))

    async def answered(self, **who: Any) -> dict[str, Any]:
        """Return one whole answer that went well."""
        response = await self.ask(**who)
        assert response.status_code == 200, response.text
        return response.json()

    async def send(
        self, answer_id: str, text: str, *, more: dict[str, Any] | None = None, **who: Any
    ) -> httpx.Response:
        """Send a text to the patient."""
        body = {"send_id": "s1", "text": text} | (more or {})
        path = f"/v1/answers/{answer_id}/sent"
        return await self.client.post(path, json=body, headers=self.headers(**who))

    async def send_anyway(self, answer_id: str, text: str, *, send_id: str = "s1", **who: Any) -> None:
        """Send a text in spite of what the check finds in it."""
        more: dict[str, Any] = {"send_id": send_id}
        response = await self.send(answer_id, text, more=more, **who)
        if response.status_code == 409:
            more["confirmed"] = [one["id"] for one in response.json()["findings"]]
            response = await self.send(answer_id, text, more=more, **who)
        assert response.is_success, response.text

    async def idle(self) -> None:
        """Wait until no answer is being written: the places are free and the records kept."""

        async def nothing_active() -> bool:
            figures = (await self.operated("/metrics")).text
            lines = [line for line in figures.splitlines() if line.startswith("assistant_active_streams{")]
            return all(line.endswith(" 0.0") for line in lines)

        await eventually(nothing_active)

    async def withdraw(self, document_id: str) -> None:
        """Withdraw a document of the clinic as its owner does, and do the worker's half."""
        owner = self.headers("olga", roles=["knowledge_owner"])
        gone = await self.client.delete(f"/v1/documents/{document_id}", headers=owner)
        assert (gone.status_code, gone.json()["state"]) == (202, "withdrawn")
        stores = TenantStores(
            self.state_dir / "tenants" / "clinic",
            embedding_model="tiny-embedding",
            dimensions=DIMENSIONS,
            model_digest=DIGEST,
        )
        try:
            await remove_documents(
                [document_id],
                stores=stores.knowledge,
                index=stores.index,
                index_writes=asyncio.Lock(),
                clock=SystemClock(),
            )
        finally:
            await stores.close()

    async def know(
        self,
        document_id: str,
        text: str,
        *,
        tenant: str = "clinic",
        labels: tuple[str, ...] = (),
        media_type: MediaType = "text/plain",
        original: tuple[str, bytes] | None = None,
    ) -> Document:
        """Make a document live, as the worker would; ``original`` is the name and bytes of its file."""
        stores = TenantStores(
            self.state_dir / "tenants" / tenant,
            embedding_model="tiny-embedding",
            dimensions=DIMENSIONS,
            model_digest=DIGEST,
        )
        document = Document(
            document_id=document_id,
            title=f"Title of {document_id}",
            content=text,
            media_type=media_type,
            source="handbook",
            labels=labels,
            original=None if original is None else facts_of(*original),
        )
        parsed = parse_document(document)
        passages = passages_of(document, parsed)
        try:
            await stores.documents.put(document)
            if original is not None and document.original is not None:
                await stores.documents.put_original(document_id, document.original, original[1])
            await stores.documents.put_parsed(document_id, document.content_hash(), parsed)
            vectors = [(passage, vector_of(passage.embedding_input)) for passage in passages]
            await stores.index.replace_documents([indexed(*vectors, banner=parsed.banner)])
            await stores.states.put_many([live_status(document)])
        finally:
            await stores.close()
        return document


@asynccontextmanager
async def running_service(folder: Path, scene: Scene | None = None) -> AsyncGenerator[RunningService]:
    scene = scene or Scene()
    async with AsyncExitStack() as stack:
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        keys = [EC_KEY] if scene.publishes_keys else []
        jwks_url = await stack.enter_async_context(published_keys(keys))
        settings = service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        yield await stack.enter_async_context(service_on(settings, scene, sagemaker))


@asynccontextmanager
async def service_on(
    settings: ServiceSettings, scene: Scene, sagemaker: SageMakerSocket
) -> AsyncGenerator[RunningService]:
    """One more task of the service on the same stores and endpoints."""
    async with AsyncExitStack() as stack:
        metrics = ServiceMetrics()
        tenants = await stack.enter_async_context(
            open_tenants(settings, observe=partial(TenantReads, metrics.live))
        )
        if scene.live is not None:
            for one in tenants.live.values():
                one.now = await _with_live(one, scene.live)
        operations = open_socket("127.0.0.1", 0)
        operations_url = f"http://127.0.0.1:{operations.getsockname()[1]}"
        application = await stack.enter_async_context(
            open_application(
                settings,
                tenants,
                metrics=metrics,
                limits=scene.limits,
                operations_port=operations.getsockname()[1],
            )
        )
        url = await stack.enter_async_context(served(application, operations=operations))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20, trust_env=False))
        yield RunningService(url, sagemaker, tenants, settings.state_dir, client, settings, operations_url)


@asynccontextmanager
async def service_of_two(folder: Path, scene: Scene | None = None) -> AsyncGenerator[RunningService]:
    """Run a service of two tenants, each with one document."""
    await asyncio.to_thread(shutil.copytree, await _state_of_two(), folder / "state")
    async with running_service(folder, scene or Scene()) as service:
        yield service


_prepared: list[tempfile.TemporaryDirectory[str]] = []


async def _state_of_two() -> Path:
    """Return the state folder of two tenants with a document each, made once a process."""
    if not _prepared:
        made = tempfile.TemporaryDirectory(
            prefix="state-of-two-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")
        )
        async with httpx.AsyncClient() as unused:
            stores = RunningService("", SageMakerSocket(), NO_TENANTS, Path(made.name), unused)
            await stores.know("wait", "The wait is two days.")
            await stores.know("refill", "A refill is due after 25 days.", tenant="pharmacy")
        _prepared.append(made)
    return Path(_prepared[0].name)


async def _with_live(served: LiveTenant, live: LiveElements) -> ServedTenant:
    from assistant.options.live.opened import open_reads  # an option, which may be left out

    tenant = served.now
    answering = replace(tenant.answering, live=replace(tenant.answering.live, elements=live))
    answer_question = AnswerQuestion(answering)
    with_live = replace(tenant, answering=answering, answer_question=answer_question)
    return replace(with_live, parts=(*await open_reads(with_live, served.stores), *tenant.parts))


@asynccontextmanager
async def served(
    application: ASGIApp, *, tls: ssl.SSLContext | None = None, operations: socket.socket | None = None
) -> AsyncGenerator[str]:
    """Serve an application on a free port, configured as the process does."""
    listener = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(server_config(application, shutdown_timeout_s=1, tls=tls))
    task = asyncio.create_task(server.serve([listener] if operations is None else [listener, operations]))
    await eventually(lambda: server.started or task.done())
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within_s: float = 60.0
) -> float:
    """Wait until the condition holds and return how long it took; fails after ``within_s``."""
    began_s = time.monotonic()
    pause_s = 0.005
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return time.monotonic() - began_s
        assert time.monotonic() - began_s < within_s, "the condition never held"
        await asyncio.sleep(pause_s)
        pause_s = min(0.05, 1.3 * pause_s)  # asking is work too, and two cores are shared


def events_of(text: str) -> list[tuple[str, Any]]:
    """Return (event, data) of a stream's text."""
    found: list[tuple[str, Any]] = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in lines:
            found.append((lines["event"], orjson.loads(lines["data"])))
    return found


def service_settings(folder: Path, scene: Scene, *, sagemaker_url: str, jwks_url: str) -> ServiceSettings:
    tenants, models = folder / "tenants", folder / "models"
    tenants.mkdir(parents=True)
    more = scene.more_of_tenants
    sources = more if "[[sources]]" in more else KNOWLEDGE_SOURCE + more
    for name in scene.tenants:
        (tenants / f"{name}.toml").write_text(
            (TENANT_FILE + sources.replace("{", "{{").replace("}", "}}")).format(
                name=name,
                first_token_timeout_s=scene.first_token_timeout_s,
                answer_deadline_s=scene.answer_deadline_s,
                gate=scene.gate,
                streams=scene.streams,
                streams_per_agent=scene.streams_per_agent,
                per_minute=scene.per_minute,
            )
        )
    _write_artifact(models / "tiny-embedding", {"dimensions": scene.artifact_dimensions})
    answering: dict[str, Any] = {"writes_answers": scene.writes}
    if scene.checks:
        answering["sentence_check"] = {"named": 40, "planted": 40, "marked": 0, "true_pairs": 40}
    _write_artifact(
        models / "tiny-llm",
        {"template_tokens_per_message": 4, "template_tokens_fixed": 4, "answering": answering},
    )
    return ServiceSettings(
        tenants_dir=tenants,
        state_dir=folder / "state",
        model_artifacts_dir=models,
        sagemaker_endpoint_url=sagemaker_url,
        issuer=ISSUER,
        jwks_url=jwks_url,
        frame_ancestors=scene.frame_ancestors,
        cors_origins=scene.cors_origins,
    )


def _write_artifact(folder: Path, facts: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    common = {"schema_version": 1, "model": folder.name, "digest": DIGEST, "max_input_tokens": 256}
    (folder / "artifact.json").write_bytes(orjson.dumps(common | facts))
    _word_tokenizer().save(str(folder / "tokenizer.json"))


def _word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


@asynccontextmanager
async def published_keys(keys: Sequence[ECKey | RSAKey]) -> AsyncGenerator[str]:
    body = orjson.dumps({"keys": [key.as_dict(private=False) for key in keys]})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async with socket_server(answer) as url:
        yield f"{url}/jwks.json"


def only_passage(document: Document) -> Passage:
    """Return a short document's one passage, with its units, as the worker cuts it."""
    (passage,) = passages_of(document, parse_document(document))
    return passage


def passages_of(document: Document, parsed: ParsedDocument) -> tuple[Passage, ...]:
    cutter = PassageCutter(TokenCounts(_word_tokenizer()), max_tokens=256, language=language("en"))
    return cutter.cut(document, parsed, content_hash=document.content_hash(), updated_at=datetime.now(UTC))


def live_status(document: Document) -> DocumentStatus:
    now = datetime.now(UTC)
    return DocumentStatus(
        document_id=document.document_id,
        title=document.title,
        state=DocumentState.LIVE,
        content_hash=document.content_hash(),
        live_content_hash=document.content_hash(),
        labels=document.labels,
        live_labels=document.labels,
        received_at=now,
        updated_at=now,
    )
