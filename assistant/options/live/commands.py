"""``assistant live``: try connectors of live systems."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import CareContext
from assistant.domain.live import LiveReadError
from assistant.options.live.connected import LiveSystems, check_status, request_of
from assistant.options.live.connector import Connector, Operation, OperationParameter, load_connector
from assistant.options.live.opened import Credentials
from assistant.options.live.parameters import is_value
from assistant.options.live.results import Reading, ResponseReader, element_data
from assistant.options.live.section import LiveReach, reach_of, systems_of
from assistant.options.live.systems import HttpSystems, SystemAccess
from assistant.process.aws import AwsService, open_client
from assistant.tenant.deployment import ReachEntry
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.terminal import GlobalOptions, Terminal, ids_by_kind, pairs_of, table

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, add_completion=False)
SET = "Value of a parameter, like order_id=4471-2208; repeatable."
ADDRESS = "Base URL of the system, like http://127.0.0.1:8710."
CUSTOMER = "Whose data the responses must be; without it same_as_context is not compared."
CONTEXT = "An id of that customer's, like order=4471-2208; repeatable."
OF_TENANT = "Call it as this tenant's reach entry says: auth, ca_file, host_name, whose, deadline_s."
_AGENT = "agent"
"""Agent of a trial, who is passed on to a system that decides by it."""
_LIMIT_S = 2.0
"""Limit of a call without ``--tenant``: what a ``[[reach]]`` entry allows by default."""
_NO_REGION = "us-east-1"
"""Region of AWS clients for a tenant without a deployment."""
_WORDS = re.compile(r"\w+")


@app.callback()
def live() -> None:
    """Try connectors of live systems."""


@app.command(name="test")
def try_(
    context: typer.Context,
    file: Annotated[Path, Argument(metavar="FILE", help="The connector file.")],
    address: Annotated[str, Option("--address", metavar="URL", help=ADDRESS)],
    set_: Annotated[list[str] | None, Option("--set", metavar="NAME=VALUE", help=SET)] = None,
    customer: Annotated[str | None, Option(metavar="ID", help=CUSTOMER)] = None,
    ids: Annotated[list[str] | None, Option("--context", metavar="KIND=ID", help=CONTEXT)] = None,
    tenant: Annotated[str | None, Option("--tenant", metavar="T", help=OF_TENANT)] = None,
) -> None:
    """Call each operation with sample values, and say what the system answered. Exit status 1: something
    does not fit."""
    options = GlobalOptions.of(context)
    if ids and customer is None:
        raise typer.BadParameter("--context needs --customer.")
    trial = ConnectorTrial(
        file,
        address,
        dict(pairs_of("--set", set_ or (), form="NAME=VALUE")),
        customer,
        ids=ids_by_kind("--context", ids or ()),
        caller=None if tenant is None else TrialCaller.of(options, tenant, file),
    )
    if not asyncio.run(try_connector(trial, as_json=options.json)):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class TrialCaller:
    """The tenant's ``[[reach]]`` entry with which a system is called, and the folders of its credentials."""

    entry: ReachEntry
    live: LiveReach
    tenant: TenantConfig
    tenants_dir: Path
    state_dir: Path

    @classmethod
    def of(cls, options: GlobalOptions, tenant: str, file: Path) -> TrialCaller:
        """Find the tenant's entry with this connector file. Raises ConfigurationError where there is none."""
        config = options.tenant(tenant)
        connectors = {
            (options.tenants_dir / live.connector).resolve(): (entry, live)
            for entry, live in reach_of(config)
            if live.connector is not None
        }
        found = connectors.get(file.resolve())
        if found is None:
            known = ", ".join(str(path) for path in connectors) or "none"
            raise ConfigurationError(
                f"No [[reach]] entry of {tenant} has the connector {file}; its connectors: {known}."
            )
        return cls(*found, config, options.tenants_dir, options.state_dir.resolve())

    async def access(self, url: str, stack: AsyncExitStack) -> SystemAccess:
        """Return the system's address and credentials, as the service would use them.

        AWS clients are closed with ``stack``: call the system before it ends.
        """
        place = self.tenant.deployment
        region = _NO_REGION if place is None else place.region

        async def aws(service: AwsService) -> Any:
            return await stack.enter_async_context(open_client(service, region=region))

        credentials = Credentials(self.tenant.name, self.tenants_dir, self.state_dir, region, aws)
        return await credentials.access(self.entry, url)


@dataclass(frozen=True, slots=True)
class ConnectorTrial:
    """The options of ``live test``."""

    file: Path
    address: str
    values: Mapping[str, str]
    """``--set``: values of parameters by name."""
    customer: str | None = None
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """``--context``: ids of the sample context by kind, such as {"order": ("4471-2208",)}."""
    caller: TrialCaller | None = None
    """None: the system is called without proof of who calls."""

    @property
    def passed_agent(self) -> str | None:
        """The agent who is passed on to the system; None unless the entry says that the system decides by
        it."""
        return _AGENT if self.caller is not None and self.caller.live.whose == "agent" else None

    @property
    def context_ids(self) -> dict[str, tuple[str, ...]]:
        """The ids of the sample context by kind, with the customer."""
        if self.customer is None:
            return {**self.ids}
        return {**self.ids, "customer": (self.customer, *self.ids.get("customer", ()))}

    def limit_s(self, operation: Operation) -> float:
        """Return the limit of a call: the operation's own, at most the entry's."""
        most_s = _LIMIT_S if self.caller is None else self.caller.entry.deadline_s
        return min(operation.deadline_s or most_s, most_s)


@dataclass(frozen=True, slots=True)
class OperationTrial:
    """The result of trying one operation, as ``--json`` prints it."""

    operation: str
    outcome: Literal["fits", "skipped", "wrong"]
    """``skipped``: no values were given for its parameters, so it was not called."""
    said: Sequence[str]
    """Sentences for the person who wrote the connector: what is missing or wrong."""
    elapsed_ms: float | None = None
    elements: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values as text, by element: {"status": "Status: Shipped"}."""


def confusable_of(tenant: TenantConfig) -> Iterator[str]:
    """Yield the sentences of ``confusable`` for all the tenant's systems together."""
    return confusable({system.name: system.connector for system in systems_of(tenant)})


def confusable(connectors: Mapping[str, Connector]) -> Iterator[str]:
    """Yield a sentence for each pair of elements with the same words in an example question.

    ``connectors``: connector by its system's name, which its elements' names begin with; "" for no system.
    The questions of ``not_about`` count as those of one more element.
    """
    first_with: dict[tuple[str, ...], tuple[str, str]] = {}
    for name, question in _examples(connectors):
        words = tuple(_WORDS.findall(question.casefold()))
        other, asked = first_with.setdefault(words, (name, question))
        if other != name:
            yield (
                f'"{asked}" of {other} and "{question}" of {name} ask the same: one of the two is shown for '
                "both. Keep it for one element, or name what tells them apart"
            )


def _examples(connectors: Mapping[str, Connector]) -> Iterator[tuple[str, str]]:
    """Yield element and example question: ("orders.status", "Where is my order?")."""
    for system, connector in connectors.items():
        prefix = f"{system}." if system else ""
        for element in connector.elements:
            yield from ((f"{prefix}{element.name}", question) for question in element.about)
        yield from ((f"{prefix}not_about", question) for question in connector.not_about)


async def try_connector(trial: ConnectorTrial, *, as_json: bool) -> bool:
    """Print what each operation answered; return whether all that were called fit."""
    terminal = Terminal()
    for warning in confusable({"": load_connector(trial.file)}):
        terminal.warn(f"warning: {warning}", "yellow")
    trials = [tried async for tried in _tried(trial)]
    for tried in trials:
        if as_json:
            terminal.json(tried)
            continue
        duration = "" if tried.elapsed_ms is None else f", {tried.elapsed_ms:.0f} ms"
        terminal.show(f"{tried.operation}: {tried.outcome}{duration}", "bold")
        for reason in tried.said:
            terminal.show(f"  {reason}")
        if tried.elements:
            terminal.out.print(table("element", "shows", rows=tried.elements.items()))
    called = [tried for tried in trials if tried.outcome != "skipped"]
    if not called and not as_json:
        terminal.warn("No operation was called: give its parameters by --set NAME=VALUE.", "")
    return bool(called) and all(tried.outcome == "fits" for tried in called)


async def _tried(trial: ConnectorTrial) -> AsyncGenerator[OperationTrial]:
    """Try each operation of the connector in turn. Raises ConfigurationError for an unknown parameter."""
    connector = load_connector(trial.file)
    parameters = {parameter.name for operation in connector.operations for parameter in operation.parameters}
    if unknown := sorted(trial.values.keys() - parameters):
        known = ", ".join(sorted(parameters)) or "none"
        raise ConfigurationError(f"--set {unknown[0]}: no operation has this parameter; they have {known}.")
    async with AsyncExitStack() as stack:
        access = SystemAccess(trial.file.stem, trial.address)
        if trial.caller is not None:
            access = await trial.caller.access(trial.address, stack)
        calls = HttpSystems({trial.file.stem: access}, clock=SystemClock())
        stack.push_async_callback(calls.close)
        for operation in connector.operations:
            yield await _try_operation(trial, connector, operation, calls)


def _given(trial: ConnectorTrial, operation: Operation) -> dict[str, str]:
    """Return the sample values of an operation: of ``--set``, else the context's only id of the kind."""
    values: dict[str, str] = {}
    for parameter in operation.parameters:
        ids = trial.context_ids.get(parameter.context or "", ())
        if parameter.name in trial.values:
            values[parameter.name] = trial.values[parameter.name]
        elif len(ids) == 1:
            values[parameter.name] = ids[0]
    return values


def _wrong_value(parameter: OperationParameter) -> str:
    """Return why a sample value is refused, without the value: it may be a person's id."""
    checks = {
        "pattern": parameter.pattern,
        "check digit": None if parameter.check == "none" else parameter.check,
    }
    needed = ", ".join(f"{name} {value}" for name, value in checks.items() if value is not None)
    return f"{parameter.name}: the value given is no {parameter.words}; it needs {needed}"


async def _try_operation(
    trial: ConnectorTrial, connector: Connector, operation: Operation, calls: LiveSystems
) -> OperationTrial:
    """Call one operation if it has its values, and check the response as the service does."""
    values = _given(trial, operation)
    missing = [
        parameter.name
        for parameter in operation.parameters
        if parameter.required and parameter.name not in values
    ]
    if missing:
        return OperationTrial(operation.name, "skipped", [f"needs --set {name}=…" for name in missing])
    given = [parameter for parameter in operation.parameters if parameter.name in values]
    if wrong := [_wrong_value(each) for each in given if not is_value(each, values[each.name])]:
        return OperationTrial(operation.name, "wrong", wrong)
    clock, began_s = SystemClock(), time.monotonic()
    try:
        response = await calls.call(
            replace(request_of(operation, values, trial.file.stem), agent=trial.passed_agent),
            deadline=Deadline.after(trial.limit_s(operation), clock=clock),
            most_bytes=operation.most_bytes,
        )
        elapsed_ms = (time.monotonic() - began_s) * 1000
        check_status(response, source=connector.source)
        reader = ResponseReader(connector, operation, asked=values, context=_sample_context(trial, operation))
        shown = _shown(connector, operation, reader.read(response.body, as_of=datetime.now(UTC)))
    except LiveReadError as error:
        elapsed_ms = (time.monotonic() - began_s) * 1000
        return OperationTrial(operation.name, "wrong", [f"{error.problem}: {error.message}"], elapsed_ms)
    return OperationTrial(operation.name, "fits", [], elapsed_ms, shown)


def _sample_context(trial: ConnectorTrial, operation: Operation) -> CareContext | None:
    """Return the context that responses are compared with; None without ``--customer``.

    Values of ``--set`` count as ids of the context: otherwise ``same_as_context`` would refuse each response.
    """
    if trial.customer is None:
        return None
    ids = trial.context_ids
    for parameter in operation.parameters:
        if parameter.context is not None and parameter.name in trial.values:
            ids[parameter.context] = (*ids.get(parameter.context, ()), trial.values[parameter.name])
    return CareContext(_AGENT, trial.customer, ids, datetime.now(UTC) + timedelta(minutes=5))


def _shown(connector: Connector, operation: Operation, reading: Reading) -> dict[str, str]:
    """Return what each element of the operation shows, as text."""
    shown: dict[str, str] = {}
    for element in connector.elements:
        if element.operation != operation.name:
            continue
        data = element_data(element, operation=operation, reading=reading)
        parts = [] if data is None else [f"{value.label}: {value.text}" for value in data.values]
        parts += [] if data is None else [f"{len(data.rows)} rows"] * bool(data.rows)
        parts += [] if data is None or data.url is None else [data.url]
        shown[element.name] = "; ".join(parts) or "nothing: the system has no value"
    return shown
