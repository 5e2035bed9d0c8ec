"""What commands do with the local processes: use them, and ``assistant local up|down|status``."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import orjson
import psutil
from rich.text import Text

from assistant.cli.terminal import GlobalOptions, Terminal, table
from assistant.domain.errors import LocalRuntimeError
from assistant.local.layout import EMBEDDING, GATEWAY, ISSUER, SERVICE, WORKER, Layout, port_wishes, url_of
from assistant.local.processes import HOST, ProcessPlan, Registry, Running, RunningProcess
from assistant.local.supervisor import Supervisor
from assistant.private_files import make_private_folder, write_private
from assistant.settings.process import LocalSettings
from assistant.settings.tenant import TenantConfig

_MIB = 1024 * 1024
_NODE_TIMEOUT_S = 3.0
_DEFAULT_NODE_URL = LocalSettings.model_fields["opensearch_url"].default
_CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """What a command needs to start local processes and to call them."""

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
        """Have the named processes ready inside the block, with a spinner until then; yield their ports.

        Raises LocalRuntimeError.
        """
        require_node(self.settings)
        with ExitStack() as stack:
            with self.terminal.waiting("starting the local processes"):
                using = self.supervisor.using(needs, command=command, yields=yields)
                ports = stack.enter_context(using)
            yield ports


def local_runtime(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Read settings and tenant files, and start nothing. A wrong tenant file is named, and left out.

    Raises ConfigurationError.
    """
    return _runtime(options, terminal, options.tenants().tenants)


def _runtime(options: GlobalOptions, terminal: Terminal, tenants: Mapping[str, TenantConfig]) -> LocalRuntime:
    """Return a runtime; without tenants it can show and stop processes, but not start them."""
    settings = options.local_settings()
    layout = Layout(
        tenants_dir=options.tenants_dir,
        state_dir=options.state_dir,
        tenants=tenants,
        settings=settings,
        models=options.local_models(tenants),
        checkout=_CHECKOUT if (_CHECKOUT / "tools" / "systems").is_dir() else None,
    )
    supervisor = Supervisor(
        registry=Registry.under(options.state_dir),
        settings=settings,
        wishes=port_wishes(settings, others=(*layout.model_servers, *layout.sample_systems)),
        plans=lambda ports: _planned(layout, ports),
        say=terminal.say,
        on_ready=lambda name, seconds: terminal.step(f"{name} ready ({seconds:.1f} s)"),
        together=layout.together,
    )
    return LocalRuntime(options, terminal, settings, tenants, layout, supervisor)


def _planned(layout: Layout, ports: Mapping[str, int]) -> Mapping[str, ProcessPlan]:
    """Return the plans, after the gateway was told of the models beside."""
    wanted = orjson.dumps(layout.beside_endpoints(ports), option=orjson.OPT_SORT_KEYS)
    path = layout.endpoints_file
    if (path.read_bytes() if path.exists() else b"{}") != wanted:
        make_private_folder(path.parent)
        beside = path.with_name(f".{path.name}.new")
        write_private(beside, wanted)
        beside.replace(path)
    return layout.plans(ports)


def require_node(settings: LocalSettings) -> None:
    """Raise LocalRuntimeError if the settings search an OpenSearch node that does not answer."""
    if settings.search == "opensearch" and not _node_answers(settings.opensearch_url):
        raise LocalRuntimeError(
            f"No OpenSearch node answers at {settings.opensearch_url}; start one with make opensearch-up "
            f"in a checkout, or name another with {LocalSettings.variable('opensearch_url')}."
        )


def start_node(settings: LocalSettings, *, say: Callable[[str], None]) -> None:
    """Start this machine's OpenSearch node, in a checkout, if the settings search it and it does not answer.

    It continues to run afterwards, as after ``make opensearch-up``. Raises LocalRuntimeError.
    """
    if settings.search != "opensearch":
        return
    if _node_answers(settings.opensearch_url):
        say(f"searching the OpenSearch node at {settings.opensearch_url}")
        return
    if settings.opensearch_url == _DEFAULT_NODE_URL and (_CHECKOUT / "tools" / "opensearch").is_dir():
        say(f"no OpenSearch node answers at {settings.opensearch_url}: starting one (make opensearch-up)")
        command = [sys.executable, "-m", "tools.opensearch", "up"]
        line = ""
        with subprocess.Popen(
            command, cwd=_CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as starting:
            for line in starting.stderr or ():
                say(line.strip().removeprefix("· "))
        if starting.returncode != 0:
            raise LocalRuntimeError(line.strip() or "The OpenSearch node did not start.")
        say("the node continues to run afterwards; make opensearch-down stops it")
    require_node(settings)


def _node_answers(url: str) -> bool:
    try:
        found = httpx.get(f"{url}/_cluster/health", timeout=_NODE_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return found.status_code == 200


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
    """Start all processes and keep them running."""
    terminal = Terminal(steps=not options.json)
    runtime = local_runtime(options, terminal)
    ports = runtime.supervisor.up(runtime.layout.everything)
    if options.json:
        _print_json(terminal, _views(runtime.supervisor.clean()))
        return
    terminal.out.print(f"Serving at [bold]{url_of(SERVICE, ports)}[/bold]; assistant local down stops it.")


def take_down(options: GlobalOptions) -> None:
    """Stop all processes of the state folder."""
    terminal = Terminal()
    runtime = _runtime(options, terminal, {})
    with terminal.waiting("stopping"):
        stopped = runtime.supervisor.down()
    if options.json:
        terminal.json({"stopped": stopped.names, "were_used_by": stopped.users})
        return
    for user in stopped.users:
        terminal.say(f"{user} was still using it")
    terminal.out.print(f"Stopped {', '.join(stopped.names)}." if stopped.names else "Nothing was running.")


def show_status(options: GlobalOptions) -> None:
    """Print a row for each process."""
    terminal = Terminal()
    views = _views(_runtime(options, terminal, {}).supervisor.clean())
    if options.json:
        _print_json(terminal, views)
        return
    terminal.out.print(
        table(
            *("process", "state", "address", "pid", "memory", "up", "used by"),
            right=("memory", "up"),
            rows=map(_cells, views),
        )
    )


def _cells(view: ProcessView) -> tuple[str | Text, ...]:
    return (
        view.name,
        Text(view.state, style="green" if view.state == "ready" else "dim"),
        (view.address or "").removeprefix("http://"),
        "" if view.pid is None else str(view.pid),
        "" if view.memory_mib is None else f"{view.memory_mib} MiB",
        "" if view.uptime_s is None else _in_words(view.uptime_s),
        ", ".join(view.used_by),
    )


def _views(running: Running) -> list[ProcessView]:
    others = (GATEWAY, ISSUER, WORKER, SERVICE)
    models = [name for name in running.processes if name not in others] or [EMBEDDING]
    return [_view(name, running.processes.get(name), running=running) for name in (*models, *others)]


def _view(name: str, one: RunningProcess | None, *, running: Running) -> ProcessView:
    if one is None:
        return ProcessView(name, "stopped")
    users = [use.command for use in running.users(name)]
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


def _print_json(terminal: Terminal, views: list[ProcessView]) -> None:
    terminal.json({"processes": [asdict(view) for view in views]})
