"""The real service whose key set holds the probe's key, TLS before it, and KMS by the emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey

from assistant.probe.published_key import published_key
from assistant.process.aws import open_client
from assistant.process.settings import ProbeSettings
from tests.fakes.aws_server import REGION
from tests.fakes.running_service import (
    RunningService,
    Scene,
    published_keys,
    service_on,
    service_settings,
)
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tls_front import Authority, tls_front
from tests.fakes.tokens import ISSUER


@dataclass(frozen=True)
class SigningKey:
    """A key of KMS, and its public half as the key set has it."""

    arn: str
    entry: Mapping[str, Any]


@pytest.fixture
async def kms(aws_server_url: str) -> AsyncIterator[Any]:
    async with open_client("kms", region=REGION, endpoint_url=aws_server_url) as client:
        yield client


@pytest.fixture
async def signing_key(kms: Any) -> SigningKey:
    made = await kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    arn = made["KeyMetadata"]["Arn"]
    public = await kms.get_public_key(KeyId=arn)
    return SigningKey(arn, published_key(public["PublicKey"]))


@pytest.fixture
def scene() -> Scene:
    """The clinic, whose model writes; a test may say otherwise."""
    return Scene(tenants=("clinic",))


@pytest.fixture
async def service(tmp_path: Path, signing_key: SigningKey, scene: Scene) -> AsyncIterator[RunningService]:
    """The clinic's, with one document."""
    published = ECKey.import_key(orjson.loads(orjson.dumps(signing_key.entry)))
    async with AsyncExitStack() as stack:
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        jwks_url = await stack.enter_async_context(published_keys([published]))
        settings = service_settings(tmp_path, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        service = await stack.enter_async_context(service_on(settings, scene, sagemaker))
        await service.know("wait", "The wait is two days.")
        yield service


@dataclass(frozen=True)
class Link:
    """The way to the service, by TLS."""

    authority: Authority
    service: RunningService
    folder: Path
    signing_key: SigningKey
    aws_url: str

    def open(self, **front: Any) -> AbstractAsyncContextManager[ProbeSettings]:
        """End TLS before the service; give the settings of a probe that asks through it."""
        return self._open(front)

    @asynccontextmanager
    async def _open(self, front: Mapping[str, Any]) -> AsyncIterator[ProbeSettings]:
        async with tls_front(self.service.url, self.folder, **{"authority": self.authority, **front}) as url:
            yield ProbeSettings(
                service_url=url,
                tenant="clinic",
                question="How long is the wait?",
                issuer=ISSUER,
                signing_key_id=self.signing_key.arn,
                region=REGION,
                aws_endpoint_url=self.aws_url,
                certificate_authority=self.authority.pem,
                deadline_s=20,
            )


@pytest.fixture
def link(service: RunningService, tmp_path: Path, signing_key: SigningKey, aws_server_url: str) -> Link:
    return Link(Authority.make(), service, tmp_path, signing_key, aws_server_url)
