"""The one process of a laptop: service, issuer, worker, embedding models and sample systems in one event
loop.

The loop runs in a thread beside the command that needs the service: the command is the process, and
everything ends with it, however it ends. ``open_site`` is what the loop runs; ``Site`` runs the loop, and
tells other commands of it:

    site = Site(layout, shared, command="assistant chat", stays=False, ports={})  # after shared.take()
    address = site.start()
    site.check()  # from time to time: has it ended?
    site.stop()
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from assistant.laptop.layout import (
    HOST,
    ORDER_SYSTEM,
    ORIGINALS,
    SAMPLE_PUBLISHER,
    Address,
    Addresses,
    Layout,
    SharedSite,
)
from assistant.laptop.worker import work
from assistant.model_server.here import ModelsHere
from assistant.option import installed
from assistant.process.http import open_socket, serving
from assistant.service.__main__ import open_application
from assistant.service.health import ServiceMetrics, TenantReads
from assistant.service.opened import open_tenants

_WORKER_STOP_S = 0.6
"""Time for batches in progress at the end. It is longer than ``receive_wait_s`` below, so that a worker
without any ends by itself."""
_WORKER_LIMITS = WorkerLimits(consumer=ConsumerLimits(receive_wait_s=0.5))


@dataclass(frozen=True, slots=True)
class Served:
    """A site that is ready to be used."""

    addresses: Addresses
    left_out: tuple[str, ...]
    """A sentence for each tenant with a valid file that is not served: why."""
    worker: asyncio.Task[None]
    """The worker's task. It ends before the site only by an error, which ``result`` raises."""
    models: ModelsHere


@asynccontextmanager
async def open_site(layout: Layout, *, ports: Mapping[str, int]) -> AsyncGenerator[Served]:
    """Serve inside the block.

    ``ports``: ports of the listeners "service", "issuer" and sample systems; a missing one or 0 takes a free
    port. The listeners are opened first, because each part's settings contain the addresses of others. Raises
    LocalRuntimeError, ConfigurationError.
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
        worker, reasons = await stack.enter_async_context(_worker_running(layout, models, stopping))
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
            samples = import_module("tools.systems")
            systems[name] = samples.with_controls(samples.SYSTEMS[name](tuple(layout.system_tokens(name))))
            if name == ORDER_SYSTEM:
                samples.add_originals(systems[name], at=ORIGINALS, publisher=SAMPLE_PUBLISHER)
        apps |= systems
        for option in installed():
            await stack.enter_async_context(option.sample_pages(layout, addresses, systems))

        def begin_to_stop() -> None:
            stopping.set()
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
async def _worker_running(
    layout: Layout, models: ModelsHere, stopping: asyncio.Event
) -> AsyncGenerator[tuple[asyncio.Task[None], Sequence[str]]]:
    """Run the worker inside the block; yield its task when all indices are open, and why it leaves tenants
    out. Raises the worker's error if it ends before."""
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
        worker.result()  # always raises: without an error the worker does not end before it is ready
    try:
        yield worker, ready.result()
    finally:
        stopping.set()
        await asyncio.wait({worker}, timeout=_WORKER_STOP_S)
        worker.cancel()  # its messages go back to their queue
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
    """Return " by NAME (process ID)" for the program that has the port; "" if that is not known."""
    try:  # macOS shows other programs' sockets only to root
        for connection in psutil.net_connections("tcp4"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""


@dataclass(slots=True)
class Site:
    """Runs the loop of a site in a thread, and tells other commands where it serves.

    Methods are called in the command's thread; ``_run`` and ``_serve_site`` run in the loop's. ``start``
    makes a new thread for the loop each time; ``stop`` joins it.

    | field                     | the command's thread              | the loop's thread                    |
    | command, stays            | reads                             | reads                                |
    | layout, ports, _digest    | writes, while no loop runs        | reads                                |
    | left_out, address, models | reads, once ``_ready`` is set     | writes, before it sets _ready        |
    | _error                    | clears in ``start``, then reads   | writes, before it sets _ready        |
    | _ready                    | clears in ``start``, then waits   | sets when it serves and when it ends |
    | _serving                  | clears in ``start``, then reads   | writes first of all                  |
    | _is_ending                | clears in ``start``, sets in stop | reads, after it has written _serving |
    | shared, _thread           | writes and reads                  |                                      |

    ``stop`` and ``_serve_site`` each write their flag before they read the other's. So whichever comes
    first, one of them sees the other: ``stop`` cancels the task, or ``_serve_site`` returns before it opens
    anything.
    """

    layout: Layout
    shared: SharedSite
    """Taken by this command (``SharedSite.take``)."""
    command: str
    stays: bool
    """As in ``Address``."""
    ports: Mapping[str, int]
    """As in ``open_site``."""
    left_out: Sequence[str] = ()
    """As in ``Served``. This, ``models`` and ``address`` are of the last start that became ready: a new start
    does not clear them, and raises unless it replaces them."""
    address: Address | None = None
    """Where it serves; None before the first start."""
    models: ModelsHere | None = None
    """Models that it has loaded, for the command's own work. Closed, once the site has stopped."""
    _digest: str = ""
    """``layout.digest()`` at the start."""
    _error: BaseException | None = None
    """Why it did not start, or ended by itself."""
    _ready: threading.Event = field(default_factory=threading.Event)
    """Set when it serves, and when it has ended."""
    _thread: threading.Thread | None = None
    _serving: asyncio.Task[None] | None = None
    """The loop's main task, which ``stop`` cancels; None until the task runs."""
    _is_ending: bool = False
    """Set by ``stop``, for a loop whose main task does not run yet."""

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
        """Raise the error by which the site ended, if it has; an unexpected one as LocalRuntimeError."""
        if isinstance(self._error, AssistantError):
            raise self._error
        if self._error is not None:
            raise LocalRuntimeError(f"The service ended: {self._error!r}. See .state/logs.") from self._error

    def follow(self, layout: Layout) -> bool:
        """Start anew, on the same ports, if the layout has changed and no command uses the site; return
        whether the site now serves this layout.

        Raises LocalRuntimeError, ConfigurationError.
        """
        assert self.address is not None  # noqa: S101 (for the type checker)
        if layout.digest() == self._digest:
            return True
        if self.shared.is_used():
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
        """Stop the site, also while it starts. If it does not stop within ``stop_timeout_s``, end the whole
        process."""
        self.withdraw()
        self._is_ending = True  # before ``_serving`` is read: see the class's docstring
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
        """Return the content of ``site.json``; without ``listeners`` (fields of ``Addresses``) it says: not
        serving."""
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
        """Run the loop until the site ends; keep its error for ``check``."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve_site())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 : ``check`` raises it in the command's thread
            self._error = error
        finally:
            self._ready.set()

    async def _serve_site(self) -> None:
        """Serve until the task is cancelled or the worker ends, whose error it raises."""
        self._serving = asyncio.current_task()  # before ``_is_ending`` is read: see the class's docstring
        if self._is_ending:
            return
        async with open_site(self.layout, ports=self.ports) as served:
            self.left_out, self.models = served.left_out, served.models
            self.address = self._address(**served.addresses.model_dump())
            self._ready.set()
            await asyncio.wait({served.worker})
            served.worker.result()
