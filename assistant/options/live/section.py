"""Keys of live systems: what a ``[[reach]]`` entry is called for, and whose data it may give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.domain.live import ElementKind
from assistant.options.live.connector import Connector, Operation, load_connector, unproven
from assistant.tenant.deployment import ReachEntry, ReachTable
from assistant.tenant.deployment_checks import Contradiction
from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import KeyMark, Tables, line_of, marked


class LiveReach(ReachTable):
    """``[reach.live]``: what the service calls an entry for. With a connector that is live data.

    | the table                   | ``connector``   | ``inline``      |
    | of a tenant file, validated | a file's path   | None            |
    | after ``with_files``        | a file's path   | the connector   |
    | of a container's file       | None            | the connector   |
    | that only takes replies     | None            | None            |
    """

    connector: Annotated[str | None, KeyMark.NAMES_A_FILE] = None
    """Connector file, relative to the tenant file. Without it nothing is read for live data."""
    replies: str | None = Field(default=None, pattern=r"^/[A-Za-z0-9/._~-]{0,200}$")
    """Path to which a reply is posted when an agent sends it. Without such an entry a
    reply is recorded, and not delivered."""
    whose: Literal["context", "agent"] = "context"
    """What decides whose data may be read: the context that the care application signs, or the system, by
    the agent's identity."""
    inline: Annotated[Connector | None, KeyMark.IN_A_FILE] = None
    """What the connector file says."""

    def check(self, entry: ReachEntry, /) -> None:
        if not self.is_live and self.replies is None:
            raise ValueError("live has neither connector nor replies. Write what the entry is called for")
        if self.inline is not None:
            for _, misfit in self.misfits(self.inline, entry):
                raise ValueError(misfit)
        if self.replies is not None and (entry.caller != "orchestrator" or entry.auth == "sigv4"):
            raise ValueError(
                f'replies = "{self.replies}": the service posts with auth = "token", "oauth" or "none", and '
                'caller = "orchestrator"'
            )

    @property
    def is_live(self) -> bool:
        return bool(self.connector or self.inline)

    @property
    def files(self) -> tuple[str, ...]:
        if self.connector is None:
            return ()
        openapi = None if self.inline is None else self.inline.openapi
        described = () if openapi is None else (str(Path(self.connector).parent / openapi),)
        return (self.connector, *described)

    @property
    def elements(self) -> Mapping[str, ElementKind]:
        if self.inline is None:
            return super().elements
        return {element.name: element.kind for element in self.inline.elements}

    def with_files(self, entry: ReachEntry, folder: Path) -> Self:
        if self.connector is None:
            return self
        file = folder / self.connector
        connector = load_connector(file)
        for number, misfit in self.misfits(connector, entry):
            line = line_of(file.read_text(encoding="utf-8"), ("operations", number))
            raise ConfigurationError(f"{file}: line {line}: {misfit}")
        return self.model_copy(update={"inline": connector})

    def misfits(self, connector: Connector, entry: ReachEntry) -> Iterator[tuple[int, str]]:
        """Yield why a connector does not fit the entry, each with the index of the operation that is wrong.

        No operation may take longer than the entry allows. With ``whose = "context"``, the context must
        decide whose data a personal one reads.
        """
        for number, operation in enumerate(connector.operations):
            begins = f'operation "{operation.name}"'
            if operation.deadline_s is not None and operation.deadline_s > entry.deadline_s:
                yield (
                    number,
                    f"{begins} has deadline_s = {operation.deadline_s:g}, and its [[reach]] entry allows "
                    f"{entry.deadline_s:g}. Raise deadline_s of the entry, or lower this one.",
                )
            needs_context = operation.personal and self.whose == "context"
            for undecided in _undecided(operation) if needs_context else ():
                yield (
                    number,
                    f'{begins} is personal, and {undecided}. Or write whose = "agent" in its [reach.live] '
                    "where the system decides by the agent's identity.",
                )

    def shaping(self) -> Mapping[str, Any]:
        """Return what shapes answers: the connector, without the files it was read from."""
        inline = self.inline and self.inline.model_dump(
            mode="json", exclude=marked(Connector, KeyMark.NAMES_A_FILE)
        )
        return {"whose": self.whose, "inline": inline}


def _undecided(operation: Operation) -> Iterator[str]:
    """Yield how a personal operation could read data of somebody who is not in the context.

    An id that only the question names proves nothing: a result that must equal it repeats the agent's words.
    """
    of_context = [parameter for parameter in operation.parameters if parameter.context is not None]
    vouched = {parameter.name for parameter in of_context}
    if not any(parameter.required for parameter in of_context):
        yield 'none of its required parameters has context = "…". Add it'
    proofs = [result for result in operation.results if result.same_as_context or result.same_as in vouched]
    for fault in unproven(operation, proofs):
        yield (
            f"the context does not decide it: {fault}. Here a same_as counts where its parameter has "
            'context = "…", and a same_as_context always'
        )
    compared = {result.same_as for result in operation.results}
    for parameter in operation.parameters:
        if parameter.name not in vouched and parameter.name not in compared:
            yield (
                f'its parameter "{parameter.name}" comes from the question alone, and no result is compared '
                f'with it. Add context = "…" to it, or a result with same_as = "{parameter.name}"'
            )


class LiveSection(TenantSection):
    """``[live]``: how reads of live systems are recorded."""

    pseudonyms: str = "state:live-reads"
    """Key of customers' pseudonyms in the record of live reads, and of the MACs of live values, in the forms
    of ``secrets.document_links``. Never make it anew: with another key nobody finds the reads of a customer
    that were recorded before."""

    def check(self, tenant: TenantConfig, /) -> None:
        takers = [entry.name for entry, live in reach_of(tenant) if live.replies is not None]
        if len(takers) > 1:
            raise ValueError(f"{' and '.join(takers)} have replies; one [[reach]] entry takes them")


TABLES: Tables = {TenantConfig: LiveSection, ReachEntry: LiveReach}


@dataclass(frozen=True, slots=True)
class AskedSystem:
    """A system that is asked for live data."""

    name: str
    connector: Connector
    whose: Literal["context", "agent"]
    """As ``LiveReach.whose``."""
    deadline_s: float
    """Longest time of a request, with its retry."""


def reach_of(tenant: TenantConfig) -> list[tuple[ReachEntry, LiveReach]]:
    """Return every ``[[reach]]`` entry that has this option's table, and the table."""
    return [(entry, live) for entry in tenant.reach if (live := LiveReach.of(entry)) is not None]


def systems_of(tenant: TenantConfig) -> list[AskedSystem]:
    """Return the systems that are called for live data."""
    return [
        AskedSystem(entry.name, live.inline, live.whose, entry.deadline_s)
        for entry, live in reach_of(tenant)
        if live.inline is not None
    ]


def taker_of(tenant: TenantConfig) -> tuple[ReachEntry, str] | None:
    """Return the system that sent replies are posted to, and the path; None: they are recorded only."""
    takers = ((entry, live.replies) for entry, live in reach_of(tenant) if live.replies is not None)
    return next(takers, None)


def called(entry: ReachEntry, *, secret: str | None) -> dict[str, Any]:
    """Return an entry for a container's tenant file, as JSON values, with the connector in place of its path.
    ``secret``: name of its secret in Secrets Manager; None without one."""
    of_deployment = dict.fromkeys(("service_name", "resource_configuration_arn", "invoke_arn"), True)
    exclude = marked(ReachEntry, KeyMark.NAMES_A_FILE) | of_deployment
    data = entry.model_dump(mode="json", exclude=exclude, exclude_none=True)
    return data if secret is None else data | {"secret": f"secretsmanager:{secret}"}


def contradictions(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield the entries whose system others could read, or whose personal data could never be read."""
    for number, entry in enumerate(tenant.reach):
        live = LiveReach.of(entry)
        if live is None or live.inline is None:
            continue
        if entry.auth == "none" and not tenant.is_dev:
            yield Contradiction(
                ("reach", number, "auth"),
                '"none" lets everything in the network read the system; only profile = "dev" may have it. '
                "Write token, oauth or sigv4.",
            )
        is_personal = any(operation.personal for operation in live.inline.operations)
        if is_personal and live.whose == "context" and tenant.care_context is None:
            yield Contradiction(
                ("reach", number, "live", "whose"),
                '"context" needs [care_context]: without it no question has a context, and nothing personal '
                "is read.",
            )
