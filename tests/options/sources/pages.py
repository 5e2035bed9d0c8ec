"""A table of pages in a real database, and a connector of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import sqlalchemy as sql

from assistant.client import AssistantClient, Patience
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSource
from assistant.domain.clock import SystemClock
from assistant.options.sources.connector import Connector
from assistant.options.sources.opened import LocalSecrets, open_connector
from assistant.options.sources.run import SOURCE_RUNS, StoredTarget, SyncSource, turn_of
from assistant.options.sources.section import AnyConnector, MediaWikiConnector, SqlConnector
from assistant.tenant.tenant import SourceEntry
from assistant.terminal.sending import ServiceTarget, open_target
from tests.fakes.running_service import DIGEST, RunningService
from tests.fakes.tenant_stores import TenantStores
from tests.unit.documents.knowledge import DIMENSIONS, LABELS, CommandedEmbedder, Knowledge, TickingClock

SOURCES = '[[sources]]\nname = "wiki"\naccess = "everyone"\n'
"""Of the service's tenant file: the source, without its connector."""


@dataclass(frozen=True, slots=True)
class Pages:
    """``pages`` with an integer key, a time of change, a title, a text, and the groups that may read it."""

    url: str
    engine: sql.Engine

    def create(self) -> None:
        self.run("DROP TABLE IF EXISTS pages")
        self.run(
            "CREATE TABLE pages (id INTEGER PRIMARY KEY, changed TIMESTAMP, title TEXT, body TEXT,"
            " readers TEXT)"
        )

    def run(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sql.text(statement), values)

    def put(
        self, number: int, body: str, *, at: str = "2026-11-01 08:00:00", readers: str | None = ""
    ) -> None:
        self.run("DELETE FROM pages WHERE id = :id", id=number)
        self.run(
            f"INSERT INTO pages VALUES (:id, '{at}', :title, :body, :readers)",  # noqa: S608 (of the test)
            id=number,
            title=f"Page {number}",
            body=body,
            readers=readers,
        )

    def settings(self, **fields: object) -> SqlConnector:
        return SqlConnector.model_validate(
            {
                "kind": "sql",
                "url": self.url,
                "query": "SELECT id, changed, title, body, readers FROM pages",
                "key": "id",
                "changed": "changed",
                "title": "{title}",
                "text": "{body}",
                "groups_column": "readers",
                "groups": {"personnel": ["hr"], "everyone": []},
                "page_size": 2,
                **fields,
            }
        )


@dataclass(frozen=True, slots=True)
class Wiki:
    """A MediaWiki with its maintenance scripts."""

    folder: Path
    scripts: Path
    address: str

    def php(self, script: str, *arguments: str, text: str = "") -> str:
        environment = {**os.environ, "MW_CONFIG_FILE": str(self.folder / "LocalSettings.php")}
        if script == "install.php":
            del environment["MW_CONFIG_FILE"]
        done = subprocess.run(
            ["php", str(self.scripts / script), *arguments],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def edit(self, title: str, text: str) -> None:
        self.php("edit.php", "-u", "Admin", title, text=text)

    def wait(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with suppress(OSError), urlopen(f"{self.address}/api.php?format=json&action=help"):  # noqa: S310
                return
            time.sleep(0.1)
        raise AssertionError("MediaWiki does not answer")

    def settings(self, **fields: object) -> MediaWikiConnector:
        common = {"kind": "mediawiki", "api": f"{self.address}/api.php", "page_size": 2}
        signed = {"user": "Admin@sync", "secret": f"file:{self.folder}/password"}
        return MediaWikiConnector.model_validate({**common, **signed, **fields})


@dataclass(slots=True, kw_only=True)
class Served(Knowledge):
    """A tenant's knowledge behind a service: connectors push into it over HTTP."""

    service: RunningService

    @classmethod
    def of(cls, service: RunningService) -> Served:
        folder = service.state_dir / "tenants" / "clinic"
        stores = TenantStores(
            folder, embedding_model="tiny-embedding", dimensions=DIMENSIONS, model_digest=DIGEST
        )
        return cls(folder, stores, CommandedEmbedder(), TickingClock(), service=service)


def pushing(
    service: RunningService, connector: AnyConnector | None, namespace: str | None = None, **who: object
) -> AbstractAsyncContextManager[ServiceTarget]:
    """Open the source at the service, as an owner with the label hr unless told otherwise."""
    caller: dict[str, Any] = {"roles": ["knowledge_owner"], "labels": ["hr"], **who}
    token = service.headers("pusher", **caller)["authorization"].removeprefix("Bearer ")
    client = AssistantClient(service.url, token=token, patience=Patience(attempts=2, first_wait_s=0.01))
    source = replace(
        WIKI, entry=WIKI.entry.model_copy(update={"connector": connector, "namespace": namespace})
    )
    return open_target(client, source, tenant="clinic")


WIKI = KnowledgeSource(SourceEntry(name="wiki", access="everyone"), labels=LABELS, vocabulary=LABELS)


def sync_of(
    knowledge: Knowledge, settings: AnyConnector, wrap: Callable[[Connector], Connector] = lambda one: one
) -> SyncSource:
    secrets = LocalSecrets("test", knowledge.folder, knowledge.folder)

    @asynccontextmanager
    async def connect() -> AsyncGenerator[Connector]:
        async with open_connector(settings, secrets) as connector:
            yield wrap(connector)

    stores = knowledge.knowledge_stores
    target = StoredTarget(WIKI, stores, AddDocuments(stores, clock=knowledge.clock), clock=knowledge.clock)
    service = knowledge.service if isinstance(knowledge, Served) else None
    return SyncSource(
        WIKI,
        connect=connect,
        open_target=partial(nullcontext, target) if service is None else partial(pushing, service, settings),
        runs=knowledge.stores.get(SOURCE_RUNS),
        into="" if service is None else service.url,
        turn=knowledge.stores.get(turn_of("wiki")),
        clock=SystemClock(),
    )
