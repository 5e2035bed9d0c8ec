"""Builds what calls a tenant's live systems: their addresses, credentials, switches and records.

``assistant.service.opened`` calls ``open_live`` once for each tenant, before the parts that answer questions
are made, and ``open_reads`` after them. Both add what must be closed to ``stores.stack``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from assistant.answer.services import LiveData
from assistant.documents.shared_links import local_secret
from assistant.options.live.connected import ConnectedElements, ReadObserver
from assistant.options.live.reads import AuditLiveReads, ReadElementAgain
from assistant.options.live.replies import PostedReplies
from assistant.options.live.section import LiveSection, systems_of, taker_of
from assistant.options.live.stored import LIVE_READS, SENT_VALUES, SWITCHES, SystemSwitches
from assistant.options.live.systems import HttpSystems, ReadSecret, SignRequest, SystemAccess
from assistant.process.private_files import file_secret
from assistant.process.settings import ServiceSettings
from assistant.service.opened import tenant_secret_of
from assistant.stores.opened import StoreChoice
from assistant.tenant.deployed_names import LIVE_READS_SECRET_PURPOSE
from assistant.tenant.deployment import ReachEntry

if TYPE_CHECKING:
    from assistant.process.aws import AwsService, StoredSecret
    from assistant.service.served import ServedTenant

_PSEUDONYM_DIGITS = 32
"""Hexadecimal digits, 128 bits: no two customers get the same."""
_SECRETS_MANAGER: Final = "secretsmanager"


async def open_live(
    stores: StoreChoice, settings: ServiceSettings, observer: ReadObserver | None
) -> LiveData:
    """Return what the tenant's live systems offer: elements of answers, and a system that takes replies;
    neither where the tenant file has no such ``[[reach]]`` entry.

    Raises ConfigurationError for an address or a secret that cannot be used.
    """
    tenant = stores.tenant
    location, key = LiveSection.of(tenant).pseudonyms, "live.pseudonyms"
    secret = await tenant_secret_of(stores, settings, location, key=key, purpose=LIVE_READS_SECRET_PURPOSE)
    pseudonym = partial(customer_pseudonym, secret=secret)
    elements, replies = None, None
    if entries := [entry for entry in tenant.reach if entry.is_called]:
        calls = await _open_calls(entries, stores, settings, observer)
        switches = await stores.of(SWITCHES)
        # Read the switches now, not while the first question waits. One that cannot be read stops no start:
        # its system is not called until it was read.
        await asyncio.gather(*(switches.is_on(entry.name) for entry in entries), return_exceptions=True)
        if systems_of(tenant):
            elements = await _open_elements(calls, switches, pseudonym, stores, observer)
        if (taker := taker_of(tenant)) is not None:
            replies = PostedReplies(*taker, calls, switches, stores.clock)
    return LiveData(
        elements=elements,
        pseudonym=pseudonym,
        sent_values=await stores.of(SENT_VALUES),
        replies=replies,
        mac_key=secret,
    )


async def _open_calls(
    entries: Sequence[ReachEntry],
    stores: StoreChoice,
    settings: ServiceSettings,
    observer: ReadObserver | None,
) -> HttpSystems:
    """Return what calls the systems that have an address in the settings of this process. A call of any other
    raises LiveReadError."""
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
    if observer is not None:
        for name in accesses:
            observer.watch_circuit(name, partial(calls.has_open_circuit, name))
        observer.watch_credentials(lambda: [secret.put_at for secret in credentials.in_aws if secret.put_at])
    return calls


async def _open_elements(
    calls: HttpSystems,
    switches: SystemSwitches,
    pseudonym: Callable[[str], str],
    stores: StoreChoice,
    observer: ReadObserver | None,
) -> ConnectedElements:
    """Return what fills elements from the systems that have a connector."""
    elements = ConnectedElements(
        systems_of(stores.tenant),
        limits_s={
            source.reach: source.deadline_s
            for source in reversed(stores.tenant.sources)  # of two for one system the first counts
            if source.reach is not None and source.deadline_s is not None
        },
        calls=calls,
        switches=switches,
        reads=await stores.of(LIVE_READS),
        pseudonym=pseudonym,
        clock=stores.clock,
        observer=observer,
    )
    stores.stack.push_async_callback(elements.close)
    return elements


async def open_reads(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return what the routes of live data (``routes.py``) find by its class with ``served.part``."""
    answering, question, reads = served.answering, served.answer_question, await stores.of(LIVE_READS)
    return (
        ReadElementAgain(answering, reads=reads, as_asked=question.read.as_asked),
        AuditLiveReads(
            records=answering.records, reads=reads, pseudonym=answering.live.pseudonym, clock=stores.clock
        ),
    )


def customer_pseudonym(customer: str, *, secret: bytes) -> str:
    """Return the name of a customer in the record of reads: always the same for one secret. Without the
    secret nobody can tell whose it is."""
    code = hmac.new(secret, f"live-read/1:customer:{customer}".encode(), hashlib.sha256)
    return code.hexdigest()[:_PSEUDONYM_DIGITS]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Finds the credentials of a tenant's systems: ``access`` is called once for each ``[[reach]]`` entry,
    whose key ``secret`` names one of

    - ``secretsmanager:NAME``: in AWS, read again when it changes;
    - ``file:PATH``: below the folder of the tenant files;
    - ``state:NAME``: in the state folder of a laptop, made where it is absent.
    """

    tenant: str
    tenants_dir: Path
    state_dir: Path
    region: str
    aws: Callable[[AwsService], Awaitable[Any]]
    """Returns the client of a service; called where a system needs one."""
    in_aws: list[StoredSecret] = field(default_factory=list["StoredSecret"])
    """What reads the secrets of ``secretsmanager:NAME``, whose age is measured. ``access`` adds them."""

    async def access(self, entry: ReachEntry, url: str) -> SystemAccess:
        """Return how a system is called. Raises ConfigurationError for a secret that cannot be used."""
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

    async def _secret(self, entry: ReachEntry) -> ReadSecret:
        """Return what reads the secret each time that it is needed."""
        scheme, _, name = entry.secret_name.partition(":")
        if scheme == _SECRETS_MANAGER:
            from assistant.process.aws import StoredSecret  # no AWS package on a laptop

            secret = StoredSecret(await self.aws(_SECRETS_MANAGER), name=name)
            self.in_aws.append(secret)
            return secret
        if scheme == "file":
            return partial(file_secret, self.tenants_dir / name)
        local_secret(  # called now only to make the file of ``state:NAME``, or to refuse another scheme
            entry.secret_name,
            tenant=self.tenant,
            key=f"reach.{entry.name}.secret",
            tenants_dir=self.tenants_dir,
            state_dir=self.state_dir,
        )
        return partial(file_secret, self.state_dir / "secrets" / self.tenant / name)

    async def _sign(self, entry: ReachEntry) -> SignRequest:
        from assistant.process.aws import GetSigner

        # Only the client's credentials are used, which are the process's. Any service would do; a deployment
        # has an endpoint of SSM in any case.
        return GetSigner(await self.aws("ssm"), service=entry.sigv4_service, region=self.region)
