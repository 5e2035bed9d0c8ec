"""Opens what a process opens once: the clients of AWS's services, and the sources of signing keys.

No client is opened, and no package of AWS imported, before it is needed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.domain.addresses import is_on_this_machine
from assistant.domain.errors import DependencyError
from assistant.process.settings import FunctionSettings, ServiceSettings, StoreSettings
from assistant.tenant.tenant import TenantConfig

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.model_server.here import ModelsHere
    from assistant.models.sagemaker import SageMakerRuntime
    from assistant.process.aws.clients import AwsService
    from assistant.process.aws.parameters import ParameterKeySource, ParameterRevocations
    from assistant.stores.files import FileRevocations

_ANY_KEY = "local"
_LONGEST_KEY_SET_BYTES = 256 * 1024


class AwsClients:
    """Opens one aiobotocore client a service when it is first needed; ``stack`` closes them."""

    def __init__(self, settings: StoreSettings | FunctionSettings, stack: AsyncExitStack) -> None:
        self._region = settings.region
        self._endpoint_url = settings.aws_endpoint_url
        self._stack = stack
        self._opened: dict[str, Any] = {}

    async def aws(self, service: AwsService) -> Any:
        """Return the aiobotocore client of S3, DynamoDB, SQS, SSM, KMS or Secrets Manager."""
        from assistant.process.aws.clients import open_client

        return await self._once(
            service, lambda: open_client(service, region=self._region, endpoint_url=self._endpoint_url)
        )

    async def _once(self, name: str, opening: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        if name not in self._opened:
            self._opened[name] = await self._stack.enter_async_context(opening())
        return self._opened[name]


class ProcessClients(AwsClients):
    """All clients of the service or the worker, shared by its tenants."""

    def __init__(
        self, settings: StoreSettings, stack: AsyncExitStack, *, models: ModelsHere | None = None
    ) -> None:
        super().__init__(settings, stack)
        self._settings = settings
        self._models = models

    def models(self) -> ModelsHere:
        """Return the models in this process."""
        if self._models is None:  # by name: images of AWS's processes do not hold it
            here = import_module("assistant.model_server.here")
            self._models = here.ModelsHere(self._settings.model_artifacts_dir)
            self._stack.callback(self._models.close)
        return self._models

    async def opensearch(self) -> AsyncOpenSearch:
        from assistant.stores.index.opensearch_client import open_opensearch

        url, auth = self._settings.opensearch_url, self._settings.opensearch_auth
        return await self._once(
            "opensearch", lambda: open_opensearch(url=url, auth=auth, region=self._region)
        )

    async def sagemaker(self) -> SageMakerRuntime:
        """Return the client of the SageMaker Runtime: of AWS unless the settings name another endpoint.

        Credentials are the default chain's; an emulator gets a fixed key where the environment names none.
        A loopback address always gets one: no signature for it could be meant for AWS, and an expired
        sign-in of the developer must not stop a test.
        """
        from assistant.models.sagemaker import open_sagemaker_runtime

        url = self._settings.sagemaker_endpoint_url
        key = _ANY_KEY if url is not None and is_on_this_machine(url) else None
        return await self._once(
            "sagemaker",
            lambda: open_sagemaker_runtime(
                region=self._region, endpoint_url=url, access_key_id=key, secret_access_key=key
            ),
        )


@asynccontextmanager
async def open_clients(
    settings: StoreSettings, *, models: ModelsHere | None = None
) -> AsyncGenerator[ProcessClients]:
    """Share clients inside the block; each opens when it is first needed. ``models``: those that the process
    has loaded already."""
    async with AsyncExitStack() as stack:
        yield ProcessClients(settings, stack, models=models)


@asynccontextmanager
async def open_key_source(settings: ServiceSettings) -> AsyncGenerator[HttpKeySource | ParameterKeySource]:
    """Open the source of the issuer's keys; the settings name exactly one."""
    if settings.jwks_parameter is None:
        yield HttpKeySource(str(settings.jwks_url))
        return
    from assistant.process.aws.parameters import ParameterKeySource

    async with open_clients(settings) as clients:
        yield ParameterKeySource(await clients.aws("ssm"), name=settings.jwks_parameter)


@asynccontextmanager
async def open_revocation_sources(
    settings: ServiceSettings, tenants: Iterable[TenantConfig]
) -> AsyncGenerator[Mapping[str, FileRevocations | ParameterRevocations]]:
    """Open the sources of revoked tokens, by tenant."""
    if settings.revocations_parameter is None:
        from assistant.stores.files import FileRevocations

        yield {each.name: FileRevocations(revocations_file(settings.state_dir, each)) for each in tenants}
        return
    from assistant.process.aws.parameters import ParameterRevocations

    names = {each.name: settings.of_tenant(settings.revocations_parameter, each) for each in tenants}
    async with open_clients(settings) as clients:
        ssm = await clients.aws("ssm")
        yield {tenant: ParameterRevocations(ssm, name=name) for tenant, name in names.items()}


def revocations_file(state_dir: Path, tenant: TenantConfig) -> Path:
    """Return the file with the revoked tokens of a tenant on this machine."""
    return state_dir / "tenants" / tenant.name / "revocations.json"


class HttpKeySource:
    """A ``KeySource`` of the address ``url``. It follows no redirect and no proxy of the environment."""

    def __init__(self, url: str, *, timeout_s: float = 3.0) -> None:
        self._url = url
        self._timeout_s = timeout_s

    async def fetch(self) -> bytes:
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
