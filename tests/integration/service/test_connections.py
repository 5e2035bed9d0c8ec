"""Raw connections of anonymous callers: too large, too slow, too many, and nothing that is HTTP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import httpx
import pytest

from assistant.process import http as http_process
from assistant.process.settings import ServiceSettings
from tests.stage.processes import RunningProcess, process
from tests.stage.running_service import RunningService, Scene, published_keys, service_settings
from tests.stage.sagemaker_runtime import sagemaker_socket
from tests.stage.tokens import EC_KEY

HALF = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-"
WHOLE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class Raw:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Return the status of the next response; 0 when the connection ends without one."""
        async with asyncio.timeout(60):
            try:
                line = await self.reader.readline()
            except ConnectionError:
                return 0
        return int(line.split()[1]) if line else 0

    async def ends(self) -> None:
        async with asyncio.timeout(60):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                return


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    host, port = url.partition("://")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_process, "HEAD_TIMEOUT_S", 1.5)
    monkeypatch.setattr(http_process, "BODY_TIMEOUT_S", 1.5)


@pytest.mark.usefixtures("hasty")
async def test_a_request_that_does_not_become_whole_is_ended(service: RunningService) -> None:
    async def is_ended(sent: bytes) -> None:
        async with raw(service.url) as connection:
            await connection.send(sent)
            await connection.ends()

    await asyncio.gather(*map(is_ended, (b"", HALF, b"GET", b"\r\n\r\n", WHOLE + HALF)))


@pytest.mark.usefixtures("hasty")
async def test_empty_lines_after_an_answer_gain_no_time(service: RunningService) -> None:
    async with raw(service.url) as connection:
        await connection.send(WHOLE)
        assert await connection.reader.readuntil(b'{"alive":true}')
        await connection.send(b"\r\n")
        await connection.ends()


@pytest.mark.usefixtures("hasty")
async def test_a_trickle_gains_no_time(service: RunningService) -> None:
    async with raw(service.url) as connection:
        await connection.send(HALF)
        ended = asyncio.create_task(connection.status())
        for _ in itertools.takewhile(lambda _: not ended.done(), itertools.count()):
            connection.writer.write(b"a")
            await asyncio.sleep(0.02)
        assert await ended == 408


@pytest.mark.usefixtures("hasty")
async def test_a_body_that_nobody_reads_gains_no_time_either(service: RunningService) -> None:
    async with raw(service.url) as connection:
        await connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\na")
        assert await connection.status() == 200
        await connection.ends()


async def test_an_idle_connection_is_kept_between_requests(service: RunningService) -> None:
    async with raw(service.url) as connection:
        for _ in range(3):
            await connection.send(WHOLE)
            assert await connection.status() == 200
            assert await connection.reader.readuntil(b'{"alive":true}')


async def test_a_head_without_end_is_refused_after_its_limit(service: RunningService) -> None:
    async with raw(service.url) as connection:
        connection.writer.write(HALF)
        status = asyncio.create_task(connection.status())
        sent = 0
        while not status.done() and sent < 120_000_000:
            connection.writer.write(b"a" * 65536)
            sent += 65536
            try:
                await connection.writer.drain()
            except ConnectionError:
                break
        assert await status in (431, 0)  # 0: it was cut before the status was read
        assert sent < 20_000_000


async def test_a_head_over_its_limit_is_refused_however_it_comes(service: RunningService) -> None:
    for head in (
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: " + b"a" * 60_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x-n: 1\r\n" * 8_000 + b"\r\n",
    ):
        async with raw(service.url) as connection:
            await connection.send(head)
            assert await connection.status() == 431


# --- a process with few places ---


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[ServiceSettings]:
    async with published_keys([EC_KEY]) as jwks_url, sagemaker_socket() as sagemaker:
        made = service_settings(tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        yield made.model_copy(update={"port": 0, "operations_port": 0, "connections": 20})


@pytest.fixture
async def running(settings: ServiceSettings) -> AsyncIterator[RunningProcess]:
    async with process("service", settings.environment()) as started:
        yield started


async def test_unfinished_requests_on_100_connections_block_no_other_client(running: RunningProcess) -> None:
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(raw(running.url)) for _ in range(100)]
        for connection in held:
            connection.writer.write(HALF)
        for path in ("/healthz", "/openapi.json"):
            async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
                assert (await client.get(path)).status_code == 200
        for connection in held[:80]:
            await connection.ends()


# --- nothing an anonymous caller sends is our failure ---

PATHS = [
    "/" + "a" * 251 + ".html",
    "/" + "a" * 20_000,
    "/%00.html",
    "/%ff%fe.js",
    "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/..%5c..%5cindex.html",
    "/con.html",
    "/%",
    "/%zz",
    "/a%0d%0aset-cookie:x.html",
    "//example.com/index.html",
    "/v1/answers/" + "%F0%9F%98%80" * 20,
    "/v1/answers/%00",
    "/v1/answers/%00/events",
    "/v1/documents/" + "a" * 9_000,
    "/v1/documents/%00?token=" + "a" * 4_000,
    "/v1/documents/x?token=%00",
    "/v1/documents/x?token=a.b.c&format=%00",
    "/v1/documents?limit=99999999999999999999999999",
    "/v1/documents?limit=NaN&after=%ff",
    "/v1/conversations/%ff",
    "/?" + "a=1&" * 5_000,
    "*",
    "http://x:99999/",
    "http://[::1",
    "\xff\xfe",
]
METHODS = [
    *("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"),
    *("PROPFIND", "X", "get"),
]
HEADERS = [
    b"authorization: Bearer \xff\xfe",
    b"authorization: Bearer " + b"a" * 9_000,
    b"authorization: Bearer e30.e30.e30",
    b"authorization: Bearer " + b"." * 500,
    b"authorization: \x80",
    b"if-none-match: \xff",
    b"if-none-match: " + b'"a",' * 3_000,
    b"range: bytes=0-0,1-1," + b"2-2," * 2_000,
    b"range: bytes=-",
    b"content-length: 99999999999999999999",
    b"content-length: -1",
    b"content-length: 5\r\ncontent-length: 6",
    b"transfer-encoding: chunked\r\ncontent-length: 4",
    b"transfer-encoding: gzip",
    b"expect: 100-continue",
    b"expect: nonsense",
    b"upgrade: websocket\r\nconnection: upgrade",
    b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk",
    b"accept: " + b"text/event-stream;q=nan," * 200,
    b"idempotency-key: \x01",
    b"last-event-id: \xff",
    b"host: \xff",
    b"cookie: " + b"a" * 8_000,
    b"x\x00y: 1",
    b": empty",
    b"traceparent: \xff-" + b"f" * 600,
]


def _requests() -> list[bytes]:
    requests = [f"{method} {path} HTTP/1.1".encode("latin-1") for path in PATHS for method in ("GET", "POST")]
    requests += [f"{method} /v1/answers HTTP/1.1".encode() for method in METHODS]
    requests += [f"{method} /index.html HTTP/1.1".encode() for method in METHODS]
    plain = [line + b"\r\nhost: x\r\nconnection: close\r\n\r\n" for line in requests]
    targets = (
        b"GET /",
        b"GET /v1/answers/a/events",
        b"POST /v1/answers",
        b"POST /v1/chat/completions",
        b"GET /x.html",
    )
    with_headers = [
        target + b" HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n"
        for target in targets
        for header in HEADERS
    ]
    bodies = (
        b"",
        b"{",
        b"[" * 9_000,
        b"\xff",
        b'{"token":"\\u0000"}',
        b'{"token":"a.b.c"}',
        b'{"token":1e999}',
    )
    posted = [
        b"POST /v1/documents/linked HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    ]
    versions = [
        b"GET /healthz HTTP/" + version + b"\r\n\r\n" for version in (b"0.9", b"1.0", b"2.0", b"9.9", b"x")
    ]
    random = Random(9)  # noqa: S311 - the same requests each time
    noise = [random.randbytes(random.randint(1, 400)) for _ in range(60)]
    mutated = [_mutated(random.choice(plain + with_headers), random) for _ in range(200)]
    return [
        *plain,
        *with_headers,
        *posted,
        *versions,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        *noise,
        *mutated,
    ]


def _mutated(request: bytes, random: Random) -> bytes:
    data = bytearray(request)
    for _ in range(random.randint(1, 6)):
        data[random.randrange(len(data))] = random.randrange(256)
    return bytes(data)


async def test_nothing_that_an_anonymous_caller_sends_is_a_failure_of_ours(service: RunningService) -> None:
    """About 600 requests over raw sockets: a status below 500, or the connection ends."""
    limit = asyncio.Semaphore(20)

    async def status_of(request: bytes) -> int:
        async with limit, raw(service.url) as connection:
            await connection.send(request)
            connection.writer.write_eof()
            return await connection.status()

    requests = _requests()
    statuses = await asyncio.gather(*(status_of(request) for request in requests))
    failed = [
        (request[:80], status) for request, status in zip(requests, statuses, strict=True) if status >= 500
    ]
    assert failed == []
    metrics = (await service.operated("/metrics")).text
    assert 'assistant_internal_errors_total{caller="identified"}' not in metrics
    assert 'assistant_internal_errors_total{caller="anonymous"}' not in metrics
