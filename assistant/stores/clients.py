"""Opens what a process opens once: the clients of AWS's services, and the sources of signing keys.

No client is opened, and no package of AWS imported, before it is needed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.domain.errors import DependencyError
from assistant.process.settings import FunctionSettings, ServiceSettings, StoreSettings
from assistant.stores.words import FileWords, Revocations
from assistant.tenant.tenant import TenantConfig

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.process.aws import AwsService, ParameterKeySource

_LONGEST_KEY_SET_BYTES = 256 * 1024
"""A set of signing keys has a few KB; a larger response is not one."""


class AwsClients:
    """Opens one aiobotocore client a service when it is first needed; ``stack`` closes them.

    ``s3 = await AwsClients(settings, stack).aws("s3")``
    """

    def __init__(self, settings: StoreSettings | FunctionSettings, stack: AsyncExitStack) -> None:
        self._region = settings.region
        self._endpoint_url = settings.aws_endpoint_url
        self.stack = stack
        self._opened: dict[str, Any] = {}

    async def aws(self, service: AwsService) -> Any:
        """Return the aiobotocore client of S3, DynamoDB, SQS, SSM, KMS or Secrets Manager."""
        from assistant.process.aws import open_client

        return await self.once(
            service, lambda: open_client(service, region=self._region, endpoint_url=self._endpoint_url)
        )

    async def once(self, name: str, opening: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        """Return what ``opening`` gave at the first call with this name; ``stack`` closes it."""
        if name not in self._opened:
            self._opened[name] = await self.stack.enter_async_context(opening())
        return self._opened[name]


class ProcessClients(AwsClients):
    """All clients of the service or the worker, shared by its tenants."""

    def __init__(self, settings: StoreSettings, stack: AsyncExitStack) -> None:
        super().__init__(settings, stack)
        self.settings = settings

    async def opensearch(self) -> AsyncOpenSearch:
        """Return the client of the search domain that the settings name."""
        from assistant.stores.index.opensearch_client import open_opensearch

        url, auth = self.settings.opensearch_url, self.settings.opensearch_auth
        return await self.once("opensearch", lambda: open_opensearch(url=url, auth=auth, region=self._region))


@asynccontextmanager
async def open_clients(settings: StoreSettings) -> AsyncGenerator[ProcessClients]:
    """Give the process's clients for the block, and close those that were opened at its end."""
    async with AsyncExitStack() as stack:
        yield ProcessClients(settings, stack)


@asynccontextmanager
async def open_key_source(settings: ServiceSettings) -> AsyncGenerator[HttpKeySource | ParameterKeySource]:
    """Open the source of the issuer's signing keys: a parameter of SSM, or an address. The settings name
    exactly one."""
    if settings.jwks_parameter is None:
        yield HttpKeySource(str(settings.jwks_url))
        return
    from assistant.process.aws import ParameterKeySource

    async with open_clients(settings) as clients:
        yield ParameterKeySource(await clients.aws("ssm"), name=settings.jwks_parameter)


@asynccontextmanager
async def open_revocation_sources(
    settings: ServiceSettings, tenants: Iterable[TenantConfig]
) -> AsyncGenerator[Mapping[str, Revocations]]:
    """Open the sources of revoked tokens, by the tenant's name: a parameter of SSM each where the settings
    name it, else a file."""
    if settings.revocations_parameter is None:
        files = {tenant.name: FileWords(revocations_file(settings.state_dir, tenant)) for tenant in tenants}
        yield {name: Revocations(words) for name, words in files.items()}
        return
    from assistant.process.aws import ParameterWords

    names = {tenant.name: settings.of_tenant(settings.revocations_parameter, tenant) for tenant in tenants}
    async with open_clients(settings) as clients:
        ssm = await clients.aws("ssm")
        yield {tenant: Revocations(ParameterWords(ssm, place=name)) for tenant, name in names.items()}


def revocations_file(state_dir: Path, tenant: TenantConfig) -> Path:
    """Return the file with the revoked tokens of a tenant on this machine."""
    return state_dir / "tenants" / tenant.name / "revocations.json"


class HttpKeySource:
    """A ``KeySource`` that fetches ``url``. It follows no redirect and no proxy of the environment."""

    def __init__(self, url: str, *, timeout_s: float = 3.0) -> None:
        self._url = url
        self._timeout_s = timeout_s

    async def fetch(self) -> bytes:
        """Return the key set (JWKS) as it was served. Raises DependencyError."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise _keys_error(f"status {response.status}")
                body = bytearray()
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > _LONGEST_KEY_SET_BYTES:
                        raise _keys_error(f"the response is larger than {_LONGEST_KEY_SET_BYTES} bytes")
                return bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _keys_error(type(error).__name__) from None


def _keys_error(reason: str) -> DependencyError:
    return DependencyError(f"Cannot fetch the issuer's signing keys: {reason}.")
