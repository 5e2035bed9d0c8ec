"""Keys of live systems: what a ``[[reach]]`` entry is called for, and whose data it may give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from assistant.domain.errors import ConfigurationError
from assistant.domain.live import ElementKind
from assistant.options.live.connector import Connector, Operation, load_connector, unproven
from assistant.tenant.deployment import ReachEntry
from assistant.tenant.deployment_checks import Contradiction
from assistant.tenant.tenant import SecretsSection, TenantConfig
from assistant.tenant.toml_file import KeyMark, keys_of, line_of


class LiveReach(ReachEntry):
    """An entry with the keys of this option. With a connector it is called for live data.

    | the entry                   | ``connector``   | ``inline``      |
    | of a tenant file, validated | a file's path   | None            |
    | after ``with_files``        | a file's path   | the connector   |
    | of a container's file       | None            | the connector   |
    | that gives no live data     | None            | None            |
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

    @model_validator(mode="after")
    def _fits_its_connector(self) -> Self:
        if self.inline is not None:
            for _, misfit in self.misfits(self.inline):
                raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _can_be_posted_to(self) -> Self:
        if self.replies is not None and (self.caller != "orchestrator" or self.auth == "sigv4"):
            raise ValueError(
                f'replies = "{self.replies}": the service posts with auth = "token", "oauth" or "none", and '
                'caller = "orchestrator"'
            )
        return self

    # The properties and methods below override those of ``ReachEntry``, which has their contracts.
    @property
    def is_called(self) -> bool:
        return bool(self.is_live or self.replies) or super().is_called

    @property
    def is_live(self) -> bool:
        return bool(self.connector or self.inline)

    @property
    def elements(self) -> Mapping[str, ElementKind]:
        if self.inline is None:
            return super().elements
        return {element.name: element.kind for element in self.inline.elements}

    @property
    def files(self) -> tuple[str, ...]:
        if self.connector is None:
            return super().files
        openapi = None if self.inline is None else self.inline.openapi
        described = () if openapi is None else (str(Path(self.connector).parent / openapi),)
        return (self.connector, *super().files, *described)

    def with_files(self, folder: Path) -> Self:
        entry = super().with_files(folder)
        if self.connector is None:
            return entry
        file = folder / self.connector
        connector = load_connector(file)
        for number, misfit in self.misfits(connector):
            line = line_of(file.read_text(encoding="utf-8"), ("operations", number))
            raise ConfigurationError(f"{file}: line {line}: {misfit}")
        return entry.model_copy(update={"inline": connector})

    def misfits(self, connector: Connector) -> Iterator[tuple[int, str]]:
        """Yield why a connector does not fit the entry, each with the index of the operation that is wrong.

        No operation may take longer than the entry allows. With ``whose = "context"``, the context must
        decide whose data a personal one reads.
        """
        for number, operation in enumerate(connector.operations):
            begins = f'operation "{operation.name}"'
            if operation.deadline_s is not None and operation.deadline_s > self.deadline_s:
                yield (
                    number,
                    f"{begins} has deadline_s = {operation.deadline_s:g}, and its [[reach]] entry allows "
                    f"{self.deadline_s:g}. Raise deadline_s of the entry, or lower this one.",
                )
            needs_context = operation.personal and self.whose == "context"
            for undecided in _undecided(operation) if needs_context else ():
                yield (
                    number,
                    f'{begins} is personal, and {undecided}. Or write whose = "agent" in the [[reach]] entry '
                    "where the system decides by the agent's identity.",
                )

    def called(self, *, secret: str | None) -> dict[str, Any]:
        """Return the entry for a container's tenant file, as JSON values, with the connector in place of its
        path. ``secret``: name of its secret in Secrets Manager; None without one."""
        left_out = ("connector", "ca_file", "service_name", "resource_configuration_arn", "invoke_arn")
        exclude = {**dict.fromkeys(left_out, True), "inline": {"openapi"}}
        data = self.model_dump(mode="json", exclude=exclude, exclude_none=True)
        return data if secret is None else data | {"secret": f"secretsmanager:{secret}"}

    def shaping(self) -> Mapping[str, Any] | None:
        """Return what shapes answers: the connector, without the files it was read from."""
        if self.inline is None:
            return super().shaping()
        inline = self.inline.model_dump(mode="json", exclude={"openapi"})
        return {"name": self.name, "whose": self.whose, "inline": inline}


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


class LiveSecrets(SecretsSection):
    """``[secrets]`` with the keys of this option."""

    live_reads: str = "state:live-reads"
    """Key of customers' pseudonyms in the record of live reads, and of the MACs of live values, in the forms
    of ``document_links``. Never make it anew: with another key nobody finds the reads of a customer that were
    recorded before."""


class LiveTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    @model_validator(mode="after")
    def _replies_go_to_one_system(self) -> Self:
        takers = [entry.name for entry in reach_of(self) if entry.replies is not None]
        if len(takers) > 1:
            raise ValueError(f"{' and '.join(takers)} have replies; one [[reach]] entry takes them")
        return self


def reach_of(tenant: TenantConfig) -> list[LiveReach]:
    """Return every ``[[reach]]`` entry."""
    return [keys_of(entry, LiveReach) for entry in tenant.reach]


def called_of(tenant: TenantConfig) -> list[LiveReach]:
    """Return the systems that the service calls, for live data or with replies."""
    return [entry for entry in reach_of(tenant) if entry.is_called]


def systems_of(tenant: TenantConfig) -> list[LiveReach]:
    """Return the systems that are called for live data."""
    return [entry for entry in reach_of(tenant) if entry.inline is not None]


def taker_of(tenant: TenantConfig) -> LiveReach | None:
    """Return the system that sent replies are posted to; None: they are recorded only."""
    return next((entry for entry in reach_of(tenant) if entry.replies is not None), None)


def contradictions(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield the entries whose system others could read, or whose personal data could never be read."""
    is_dev = tenant.deployment is not None and tenant.deployment.profile == "dev"
    for number, entry in enumerate(reach_of(tenant)):
        if entry.inline is None:
            continue
        if entry.auth == "none" and not is_dev:
            yield Contradiction(
                ("reach", number, "auth"),
                '"none" lets everything in the network read the system; only profile = "dev" may have it. '
                "Write token, oauth or sigv4.",
            )
        is_personal = any(operation.personal for operation in entry.inline.operations)
        if is_personal and entry.whose == "context" and tenant.care_context is None:
            yield Contradiction(
                ("reach", number, "whose"),
                '"context" needs [care_context]: without it no question has a context, and nothing personal '
                "is read.",
            )
