"""Whose conversation a question belongs to: only what the care application signed for this agent counts."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import ECKey

from assistant.domain.errors import ContextRefusedError, DependencyError
from assistant.domain.identity import Identity, PlainContext, Role
from assistant.options.live.contexts import CareContexts
from assistant.service.errors import problem_of
from assistant.tenant.deployment import CareContextSection
from tests.fakes.clock import SteppedClock
from tests.fakes.contexts import CARE, FORGED, claims
from tests.fakes.tokens import EC_KEY, RSA_KEY, StaticKeys, token

ANN = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset())
SECTION = CareContextSection(issuer=CARE)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def contexts(clock: SteppedClock) -> CareContexts:
    return CareContexts({"clinic": SECTION}, {"clinic": StaticKeys()}, clock)


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["ES256", "RS256"])
async def test_a_signed_context_says_whose_it_is(
    contexts: CareContexts, clock: SteppedClock, key: Any
) -> None:
    found = await contexts.verify(token(claims(clock), key=key), identity=ANN)
    assert found is not None
    assert (found.agent, found.customer) == ("ann", "C-1")
    assert found.ids == {"order": ("1-1", "1-2"), "customer": ("C-1",)}
    assert (found.expires_at - clock.now()).total_seconds() == 300


async def test_without_a_context_there_is_none(contexts: CareContexts) -> None:
    assert await contexts.verify(None, identity=ANN) is None


@pytest.mark.parametrize("name", FORGED)
async def test_a_context_that_does_not_verify_is_refused_with_one_error(
    contexts: CareContexts, clock: SteppedClock, name: str
) -> None:
    assert await contexts.verify(token(claims(clock)), identity=ANN) is not None
    with pytest.raises(ContextRefusedError) as refused:
        await contexts.verify(FORGED[name](clock), identity=ANN)
    assert refused.value.message == (
        "The context of the question is not valid. Ask again from the customer's conversation."
    )
    assert problem_of(refused.value).status == 422


async def test_a_context_expires_after_its_skew(contexts: CareContexts, clock: SteppedClock) -> None:
    signed = token(claims(clock))
    clock.step(300 + 59)
    assert await contexts.verify(signed, identity=ANN) is not None
    clock.step(2)
    with pytest.raises(ContextRefusedError):
        await contexts.verify(signed, identity=ANN)
    assert await contexts.verify(signed, identity=ANN, of_reply=True) is not None
    for name in FORGED.keys() - {"that has expired"}:
        with pytest.raises(ContextRefusedError):
            await contexts.verify(FORGED[name](clock), identity=ANN, of_reply=True)


async def test_an_agent_of_another_tenant_with_the_same_name_is_another(
    contexts: CareContexts, clock: SteppedClock
) -> None:
    twin = Identity("pharmacy", "ann", ANN.roles, ANN.labels)
    both = CareContexts(
        {"clinic": SECTION, "pharmacy": SECTION},
        {name: StaticKeys() for name in ("clinic", "pharmacy")},
        clock,
    )
    signed = token(claims(clock))
    assert await both.verify(signed, identity=ANN) is not None
    with pytest.raises(ContextRefusedError):
        await both.verify(signed, identity=twin)


async def test_a_key_that_is_bound_to_a_subject_signs_no_context(clock: SteppedClock) -> None:
    parameters: Any = {"kid": "ec", "assistant_subject": "ann"}
    bound = ECKey.generate_key("P-256", parameters)

    class BoundKeys(StaticKeys):
        async def key(self, kid: str) -> ECKey:
            return bound

    contexts = CareContexts({"clinic": SECTION}, {"clinic": BoundKeys()}, clock)
    with pytest.raises(ContextRefusedError):
        await contexts.verify(token(claims(clock), key=bound), identity=ANN)


async def test_keys_that_cannot_be_fetched_are_no_refusal(clock: SteppedClock) -> None:
    class NoKeys(StaticKeys):
        async def key(self, kid: str) -> ECKey:
            raise DependencyError("down")

    contexts = CareContexts({"clinic": SECTION}, {"clinic": NoKeys()}, clock)
    with pytest.raises(DependencyError):
        await contexts.verify(token(claims(clock)), identity=ANN)


async def test_plain_ids_count_only_where_the_tenant_file_says_so(clock: SteppedClock) -> None:
    plain = PlainContext(customer="C-1", ids={"order": ("1-1",), "customer": ("C-2",)})
    allowing = CareContexts({"clinic": CareContextSection(issuer=CARE, plain_ids=True)}, {}, clock)
    found = await allowing.verify(plain, identity=ANN)
    assert found is not None
    assert found.ids == {"order": ("1-1",), "customer": ("C-1",)}  # one customer, whatever the ids say
    for sections in ({}, {"clinic": SECTION}):
        with pytest.raises(ContextRefusedError):
            await CareContexts(sections, {}, clock).verify(plain, identity=ANN)


async def test_a_tenant_without_a_care_application_takes_no_context(clock: SteppedClock) -> None:
    with pytest.raises(ContextRefusedError):
        await CareContexts({}, {}, clock).verify(token(claims(clock)), identity=ANN)
