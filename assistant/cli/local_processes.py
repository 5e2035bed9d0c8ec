"""What ``assistant local`` does and shows."""

from __future__ import annotations

import time
from dataclasses import dataclass

import orjson
import psutil
from rich.table import Table

from assistant.cli.global_options import GlobalOptions
from assistant.cli.layout import EMBEDDING, GATEWAY, ISSUER, SERVICE, WORKER, url_of
from assistant.cli.local_runtime import local_runtime, runtime_without_tenants
from assistant.cli.ports import HOST
from assistant.cli.registry import Running, RunningProcess
from assistant.cli.terminal import Terminal

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
