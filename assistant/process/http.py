"""HTTP processes: bodies and connections with limits, servers with a ready line, and TLS of a process.

A process is four lines::

    async def main() -> None:
        listener = open_socket("127.0.0.1", 0)  # binds
        await serve(app, listener, shutdown_timeout_s=20)  # until SIGTERM

    run(main())  # uvloop; an AssistantError is its exit message
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import math
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, ClassVar, cast

import orjson
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from assistant.domain.errors import AssistantError, LocalRuntimeError, TooLargeError
from assistant.domain.paths import is_on_this_machine

# Bodies and responses


async def read_body(receive: Receive, *, limit_bytes: int) -> bytes | None:
    """Return the whole body; None when the client disconnected. Raises TooLargeError."""
    body = bytearray()
    try:
        async for part in Request({"type": "http"}, receive).stream():
            body += part
            if len(body) > limit_bytes:
                raise TooLargeError(f"The body is over {limit_bytes} bytes.")
    except ClientDisconnect:
        return None
    return bytes(body)


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run ``work`` to its end; cancel it when the client disconnects. Raises its errors.

    Call it when the body was read: ``receive`` then says nothing but that the client has disconnected.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pending in (task, disconnect):
            pending.cancel()
        await asyncio.wait({task, disconnect})
    if not task.cancelled():
        task.result()


async def send_response(response: Response, send: Send) -> None:
    """Send a response, whole or streamed, that reads nothing from its client."""
    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, _nothing_to_receive, send)


async def _nothing_to_receive() -> dict[str, Any]:
    raise AssertionError("a response reads nothing from its client")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# Connections


SEND_BUFFER_BYTES = 64 * 1024
"""Kernel send buffer of a connection (by default up to 4 MiB). What a slow reader does not take waits in the
process instead, where it is limited and merged."""
HEAD_LIMIT_BYTES = 32 * 1024
"""Largest request line and headers; a token has at most 8 KiB. One read of the socket may exceed it."""
HEAD_TIMEOUT_S = 10.0
"""From the start of the connection, or of a request's head, to the head's last byte."""
BODY_TIMEOUT_S = 45.0
"""From the last byte of the head to that of the body. The API's readers of bodies
(``assistant/service/streams.py``) give up after 30 s, with a status; this is the last limit."""
LEAST_BODY_BYTES = BODY_TIMEOUT_S * 64 * 1024
"""A body of which so much came in BODY_TIMEOUT_S gets as long again: a large file on a slow line."""
MOST_CONNECTIONS = 1000


class BoundedConnection(HttpToolsProtocol):
    """Refuses requests that are too large (431) or too slow (408), and limits the number of connections.

    uvicorn limits neither size nor time of a request before it is complete. It makes one instance for each
    connection. The loop calls ``connection_made``, ``data_received`` for each read of the socket, and
    ``connection_lost``. ``data_received`` feeds the parser, which calls, before it returns,
    ``on_message_begin``, ``on_headers_complete``, ``on_body`` (any number of times) and
    ``on_message_complete``, as far as the bytes go: one read may hold a part of a head, or two requests. The
    application's task calls ``on_response_complete``.

    One timer limits the time of what the client has to send:

    ======================  ========================  ====================================================
    the connection waits    since                     time limit
    ======================  ========================  ====================================================
    for its first head      ``connection_made``       HEAD_TIMEOUT_S, to the head's end
    for the rest of a head  ``on_message_begin``      HEAD_TIMEOUT_S; the timer that runs already goes on
    for the body            ``on_headers_complete``   BODY_TIMEOUT_S, again after each LEAST_BODY_BYTES
    for the application     ``on_message_complete``   none here
    for another request     ``on_response_complete``  uvicorn's own timer, KEEP_ALIVE_S; bytes between
                                                      requests, such as empty lines, end it: HEAD_TIMEOUT_S
    ======================  ========================  ====================================================

    Above ``most_connections`` it closes the connection that has been idle for longest, so that a client with
    many open connections cannot lock others out. Over TLS the write buffer of a slow reader is as small as
    without (the loop's default is 512 KiB).
    """

    most_connections: ClassVar[int] = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._in_head = False
        self._head_bytes = 0
        """Of all reads that the head came in: its size or more, for they may hold parts of other messages."""
        self._body_bytes = 0
        """Of the body, since the timer was started."""
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since_s = self.loop.time()
        self._start_timer(HEAD_TIMEOUT_S)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        was_in_head = self._in_head
        if was_in_head:  # all of the data may be head; count it before the parser keeps it
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)
                return
        super().data_received(data)
        if self._in_head and not was_in_head:  # a head began in this data
            self._head_bytes = len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)
        elif not self._is_answering() and self.timeout_keep_alive_task is None and self._timer is None:
            self._start_timer(HEAD_TIMEOUT_S)  # bytes between requests have ended uvicorn's keep-alive timer

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes, self._body_bytes = True, 0, 0
        if self._timer is None:
            self._start_timer(HEAD_TIMEOUT_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size_bytes > HEAD_LIMIT_BYTES:  # it came in one read
            self._head_bytes = size_bytes
            raise _HeadTooLargeError  # uvicorn takes it for a parser's error and calls send_400_response
        super().on_headers_complete()
        self._start_timer(BODY_TIMEOUT_S)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own text
        """Refuse what the parser could not read; ``_HeadTooLargeError`` comes here too."""
        self._refuse(431 if self._head_bytes > HEAD_LIMIT_BYTES else 400)

    def _make_room(self) -> None:
        """Close the connection that has been idle for longest where there are too many; without an idle one,
        this one."""
        if len(self.connections) <= self.most_connections:
            return
        others = cast("set[BoundedConnection]", self.connections) - {self}
        idle = [other for other in others if not other._is_answering() and not other.transport.is_closing()]
        min(idle, key=lambda other: other._idle_since_s, default=self).transport.abort()

    def _refuse(self, status: int) -> None:
        """Send a status and close; during another response, which it would end up in, only close."""
        if self._is_answering():
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _is_answering(self) -> bool:
        """Return whether the application works on a request; uvicorn's ``cycle`` is None before the first."""
        return cast("object", self.cycle) is not None and not self.cycle.response_complete

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._body_bytes >= LEAST_BODY_BYTES and self._is_answering():
            self._body_bytes = 0
            self._start_timer(BODY_TIMEOUT_S)
        elif not self.transport.is_closing():
            self._refuse(408)


class _HeadTooLargeError(Exception):
    """Stops the parser; the request is then refused."""


# Servers


STALLED_PEER_TIMEOUT_S = 30
"""A peer that acknowledges nothing for so long loses its connection, even with data in the kernel."""
KEEP_ALIVE_S = 130
"""Longer than the load balancer keeps an idle connection (120 s): if the server closed first, a request could
arrive on a closed connection."""
_STARTED_POLL_S = 0.005
"""How often ``serving`` looks whether its server has started."""
_OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""The default is 700: under load the collector would run many times in each answer, and find nothing."""


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host:port`` (0 takes a free port); a server listens on it later.

    Raises LocalRuntimeError with the reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted sockets inherit the next options
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_PEER_TIMEOUT_S * 1000)
        listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "stop what uses it, or choose another (0: any free one)"
            raise LocalRuntimeError(f"Port {port} on {host} is in use; {advice}.") from None
        raise LocalRuntimeError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    return listener


def for_this_machine(app: ASGIApp) -> ASGIApp:
    """Return the application of a process that listens on a loopback address.

    It refuses (421) a ``Host`` that is another name: a page of the internet may have had its own name point
    here, and its scripts would read what this process answers (DNS rebinding).
    """

    async def only_for_its_host(scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if is_on_this_machine(f"http://{host}"):
            await app(scope, receive, send)
        else:
            refusal = f"{host[:80]!r} is no address of this machine. Ask 127.0.0.1 or localhost."
            await PlainTextResponse(refusal, 421)(scope, receive, send)

    return only_for_its_host


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    shutdown_timeout_s: float,
    on_stopping: Callable[[], None] | None = None,
    tls: ssl.SSLContext | None = None,
    operations: socket.socket | None = None,
    most_connections: int = MOST_CONNECTIONS,
) -> None:
    """Serve one process's application until SIGTERM or SIGINT.

    It then calls ``on_stopping``, accepts no more connections, and cancels running requests after
    ``shutdown_timeout_s``. A listener on a loopback address answers ``for_this_machine``. With ``tls`` only
    HTTPS is served. ``operations`` is a second listener of the same application.

    Once connections are accepted it prints the ready line on stdout, which the process's parent reads::

        {"ready":true,"scheme":"http","host":"127.0.0.1","port":8080,"operations_host":"0.0.0.0",…}
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # uvicorn raises the signal again when it has stopped
    _raise_file_limit(2 * most_connections)  # half of them for everything else that a process opens
    if ip_address(listener.getsockname()[0]).is_loopback:
        app = for_this_machine(app)
    config = server_config(
        app, shutdown_timeout_s=shutdown_timeout_s, tls=tls, most_connections=most_connections
    )
    listeners = [listener] if operations is None else [listener, operations]
    await _AnnouncingServer(config, on_stopping=on_stopping).serve(listeners)


@asynccontextmanager
async def serving(
    apps: Mapping[socket.socket, ASGIApp],
    *,
    shutdown_timeout_s: float,
    on_stopping: Callable[[], None] = lambda: None,
) -> AsyncGenerator[None]:
    """Serve several applications ``for_this_machine`` inside the block: one for each listener.

    It prints no ready line. At the end it calls ``on_stopping``, accepts no more connections, and cancels
    running requests after ``shutdown_timeout_s``. Run the loop in a thread of its own: in the main thread
    uvicorn takes the signals.
    """
    by_port = {listener.getsockname()[1]: app for listener, app in apps.items()}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await by_port[scope["server"][1]](scope, receive, send)

    config = server_config(for_this_machine(answer), shutdown_timeout_s=shutdown_timeout_s)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(list(apps)))
    while not server.started and not task.done():  # noqa: ASYNC110 : the server offers no event
        await asyncio.sleep(_STARTED_POLL_S)
    try:
        yield
    finally:
        on_stopping()
        server.should_exit = True
        await task


def server_config(
    app: ASGIApp,
    *,
    shutdown_timeout_s: float,
    tls: ssl.SSLContext | None = None,
    most_connections: int = MOST_CONNECTIONS,
) -> uvicorn.Config:
    """Return the configuration that all servers of this product have in common."""
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        # A class, for uvicorn makes its instances.
        http=type("Connection", (BoundedConnection,), {"most_connections": most_connections}),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, math.ceil(shutdown_timeout_s)),
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main coroutine on uvloop. An AssistantError ends it with its message and status 1."""
    import uvloop

    os.umask(0o077)  # files of this process are readable by its owner only
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except AssistantError as error:
        sys.exit(error.message)


def _raise_file_limit(files: int) -> None:
    """Raise the limit of open files, as far as the system allows: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tune_garbage_collection() -> None:
    """Exclude objects of the start-up from garbage collection, and collect less often: saves a fifth of the
    CPU of short answers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


class _AnnouncingServer(uvicorn.Server):
    """Prints the ready line at the end of its start, and calls ``on_stopping`` at the start of its end."""

    def __init__(self, config: uvicorn.Config, *, on_stopping: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_stopping = on_stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stopping is not None:
            self._on_stopping()
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        _tune_garbage_collection()
        (host, port), *operations = [listener.getsockname()[:2] for listener in sockets or []]
        scheme = "https" if self.config.is_ssl else "http"
        ready = {"ready": True, "scheme": scheme, "host": host, "port": port}
        for operations_host, operations_port in operations:  # one at most
            ready |= {"operations_host": operations_host, "operations_port": operations_port}
        sys.stdout.write(orjson.dumps(ready).decode() + "\n")
        sys.stdout.flush()


# TLS of a process


_NAME = "care-assistant-task"
_VALID = timedelta(days=3650)
"""Longer than the life of any task."""
_CLOCK_SKEW = timedelta(days=1)


def self_signed_context() -> ssl.SSLContext:
    """Return a server's TLS context, TLS 1.2 or later, with a new key and self-signed certificate.

    For a task behind an Application Load Balancer, which encrypts to its targets without checking their
    certificates (Elastic Load Balancing, "Target groups"); the security group limits who may connect. A key
    that only this process has needs no authority, store or rotation. Takes 9 ms.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Python cannot pass a key from memory: OpenSSL reads it from a file that only its owner can read.
    with tempfile.NamedTemporaryFile(prefix="task-", suffix=".pem") as file:
        file.write(_key_and_certificate())
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _key_and_certificate() -> bytes:
    """Return a new key and its certificate (ECDSA P-256), as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, unencrypted = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted)
    return private + certificate.public_bytes(pem)
