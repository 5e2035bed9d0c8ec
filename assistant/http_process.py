"""What every local HTTP process does alike: take a port, say that it is ready, stop within a bound."""

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
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp

from assistant.domain.errors import AssistantError, LocalRuntimeError
from assistant.http_connection import MOST_CONNECTIONS, SEND_BUFFER_BYTES, connections

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
