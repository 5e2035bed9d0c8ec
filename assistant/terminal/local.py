"""The *site* of this machine is the service with its worker and issuer, one for a state folder. A command
uses the site that runs (``assistant tenant up``), or serves one itself while it runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from assistant.client import AssistantClient
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState
from assistant.domain.errors import ConfigurationError, LocalRuntimeError
from assistant.laptop.layout import Address, Layout, SharedSite
from assistant.laptop.tokens import Grant, issue_token
from assistant.process.private_files import (
    make_private_file,
    make_private_folder,
    owner_only,
    replace_private,
)
from assistant.process.settings import LocalSettings
from assistant.process.telemetry import configure_logging
from assistant.service.opened import open_tenants
from assistant.stores.documents import KnowledgeStores
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.terminal import GlobalOptions, Terminal

if TYPE_CHECKING:
    from assistant.answer.services import TenantServices
    from assistant.laptop.site import Site
    from assistant.model_server.here import ModelsHere

_MIB = 1024 * 1024
_RETRY_S = 0.1
_STEP_LIMIT_S = 30.0
"""See ``_patient``."""
_FOLLOW_EVERY_S = 1.0
"""Between two looks at the tenant files."""
_CHECKOUT = Path(__file__).parents[2]


@dataclass(slots=True)
class LocalRuntime:
    """What a command needs to serve the site, or to use the one that runs. Call its methods inside
    ``site``."""

    options: GlobalOptions
    terminal: Terminal
    settings: LocalSettings
    tenants: Mapping[str, TenantConfig]
    layout: Layout
    shared: SharedSite
    site_here: Site | None = None
    """The site that this command serves itself; None where another command serves it."""
    _address: Address | None = None
    _times: Mapping[Path, tuple[int, int]] | None = None
    """``Layout.times`` at the last look."""

    @property
    def address(self) -> Address:
        """Where the site is, inside the block of ``site``."""
        assert self._address is not None  # noqa: S101 (a mistake of ours)
        return self._address

    @property
    def models(self) -> ModelsHere | None:
        """The models that this process has loaded already."""
        return None if self.site_here is None else self.site_here.models

    def check(self) -> None:
        """Raise LocalRuntimeError where the site has ended."""
        if self.site_here is not None:
            self.site_here.check()
        elif not self.shared.serves(self.address):
            raise LocalRuntimeError(f"{self.address.who} ended, and the service with it.")

    @contextmanager
    def site(self, *, command: str, stays: bool = False, shows: bool = False) -> Generator[None]:
        """Have the site ready inside the block, with a spinner until then.

        It uses a site that runs with the same options and settings, else it waits until nobody else serves,
        and serves one itself. ``shows``: people open its pages, so it takes the port of the settings.
        ``stays``: the command serves until a signal, and uses no site of a command that may end before.
        Raises LocalRuntimeError, ConfigurationError.
        """
        until_s, told = time.monotonic() + self.settings.lock_timeout_s, False
        while not self.shared.take():
            waits_for = "another assistant command that starts"
            if (address := self.shared.read()) is not None:
                self._refuse_other_options(address)
                if stays and not address.stays:
                    waits_for = address.who
                elif address.digest != self.layout.digest():
                    waits_for = f"{address.who}, which serves other settings"
                else:
                    with self.shared.using(address) as is_serving:
                        if is_serving:
                            self._address = address
                            yield
                            return
            if time.monotonic() > until_s:
                raise LocalRuntimeError(f"Waited too long for {waits_for}. End it first.")
            if not told:
                self.terminal.say(f"waiting for {waits_for}")
                told = True
            time.sleep(_RETRY_S)
        try:
            with self._serving(command, stays=stays, shows=shows or stays):
                yield
        finally:
            self.shared.release()

    @contextmanager
    def _serving(self, command: str, *, stays: bool, shows: bool) -> Generator[None]:
        """Serve a site inside the block; at its end wait for other commands that use it."""
        from assistant.laptop.site import Site  # slow: not where another command serves

        is_wished = shows or "port" in self.settings.model_fields_set
        port = self.settings.port if is_wished else 0
        ports = {"service": port, "issuer": port + 1} if port else {}
        self.site_here = Site(self.layout, self.shared, command, stays, ports)
        with owner_only():
            configure_logging(stream=self._log())
            try:
                with self.terminal.waiting("starting the service"):
                    self._start(self.site_here)
                yield
                self.site_here.withdraw()
                self.shared.await_users(
                    lambda: self.terminal.say("waiting for a command that uses the service")
                )
            finally:
                self.site_here.stop()

    def _start(self, site: Site) -> None:
        """Start the site, and say how long it took and which tenants it leaves out."""
        began_s = time.monotonic()
        self._address = site.start()
        if not self.terminal.brief:
            self.terminal.step(f"service ready ({time.monotonic() - began_s:.1f} s)")
        for reason in site.left_out:
            self.terminal.say(reason)

    def serve(self) -> NoReturn:
        """Serve until a signal, and follow tenant files that change.

        Raises LocalRuntimeError if the site ends before it.
        """
        while True:
            time.sleep(_FOLLOW_EVERY_S)
            self.check()
            if self.site_here is not None:
                self._follow(self.site_here)

    def start_apart(self) -> Address:
        """Start a process that serves until a signal, unless one does; return its address. Raises
        LocalRuntimeError where it ends before it serves, with the last line of its log if it failed."""
        child: subprocess.Popen[bytes] | None = None
        until_s = time.monotonic() + self.settings.lock_timeout_s + self.settings.start_timeout_s
        with self._log() as log:
            began = log.tell()
            while True:
                # Read before the address: a process that ends because another command serves leaves one.
                status = None if child is None else child.poll()
                if (address := self.shared.read()) is not None and address.stays:
                    self._refuse_other_options(address)
                    if address.digest == self.layout.digest():
                        return address
                if status is not None:
                    raise LocalRuntimeError(_why_ended(status, Path(log.name), began=began))
                if child is None and not self.shared.is_held():
                    child = self._spawn(log)
                if time.monotonic() > until_s:
                    raise LocalRuntimeError("Waited too long for another assistant command. End it first.")
                time.sleep(_RETRY_S)

    def _spawn(self, log: TextIO) -> subprocess.Popen[bytes]:
        """Start ``assistant tenant up --foreground`` with these options, in a session of its own."""
        options = self.options
        folders = ("--tenants", str(options.tenants_dir), "--state", str(options.state_dir))
        port = () if options.port is None else ("--port", str(options.port))
        command = (sys.executable, "-P", "-m", "assistant.cli.main", *folders, *port)
        return subprocess.Popen(
            (*command, "tenant", "up", "--foreground"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _follow(self, site: Site) -> None:
        """Start the site again where tenant files or models have changed. A file is read only after its time
        changed."""
        try:
            times = site.layout.times()
        except OSError:
            return  # a folder is being replaced: the next look sees it
        if times == self._times:
            return
        try:
            changed = local_runtime(self.options, self.terminal).layout
        except ConfigurationError:
            self._times = times
            return  # no tenant file is valid: the site goes on with those that it read
        before = site.layout
        if not site.follow(changed):
            return
        self._times = times
        if site.layout is not before:
            self._address = site.address
            self.terminal.step("a tenant file or model changed: the service started anew")

    def _log(self) -> TextIO:
        """Open the site's log, cut to half its limit where it is longer. Raises LocalRuntimeError where the
        disk is full."""
        folder = self.shared.folder / "logs"
        make_private_folder(folder)
        free_mib = shutil.disk_usage(folder).free // _MIB
        if free_mib < self.settings.min_free_mib:
            raise LocalRuntimeError(
                f"The disk of {folder.parent} is full: {free_mib} MiB are free and "
                f"{self.settings.min_free_mib} MiB needed; make room or choose another folder with --state."
            )
        path, limit = folder / "site.log", self.settings.log_limit_mib * _MIB
        if path.exists() and path.stat().st_size > limit:
            replace_private(path, path.read_bytes()[-limit // 2 :].partition(b"\n")[2])
        make_private_file(path)
        return path.open("a", encoding="utf-8")

    def _refuse_other_options(self, address: Address) -> None:
        """Raise LocalRuntimeError where the site that runs has other options than this command."""
        wanted = self.layout.options()
        port = address.service.rpartition(":")[2]
        differing = [name for name in wanted if address.options.get(name) != wanted[name]]
        if "port" in self.settings.model_fields_set and self.settings.port not in (0, int(port)):
            differing.append("port")
        if differing:
            raise LocalRuntimeError(
                f"{address.who} serves this state folder with another {' and '.join(differing)}. End it "
                "first: assistant tenant down."
            )

    def client(self, grant: Grant) -> AssistantClient:
        """Return a client of the site's service with this grant; the caller closes it."""
        token = issue_token(grant, state_dir=self.shared.folder, issuer=self.address.issuer)
        return AssistantClient(self.address.service, token=token)


def _why_ended(status: int, log: Path, *, began: int) -> str:
    """Return the last line that a process wrote to its log, from the byte ``began`` on, if it failed."""
    with log.open("rb") as written:
        written.seek(began)
        lines = written.read().decode(errors="replace").strip().splitlines()
    if status == 0 or not lines:
        return "The process of the service ended before it served. Run the command again."
    return lines[-1].removeprefix("assistant: ")


def local_runtime(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Read settings and tenant files, and start nothing. A wrong tenant file is named, and left out.

    Raises ConfigurationError.
    """
    tenants = options.tenants().tenants
    settings = options.local_settings()
    layout = Layout(
        tenants_dir=options.tenants_dir,
        state_dir=options.state_dir,
        tenants=tenants,
        settings=settings,
        models=options.local_models(tenants),
        checkout=_CHECKOUT if (_CHECKOUT / "tools" / "systems.py").is_file() else None,
    )
    return LocalRuntime(options, terminal, settings, tenants, layout, SharedSite(options.state_dir.resolve()))


async def has_knowledge(knowledge: KnowledgeStores) -> bool:
    """Return whether at least one document of the tenant is in the index."""
    counts = await knowledge.states.count_by_state()
    return bool(counts.get(DocumentState.LIVE) or counts.get(DocumentState.STALE))


@asynccontextmanager
async def open_services(
    runtime: LocalRuntime, tenants: Sequence[str], *, generates: bool = False
) -> AsyncGenerator[Mapping[str, TenantServices]]:
    """Open the tenants' answer paths as the service does, but with 30 s for each step, since quality is
    measured or learned here, and not speed.

    Raises ConfigurationError for a tenant without a document in its index.
    """
    settings = runtime.layout.service_settings(runtime.address)
    async with open_tenants(
        settings, only=tenants, generates=generates, clock=SystemClock(), models=runtime.models
    ) as opened:
        for tenant in tenants:
            if not await has_knowledge(opened[tenant].knowledge):
                raise ConfigurationError(
                    f"{tenant} has no knowledge yet: add some with assistant knowledge add --tenant "
                    f"{tenant} PATH."
                )
        yield {tenant: _patient(opened[tenant].answering) for tenant in tenants}


def _patient(services: TenantServices) -> TenantServices:
    """Return the services with time limits that no busy machine reaches."""
    tenant = services.tenant
    sources = tuple(source.model_copy(update={"deadline_s": _STEP_LIMIT_S}) for source in tenant.sources)
    limits = tenant.limits.model_copy(
        update={"search_timeout_s": _STEP_LIMIT_S, "embedding_timeout_s": _STEP_LIMIT_S}
    )
    return replace(services, tenant=tenant.model_copy(update={"sources": sources, "limits": limits}))


def committed(options: GlobalOptions) -> Path:
    """Return the folder of committed questions, bounds and series, beside the tenants' folder."""
    return options.tenants_dir.parent / "evaluation"
