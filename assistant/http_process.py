"""HTTP processes: bounded connections and bodies, the listening socket, the ready line, an orderly stop."""

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
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

import orjson
import uvicorn
from starlette.types import ASGIApp, Receive
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from assistant.domain.errors import AssistantError, LocalRuntimeError, TooLargeError


async def read_body(receive: Receive, *, limit_bytes: int) -> bytes | None:
    """Return the whole body, None when the client left. Raises TooLargeError."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise TooLargeError(f"The body is over {limit_bytes} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run ``work`` to its end; cancel it when the client leaves. Its errors are raised."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pending in (task, leaving):
            pending.cancel()
        await asyncio.wait({task, leaving})
    if not task.cancelled():
        task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# One connection of a local HTTP process, within bounds of bytes, time and number.


SEND_BUFFER_BYTES = 64 * 1024
"""Of the kernel, a connection: what a reader leaves waits in the process, where it is bounded and merged.
By default it grows to 4 MiB."""
HEAD_LIMIT_BYTES = 32 * 1024
"""Of a request's line and headers; a token has 8 KiB at most. One read of the socket may come on top."""
HEAD_TIMEOUT_S = 10.0
"""From the connection's begin, or a head's first byte, to its last."""
BODY_TIMEOUT_S = 45.0
"""From a head's last byte to the body's. Who reads a body gives it up after 30 s, with a status."""
MOST_CONNECTIONS = 1000


class BoundedConnection(HttpToolsProtocol):
    """Closes what is too large (431) or too late (408), and makes room for new connections.

    When there are more than ``most_connections``, the one that has been without a request for longest is
    closed: a client that holds connections open cannot keep others out. Over TLS, the write buffer for a
    slow reader is as small as without: by default the loop would take 512 KiB.
    """

    most_connections: ClassVar[int] = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._in_head = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since_s = self.loop.time()
        self._limit_time(HEAD_TIMEOUT_S)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        was_in_head = self._in_head
        if was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)
                return
        super().data_received(data)
        if self._in_head and not was_in_head:
            self._head_bytes = len(data)  # an upper bound: the end of another message may be in it
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431)
        elif not self._is_answering() and self.timeout_keep_alive_task is None and self._timer is None:
            self._limit_time(HEAD_TIMEOUT_S)  # bytes that begin no request, such as empty lines

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._timer is None:  # else it runs since the connection's begin
            self._limit_time(HEAD_TIMEOUT_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size_bytes > HEAD_LIMIT_BYTES:
            self._head_bytes = size_bytes
            raise _HeadTooLargeError
        super().on_headers_complete()
        self._limit_time(BODY_TIMEOUT_S)

    def on_message_complete(self) -> None:
        self._end_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own text
        self._refuse(431 if self._head_bytes > HEAD_LIMIT_BYTES else 400)

    def _make_room(self) -> None:
        if len(self.connections) <= self.most_connections:
            return
        idle = [
            each
            for each in cast("set[BoundedConnection]", self.connections)
            if each is not self and not each._is_answering() and not each.transport.is_closing()
        ]
        min(idle, key=lambda each: each._idle_since_s, default=self).transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer with a status, unless another answer is on its way, and close."""
        if self._is_answering():
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _is_answering(self) -> bool:
        return cast("object", self.cycle) is not None and not self.cycle.response_complete

    def _limit_time(self, seconds: float) -> None:
        self._end_timer()
        self._timer = self.loop.call_later(seconds, self._is_late)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(408)


class _HeadTooLargeError(Exception):
    """Ends the parser; the connection is then refused."""


def connections(most: int) -> type[BoundedConnection]:
    """Return the class of a server's connections, ``most`` of them at once."""
    return type("Connection", (BoundedConnection,), {"most_connections": most})


# What every local HTTP process does alike: take a port, say that it is ready, stop within a bound.


STALLED_PEER_TIMEOUT_S = 30
"""A peer that acknowledges nothing for so long loses its connection, whatever still waits in the kernel."""
KEEP_ALIVE_S = 130
"""Longer than a load balancer keeps an idle connection (120 s at ours): who closes first must be the one who
sends, or a request meets a connection that was closed just before."""
_OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""By default 700: under load the collector then runs many times in each answer, and finds nothing."""


def open_socket(host: str, port: int) -> socket.socket:
    """Take ``host:port`` (0 chooses a free port). Raises LocalRuntimeError naming what is in the way."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted sockets inherit what follows
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_PEER_TIMEOUT_S * 1000)
        listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LocalRuntimeError(
                f"Port {port} on {host} is in use; stop what uses it, or choose another (0: any free one)."
            ) from None
        raise LocalRuntimeError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    return listener


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
    """Serve until SIGTERM or SIGINT; then call ``on_stopping``, accept nothing more, and cancel what still
    runs after ``shutdown_timeout_s``. With ``tls`` nothing but HTTPS is understood. ``operations`` is a
    second listener of the same application.

    Prints the ready line on stdout once connections are accepted.
    """
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # uvicorn raises the signal again when it has stopped
    _raise_file_limit(2 * most_connections)
    config = server_config(
        app, shutdown_timeout_s=shutdown_timeout_s, tls=tls, most_connections=most_connections
    )
    listeners = [listener] if operations is None else [listener, operations]
    await _AnnouncingServer(config, on_stopping=on_stopping).serve(listeners)


def server_config(
    app: ASGIApp,
    *,
    shutdown_timeout_s: float,
    tls: ssl.SSLContext | None = None,
    most_connections: int = MOST_CONNECTIONS,
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=connections(most_connections),
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
    """Run a process's main coroutine on uvloop. One of our own errors ends it with one sentence, status 1."""
    import uvloop

    os.umask(0o077)  # what this process writes is for its owner only
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except AssistantError as error:
        sys.exit(error.message)


def _raise_file_limit(files: int) -> None:
    """Let the process have so many files, where the system lets it: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _spare_the_collector() -> None:
    """Take what lives since the start out of the collector's walks: with rarer ones this saves a fifth
    of the CPU of short answers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, on_stopping: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_stopping = on_stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stopping is not None:
            self._on_stopping()
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        _spare_the_collector()
        (host, port), *beside = [each.getsockname()[:2] for each in sockets or []]
        scheme = "https" if self.config.is_ssl else "http"
        ready = {"ready": True, "scheme": scheme, "host": host, "port": port}
        if beside:
            ready |= {"operations_host": beside[0][0], "operations_port": beside[0][1]}
        sys.stdout.write(orjson.dumps(ready).decode() + "\n")
        sys.stdout.flush()


# A certificate of the task's own, so that no hop is in plaintext.


_NAME = "care-assistant-task"
_VALID = timedelta(days=3650)
"""Longer than any task lives."""
_CLOCK_SKEW = timedelta(days=1)


def self_signed_context() -> ssl.SSLContext:
    """Return a server's context with a new key and certificate (ECDSA P-256), TLS 1.2 or later.

    Takes 9 ms in the service's process. The key is in a file that is its owner's alone for as long as
    OpenSSL reads it: Python hands over no key from memory.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.NamedTemporaryFile(prefix="task-", suffix=".pem") as file:
        file.write(_key_and_certificate())
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _key_and_certificate() -> bytes:
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
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
