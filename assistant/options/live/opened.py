"""Builds what calls a tenant's systems: their addresses, credentials, switches and records."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from assistant.documents.shared_links import local_secret
from assistant.options.live.section import LiveReach, called_of, systems_of, taker_of
from assistant.options.live.stored import LIVE_READS, SENT_VALUES, SWITCHES, SystemSwitches
from assistant.process.settings import ServiceSettings
from assistant.service.opened import tenant_secret_of
from assistant.stores.opened import StoreChoice
from assistant.tenant.deployed_names import LIVE_READS_SECRET_PURPOSE

if TYPE_CHECKING:
    from assistant.answer.services import LiveData
    from assistant.options.live.connected import ConnectedElements
    from assistant.options.live.ports import ReadObserver
    from assistant.options.live.replies import PostedReplies
    from assistant.options.live.systems import HttpSystems, ReadSecret, SignRequest, SystemAccess
    from assistant.process.aws.clients import AwsService
    from assistant.process.aws.parameters import StoredSecret
    from assistant.service.served import ServedTenant

_PSEUDONYM_DIGITS = 32
_SECRETS_MANAGER: Final = "secretsmanager"


async def open_live(
    stores: StoreChoice, settings: ServiceSettings, observer: ReadObserver | None
) -> LiveData:
    """Return what the tenant's live systems offer. Raises ConfigurationError for an address or a secret that
    cannot be used."""
    from assistant.answer.services import LiveData

    secret = await tenant_secret_of(stores, settings, key="live_reads", purpose=LIVE_READS_SECRET_PURPOSE)
    pseudonym = partial(customer_pseudonym, secret=secret)
    systems = await _open_systems(stores, settings, observer=observer)
    return LiveData(
        elements=systems and await systems.live(stores, pseudonym=pseudonym, observer=observer),
        pseudonym=pseudonym,
        sent_values=await stores.of(SENT_VALUES),
        replies=systems and systems.replies(stores),
    )


async def open_reads(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return what the routes of live data ask for."""
    from assistant.options.live.reads import AuditLiveReads, ReadElementAgain

    answering, question, reads = served.answering, served.answer_question, await stores.of(LIVE_READS)
    return (
        ReadElementAgain(answering, reads=reads, bounds=question.bounds, as_asked=question.read.as_asked),
        AuditLiveReads(
            records=answering.records, reads=reads, pseudonym=answering.live.pseudonym, clock=stores.clock
        ),
    )


async def _open_systems(
    stores: StoreChoice, settings: ServiceSettings, *, observer: ReadObserver | None
) -> CalledSystems | None:
    """Return the tenant's systems that are called; None where there is none."""
    entries = called_of(stores.tenant)
    if not entries:
        return None
    from assistant.options.live.systems import HttpSystems

    credentials = Credentials(
        stores.tenant.name,
        settings.tenants_dir,
        settings.state_dir,
        stores.settings.region,
        stores.clients.aws,
    )
    accesses = {
        entry.name: await credentials.access(entry, url)
        for entry in entries
        if (url := settings.address_of(stores.tenant, entry.name)) is not None
    }
    calls = HttpSystems(accesses, clock=stores.clock)
    stores.stack.push_async_callback(calls.close)
    switches = await stores.of(SWITCHES)
    # Read now, not while the first question waits: a system whose switch was not read is not called.
    await asyncio.gather(*(switches.is_on(entry.name) for entry in entries), return_exceptions=True)
    if observer is not None:
        for name in accesses:
            observer.watch_circuit(name, partial(calls.has_open_circuit, name))
        observer.watch_credentials(lambda: [at for one in credentials.stored if (at := one.put_at)])
    return CalledSystems(calls, switches)


@dataclass(frozen=True, slots=True)
class CalledSystems:
    """The way to a tenant's systems, for what reads them and for what posts replies."""

    calls: HttpSystems
    switches: SystemSwitches

    async def live(
        self, stores: StoreChoice, *, pseudonym: Callable[[str], str], observer: ReadObserver | None
    ) -> ConnectedElements | None:
        """Return what fills elements from the systems; None where none has a connector. ``pseudonym`` makes
        the name of a customer in the record of reads."""
        if not systems_of(stores.tenant):
            return None
        from assistant.options.live.connected import ConnectedElements

        elements = ConnectedElements(
            systems_of(stores.tenant),
            limits_s={
                source.reach: source.deadline_s
                for source in reversed(stores.tenant.sources)
                if source.reach is not None and source.deadline_s is not None
            },
            calls=self.calls,
            switches=self.switches,
            reads=await stores.of(LIVE_READS),
            pseudonym=pseudonym,
            clock=stores.clock,
            observer=observer,
        )
        stores.stack.push_async_callback(elements.close)
        return elements

    def replies(self, stores: StoreChoice) -> PostedReplies | None:
        """Return what delivers sent replies; None where they are recorded only."""
        taker = taker_of(stores.tenant)
        if taker is None:
            return None
        from assistant.options.live.replies import PostedReplies

        return PostedReplies(taker, self.calls, self.switches, stores.clock)


def customer_pseudonym(customer: str, *, secret: bytes) -> str:
    """Return the name of a customer in the record of reads, the same as long as the secret is."""
    code = hmac.new(secret, f"live-read/1:customer:{customer}".encode(), hashlib.sha256)
    return code.hexdigest()[:_PSEUDONYM_DIGITS]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the credentials of a tenant's systems are."""

    tenant: str
    tenants_dir: Path
    state_dir: Path
    region: str
    aws: Callable[[AwsService], Awaitable[Any]]
    """Returns the client of a service; called where a system needs one."""
    stored: list[StoredSecret] = field(default_factory=list["StoredSecret"])
    """The secrets of Secrets Manager that systems use."""

    async def access(self, entry: LiveReach, url: str) -> SystemAccess:
        """Return how a system is called. Raises ConfigurationError for a secret that cannot be used."""
        from assistant.options.live.systems import SystemAccess

        has_secret = entry.auth in ("token", "oauth")
        return SystemAccess(
            name=entry.name,
            url=url,
            auth=entry.auth,
            secret=await self._secret(entry) if has_secret else None,
            sign=await self._sign(entry) if entry.auth == "sigv4" else None,
            token_path=entry.token_path,
            host_name=entry.host_name,
            ca_pem=entry.ca_pem,
        )

    async def _secret(self, entry: LiveReach) -> ReadSecret:
        scheme, _, name = entry.secret_name.partition(":")
        if scheme == _SECRETS_MANAGER:
            from assistant.process.aws.parameters import StoredSecret

            self.stored.append(StoredSecret(await self.aws(_SECRETS_MANAGER), name=name))
            return self.stored[-1]
        from assistant.process.private_files import file_secret

        if scheme == "file":
            return partial(file_secret, self.tenants_dir / name)
        local_secret(  # made on first use, or refused
            entry.secret_name,
            tenant=self.tenant,
            key=f"reach.{entry.name}.secret",
            tenants_dir=self.tenants_dir,
            state_dir=self.state_dir,
        )
        return partial(file_secret, self.state_dir / "secrets" / self.tenant / name)

    async def _sign(self, entry: LiveReach) -> SignRequest:
        from assistant.process.aws.signing import GetSigner

        # Any client has the process's credentials; of SSM the deployment has an endpoint anyway.
        return GetSigner(await self.aws("ssm"), service=entry.sigv4_service, region=self.region)
