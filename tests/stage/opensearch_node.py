"""A real OpenSearch node for tests: ``OPENSEARCH_URL``'s, or one that all workers of a run share.

The node is started by the product's own command on a free port, on first use. Each pytest process that uses
it leaves its pid beside it; the last one to leave ends it, and one left behind by a killed run is used again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import psutil
from filelock import FileLock
from opensearchpy import AsyncOpenSearch

from assistant.domain.errors import LocalRuntimeError
from assistant.process.settings import inherited_environment
from assistant.stores.index.opensearch_client import call
from assistant.stores.index.opensearch_schema import versions_of
from tests.stage.programs import lacks
from tests.stage.servers import Exchange, ScriptedServer, scripted_http
from tools.opensearch import find_java

URL_VARIABLE = "ASSISTANT_TESTS_OPENSEARCH_URL"
"""Tells other processes of the same test run where the node is."""
_ROOT = Path(__file__).parents[2]
BUILD = _ROOT / "build" / "opensearch"
"""Where the node's files are kept between runs."""
SHARED = BUILD / "test-node"
"""Data, log and pid file of the node that workers share."""
_JAVA = 21
_START_TIMEOUT_S = 900.0
"""The first run ever fetches 180 MB; ``make test-node`` does that before."""


@contextmanager
def opensearch_node() -> Generator[str]:
    """Give the node's base URL."""
    if given := os.environ.get("OPENSEARCH_URL"):
        yield given
        return
    try:
        find_java(_JAVA)
    except LocalRuntimeError:
        lacks(f"Java {_JAVA}")
    SHARED.mkdir(parents=True, exist_ok=True)
    lock, mark = FileLock(SHARED / "users.lock"), SHARED / f"user-{os.getpid()}"
    with lock:
        mark.touch()
        url = _address(_command("up"))
    try:
        yield url
    finally:
        with lock:
            mark.unlink()
            if not any(_lives(other) for other in SHARED.glob("user-*")):
                _command("down")


def node_url() -> str:
    """Return the node's base URL, in the pytest process or one that it started."""
    return os.environ[URL_VARIABLE]


def _lives(mark: Path) -> bool:
    if psutil.pid_exists(int(mark.name.removeprefix("user-"))):
        return True
    mark.unlink(missing_ok=True)  # its run was killed
    return False


def _command(action: str) -> str:
    settings = {
        "ASSISTANT_OPENSEARCH_STATE_DIR": str(SHARED),
        "ASSISTANT_OPENSEARCH_BUILD_DIR": str(BUILD),
        "ASSISTANT_OPENSEARCH_PORT": "0",
        "ASSISTANT_OPENSEARCH_HEAP_MIB": "512",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "tools.opensearch", action],
        cwd=_ROOT,
        env=inherited_environment() | settings,
        capture_output=True,
        text=True,
        timeout=_START_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _address(said: str) -> str:
    found = re.search(r"http://\S+", said)
    assert found, said
    return found.group()


# --- a tenant's index -------------------------------------------------------------------------------------
async def delete_index(client: AsyncOpenSearch, *, alias: str) -> None:
    """Delete every version of the tenant's index, if there is one."""
    for name in await versions_of(client, alias):
        await call(client, f"DELETE /{name}", tolerated=("index_not_found_exception",))


# --- a domain ---------------------------------------------------------------------------------------------
@asynccontextmanager
async def search_domain(node_url: str) -> AsyncGenerator[ScriptedServer]:
    """Serve the node with the security plugin's API, which it lacks: that one accepts every request."""

    async def script(exchange: Exchange) -> None:
        if "/_plugins/_security/" in exchange.target:
            mapping_is_gone = exchange.method == "DELETE" and "rolesmapping" in exchange.target
            await exchange.respond(404 if mapping_is_gone else 200, b"{}", Content_Type="application/json")
            return
        headers = {"Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=node_url, trust_env=False, timeout=60) as node:
            found = await node.request(
                exchange.method, exchange.target, content=exchange.body, headers=headers
            )
        await exchange.respond(found.status_code, found.content, Content_Type="application/json")

    async with scripted_http(script) as server:
        yield server
