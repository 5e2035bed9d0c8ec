"""The clients of one process: one a service of AWS, opened when first needed and shared by all tenants."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from assistant.settings.process import StoreSettings

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from assistant.aws.aws_clients import AwsService
    from assistant.aws.sagemaker import SageMakerRuntime

_GATEWAY_KEY = "local"
"""The gateway wants a well-formed signature and knows no keys."""


class ProcessClients:
    """Opens each client once. ``open_clients`` makes it and closes what it opened."""

    def __init__(self, settings: StoreSettings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._aws: dict[AwsService, Any] = {}
        self._opensearch: AsyncOpenSearch | None = None
        self._sagemaker: SageMakerRuntime | None = None

    async def aws(self, service: AwsService) -> Any:
        """Return the aiobotocore client of S3, DynamoDB, SQS, SSM or KMS."""
        from assistant.aws.aws_clients import open_client

        if service not in self._aws:
            settings = self._settings
            opening = open_client(service, region=settings.region, endpoint_url=settings.aws_endpoint_url)
            self._aws[service] = await self._stack.enter_async_context(opening)
        return self._aws[service]

    async def opensearch(self) -> AsyncOpenSearch:
        from assistant.aws.opensearch_client import open_opensearch

        if self._opensearch is None:
            settings = self._settings
            opening = open_opensearch(
                url=settings.opensearch_url, auth=settings.opensearch_auth, region=settings.region
            )
            self._opensearch = await self._stack.enter_async_context(opening)
        return self._opensearch

    async def sagemaker(self) -> SageMakerRuntime:
        """Return the client of the SageMaker Runtime: AWS's own unless the settings name another.

        Credentials are the default chain's; an emulator gets a fixed key where the environment names none.
        On this machine itself it always does: no signature made for a loopback address could be meant for
        AWS, and an expired sign-in of the developer's own must not stop the local gateway.
        """
        from assistant.aws.sagemaker import open_sagemaker_runtime

        if self._sagemaker is None:
            url = self._settings.sagemaker_endpoint_url
            key = _GATEWAY_KEY if url is not None and is_on_this_machine(url) else None
            opening = open_sagemaker_runtime(
                region=self._settings.region, endpoint_url=url, access_key_id=key, secret_access_key=key
            )
            self._sagemaker = await self._stack.enter_async_context(opening)
        return self._sagemaker


@asynccontextmanager
async def open_clients(settings: StoreSettings) -> AsyncGenerator[ProcessClients]:
    """Share clients inside the block; nothing is opened before it is needed."""
    async with AsyncExitStack() as stack:
        yield ProcessClients(settings, stack)


def is_on_this_machine(url: str) -> bool:
    """Return whether the address is a loopback one; another name of this machine is not looked up."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False
