"""Builds what reads a tenant's live systems: their addresses, credentials, switches and records."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from functools import partial
from typing import TYPE_CHECKING

from assistant.document_links import local_secret
from assistant.settings.deployment import ReachEntry
from assistant.settings.process import ServiceSettings
from assistant.wiring.stores import StoreChoice

if TYPE_CHECKING:
    from assistant.aws.secrets_manager import StoredSecret
    from assistant.live.connected import ConnectedElements
    from assistant.live_systems import ReadSecret, SignRequest, SystemAccess

_PSEUDONYM_DIGITS = 32
_SECRETS_MANAGER = "secretsmanager"


async def open_live(
    stores: StoreChoice, settings: ServiceSettings, *, secret: bytes, secrets: list[StoredSecret]
) -> ConnectedElements | None:
    """Return what fills elements from the tenant's systems; None where no system has a connector.

    ``secret`` is the key of pseudonyms in the record of reads. The systems' credentials that AWS stores are
    added to ``secrets``. Raises ConfigurationError for an address or a
    secret that cannot be used.
    """
    systems = stores.tenant.systems
    if not systems:
        return None
    from assistant.live.connected import ConnectedElements
    from assistant.live_systems import HttpSystems

    accesses = {
        entry.name: await _access(entry, url, stores, settings, secrets)
        for entry in systems
        if (url := settings.address_of(stores.tenant, entry.name)) is not None
    }
    calls = HttpSystems(accesses, clock=stores.clock)
    stores.stack.push_async_callback(calls.close)
    switches = await stores.switches(settings)
    # Read now, not while the first question waits: a system whose switch was not read is not called.
    await asyncio.gather(*(switches.is_on(entry.name) for entry in systems), return_exceptions=True)
    elements = ConnectedElements(
        systems,
        calls=calls,
        switches=switches,
        reads=await stores.live_reads(settings),
        pseudonym=partial(customer_pseudonym, secret=secret),
        clock=stores.clock,
    )
    stores.stack.push_async_callback(elements.close)
    return elements


def customer_pseudonym(customer: str, *, secret: bytes) -> str:
    """Return the name of a customer in the record of reads, the same as long as the secret is."""
    code = hmac.new(secret, f"live-read/1:customer:{customer}".encode(), hashlib.sha256)
    return code.hexdigest()[:_PSEUDONYM_DIGITS]


async def _access(
    entry: ReachEntry, url: str, stores: StoreChoice, settings: ServiceSettings, secrets: list[StoredSecret]
) -> SystemAccess:
    from assistant.live_systems import SystemAccess

    has_secret = entry.auth in ("token", "oauth")
    return SystemAccess(
        name=entry.name,
        url=url,
        auth=entry.auth,
        secret=await _secret(entry, stores, settings, secrets) if has_secret else None,
        sign=await _sign(entry, stores) if entry.auth == "sigv4" else None,
        token_path=entry.token_path,
        host_name=entry.host_name,
        ca_pem=entry.ca_pem,
    )


async def _secret(
    entry: ReachEntry, stores: StoreChoice, settings: ServiceSettings, secrets: list[StoredSecret]
) -> ReadSecret:
    scheme, _, name = entry.secret_name.partition(":")
    if scheme == _SECRETS_MANAGER:
        from assistant.aws.secrets_manager import StoredSecret

        secrets.append(StoredSecret(await stores.clients.aws(_SECRETS_MANAGER), name=name))
        return secrets[-1]
    from assistant.embedded.live import file_secret

    if scheme == "file":
        return partial(file_secret, settings.tenants_dir / name)
    local_secret(  # made on first use, or refused
        entry.secret_name,
        tenant=stores.tenant.name,
        key=f"reach.{entry.name}.secret",
        tenants_dir=settings.tenants_dir,
        state_dir=settings.state_dir,
    )
    return partial(file_secret, settings.state_dir / "secrets" / stores.tenant.name / name)


async def _sign(entry: ReachEntry, stores: StoreChoice) -> SignRequest:
    from assistant.aws.signed_gets import GetSigner

    # Any client has the process's credentials; of SSM the deployment has an endpoint anyway.
    return GetSigner(
        await stores.clients.aws("ssm"), service=entry.sigv4_service, region=stores.settings.region
    )
