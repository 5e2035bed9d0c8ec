"""What the commands do with the local processes: use them, and ``assistant local up|down|status``."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import orjson
import psutil
from rich.table import Table

from assistant.cli.global_options import GlobalOptions
from assistant.cli.search_node import require_node
from assistant.cli.terminal import Terminal
from assistant.local.layout import EMBEDDING, GATEWAY, ISSUER, SERVICE, WORKER, Layout, port_wishes, url_of
from assistant.local.processes import HOST
from assistant.local.registry import Registry, Running, RunningProcess
from assistant.local.starting import Starter
from assistant.local.supervisor import Supervisor
from assistant.settings.process import LocalSettings
from assistant.settings.tenant import TenantConfig


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """All that a command needs to have processes and to talk to them."""

    options: GlobalOptions
    terminal: Terminal
    settings: LocalSettings
    tenants: Mapping[str, TenantConfig]
    layout: Layout
    supervisor: Supervisor

    @contextmanager
    def processes(
        self, needs: Sequence[str], *, command: str, yields: bool = False
    ) -> Generator[Mapping[str, int]]:
        """Have the named processes ready inside the block, a spinner until they are; yield their ports.

        Raises LocalRuntimeError.
        """
        require_node(self.settings)
        with ExitStack() as stack:
            with self.terminal.waiting("starting the local processes"):
                using = self.supervisor.using(needs, command=command, yields=yields)
                ports = stack.enter_context(using)
            yield ports


def local_runtime(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Read settings and tenant files; nothing is started yet. A wrong file is named, and left out.

    Raises ConfigurationError.
    """
    return _runtime(options, terminal, options.tenants().tenants)


def runtime_without_tenants(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Return what can look and stop, also when a tenant file is broken; it can start nothing."""
    return _runtime(options, terminal, {})


def _runtime(options: GlobalOptions, terminal: Terminal, tenants: Mapping[str, TenantConfig]) -> LocalRuntime:
    settings = options.local_settings()
    layout = Layout(
        tenants_dir=options.tenants_dir,
        state_dir=options.state_dir,
        tenants=tenants,
        settings=settings,
        models=options.local_models(tenants),
    )
    registry = Registry.under(options.state_dir)
    starter = Starter(
        registry=registry,
        settings=settings,
        logs_dir=registry.path.parent / "logs",
        on_ready=terminal.process_ready,
    )
    supervisor = Supervisor(
        registry=registry,
        settings=settings,
        starter=starter,
        wishes=port_wishes(settings, model_servers=layout.model_servers),
        plans=layout.plans,
        say=terminal.say,
    )
    return LocalRuntime(options, terminal, settings, tenants, layout, supervisor)


# What ``assistant local`` does and shows.


_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One row of ``local status``; the names are those of its JSON."""

    name: str
    state: str
    pid: int | None = None
    address: str | None = None
    memory_mib: int | None = None
    uptime_s: int | None = None
    used_by: tuple[str, ...] = ()
    """Commands, and ``local up``."""


def bring_up(options: GlobalOptions) -> None:
    terminal = Terminal(steps=not options.json)
    runtime = local_runtime(options, terminal)
    ports = runtime.supervisor.up(runtime.layout.everything)
    if options.json:
        _print_json(_views(runtime.supervisor.clean()))
        return
    terminal.out.print(f"Serving at [bold]{url_of(SERVICE, ports)}[/bold]; assistant local down stops it.")


def take_down(options: GlobalOptions) -> None:
    terminal = Terminal()
    runtime = runtime_without_tenants(options, terminal)
    with terminal.waiting("stopping"):
        stopped = runtime.supervisor.down()
    if options.json:
        terminal.line(orjson.dumps({"stopped": stopped.names, "were_used_by": stopped.users}).decode())
        return
    for user in stopped.users:
        terminal.say(f"{user} was still using it")
    terminal.out.print(f"Stopped {', '.join(stopped.names)}." if stopped.names else "Nothing was running.")


def show_status(options: GlobalOptions) -> None:
    terminal = Terminal()
    views = _views(runtime_without_tenants(options, terminal).supervisor.clean())
    if options.json:
        _print_json(views)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("process", "state", "address", "pid"):
        table.add_column(heading)
    for heading in ("memory", "up"):
        table.add_column(heading, justify="right")
    table.add_column("used by")
    for view in views:
        table.add_row(
            view.name,
            f"[green]{view.state}[/green]" if view.state == "ready" else f"[dim]{view.state}[/dim]",
            (view.address or "").removeprefix("http://"),
            "" if view.pid is None else str(view.pid),
            "" if view.memory_mib is None else f"{view.memory_mib} MiB",
            "" if view.uptime_s is None else _in_words(view.uptime_s),
            ", ".join(view.used_by),
        )
    terminal.out.print(table)


def _views(running: Running) -> list[ProcessView]:
    others = (GATEWAY, ISSUER, WORKER, SERVICE)
    models = [name for name in running.processes if name not in others] or [EMBEDDING]
    names = [*models, *others]
    return [_view(name, running.processes.get(name), running=running) for name in names]


def _view(name: str, one: RunningProcess | None, *, running: Running) -> ProcessView:
    if one is None:
        return ProcessView(name, "stopped")
    users = [use.command for use in running.uses if name in use.needs]
    try:
        memory_mib = psutil.Process(one.identity.pid).memory_info().rss // _MIB
    except psutil.Error:
        memory_mib = None
    return ProcessView(
        name,
        "ready" if one.ready else "starting",
        pid=one.identity.pid,
        address=None if one.port is None else f"http://{HOST}:{one.port}",
        memory_mib=memory_mib,
        uptime_s=int(time.time() - one.identity.started_at),
        used_by=(*users, *(["local up"] if name in running.pinned else [])),
    )


def _in_words(seconds: int) -> str:
    minutes, rest = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _print_json(views: list[ProcessView]) -> None:
    Terminal().line(orjson.dumps({"processes": views}).decode())
