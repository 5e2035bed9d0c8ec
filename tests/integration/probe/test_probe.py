"""The probe asks the real service through TLS, and says what it found."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, RSAKey

from assistant.domain.clock import SystemClock
from assistant.domain.errors import DependencyError
from assistant.domain.identity import Identity, Role
from assistant.probe.probe import Outcome, probe_once
from assistant.probe.published_key import published_key
from assistant.process.aws import open_client, signed_token
from assistant.process.settings import ProbeSettings
from assistant.service.identity import TokenVerifier
from assistant.tenant.deployed_names import PROBE_FAILED, PROBE_PAUSED
from lambdas.ask_probe import handle
from tests.stage.aws_server import REGION
from tests.stage.running_service import RunningService, Scene, published_keys, service_on, service_settings
from tests.stage.sagemaker_runtime import sagemaker_socket
from tests.stage.servers import Authority, tls_front
from tests.stage.tokens import AUDIENCE, ISSUER, StaticKeys, claims


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

    @asynccontextmanager
    async def open(self, **front: Any) -> AsyncIterator[ProbeSettings]:
        """End TLS before the service; give the settings of a probe that asks through it."""
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


def changed(settings: ProbeSettings, **changes: object) -> ProbeSettings:
    return settings.model_copy(update=changes)


async def test_an_answer_comes_the_whole_way(link: Link) -> None:
    async with link.open() as settings:
        result = await probe_once(settings)
    assert (result.outcome, result.reason) == (Outcome.WORKING, "stop")


async def test_a_certificate_of_somebody_else_is_not_trusted(link: Link) -> None:
    async with link.open(authority=Authority.make()) as settings:
        result = await probe_once(settings)
    assert (result.outcome, result.reason) == (Outcome.FAILED, "service_unreachable")


async def test_a_path_that_stays_silent_is_given_up(link: Link) -> None:
    link.service.sagemaker.stall_after = 1
    async with link.open() as settings:
        result = await probe_once(changed(settings, deadline_s=1.0))
    assert (result.outcome, result.reason) == (Outcome.FAILED, "deadline_exceeded")


async def test_where_client_certificates_are_asked_for_the_probe_shows_its_own(link: Link) -> None:
    name = f"/probe/{link.signing_key.arn[-12:]}/client-certificate"
    async with open_client("ssm", region=REGION, endpoint_url=link.aws_url) as ssm:
        await ssm.put_parameter(
            Name=name, Value=link.authority.issue("probe.test"), Type="SecureString", Overwrite=True
        )
    async with link.open(asks_for_certificates=True) as settings:
        with_its_own = await probe_once(changed(settings, client_certificate_parameter=name))
        without = await probe_once(settings)
    assert with_its_own.outcome is Outcome.WORKING
    assert (without.outcome, without.reason) == (Outcome.FAILED, "service_unreachable")


@pytest.mark.parametrize("paused", [False, True], ids=["on", "paused"])
async def test_the_function_tells_and_returns_what_came_of_it(
    link: Link, *, paused: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (link.service.state_dir / "tenants" / "clinic" / "power").write_text("paused" if paused else "on")
    async with link.open() as settings:
        for name, value in settings.environment().items():
            monkeypatch.setenv(name, value)
        returned = await asyncio.to_thread(handle, {}, None)
    told = next(json.loads(line) for line in capsys.readouterr().out.splitlines() if PROBE_FAILED in line)
    assert returned["outcome"] == told["outcome"] == ("paused" if paused else "working")
    assert (told[PROBE_FAILED], told[PROBE_PAUSED]) == ([0.0], [float(paused)])


class OnlyKey(StaticKeys):
    def __init__(self, entry: Any) -> None:
        super().__init__()
        self._key = ECKey.import_key(orjson.loads(orjson.dumps(entry)))

    async def key(self, kid: str) -> ECKey | RSAKey | None:
        return self._key if kid == self._key.kid else None


async def identity_of(token: str, key: SigningKey) -> Identity:
    verifier = TokenVerifier(
        OnlyKey(key.entry), issuer=ISSUER, audience=AUDIENCE, tenants=("clinic",), clock=SystemClock()
    )
    return await verifier.identify(f"Bearer {token}")


async def test_the_service_s_own_verifier_takes_it(kms: Any, signing_key: SigningKey) -> None:
    good = claims(datetime.now(UTC), sub="probe")
    tokens = [
        # each signature's numbers have lengths of their own: DER drops leading zeros, ES256 keeps them
        await signed_token(kms, key_id=signing_key.arn, kid="probe", claims=good)
        for _ in range(20)
    ]
    found = {await identity_of(token, signing_key) for token in tokens}
    assert found == {
        Identity(tenant="clinic", agent="probe", roles=frozenset({Role.AGENT}), labels=frozenset())
    }


async def test_a_key_that_is_not_there_is_a_failure_of_kms(kms: Any) -> None:
    with pytest.raises(DependencyError, match="KMS refused: NotFoundException"):
        await signed_token(kms, key_id="alias/nobody-s", kid="probe", claims={})


async def test_the_public_half_is_printed_as_the_key_set_takes_it(kms: Any, signing_key: SigningKey) -> None:
    public = await kms.get_public_key(KeyId=signing_key.arn)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "assistant.probe.published_key"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate(public["PublicKey"])
    assert orjson.loads(printed) == signing_key.entry
