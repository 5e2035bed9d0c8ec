"""A database for each engine, with a table of pages."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy as sql

from tests.fakes.running_service import Scene, running_service
from tests.options.sources.pages import SOURCES, Pages, Served, Wiki
from tests.programs import require
from tests.unit.documents.knowledge import Knowledge

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
