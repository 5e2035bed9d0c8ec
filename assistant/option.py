"""Where options join the core: folders of ``assistant/options``, which the core finds and does not name.

The ``option.py`` of each has one value, ``OPTION``, of a subclass of ``Option``. Each method of that class
is a door of the core. An option overrides the methods of the doors at which it joins, and imports its own
modules in them: what a process does not ask for is not loaded::

    class Shop(Option):  # in options/shop/option.py
        def offer(self, services: TenantServices) -> Offer:
            from assistant.options.shop.tables import OfferItems

            return OfferItems(services)

    offers = [option.offer(services) for option in installed()]  # in the core
"""
# ruff: noqa: ARG002 - a door at which nothing joins uses no argument

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import assistant.options

if TYPE_CHECKING:  # the rooms above, each of which says at what it calls
    from fastapi import FastAPI
    from typer import Typer

    from assistant.answer.answer import AnswerQuestion
    from assistant.answer.offers import Offer
    from assistant.answer.read import Beside
    from assistant.answer.services import AnswerWriter, LiveData, TenantServices
    from assistant.documents.formats import ConvertedKind
    from assistant.documents.withdraw import KeptTexts
    from assistant.domain.answers import Verdict
    from assistant.domain.clock import Clock
    from assistant.domain.identity import Identity
    from assistant.evaluation.judging import AfterWritten
    from assistant.evaluation.trials import Head, Trial
    from assistant.laptop.layout import Addresses, Layout
    from assistant.models.opened import ModelStores
    from assistant.process.settings import ServiceSettings, WorkerSettings
    from assistant.service.app import Routes
    from assistant.service.identity import Contexts, KeySet, KeySource
    from assistant.service.opened import Loop, TenantObserver
    from assistant.service.served import ServedTenant, ServedTenants
    from assistant.service.wire import ConsoleConfig
    from assistant.stores.opened import StoreChoice
    from assistant.stores.ports import DocumentTexts, LiveDesk
    from assistant.tenant.deployment_checks import Contradiction
    from assistant.tenant.prices import AssumedLoad, Price, Use
    from assistant.tenant.tenant import TenantConfig
    from assistant.tenant.toml_file import Tables
    from assistant.terminal.account import AccountChecks, Finding
    from assistant.terminal.local import LocalRuntime
    from assistant.terminal.terminal import Terminal
    from stacks.options import OptionStacks

Joined = TypeVar("Joined")


class Option:
    """What one option brings. Each method is a door, at which by default nothing joins."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Options (folder names) without which this one is left out, too."""
    extras: ClassVar[Mapping[str, str]] = {}
    """Extra of the wheel = a module of the option, which must import with the packages of that extra alone.
    ``make check-extras`` tries it."""
    help: ClassVar[str] = ""
    """Help of the commands ``assistant FOLDER …``: ``app`` of the option's module ``commands``. Empty: the
    option has no group of its own."""

    @property
    def package(self) -> str:
        """The option's folder: ``assistant.options.NAME``."""
        return type(self).__module__.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.package.rpartition(".")[2]

    # --- the tenant file ---
    def tables(self) -> Tables:
        """Return the option's tables, by the core's table that each is in."""
        return {}

    def contradictions(self, tenant: TenantConfig) -> Iterable[Contradiction]:
        """Return why a tenant file must not be deployed."""
        return ()

    def warnings(self, tenant: TenantConfig) -> Iterable[str]:
        """Return sentences for ``assistant tenant check``."""
        return ()

    def prices(self, tenant: TenantConfig, load: AssumedLoad) -> Sequence[tuple[Use, Price]]:
        """Return what a deployed tenant pays for by use, each with its price."""
        return ()

    # --- documents ---
    def kinds_of_files(self) -> Mapping[str, ConvertedKind]:
        """Return kinds of files that the option reads, by their ending."""
        return {}

    def kept_texts(self) -> KeptTexts | None:
        """Return how what the option keeps of documents' texts is counted and removed."""

    # --- answers ---
    def offer(self, services: TenantServices) -> Offer | None:
        """Return what the option offers the answers of a tenant."""

    def texts(self, documents: DocumentTexts, desk: LiveDesk) -> DocumentTexts:
        """Return the texts of documents with those of what the option offers: records keep both by their
        places."""
        return documents

    def beside(self, services: TenantServices) -> Beside | None:
        """Return what is matched beside an answer. The first option that has one counts."""

    async def live(
        self, stores: StoreChoice, settings: ServiceSettings, observer: TenantObserver | None
    ) -> LiveData | None:
        """Open the live systems of a tenant. The first option that has some counts."""

    async def contexts(
        self,
        settings: ServiceSettings,
        tenants: Sequence[TenantConfig],
        cached: Callable[[KeySource], KeySet],
        stack: AsyncExitStack,
        clock: Clock,
    ) -> Contexts | None:
        """Open the verifier of context tokens; without one, no question has a context. The first counts."""

    async def writer(self, stores: ModelStores) -> AnswerWriter | None:
        """Return the model that writes for a tenant in place of its SageMaker endpoint. The first counts."""

    async def deployed_writer(self, tenant: TenantConfig, stack: AsyncExitStack) -> AnswerWriter | None:
        """Return the model that writes for a deployed tenant, called by the caller's own AWS credentials. The
        first counts."""

    def replacer(self) -> Callable[[str], str] | None:
        """Return what replaces patients' data in the texts of captured calls. The first counts."""

    # --- the service and the worker ---
    def routes(self) -> Routes | None:
        """Return routes of HTTP."""

    async def parts(self, served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
        """Open objects of the option for a tenant; ``ServedTenant.part`` finds them. Options are asked in the
        order of their names, so one finds the parts of those before it."""
        return ()

    def runs(self, served: ServedTenant) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what runs beside a tenant's answers until it is cancelled."""
        return ()

    def console(self, config: ConsoleConfig, tenants: ServedTenants) -> ConsoleConfig:
        """Return ``config.json`` of the console with what the option adds."""
        return config

    async def admit_verdict(
        self, served: ServedTenant, answer_id: str, verdict: Verdict, identity: Identity
    ) -> None:
        """Refuse a verdict before it is stored, by an AssistantError."""

    def loops(self, settings: WorkerSettings) -> AbstractAsyncContextManager[Sequence[Loop]]:
        """Open loops that run beside the workers of a machine."""
        return nullcontext(())

    # --- commands ---
    def add_to_knowledge(self, app: Typer) -> None:
        """Add commands to ``assistant knowledge``."""

    def add_to_models(self, app: Typer) -> None:
        """Add commands to ``assistant models``."""

    def add_to_learn(self, app: Typer) -> None:
        """Add commands to ``assistant learn``."""

    def account_checks(self, account: AccountChecks) -> Mapping[str, Callable[[], Iterator[Finding]]]:
        """Return checks of ``assistant aws doctor``, by their titles."""
        return {}

    async def tell_story(self, runtime: LocalRuntime, terminal: Terminal, tenant: str) -> None:
        """Print the option's story of the demo. The tenant's knowledge is loaded."""

    def sample_pages(
        self, layout: Layout, addresses: Addresses, systems: Mapping[str, FastAPI]
    ) -> AbstractAsyncContextManager[None]:
        """Add pages to the applications of sample systems, by name, while the context is open."""
        return nullcontext()

    def show_pages(self, runtime: LocalRuntime, terminal: Terminal) -> None:
        """Print the addresses of pages that the demo serves beside the console."""

    # --- evaluation and pages ---
    def trials(self) -> Mapping[str, Trial]:
        """Return trials by the ``run`` of a figure: {"approved": match_approved}."""
        return {}

    def after_written(self, services: TenantServices, answers: AnswerQuestion) -> AfterWritten | None:
        """Return what is asked after a written answer of an evaluation. ``answers`` answers the questions."""

    def head(self) -> Head | None:
        """Return the data on which ``make fit`` fits the option's head."""

    def schemas(self) -> Mapping[str, Callable[[], bytes]]:
        """Return files of docs, by their names, each with what makes its content."""
        return {}

    # --- stacks ---
    def stacks(self) -> OptionStacks | None:
        """Return what the option adds to the stacks of a tenant."""


@cache
def installed() -> tuple[Option, ...]:
    """Return the options that are here, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(assistant.options.__path__))
    return tuple(import_module(f"{assistant.options.__name__}.{name}.option").OPTION for name in names)


def joined(door: Callable[[Option], Joined | None]) -> list[Joined]:
    """Return what the options bring to a door where each brings one thing or None:
    ``joined(lambda option: option.offer(services))``."""
    return [brought for option in installed() if (brought := door(option)) is not None]
