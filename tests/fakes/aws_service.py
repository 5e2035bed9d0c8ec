"""The service in this process with every store on AWS, as ``running_service`` has it with embedded ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant.domain.documents import Document, MediaType
from tests.fakes.aws_tenants import AwsTenants, aws_tenants
from tests.fakes.running_service import (
    RunningService,
    Scene,
    published_keys,
    service_on,
    service_settings,
)
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tokens import EC_KEY


@dataclass
class AwsService(RunningService):
    """The service in this process, with every store on AWS."""

    aws: AwsTenants | None = None

    async def know(
        self,
        document_id: str,
        text: str,
        *,
        tenant: str = "clinic",
        labels: tuple[str, ...] = (),
        media_type: MediaType = "text/plain",
        original: tuple[str, bytes] | None = None,
    ) -> Document:
        assert original is None, "The contract suite of document stores covers originals."
        return await self.stores.know(document_id, text, tenant=tenant, labels=labels, media_type=media_type)

    @property
    def stores(self) -> AwsTenants:
        assert self.aws is not None
        return self.aws


@asynccontextmanager
async def aws_service(folder: Path, *, aws_url: str, opensearch_url: str) -> AsyncGenerator[AwsService]:
    """Serve two tenants that know nothing yet."""
    scene = Scene()
    async with AsyncExitStack() as stack:
        aws = await stack.enter_async_context(
            aws_tenants(aws_url=aws_url, opensearch_url=opensearch_url, names=scene.tenants)
        )
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        jwks_url = await stack.enter_async_context(published_keys([EC_KEY]))
        settings = aws.settings(
            service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        )
        key = await aws.clients["kms"].create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        settings = settings.model_copy(update={"receipt_key": key["KeyMetadata"]["Arn"]})
        made = await stack.enter_async_context(service_on(settings, scene, sagemaker))
        yield AwsService(
            made.url,
            sagemaker,
            made.tenants,
            made.state_dir,
            made.client,
            settings,
            made.operations_url,
            aws=aws,
        )
