"""Who a token speaks for, and how every other is refused: claims, the issuer's keys, revocations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from structlog.testing import capture_logs

from assistant.domain.errors import (
    DependencyError,
    ForbiddenError,
    TenantNotServedError,
    TokenRevokedError,
    UnauthenticatedError,
)
from assistant.domain.identity import Identity, Role
from assistant.service.identity import BOUND_SUBJECT, CachedKeySet, RevokedTokens, TokenVerifier, require_role
from assistant.stores.clients import HttpKeySource
from assistant.stores.words import FileWords, Revocations
from tests.stage.servers import socket_server
from tests.stage.tenant_stores import SteppedClock
from tests.stage.tokens import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    RSA_KEY,
    StaticKeys,
    claims,
    signed_with_public_key,
    token,
    unsigned,
)

CLOCK = SteppedClock()
NOW = CLOCK.now()
REFUSAL = "No valid bearer token; sign in again."


def verifier(keys: Any = None, *, refused: tuple[str, ...] = ()) -> TokenVerifier:
    return TokenVerifier(
        keys or StaticKeys(),
        issuer=ISSUER,
        audience=AUDIENCE,
        tenants=() if "clinic" in refused else ("clinic",),
        clock=CLOCK,
        refused=refused,
    )


async def identify(bearer: str) -> Identity:
    return await verifier().identify(f"Bearer {bearer}")


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["ES256", "RS256"])
async def test_a_good_token_becomes_an_identity(key: ECKey | RSAKey) -> None:
    bearer = token(claims(NOW, roles=["agent", "auditor"], labels=["hr"]), key=key)
    assert await identify(bearer) == Identity(
        tenant="clinic",
        agent="ann",
        roles=frozenset({Role.AGENT, Role.AUDITOR}),
        labels=frozenset({"hr"}),
    )


async def test_an_agent_of_a_tenant_that_cannot_be_served_is_not_asked_to_sign_in_again() -> None:
    with pytest.raises(TenantNotServedError, match="clinic"):
        await verifier(refused=("clinic",)).identify(f"Bearer {token(claims(NOW))}")
    with pytest.raises(UnauthenticatedError):
        await verifier(refused=("clinic",)).identify(f"Bearer {unsigned(claims(NOW))}")


async def test_one_of_several_audiences_suffices() -> None:
    assert (await identify(token(claims(NOW, aud=["other", AUDIENCE])))).agent == "ann"


@pytest.mark.parametrize("change", [{"exp": -59}, {"iat": 59}, {"nbf": 59}])
async def test_clocks_may_differ_by_a_minute(change: dict[str, int]) -> None:
    shifted = {name: int(NOW.timestamp()) + seconds for name, seconds in change.items()}
    assert (await identify(token(claims(NOW, **shifted)))).agent == "ann"


def at(seconds: int) -> int:
    return int(NOW.timestamp()) + seconds


BAD_TOKENS: dict[str, Callable[[datetime], str]] = {
    "unsigned": lambda now: unsigned(claims(now)),
    "unsigned, None": lambda now: unsigned(claims(now), algorithm="None"),
    "no signature under ES256": lambda now: unsigned(claims(now), algorithm="ES256"),
    "HS256 with the public key": lambda now: signed_with_public_key(claims(now)),
    "HS256 with a secret": lambda now: token(claims(now), key=OctKey.generate_key(256)),
    "another key under our id": lambda now: token(claims(now), key=ECKey.generate_key("P-256")),
    "an unknown key id": lambda now: token(claims(now), kid="other"),
    "ES256 with the id of the RSA key": lambda now: token(claims(now), kid="rsa"),
    "wrong audience": lambda now: token(claims(now, aud="other")),
    "wrong audiences": lambda now: token(claims(now, aud=["other"])),
    "audience that only begins so": lambda now: token(claims(now, aud="assistant-other")),
    "wrong issuer": lambda now: token(claims(now, iss="http://other")),
    "expired": lambda now: token(claims(now, exp=at(-61))),
    "issued in the future": lambda now: token(claims(now, iat=at(61))),
    "not valid yet": lambda now: token(claims(now, nbf=at(61))),
    "exp is text": lambda now: token(claims(now, exp="tomorrow")),
    "exp is true": lambda now: token(claims(now, exp=True)),
    "unknown tenant": lambda now: token(claims(now, tenant="pharmacy")),
    "tenant is a list": lambda now: token(claims(now, tenant=["clinic"])),
    "roles is text": lambda now: token(claims(now, roles="agent")),
    "labels is text": lambda now: token(claims(now, labels="hr")),
    "empty agent": lambda now: token(claims(now, sub="")),
    "too long": lambda now: token(claims(now, more="x" * 9000)),
    "no iss": lambda now: token(claims(now, iss=None)),
    "no aud": lambda now: token(claims(now, aud=None)),
    "no exp": lambda now: token(claims(now, exp=None)),
    "no iat": lambda now: token(claims(now, iat=None)),
    "no sub": lambda now: token(claims(now, sub=None)),
    "no tenant": lambda now: token(claims(now, tenant=None)),
    "no roles": lambda now: token(claims(now, roles=None)),
    "altered": lambda now: token(claims(now))[:-6] + "AAAAAA",
    "garbage": lambda now: "garbage",
    "two dots": lambda now: "..",
    "binary": lambda now: "\udcff.a.b",
    "a JWE": lambda now: "a.b.c.d.e",
}


SIGNED = {
    "aud": ("wrong audience", "wrong audiences", "audience that only begins so", "no aud"),
    "iss": ("wrong issuer", "no iss"),
    "exp": ("exp is text", "exp is true", "no exp"),
    "iat": ("no iat", "issued in the future"),
    "nbf": ("not valid yet",),
    "tenant": ("unknown tenant", "tenant is a list", "no tenant"),
    "roles": ("roles is text", "no roles"),
    "labels": ("labels is text",),
    "sub": ("empty agent", "no sub"),
}
"""Claims of tokens that the issuer signed, and that the assistant cannot take."""
CLAIM_OF = {name: claim for claim, names in SIGNED.items() for name in names}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_bad_token_is_the_same_refusal_and_a_signed_one_names_its_claim(name: str) -> None:
    with pytest.raises(UnauthenticatedError) as refused:
        await identify(BAD_TOKENS[name](NOW))
    claim = CLAIM_OF.get(name)
    said = refused.value.message
    assert said == REFUSAL if claim is None else said.startswith(f"The token's claim {claim} is missing, or ")
    assert refused.value.__cause__ is None


BOUND = ECKey.import_key(EC_KEY.as_dict(private=True) | {BOUND_SUBJECT: "probe"})


class BoundKeys(StaticKeys):
    """The same key, bound to one subject by the key set."""

    async def key(self, kid: str) -> ECKey | RSAKey | None:
        return BOUND if kid == "ec" else None


async def test_a_bound_key_speaks_for_its_subject() -> None:
    bearer = token(claims(NOW, sub="probe"))
    assert (await verifier(BoundKeys()).identify(f"Bearer {bearer}")).agent == "probe"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "ann"},
        {"sub": "probe", "roles": ["agent", "auditor"]},
        {"sub": "probe", "labels": ["hr"]},
    ],
    ids=["another agent", "another role", "a label"],
)
async def test_a_bound_key_speaks_for_nobody_else(changes: dict[str, Any]) -> None:
    with pytest.raises(UnauthenticatedError, match=REFUSAL):
        await verifier(BoundKeys()).identify(f"Bearer {token(claims(NOW, **changes))}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "bearer"])
async def test_no_bearer_token_is_the_same_refusal(header: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match=REFUSAL):
        await verifier().identify(header)


async def test_a_forbidden_algorithm_asks_for_no_key() -> None:
    keys = StaticKeys()
    with pytest.raises(UnauthenticatedError):
        await verifier(keys).identify(f"Bearer {unsigned(claims(NOW))}")
    assert keys.asked == []


async def test_unavailable_keys_are_an_outage_and_no_refusal() -> None:
    class NoKeys(StaticKeys):
        async def key(self, kid: str) -> ECKey | RSAKey | None:
            raise DependencyError("no keys")

    with pytest.raises(DependencyError):
        await verifier(NoKeys()).identify(f"Bearer {token(claims(NOW))}")


def test_a_missing_role_is_forbidden() -> None:
    auditor = Identity("clinic", "ann", frozenset({Role.AUDITOR}), frozenset())
    require_role(auditor, Role.AGENT, Role.AUDITOR)
    with pytest.raises(ForbiddenError, match="agent or knowledge_owner"):
        require_role(auditor, Role.AGENT, Role.KNOWLEDGE_OWNER)


async def test_a_role_that_nobody_knows_gives_no_right() -> None:
    assert (await identify(token(claims(NOW, roles=["root", "agent"])))).roles == {Role.AGENT}


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


class Source:
    """The revocations of a tenant in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.revocations = Revocations(FileWords(file))

    def put(self, content: str) -> None:
        self.file.write_text(content)

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Have a folder where the file was."""
        content = self.file.read_text()
        self.file.unlink()
        self.file.mkdir()
        yield
        self.file.rmdir()
        self.file.write_text(content)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "revocations.json")


NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def content(**revoked: datetime) -> str:
    return orjson.dumps({agent: at.isoformat() for agent, at in revoked.items()}).decode()


async def is_refused(tokens: RevokedTokens, agent: str = "ann", *, issued_at: datetime = NOON) -> bool:
    """Whether the token is refused, once the source was read; on a busy machine that takes seconds."""
    async with asyncio.timeout(60):
        while True:
            try:
                await tokens.require(agent, issued_s=issued_at.timestamp())
            except TokenRevokedError:
                return True
            except DependencyError:
                continue
            return False


async def test_nothing_is_revoked_where_nobody_revoked_anything(source: Source) -> None:
    assert await source.revocations.fetch() == b"{}"
    assert not await is_refused(RevokedTokens(source.revocations, clock=SteppedClock()))


async def test_a_process_that_starts_refuses_what_was_revoked_before(source: Source) -> None:
    source.put(content(ann=NOON))
    tokens = RevokedTokens(source.revocations, clock=SteppedClock())
    assert await is_refused(tokens)
    assert await is_refused(tokens, issued_at=NOON - timedelta(hours=1))
    assert not await is_refused(tokens, issued_at=NOON + timedelta(seconds=1))
    assert not await is_refused(tokens, "bob")


async def test_a_revocation_holds_within_a_minute_also_after_a_quiet_time(source: Source) -> None:
    clock = SteppedClock()
    tokens = RevokedTokens(source.revocations, clock=clock)
    assert not await is_refused(tokens)
    source.put(content(ann=NOON))
    async with asyncio.timeout(60):
        while not await is_refused(tokens):
            clock.step(16)
    source.put(content(bob=NOON))
    async with asyncio.timeout(60):
        while not await is_refused(tokens, "bob"):
            clock.step(16)
    assert not await is_refused(tokens)


async def test_while_the_source_cannot_be_read_the_last_reading_counts(source: Source) -> None:
    clock = SteppedClock()
    source.put(content(ann=NOON))
    tokens, started_now = (RevokedTokens(source.revocations, clock=clock) for _ in range(2))
    assert await is_refused(tokens)
    with source.unreadable():
        clock.step(300)
        with capture_logs() as logs:
            assert await is_refused(tokens)
            with pytest.raises(DependencyError):
                await started_now.require("bob", issued_s=NOON.timestamp())
        assert {log["event"] for log in logs} >= {"revocations_not_read"}


@pytest.mark.parametrize("damaged", ["{", "[]", '{"ann": "yesterday"}', '{"ann": "2026-11-25T12:00:00"}'])
async def test_a_damaged_text_revokes_nobody_anew_and_frees_nobody(source: Source, damaged: str) -> None:
    clock = SteppedClock()
    source.put(content(ann=NOON))
    tokens = RevokedTokens(source.revocations, clock=clock)
    assert await is_refused(tokens)
    source.put(damaged)
    clock.step(60)
    assert await is_refused(tokens)
    assert not await is_refused(tokens, "bob")
