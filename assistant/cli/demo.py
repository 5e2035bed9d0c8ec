"""``assistant demo``: two tenants, three questions, then it serves the console."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.text import Text

from assistant.cli.ask import AgentQuestion, answer_on, client_for
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load
from assistant.cli.loading import check_paths, own_folders
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
_UNANSWERABLE = AgentQuestion(
    "pharmacy", _AGENT, "My headset keeps cutting out in mid call. Where do I order a new one?"
)
"""A question that the tenant's knowledge does not answer."""
_CHECK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Demo:
    """The demo's steps, while the processes run."""

    runtime: LocalRuntime
    terminal: Terminal
    ports: Mapping[str, int]

    async def run(self) -> None:
        """Load and ask the demo's tenants, then load the others."""
        tenants = self.runtime.tenants
        for tenant, question in _QUESTIONS.items():
            if tenant in tenants:
                await self.load(tenant)
                await self.ask(AgentQuestion(tenant, _AGENT, question))
        if _UNANSWERABLE.tenant in tenants:
            await self.ask(_UNANSWERABLE)
        for tenant in [one for one in tenants if one not in _QUESTIONS]:
            try:
                await self.load(tenant)
            except NotFoundError as error:  # a missing folder of another tenant does not end the demo
                self.terminal.step(f"{tenant}: not loaded: {error.message}")

    async def load(self, tenant: str) -> None:
        """Load the tenant file's knowledge; unchanged documents cost nothing."""
        folders = own_folders(self.runtime.options, tenant)
        check_paths(folders)
        report = await load(self.runtime, tenant, folders)
        summary = report.summary
        new = summary.added + summary.changed
        self.terminal.step(f"{tenant}: {summary.documents} documents, {new} new, in {report.seconds:.1f} s")
        for failure in report.failure_lines():
            self.terminal.step(f"{tenant}: not loaded: {failure}")

    async def ask(self, asked: AgentQuestion) -> None:
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
            asyncio.run(_Demo(runtime, terminal, ports).run())
            if stop_after_answers or runtime.settings.in_ci:
                return
            # From here on another command may restart them, e.g. because a tenant file was added.
            serving.enter_context(runtime.supervisor.using(processes, command="assistant demo", yields=True))
        _show_console(terminal, runtime, url_of(SERVICE, ports), users=users or ())
        try:
            _serve(runtime)
        except KeyboardInterrupt:  # the usual end of this command
            terminal.step("stopping")


def _show_console(terminal: Terminal, runtime: LocalRuntime, url: str, *, users: Sequence[str]) -> None:
    end = "Ctrl-C stops everything."
    if users:
        end = (
            f"This service is shared with {' and '.join(users)}. Ctrl-C ends this command alone; the "
            "service stops with the last of them. assistant local down stops it at once."
        )
    terminal.out.print(Text("Console  ", style="bold").append(f"{url}/", style="underline cyan"))
    terminal.out.print(
        f"Sign in there as any agent of {' or '.join(runtime.tenants)}; the role knowledge_owner shows the "
        f"documents, auditor everybody's answers.\n{end}",
        style="dim",
        markup=False,
    )


def _serve(runtime: LocalRuntime) -> None:
    """Wait for a signal. Raises LocalRuntimeError if the service ends before it."""
    while True:
        time.sleep(_CHECK_EVERY_S)
        runtime.supervisor.starter.reap()
        runtime.supervisor.starter.trim_logs()
        if not runtime.supervisor.is_running(SERVICE):
            raise LocalRuntimeError("The service ended, or another command stopped it; see .state/logs.")
