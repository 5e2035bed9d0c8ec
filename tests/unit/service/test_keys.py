"""The issuer's keys over real HTTP: cached, refetched with restraint, and never too old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import pytest
from joserfc.jwk import ECKey, RSAKey

from assistant.domain.errors import DependencyError
from assistant.service.identity import BOUND_SUBJECT, CachedKeySet
from assistant.stores.clients import HttpKeySource
from tests.fakes.clock import SteppedClock
from tests.fakes.socket_server import socket_server
from tests.fakes.tokens import EC_KEY, RSA_KEY

pytestmark = pytest.mark.loopback
SILENCE_S = 2.0
"""So long a silent issuer is waited for; one that is well answers sooner even on a busy machine."""


@dataclass
class Issuer:
    """Answers every request with what it holds."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    requests: int = 0
    silent: bool = False
    open_requests: list[asyncio.Event] = field(default_factory=list[asyncio.Event])

    def publish(self, *keys: ECKey | RSAKey) -> None:
        self.body = orjson.dumps({"keys": [key.as_dict(private=False) for key in keys]})

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        if self.silent:
            await reader.read()
        else:
            head = (
                f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.body)}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode() + self.body)
            await writer.drain()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    async with socket_server(issuer.answer) as url:
        issuer.url = f"{url}/jwks.json"
        issuer.publish(EC_KEY, RSA_KEY)
        yield issuer


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def keys(issuer: Issuer, clock: SteppedClock) -> AsyncIterator[CachedKeySet]:
    keys = CachedKeySet(HttpKeySource(issuer.url, timeout_s=SILENCE_S), clock=clock)
    yield keys
    await keys.close()


async def test_keys_are_fetched_once_and_kept(keys: CachedKeySet, issuer: Issuer) -> None:
    ec, rsa = await keys.key("ec"), await keys.key("rsa")
    assert isinstance(ec, ECKey)
    assert isinstance(rsa, RSAKey)
    assert issuer.requests == 1


async def test_callers_at_once_share_one_fetch(keys: CachedKeySet, issuer: Issuer) -> None:
    found = await asyncio.gather(*(keys.key("ec") for _ in range(20)))
    assert all(found)
    assert issuer.requests == 1


async def test_unknown_key_ids_cause_few_fetches_however_many_come(
    keys: CachedKeySet, issuer: Issuer, clock: SteppedClock
) -> None:
    await keys.key("ec")
    for number in range(50):
        assert await keys.key(f"made up {number}") is None
    assert issuer.requests == 3
    clock.step(15)
    found = await asyncio.gather(*(keys.key(f"at once {number}") for number in range(50)))
    assert found == [None] * 50
    assert issuer.requests == 4


async def test_known_keys_serve_while_unknown_ones_storm(keys: CachedKeySet, issuer: Issuer) -> None:
    await keys.key("ec")
    issuer.silent = True
    storm = [asyncio.create_task(keys.key(f"made up {number}")) for number in range(50)]
    async with asyncio.timeout(SILENCE_S / 2):
        await asyncio.sleep(0)
        assert await keys.key("ec") is not None
    judged = await asyncio.gather(*storm, return_exceptions=True)
    assert {type(outcome) for outcome in judged} == {DependencyError}  # nobody can say that they are made up


async def test_an_id_that_was_unknown_while_the_issuer_was_down_is_judged_once_it_is_back(
    keys: CachedKeySet, issuer: Issuer, clock: SteppedClock
) -> None:
    await keys.key("ec")
    issuer.silent = True
    with pytest.raises(DependencyError):
        await keys.key("made up")
    issuer.silent = False
    clock.step(60)
    assert await keys.key("made up") is None


async def test_a_new_key_of_the_issuer_works_at_once(keys: CachedKeySet, issuer: Issuer) -> None:
    await keys.key("ec")
    fresh = ECKey.generate_key("P-256", {"kid": "fresh"})
    issuer.publish(EC_KEY, fresh)
    assert await keys.key("fresh") is not None


async def test_a_garbled_key_set_leaves_the_last_good_one(
    keys: CachedKeySet, issuer: Issuer, clock: SteppedClock
) -> None:
    await keys.key("ec")
    issuer.body = b'{"keys":[]}'
    clock.step(301)
    await keys.check()
    assert issuer.requests == 2
    assert await keys.key("ec") is not None


async def test_a_key_that_the_issuer_dropped_is_dropped(
    keys: CachedKeySet, issuer: Issuer, clock: SteppedClock
) -> None:
    await keys.key("rsa")
    issuer.publish(EC_KEY)
    clock.step(301)
    await keys.check()
    assert await keys.key("rsa") is None


async def test_while_the_issuer_is_down_kept_keys_serve_for_an_hour(
    keys: CachedKeySet, issuer: Issuer, clock: SteppedClock
) -> None:
    await keys.key("ec")
    issuer.status = 500
    clock.step(3599)
    assert await keys.key("ec") is not None
    clock.step(2)
    with pytest.raises(DependencyError):
        await keys.key("ec")


async def test_nobody_waits_for_a_refresh(keys: CachedKeySet, issuer: Issuer, clock: SteppedClock) -> None:
    await keys.key("ec")
    issuer.silent = True
    clock.step(301)
    async with asyncio.timeout(SILENCE_S / 2):
        assert await keys.key("ec") is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"ec"}]}',
        b'{"keys":[{"kty":"EC","crv":"P-256","x":"bad","y":"bad","kid":"ec"}]}',
        b'{"keys":[' + b" " * 300_000 + b"]}",
    ],
    ids=["empty", "garbage", "list", "no key", "a secret", "broken key", "too large"],
)
async def test_what_is_no_key_set_gives_no_key(keys: CachedKeySet, issuer: Issuer, body: bytes) -> None:
    issuer.body = body
    with pytest.raises(DependencyError):
        await keys.key("ec")


async def test_a_broken_key_does_not_spoil_the_others(keys: CachedKeySet, issuer: Issuer) -> None:
    broken = {"kty": "EC", "crv": "P-256", "x": "bad", "y": "bad", "kid": "broken"}
    issuer.body = orjson.dumps({"keys": [broken, EC_KEY.as_dict(private=False)]})
    assert await keys.key("ec") is not None


async def test_what_a_key_is_bound_to_is_kept(keys: CachedKeySet, issuer: Issuer) -> None:
    issuer.body = orjson.dumps({"keys": [EC_KEY.as_dict(private=False) | {BOUND_SUBJECT: "probe"}]})
    found = await keys.key("ec")
    assert found is not None
    assert found.get(BOUND_SUBJECT) == "probe"


async def test_a_short_rsa_key_is_not_used(keys: CachedKeySet, issuer: Issuer) -> None:
    with pytest.warns(match="1024|2048"):
        short = RSAKey.generate_key(1024, {"kid": "short"})
    issuer.publish(EC_KEY, short)
    assert await keys.key("short") is None


async def test_an_issuer_that_does_not_answer_is_given_up(keys: CachedKeySet, issuer: Issuer) -> None:
    issuer.silent = True
    with pytest.raises(DependencyError):
        await keys.key("ec")
