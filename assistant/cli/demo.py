"""``assistant demo``: serves the sample tenants, loads them, asks their questions, and tells the stories of
options."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from textwrap import shorten
from typing import Annotated, Literal

import typer
from rich.text import Text
from typer import Option

from assistant.cli.ask import sign_context
from assistant.cli.learn import learn_first_router
from assistant.cli.models import (
    ModelOfUrl,
    ServedOptions,
    Url,
    play_recorded_answers,
    use_served_model,
)
from assistant.client.connection import RefusedByServiceError
from assistant.domain.errors import NotFoundError
from assistant.evaluation.routing import content_note
from assistant.laptop.layout import ORDER_SYSTEM
from assistant.laptop.tokens import CareCase, Grant
from assistant.option import installed
from assistant.terminal.answer_view import answer_on, question_of, reply_on
from assistant.terminal.loading import load, own_folders
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal, styled

app = typer.Typer(add_completion=False)
_AGENT = "demo"
_WIDEST = 150
"""Characters of an answer's line, unless all is printed."""
_QUESTIONS = {
    "pharmacy": "What do I do when a delivery that must stay cold arrives warm?",
    "shop": "What is the noise level of the Pellwick Breeze 500 and of the Torvik Haze 500?",
    "clinic": "What is gestational diabetes?",
}
"""One a tenant, in the order in which they are loaded and asked. The shop's compares two items."""
_AFTER_STORY = "clinic"
"""The tenant that is loaded after the stories: its 441 documents, without kept vectors, take longest."""
_STORY_TENANT = "pharmacy"
"""The tenant whose stories options tell, and which is asked about live data."""
_LIVE_QUESTION = "Where is her order, and may I refill it?"
LIVE_CASE = CareCase("PT-204417", {"order": ("4471-2208",), "prescription": ("7301842-04417",)})
"""A customer of the sample order system (tools/systems.py), with an order that is late."""


@dataclass(frozen=True, slots=True)
class _Demo:
    """The demo's steps. The local processes run while its methods are called."""

    runtime: LocalRuntime
    terminal: Terminal

    async def run(self) -> None:
        """Load and ask the demo's tenants, and tell the stories of options."""
        tenants = [tenant for tenant in _QUESTIONS if tenant in self.runtime.tenants]
        for tenant in tenants:
            if tenant != _AFTER_STORY:
                await self.load_and_ask(tenant)
        if _STORY_TENANT in tenants:
            for option in installed():
                await option.tell_story(self.runtime, self.terminal, _STORY_TENANT)
        if _AFTER_STORY in tenants:
            await self.load_and_ask(_AFTER_STORY)

    async def load_and_ask(self, tenant: str) -> None:
        """Load one of the demo's tenants, ask its questions, and learn its router where it has none."""
        await self.load(tenant)
        if tenant == _STORY_TENANT:
            await self.ask(tenant, _QUESTIONS[tenant], mode="quoted")
            self.terminal.show("The same question, where a model writes above the section:", "dim")
        await self.ask(tenant, _QUESTIONS[tenant], replies=tenant == _STORY_TENANT)
        order_tenants = {name for name, _ in self.runtime.layout.sample_systems.get(ORDER_SYSTEM, ())}
        if tenant == _STORY_TENANT and tenant in order_tenants:  # in a checkout, with its own file
            await self.ask(tenant, _LIVE_QUESTION, LIVE_CASE)
        if (learned := await learn_first_router(self.runtime, tenant=tenant)) is not None:
            self.terminal.step(f"{tenant}: learned which source matters: {content_note(learned.content)}")

    async def load_others(self) -> None:
        """Load the tenants that the demo asks no question, so that the console can."""
        for tenant in [tenant for tenant in self.runtime.tenants if tenant not in _QUESTIONS]:
            try:
                await self.load(tenant)
            except NotFoundError as error:  # a missing folder of another tenant does not end the demo
                self.terminal.step(f"{tenant}: not loaded: {error.message}")

    async def load(self, tenant: str) -> None:
        """Load the tenant file's knowledge; unchanged documents cost nothing."""
        folders = own_folders(self.runtime.options, tenant)
        report = await load(self.runtime, tenant, folders)
        summary = report.summary
        new = summary.added + summary.changed
        self.terminal.step(f"{tenant}: {summary.documents} documents, {new} new, in {report.seconds:.1f} s")
        for remark in () if self.terminal.brief else report.remarks():
            self.terminal.step(f"{tenant}: {remark}")

    async def ask(
        self,
        tenant: str,
        question: str,
        case: CareCase | None = None,
        *,
        mode: Literal["auto", "quoted"] = "auto",
        replies: bool = False,
    ) -> None:
        """Print one streamed answer with its sources.

        ``case``: the customer whose conversation it is, for live data. ``replies``: write a reply to the
        patient from the answer, too, where a model writes.
        """
        out, detail = self.terminal.out, self.terminal.detail
        detail.out.print()
        out.print(styled((f"{tenant}  ", "bold cyan"), (question, "bold")))
        context = None
        if case is not None:
            context = sign_context(self.runtime.options, self.runtime.tenants[tenant], _AGENT, case)
            customer = case.customer
            self.terminal.show(
                f"in the conversation of customer {customer}, signed by the care application", "dim"
            )
        async with self.runtime.client(Grant(tenant, _AGENT)) as client:
            prepared = question_of(question, context=context).model_copy(update={"mode": mode})
            answer = await answer_on(detail, client, prepared, shows_section=not replies)
            if self.terminal.brief:
                self.terminal.show(f"  {shorten(answer.gist, _WIDEST, placeholder=' …')}")
            if replies and answer.is_written and answer.answer_id is not None:
                with suppress(RefusedByServiceError):  # a recorded answer has no reply
                    await reply_on(self.terminal, client, answer)
        detail.out.print()


@app.command()
def demo(
    context: typer.Context,
    exit_: Annotated[bool, Option("--exit", help="Stop after the answers (also with CI=true).")] = False,
    verbose: Annotated[bool, Option("--verbose", help="Print whole answers and their sources.")] = False,
    url: Url = None,
    model: ModelOfUrl = None,
) -> None:
    """Start all tenants and serve them until Ctrl-C; meanwhile answer four questions and tell the stories of
    options.

    With a model, its tenants' answers are written by it, as after: assistant models use. Without one, answers
    are sections of documents, and a few questions have committed answers of a language model, labelled so."""
    options, terminal = GlobalOptions.of(context), Terminal(steps=True, brief=not verbose)
    served = ServedOptions(url, model)
    tenants = [tenant for tenant in options.tenants().tenants if tenant in _QUESTIONS]
    _choose_model(options, served, tenants=tenants)
    runtime = local_runtime(options, terminal)
    exits, is_serving = exit_ or runtime.settings.in_ci, False
    try:
        with runtime.site(command="assistant demo", stays=not exits, shows=True):
            if runtime.site_here is None:
                terminal.step(f"joining what runs already, of {runtime.address.command}")
            if not exits:
                is_serving = True  # Ctrl-C may come with the last line of what follows
                _show_console(terminal, runtime)
            steps = _Demo(runtime, terminal)
            asyncio.run(steps.run())
            if exits:
                terminal.step("the demo has ended; without --exit the console serves from its start on")
                return
            asyncio.run(steps.load_others())
            terminal.show("All tenants are loaded.", "dim")
            if runtime.site_here is not None:  # a service of our own ends with the block: serve inside it
                runtime.serve()
        # A joined service: the command that serves it may end without waiting for this one, after the block.
        runtime.serve()
    except KeyboardInterrupt:  # the usual end of this command
        if not is_serving:
            raise
        terminal.step("stopped")


def _choose_model(options: GlobalOptions, served: ServedOptions, *, tenants: Sequence[str]) -> None:
    """Choose the model that the command names for the tenants; without one, the committed recordings."""
    served.check(others=served.url is None)
    if served.url is not None:
        use_served_model(options, tenants=tenants, served=served)
    else:
        play_recorded_answers(options, tenants=tenants)


def _show_console(terminal: Terminal, runtime: LocalRuntime) -> None:
    """Print the console's address, how to sign in there, and how to end the demo."""
    how_to_end = "Ctrl-C stops everything."
    if runtime.site_here is None:
        how_to_end = (
            f"This service is of {runtime.address.who}. Ctrl-C ends this command alone; the service stops "
            "with that one. assistant tenant down stops it at once."
        )
    url = runtime.address.service
    terminal.out.print(Text("Console  ", style="bold").append(f"{url}/", style="underline cyan"))
    terminal.show(
        f"Sign in there as any agent of {' or '.join(runtime.tenants)}; the role knowledge_owner shows the "
        "documents, auditor everybody's answers, manager numbers of them.",
        "dim",
    )
    for option in installed():
        option.show_pages(runtime, terminal)
    terminal.show(how_to_end, "dim")
