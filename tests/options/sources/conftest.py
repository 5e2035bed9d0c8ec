"""A database for each engine, with a table of pages."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
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
from tests.stage.programs import require
from tests.stage.running_service import DIGEST, RunningService, Scene, running_service
from tests.stage.tenant_stores import TenantStores
from tests.unit.documents.scene import DIMENSIONS, LABELS, CommandedEmbedder, Knowledge, TickingClock

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


_BIN = Path(os.environ.get("POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PostgreSQL, as it is, on a free port; it refuses to run as root."""
    require(_BIN / "initdb")
    folder = Path("/tmp") / f"postgres-{os.getpid()}"
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder.mkdir(mode=0o700)
    shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, timeout=60)

    data = str(folder / "data")
    try:
        run(str(_BIN / "initdb"), "-D", data, "-U", "reader", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run(str(_BIN / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql+pg8000://reader@127.0.0.1:{port}/postgres"
        run(str(_BIN / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
async def pages(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Pages]:
    url = f"sqlite:///{tmp_path}/pages.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engine = sql.create_engine(url)
    made = Pages(url, engine)
    await asyncio.to_thread(made.create)
    yield made
    await asyncio.to_thread(engine.dispose)


_MAINTENANCE = Path("/usr/share/mediawiki/maintenance")
_PASSWORD = "0123456789abcdef0123456789abcdef"
"""A bot password has 32 characters."""


@pytest.fixture
def wiki(tmp_path: Path) -> Iterator[Wiki]:
    """MediaWiki, as it is, private, on SQLite; PHP's own server serves it."""
    require("php")
    folder = tmp_path / "wiki"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    made = Wiki(folder, _MAINTENANCE, address)
    sqlite = ("--dbtype", "sqlite", "--dbpath", str(folder / "db"), "--confpath", str(folder))
    server = ("--server", address, "--scriptpath", "", "--skins", "", "--pass", "a long passw0rd")
    made.php("install.php", *sqlite, *server, "Wiki", "Admin")
    with (folder / "LocalSettings.php").open("a") as settings:
        settings.write("$wgGroupPermissions['*']['read'] = false;\n$wgJobRunRate = 0;\n")
    made.php("createBotPassword.php", "--appid", "sync", "--grants", "basic", "Admin", _PASSWORD)
    (folder / "password").write_text(_PASSWORD)
    environment = {**os.environ, "MW_CONFIG_FILE": str(folder / "LocalSettings.php")}
    server_process = subprocess.Popen(
        ["php", "-S", f"127.0.0.1:{port}", "-t", str(_MAINTENANCE.parent)],
        env={**environment, "PHP_CLI_SERVER_WORKERS": "4"},
        stderr=subprocess.DEVNULL,
    )
    try:
        made.wait()
        yield made
    finally:
        server_process.terminate()
        server_process.wait(10)


@pytest.fixture
async def stack() -> AsyncGenerator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def knowledge(
    request: pytest.FixtureRequest, tmp_path: Path, stack: AsyncExitStack
) -> AsyncGenerator[Knowledge]:
    """A tenant's knowledge: stores here, or with the parameter "service" behind a service."""
    if getattr(request, "param", "here") == "service":
        service = running_service(tmp_path, Scene(more_of_tenants=SOURCES))
        made = Served.of(await stack.enter_async_context(service))
    else:
        made = Knowledge.below(tmp_path / "tenant")
    yield made
    await made.stores.close()
