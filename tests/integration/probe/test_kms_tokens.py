"""Tokens that KMS signs, as the service verifies them."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, RSAKey

from assistant.domain.clock import SystemClock
from assistant.domain.errors import DependencyError, UnauthenticatedError
from assistant.domain.identity import Identity, Role
from assistant.process.aws import signed_token
from assistant.service.identity import TokenVerifier
from tests.fakes.tokens import AUDIENCE, ISSUER, StaticKeys, claims
from tests.integration.probe.conftest import SigningKey


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


async def test_it_speaks_for_nobody_but_the_probe(kms: Any, signing_key: SigningKey) -> None:
    of_ann = claims(datetime.now(UTC), sub="ann", roles=["auditor"])
    token = await signed_token(kms, key_id=signing_key.arn, kid="probe", claims=of_ann)
    with pytest.raises(UnauthenticatedError):
        await identity_of(token, signing_key)


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
