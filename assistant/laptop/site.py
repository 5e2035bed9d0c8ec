"""The one process of a laptop: service, issuer, worker, embedding models and sample systems in one loop.

The loop has a thread of its own, beside the command that needs the service, so that a command which starts it
is that process. Everything ends with it, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp

from assistant.documents.worker import ConsumerLimits, WorkerLimits
from assistant.domain.errors import AssistantError, LocalRuntimeError
from assistant.laptop.issuer import issuer_application
from assistant.laptop.layout import HOST, Address, Addresses, Layout, SharedSite
from assistant.laptop.worker import work
from assistant.model_server.here import ModelsHere
from assistant.option import Place
from assistant.process.http import open_socket, serving
from assistant.service.__main__ import open_application
from assistant.service.health import ServiceMetrics, TenantReads
from assistant.service.opened import open_tenants

_WORKER_STOP_S = 0.3
"""For batches in progress. Without any the worker ends sooner: it looks for new ones this often."""
_WORKER_LIMITS = WorkerLimits(consumer=ConsumerLimits(receive_wait_s=0.2))


PAGES = Place[
    Callable[[Layout, Addresses, Mapping[str, FastAPI]], AbstractAsyncContextManager[Callable[[], None]]]
]("pages of sample systems")
"""What adds pages to the sample systems' applications, and runs beside them; it gives what ends their
streams."""


@dataclass(frozen=True, slots=True)
class Served:
    """A site that is ready."""

    addresses: Addresses
    left_out: tuple[str, ...]
    """Why tenants are not served whose files are valid, a sentence each."""
    worker: asyncio.Task[None]
    """Ends before the site only by an error."""
    models: ModelsHere


@asynccontextmanager
async def open_site(layout: Layout, *, ports: Mapping[str, int]) -> AsyncGenerator[Served]:
    """Serve inside the block.

    ``ports``: the wished ones of listeners by name. Raises LocalRuntimeError, ConfigurationError.
    """
    async with AsyncExitStack() as stack:
        listeners: dict[str, socket.socket] = {}
        for name in ("service", "issuer", *layout.sample_systems):
            if port := ports.get(name, 0):
                refuse_taken(port, name=name)
            listeners[name] = open_socket(HOST, port)
        for listener in listeners.values():
            stack.callback(listener.close)
        urls = {name: f"http://{HOST}:{each.getsockname()[1]}" for name, each in listeners.items()}
        addresses = Addresses(service=urls.pop("service"), issuer=urls.pop("issuer"), systems=urls)
        models = ModelsHere(layout.models_dir)
        stack.callback(models.close)
        settings, metrics = layout.service_settings(addresses), ServiceMetrics()
        tenants = await stack.enter_async_context(
            open_tenants(settings, observe=partial(TenantReads, metrics.live), models=models)
        )
        stopping = asyncio.Event()
        worker, reasons = await stack.enter_async_context(_working(layout, models, stopping))
        application = await stack.enter_async_context(open_application(settings, tenants, metrics=metrics))
        issuer = issuer_application(
            addresses.issuer,
            state_dir=layout.state_dir.resolve(),
            tenants={name: tenant.display_name for name, tenant in layout.tenants.items()},
            redirect_origins=frozenset((addresses.service, addresses.service.replace(HOST, "localhost"))),
        )
        apps: dict[str, ASGIApp] = {"service": application, "issuer": issuer}
        systems: dict[str, FastAPI] = {}
        for name in addresses.systems:  # of a checkout: an installed package has none
            samples = import_module("tools.systems").SYSTEMS
            systems[name] = samples[name](tuple(layout.system_tokens(name)))
        apps |= systems
        endings = [await stack.enter_async_context(add(layout, addresses, systems)) for add in PAGES.joined()]

        def begin_to_stop() -> None:
            stopping.set()
            for end in endings:
                end()
            application.answers.service.begin_draining()

        await stack.enter_async_context(
            serving(
                {listeners[name]: app for name, app in apps.items()},
                shutdown_timeout_s=settings.drain_timeout_s,
                on_stopping=begin_to_stop,
            )
        )
        left_out = tuple(dict.fromkeys((*tenants.refused.values(), *reasons)))
        yield Served(addresses, left_out, worker, models)


@asynccontextmanager
async def _working(
    layout: Layout, models: ModelsHere, stopping: asyncio.Event
) -> AsyncGenerator[tuple[asyncio.Task[None], Sequence[str]]]:
    """Run the worker inside the block; yield its task, and why it leaves tenants out."""
    ready = asyncio.get_running_loop().create_future()
    worker = asyncio.create_task(
        work(
            layout.worker_settings(),
            stopping,
            on_ready=ready.set_result,
            models=models,
            limits=_WORKER_LIMITS,
        )
    )
    await asyncio.wait({worker, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        worker.result()
    try:
        yield worker, ready.result()
    finally:
        stopping.set()
        await asyncio.wait({worker}, timeout=_WORKER_STOP_S)
        worker.cancel()  # what it holds goes back to its queue
        await asyncio.wait({worker})


def refuse_taken(port: int, *, name: str) -> None:
    """Raise LocalRuntimeError if another program listens on the port; the message names it."""
    try:
        open_socket(HOST, port).close()
    except LocalRuntimeError:
        raise LocalRuntimeError(
            f"Port {port}, which the {name} needs, is in use{_by_whom(port)}; end that program or choose "
            "another port with --port."
        ) from None


def _by_whom(port: int) -> str:
    try:  # macOS shows other programs' sockets only to root
        for connection in psutil.net_connections("tcp4"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""


@dataclass(slots=True)
class Site:
    """Runs the loop of a site in a thread, and tells other commands where it serves."""

    layout: Layout
    shared: SharedSite
    """Held by this command."""
    command: str
    stays: bool
    ports: Mapping[str, int]
    """The wished ones of listeners by name; the others take free ones."""
    left_out: Sequence[str] = ()
    """Why tenants are not served whose files are valid, a sentence each."""
    address: Address | None = None
    models: ModelsHere | None = None
    """Those that it has loaded, for the command's own work."""
    _digest: str = ""
    _error: BaseException | None = None
    """Why it did not start, or ended by itself."""
    _ready: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _serving: asyncio.Task[None] | None = None
    _is_ending: bool = False

    def start(self) -> Address:
        """Return when the site is ready. Raises LocalRuntimeError, ConfigurationError."""
        timeout_s = self.layout.settings.start_timeout_s
        self._digest = self.layout.digest()
        self.shared.publish(self._address())
        self._ready.clear()
        self._error, self._serving, self._is_ending = None, None, False
        self._thread = threading.Thread(target=self._run, name="site", daemon=True)
        self._thread.start()
        if not self._ready.wait(timeout_s):
            raise LocalRuntimeError(f"The service was not ready after {timeout_s:.0f} s. See .state/logs.")
        self.check()
        assert self.address is not None  # noqa: S101 (for the type checker)
        self.shared.publish(self.address)
        return self.address

    def check(self) -> None:
        """Raise the error by which the site ended; an unexpected one as LocalRuntimeError."""
        if isinstance(self._error, AssistantError):
            raise self._error
        if self._error is not None:
            raise LocalRuntimeError(f"The service ended: {self._error!r}. See .state/logs.") from self._error

    def follow(self, layout: Layout) -> bool:
        """Start anew where the layout has changed and no command uses the site; return whether it did.

        Raises LocalRuntimeError, ConfigurationError.
        """
        assert self.address is not None  # noqa: S101 (for the type checker)
        if layout.digest() == self._digest or self.shared.is_used():
            return False
        self.stop()
        urls = {"service": self.address.service, "issuer": self.address.issuer, **self.address.systems}
        self.ports = {name: int(url.rpartition(":")[2]) for name, url in urls.items()}
        self.layout = layout
        self.start()
        return True

    def withdraw(self) -> None:
        """Let no further command begin to use the site."""
        self.shared.publish(self._address())

    def stop(self) -> None:
        """Stop the site, also one that starts. Where it does not end in time, the process ends."""
        self.withdraw()
        self._is_ending = True
        if self._thread is None:
            return
        if self._serving is not None and self._thread.is_alive():
            self._serving.get_loop().call_soon_threadsafe(self._serving.cancel)
        self._thread.join(self.layout.settings.stop_timeout_s)
        if self._thread.is_alive():
            sys.stdout.flush()
            sys.stderr.write("The service did not stop in time and was ended. See .state/logs.\n")
            sys.stderr.flush()
            os._exit(1)

    def _address(self, **listeners: Any) -> Address:
        return Address(
            **listeners,
            command=self.command,
            pid=os.getpid(),
            folder=str(Path.cwd()),
            started_at=time.time(),
            options=self.layout.options(),
            digest=self._digest,
            stays=self.stays,
        )

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 : the command that waits raises it
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._serving = asyncio.current_task()
        if self._is_ending:
            return
        async with open_site(self.layout, ports=self.ports) as served:
            self.left_out, self.models = served.left_out, served.models
            self.address = self._address(**served.addresses.model_dump())
            self._ready.set()
            await asyncio.wait({served.worker})
            served.worker.result()
