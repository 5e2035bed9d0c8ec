"""``assistant demo``: two tenants, three questions, then the console goes on serving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.text import Text

from assistant.cli.ask import Asked, answer_on, client_for
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import check_paths, load, own_folders
from assistant.cli.local import LocalRuntime, local_runtime, start_node
from assistant.cli.terminal import Terminal, styled
from assistant.domain.errors import LocalRuntimeError, NotFoundError
from assistant.local.layout import SERVICE, url_of

_AGENT = "demo"
_QUESTIONS = {
    "pharmacy": "What do I do when a delivery that must stay cold arrives warm?",
    "clinic": "What is gestational diabetes?",
}
"""One a tenant, in the order in which they are loaded and asked."""
_NOT_KNOWN = Asked(
    "pharmacy", _AGENT, "My headset keeps cutting out in mid call. Where do I order a new one?"
)
"""A question that the tenant's knowledge does not answer."""
_WATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class _Demo:
    """One run: everything started, ports known."""

    runtime: LocalRuntime
    terminal: Terminal
    ports: Mapping[str, int]

    async def load(self, tenant: str) -> None:
        """Bring the tenant file's knowledge in; what is unchanged costs nothing."""
        folders = own_folders(self.runtime.options, tenant)
        check_paths(folders)
        report = await load(self.runtime, tenant, folders)
        summary = report.summary
        new = summary.added + summary.changed
        self.terminal.step(f"{tenant}: {summary.documents} documents, {new} new, in {report.seconds:.1f} s")
        for failure in report.summary.failures:
            self.terminal.step(f"{tenant}: not loaded: {failure.origin}: {failure.reason}")
        for status in report.failed:
            self.terminal.step(f"{tenant}: not loaded: {status.document_id}: {status.failure_reason}")

    async def ask(self, asked: Asked) -> None:
        """Stream one answer with its sources."""
        out = self.terminal.out
        out.print()
        out.print(styled((f"{asked.tenant}  ", "bold cyan"), (asked.question, "bold")))
        async with client_for(self.runtime, asked, ports=self.ports) as client:
            await answer_on(self.terminal, client, asked.question)
        out.print()


def run_demo(options: GlobalOptions, *, stop_after_answers: bool) -> None:
    """Load, ask and serve until Ctrl-C; with ``stop_after_answers`` or CI=true return after the answers."""
    terminal = Terminal(steps=True)
    runtime = local_runtime(options, terminal)
    start_node(runtime.settings, say=terminal.step)
    processes = runtime.layout.everything
    users = runtime.supervisor.users(SERVICE)
    if users is None:
        terminal.step(f"starting the local processes: {', '.join(processes)}")
    else:
        terminal.step(f"joining what runs already, of {' and '.join(users) or 'a command that ended'}")
    with ExitStack() as serving:
        with runtime.processes(processes, command="assistant demo") as ports:
            asyncio.run(_load_and_ask(_Demo(runtime, terminal, ports)))
            if stop_after_answers or runtime.settings.in_ci:
                return
            # From here on another command may restart them, e.g. because a tenant file was added.
            serving.enter_context(runtime.supervisor.using(processes, command="assistant demo", yields=True))
        _show_where(terminal, runtime, url_of(SERVICE, ports), users=users)
        try:
            _serve(runtime)
        except KeyboardInterrupt:  # the way this command is meant to end
            terminal.step("stopping")


async def _load_and_ask(demo: _Demo) -> None:
    asked_first = [tenant for tenant in _QUESTIONS if tenant in demo.runtime.tenants]
    for tenant in asked_first:
        await demo.load(tenant)
        await demo.ask(Asked(tenant, _AGENT, _QUESTIONS[tenant]))
    if _NOT_KNOWN.tenant in asked_first:
        await demo.ask(_NOT_KNOWN)
    for tenant in demo.runtime.tenants:
        if tenant not in asked_first:
            try:
                await demo.load(tenant)
            except NotFoundError as error:  # a tenant of the reader's own shall not end the demo
                demo.terminal.step(f"{tenant}: not loaded: {error.message}")


def _show_where(terminal: Terminal, runtime: LocalRuntime, url: str, *, users: Sequence[str] | None) -> None:
    tenants = " or ".join(runtime.tenants)
    terminal.out.print(Text("Console  ", style="bold").append(f"{url}/", style="underline cyan"))
    terminal.out.print(
        f"Sign in there as any agent of {tenants}; the role knowledge_owner shows the documents, "
        f"auditor everybody's answers.\n{_end(users)}",
        style="dim",
        markup=False,
    )


def _end(users: Sequence[str] | None) -> str:
    if not users:
        return "Ctrl-C stops everything."
    return (
        f"This service is shared with {' and '.join(users)}. Ctrl-C ends this command alone; the "
        "service stops with the last of them. assistant local down stops it at once."
    )


def _serve(runtime: LocalRuntime) -> None:
    """Wait for a signal. Raises LocalRuntimeError if the service ends before it."""
    while True:
        time.sleep(_WATCH_S)
        runtime.supervisor.starter.reap()
        runtime.supervisor.starter.trim_logs()
        if not runtime.supervisor.is_running(SERVICE):
            raise LocalRuntimeError("The service ended, or another command stopped it; see .state/logs.")
