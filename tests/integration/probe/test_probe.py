"""The probe asks the real service through TLS, and says what it found."""

from __future__ import annotations

import asyncio
import json

import pytest

from assistant.probe.probe import Outcome, probe_once
from assistant.process.aws import open_client
from assistant.process.settings import ProbeSettings
from assistant.tenant.deployed_names import PROBE_FAILED, PROBE_PAUSED
from lambdas.ask_probe import handle
from tests.fakes.aws_server import REGION
from tests.fakes.tls_front import Authority
from tests.integration.probe.conftest import Link


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


async def test_a_key_that_the_tenant_does_not_know_is_a_failure(link: Link) -> None:
    async with open_client("kms", region=REGION, endpoint_url=link.aws_url) as kms:
        other = await kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    async with link.open() as settings:
        result = await probe_once(changed(settings, signing_key_id=other["KeyMetadata"]["Arn"]))
    assert (result.outcome, result.reason) == (Outcome.FAILED, "unauthenticated")


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
