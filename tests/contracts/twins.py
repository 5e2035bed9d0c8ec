"""The implementations of the primitives. A twin is opened by its place, a folder.

Two twins of one place are two processes' views of one tenant. A twin of one service has only the primitives
whose suites ``conftest`` gives it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from assistant.domain.documents import IndexModel, Passage, PassageQuery, Retrieved
from assistant.domain.errors import DependencyError
from assistant.process.aws import LIMITS, AwsService, ParameterWords, open_client
from assistant.stores.blobs import Blobs, FolderBlobs
from assistant.stores.desk import DESK_TABLE, StoredDesk
from assistant.stores.documents import STATES_TABLE, StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.events import EVENTS_TABLE, StoredClaims, StoredErasureKeys
from assistant.stores.index.embedded import EmbeddedPassageIndex
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.index.opensearch_schema import OpenSearchIndexVersions, PassageSchema, apply_schema
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from assistant.stores.ports import IndexVersions, IngestionQueue, PassageIndex, PassageSearch
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from assistant.stores.s3 import S3Blobs
from assistant.stores.sqs_queue import SqsIngestionQueue
from assistant.stores.store import Words
from assistant.stores.table import Table, keyed
from assistant.stores.words import FileWords
from assistant.tenant.deployed_names import DESK, EVENTS, RECORDS, STATES, TABLES
from tests.contracts import samples
from tests.stage.aws_server import REGION, create_key, put_parameter, server_url
from tests.stage.emulated_aws import create_documents_bucket, create_queue, create_table
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind
from tests.stage.opensearch_node import delete_index, node_url
from tests.stage.tenant_stores import TenantStores


class Twin(Protocol):
    """All primitives of one tenant."""

    shortest_visibility_s: ClassVar[float]
    """The shortest visibility time-out that its queue takes."""

    @property
    def table(self) -> Table:
        """One with an index by time."""
        ...

    @property
    def records_table(self) -> Table: ...
    @property
    def states_table(self) -> Table: ...
    @property
    def expiring_table(self) -> Table: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def queue(self) -> IngestionQueue: ...
    @property
    def withdrawals(self) -> IngestionQueue: ...
    @property
    def words(self) -> Words: ...
    async def set_word(self, name: str, word: str) -> None:
        """Say it as an operator does."""
        ...

    def unreadable_words(self) -> AbstractAsyncContextManager[None]:
        """Have the words' store out of reach inside the context."""
        ...

    @property
    def index(self) -> PassageIndex: ...
    @property
    def search(self) -> PassageSearch: ...
    @property
    def versions(self) -> IndexVersions: ...
    def version(self, model: IndexModel) -> PassageIndex:
        """Return the index version of another model, for a writer that takes turns."""
        ...


DIMENSIONS = 4
EMBEDDING_MODEL = "model-of-four"


class EmbeddedTwin(TenantStores):
    shortest_visibility_s: ClassVar[float] = 0.05

    def __init__(self, place: Path) -> None:
        super().__init__(place, embedding_model=EMBEDDING_MODEL, dimensions=DIMENSIONS)
        self.blobs = FolderBlobs(place / "blobs")
        self.words = FileWords(place / "words")

    @property
    def table(self) -> Table:
        return self.get(DESK_TABLE)

    @property
    def records_table(self) -> Table:
        return self.get(RECORDS_TABLE)

    @property
    def states_table(self) -> Table:
        return self.get(STATES_TABLE)

    @property
    def expiring_table(self) -> Table:
        return self.get(EVENTS_TABLE)

    def version(self, model: IndexModel) -> EmbeddedPassageIndex:
        return self.index_of(model)

    async def set_word(self, name: str, word: str) -> None:
        folder = self.folder / "words"
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        await asyncio.to_thread((folder / name).write_text, word)

    @asynccontextmanager
    async def unreadable_words(self) -> AsyncGenerator[None]:
        """Have a file where the folder was."""
        folder, aside = self.folder / "words", self.folder / "words-aside"
        folder.rename(aside)
        folder.write_text("")
        try:
            yield
        finally:
            folder.unlink()
            aside.rename(folder)


@asynccontextmanager
async def open_embedded_twin(place: Path) -> AsyncGenerator[EmbeddedTwin]:
    twin = EmbeddedTwin(place)
    try:
        yield twin
    finally:
        await twin.close()


@asynccontextmanager
async def open_s3_twin(place: Path) -> AsyncGenerator[SimpleNamespace]:
    name = tenant_name(place)
    async with _client("kms") as kms, _client("s3") as s3:
        key_id = await create_key(kms, alias=name)
        await create_documents_bucket(s3, bucket=name, kms_key_id=key_id)
        yield SimpleNamespace(blobs=S3Blobs(s3, bucket=name, kms_key_id=key_id, prefix="below/"))


@asynccontextmanager
async def open_sqs_twin(place: Path) -> AsyncGenerator[SimpleNamespace]:
    name = tenant_name(place)
    async with _client("sqs") as sqs:
        urls = [await create_queue(sqs, name=f"{name}-{kind}") for kind in ("documents", "withdrawals")]
        queue, withdrawals = [SqsIngestionQueue(sqs, queue_url=url) for url in urls]
        # SQS counts whole seconds
        yield SimpleNamespace(queue=queue, withdrawals=withdrawals, shortest_visibility_s=1.0)


@dataclass
class SsmTwin:
    client: Any
    name: str
    proxy: FaultyProxy
    words: ParameterWords
    """They are read through the proxy."""

    async def set_word(self, name: str, word: str) -> None:
        await put_parameter(self.client, name=f"{self.name}/{name}" if name else self.name, value=word)

    @asynccontextmanager
    async def unreadable_words(self) -> AsyncGenerator[None]:
        """Have nobody listen at the store's address."""
        await self.proxy.break_by(Fault(Kind.REFUSE))
        try:
            yield
        finally:
            await self.proxy.heal()


@asynccontextmanager
async def open_ssm_twin(place: Path) -> AsyncGenerator[SsmTwin]:
    proxy, name = FaultyProxy(urlsplit(server_url()).netloc), f"/{tenant_name(place)}/words"
    await proxy.start()
    try:
        async with _client("ssm") as ssm, _client("ssm", url=proxy.url) as through_proxy:
            yield SsmTwin(ssm, name, proxy, ParameterWords(through_proxy, place=name))
    finally:
        await proxy.close()


def tenant_name(place: Path) -> str:
    """Return a name that no other place has, fit for buckets, queues, tables and indices."""
    return f"t-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:20]}"


@asynccontextmanager
async def _client(service: AwsService, *, url: str | None = None) -> AsyncGenerator[Any]:
    patient = replace(LIMITS[service], read_timeout_s=30.0)  # an emulator on a busy machine is slow
    place = {"region": REGION, "endpoint_url": url or server_url()}
    async with open_client(service, **place, limits=patient) as client:
        yield client


class DynamoDbTwin:
    """The tables ``<name>-<role>``, which must be there."""

    def __init__(self, client: Any, *, name: str) -> None:
        records, events, desk = (
            DynamoDbTable(client, name=f"{name}-{table.role}") for table in (RECORDS, EVENTS, DESK)
        )
        states = DynamoDbTable(client, name=f"{name}-{STATES.role}", unavailable=DependencyError)
        self._tables = records, events, desk, states
        self.records = StoredRecords(records)
        self.states = StoredStates(states)
        self.claims = StoredClaims(events)
        self.erasure_keys = StoredErasureKeys(events)
        self.desk = StoredDesk(desk)
        self.table: Table = desk
        self.expiring_table: Table = events
        self.records_table: Table = records
        self.states_table: Table = states

    async def close(self) -> None:
        for table in self._tables:
            await table.close()


@asynccontextmanager
async def open_dynamodb_twin(place: Path) -> AsyncGenerator[DynamoDbTwin]:
    name = tenant_name(place)
    async with open_client("dynamodb", region=REGION, endpoint_url=server_url()) as client:
        for definition in TABLES:
            await create_table(client, definition, name=f"{name}-{definition.role}")
        twin = DynamoDbTwin(client, name=name)
        try:
            yield twin
        finally:
            await twin.close()


SCHEMA = PassageSchema(model=IndexModel(EMBEDDING_MODEL, DIMENSIONS))


@asynccontextmanager
async def open_opensearch_twin(place: Path) -> AsyncGenerator[SimpleNamespace]:
    """Open the tenant's index; the first opener creates it and removes it in the end."""
    alias = f"{tenant_name(place)}-passages"
    async with open_opensearch(url=node_url(), auth="none") as client:
        first = not await call(client, f"HEAD /_alias/{alias}", timeout_s=30.0)
        await apply_schema(client, alias=alias, schema=SCHEMA)
        try:
            yield SimpleNamespace(
                index=OpenSearchPassageIndex(client, alias=alias, schema=SCHEMA),
                search=OpenSearchPassageSearch(client, alias=alias, schema=SCHEMA),
                versions=OpenSearchIndexVersions(client, alias=alias, schema=SCHEMA),
                version=lambda model: OpenSearchPassageIndex(client, alias=alias, schema=_schema_of(model)),
            )
        finally:
            if first:
                await delete_index(client, alias=alias)


def _schema_of(model: IndexModel) -> PassageSchema:
    return PassageSchema(model=model)


async def put(twin: Twin, *entries: tuple[Passage, Sequence[float]]) -> None:
    """Index each passage's document with the given passages."""
    await twin.index.replace_documents(samples.documents_of(*entries))


async def search(twin: Twin, asked: PassageQuery) -> Retrieved:
    return await twin.search.search(asked, deadline=samples.soon())


async def found_ids(twin: Twin, asked: PassageQuery) -> list[str]:
    return [ranked.passage.document_id for ranked in (await search(twin, asked)).passages]


OpenTwin = Callable[[Path], AbstractAsyncContextManager[Any]]
TWINS: Mapping[str, OpenTwin] = {
    "embedded": open_embedded_twin,
    "dynamodb": open_dynamodb_twin,
    "opensearch": open_opensearch_twin,
    "s3": open_s3_twin,
    "sqs": open_sqs_twin,
    "ssm": open_ssm_twin,
}


# --- another process on the same tenant: "python -m tests.contracts.twins TWIN PLACE ACTION" ---------------
# It prints "ready" when it begins and one JSON value when it is done.
async def insert_item(twin: Twin) -> object:
    return await twin.table.insert(keyed(("p", "a"), by="elsewhere"))


async def put_blob(twin: Twin) -> object:
    await twin.blobs.put("a/b.json", b"Written elsewhere.")
    return None


async def send_one(twin: Twin) -> object:
    await twin.queue.send_many(["from-elsewhere"])
    return None


async def drain_queue(twin: Twin) -> object:
    taken: list[str] = []
    while messages := await twin.queue.receive(limit=3, wait_s=0.0, visibility_timeout_s=60.0):
        taken += [message.document_id for message in messages]
        await twin.queue.delete_many([message.receipt for message in messages])
    return taken


async def index_document(twin: Twin) -> object:
    entry = samples.passage("elsewhere", text="Written by another process.")
    await twin.index.replace_documents(samples.documents_of((entry, samples.EAST)))
    return None


async def search_here(twin: Twin) -> object:
    found = await twin.search.search(samples.query(), deadline=samples.soon())
    return [ranked.passage.passage_id for ranked in found.passages]


ACTIONS = {
    action.__name__: action
    for action in (insert_item, put_blob, send_one, drain_queue, index_document, search_here)
}


async def main(twin_name: str, place: str, action: str) -> None:
    async with TWINS[twin_name](Path(place)) as twin:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(await ACTIONS[action](twin)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
