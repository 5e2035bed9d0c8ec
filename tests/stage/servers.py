"""Servers on sockets of this machine, for clients under test: an ASGI application's, raw connections,
scripted HTTP, an HTTP server on a thread, and TLS before a plain one."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

import orjson
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from starlette.types import ASGIApp

from assistant.process.http import open_socket, server_config

# --- an ASGI application ----------------------------------------------------------------------------------
_START_LIMIT_S = 60.0


@asynccontextmanager
async def asgi_server(application: ASGIApp) -> AsyncGenerator[str]:
    """Serve until the context is left; gives the base URL."""
    listener = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(server_config(application, shutdown_timeout_s=1))
    task = asyncio.create_task(server.serve([listener]))
    async with asyncio.timeout(_START_LIMIT_S):
        while not server.started:  # noqa: ASYNC110 : the server offers no event
            await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


# --- raw connections --------------------------------------------------------------------------------------
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def socket_server(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """Serve each connection with ``handler`` and close it afterwards; yield ``http://host:port``."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str, port: int
) -> None:
    """Copy a connection's bytes to a server and back, until one side ends. Raises OSError where none
    listens."""
    server_reader, server_writer = await asyncio.open_connection(host, port)
    async with _closing(server_writer):
        copies = [_copy(reader, server_writer), _copy(server_reader, writer)]
        tasks = [asyncio.ensure_future(copy) for copy in copies]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


# --- scripted HTTP ----------------------------------------------------------------------------------------
@dataclass
class Exchange:
    """One request, and the raw connection to answer it on."""

    connection: int
    """Number of the connection, from 0: two exchanges may share one."""
    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    method: str = "POST"

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole response; ``x_amzn_ErrorType`` is the header ``x-amzn-ErrorType``."""
        await self.write(head(status, length=len(body), **headers) + body)

    async def respond_in_chunks(self, *pieces: bytes, end: bool = True, **headers: str) -> None:
        await self.write(head(200, length=None, **headers))
        for piece in pieces:
            await self.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            await self.write(b"0\r\n\r\n")

    async def peer_left(self) -> None:
        """Wait until the peer closes the connection."""
        while await self.reader.read(65536):
            pass

    def cut(self) -> None:
        """Close the connection as a process does that ends."""
        self.writer.close()

    def reset(self) -> None:
        """Close the connection with RST, as a process does that dies."""
        peer: socket.socket = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class ScriptedServer:
    url: str
    exchanges: list[Exchange] = field(default_factory=list[Exchange])


def head(status: int, *, length: int | None, **headers: str) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} Whatever", framing]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def scripted_http(script: Script) -> AsyncGenerator[ScriptedServer]:
    """Serve ``script`` for each request until the context is left."""
    served = ScriptedServer("")
    numbers = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = next(numbers)
        while (exchange := await _read_request(reader, writer, connection)) is not None:
            served.exchanges.append(exchange)
            await script(exchange)

    async with socket_server(serve) as served.url:
        yield served


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
) -> Exchange | None:
    try:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = start.split(" ")
    return Exchange(connection, target, headers, body, reader, writer, method)


# --- pages, for code without an event loop ----------------------------------------------------------------
@contextmanager
def http_pages(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Let ``answer`` respond to each GET request; yield the server's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


# --- TLS --------------------------------------------------------------------------------------------------
HOST = "localhost"


@dataclass(frozen=True)
class Authority:
    """A CA; ``pem`` is its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named("Test authority")
        made = _draft(name, key).issuer_name(name)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(_key_usage(signs_certificates=True), critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(key, made.sign(key, hashes.SHA256()))

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, host: str = HOST) -> str:
        """Return a certificate for a name, with its private key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _draft(_named(host), key).issuer_name(self.certificate.subject)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        certificate = made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return certificate.decode() + private.decode()


@asynccontextmanager
async def tls_front(
    url: str, folder: Path, *, authority: Authority, host: str = HOST, asks_for_certificates: bool = False
) -> AsyncGenerator[str]:
    """End TLS before ``url`` (``http://address:port``) by a certificate for ``host``; yield the base URL."""
    file = folder / "front.pem"
    file.write_text(authority.issue(host))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if asks_for_certificates:
        context.load_verify_locations(cadata=authority.pem)
        context.verify_mode = ssl.CERT_REQUIRED
    upstream, _, port = url.removeprefix("http://").partition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pass_on(reader, writer, host=upstream, port=int(port))

    async with socket_server(relay, tls=context) as front:
        yield f"https://{HOST}:{front.rpartition(':')[2]}"


def _draft(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


# --- an OpenAI-compatible chat server, with faults --------------------------------------------------------
EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"
TEXT = "A refill is due after 14 days [1.2]."


def chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"


def end(*, prompt_tokens: int = 20) -> bytes:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 9}
    last = b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"
    return chunk("", "stop") + last + b"data: [DONE]\n\n"


def answers(
    reply: Callable[[dict[str, object]], str] = lambda _: TEXT,
    *,
    listed: Mapping[str, object] | None = None,
    beside: Mapping[str, object] | None = None,
) -> Script:
    """Answer each request by ``reply``, which gets its body; ``listed`` are facts of the model ``tall``,
    ``beside`` are objects by their paths."""

    async def script(exchange: Exchange) -> None:
        if exchange.target in (beside or {}):
            await exchange.respond(200, orjson.dumps((beside or {})[exchange.target]), Content_Type=JSON)
            return
        if exchange.method == "GET":
            models = {"data": [{"id": "tall", **(listed or {})}]}
            found = exchange.target == "/v1/models"
            await exchange.respond(200 if found else 404, orjson.dumps(models), Content_Type=JSON)
            return
        text = reply(orjson.loads(exchange.body))
        await exchange.respond_in_chunks(chunk(text[:5]), chunk(text[5:]) + end(), Content_Type=EVENTS)

    return script


def renders(
    template: str, prompts: list[str], reply: Callable[[dict[str, object]], str] = lambda _: TEXT
) -> Script:
    """Answer as ``answers`` does, after the model's own chat template rendered the messages into ``prompts``.

    What the template refuses is a status 400 with its words, as from vLLM.
    """

    def refuse(words: str) -> None:
        raise TemplateError(words)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    compiled, answering = environment.from_string(template), answers(reply)

    async def script(exchange: Exchange) -> None:
        if exchange.method == "POST":
            messages = orjson.loads(exchange.body)["messages"]
            try:
                prompts.append(compiled.render(messages=messages, add_generation_prompt=True, bos_token=""))
            except TemplateError as error:
                await exchange.respond(400, orjson.dumps({"message": str(error)}), Content_Type=JSON)
                return
        await answering(exchange)

    return script


def refuses(
    status: int, body: bytes = b'{"error": {"message": "no", "type": "t"}}', **headers: str
) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(status, body, **{"Content_Type": JSON, **headers})

    return script


def streams(pieces: Sequence[bytes], *, breaks: bool = False) -> Script:
    """Send the pieces as one stream; ``breaks``: close the connection after them, before the end."""

    async def script(exchange: Exchange) -> None:
        await exchange.respond_in_chunks(*pieces, end=not breaks, Content_Type=EVENTS)
        if breaks:
            exchange.cut()

    return script


async def never_starts(exchange: Exchange) -> None:
    await exchange.peer_left()


async def serves_pages(exchange: Exchange) -> None:
    """A web site: every path is a page."""
    await exchange.respond(200, b"<html>Welcome</html>", Content_Type="text/html")


@contextmanager
def serving(script: Script) -> Generator[str]:
    """Serve beside a command, which has a loop of its own; give the base URL."""
    started, stop = threading.Event(), asyncio.Event()
    urls: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with scripted_http(script) as server:
            urls.append(server.url)
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    try:
        yield f"{urls[0]}/v1"
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
