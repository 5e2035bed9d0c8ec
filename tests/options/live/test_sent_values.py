"""The live values of sent texts: how long they are kept, and what of one is left in the stores after."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from assistant.answer.live_macs import LiveMacs
from assistant.answer.services import LiveData, TenantServices
from assistant.domain.answers import LiveSpan, Sent
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.identity import Identity, Role
from assistant.domain.live import ElementDisplay, ElementKind, ElementState, ElementUse
from assistant.options.live.stored import StoredSentValues
from assistant.service.stored import AppendToAnswer, ReadAnswers
from assistant.stores.ports import ValuesOfSent
from assistant.tenant.tenant import RecordsSection
from tests.contracts import samples
from tests.stage.answering import FakeTenant, agent
from tests.stage.tenant_stores import SteppedClock, TenantStores

VALUE = "Out for delivery to Elm Street"
DAY_S = 24 * 3600
STATUS = ElementUse(
    id="e1",
    name="orders.status",
    kind=ElementKind.STATUS,
    state=ElementState.READY,
    title="Order status",
    source="orders",
    operation="orders.get_order",
    display=ElementDisplay(place="inline", start=0, end=0),
)


def values_by(stores: TenantStores, clock: SteppedClock) -> StoredSentValues:
    return StoredSentValues(stores.table_expiring_by(clock), clock=clock)


def values(
    clock: SteppedClock, *words: str, answer_id: str = "a1", send_id: str = "s1", for_s: float = 60.0
) -> ValuesOfSent:
    return ValuesOfSent(answer_id, send_id, words or (VALUE,), clock.now() + timedelta(seconds=for_s))


async def test_values_are_kept_by_answer_and_text(stores: TenantStores) -> None:
    clock = SteppedClock()
    kept = values_by(stores, clock)
    first, second = values(clock, VALUE, "24 Nov"), values(clock, "\u20ac 12.50", send_id="s2")
    other = values(clock, "another", answer_id="a2")
    for each in (first, second, other):
        assert await kept.keep(each) == each
    assert await kept.of("a1") == {"s1": first, "s2": second}
    assert await kept.of("a3") == {}


async def test_the_first_values_of_a_text_stay(stores: TenantStores) -> None:
    clock = SteppedClock()
    kept = values_by(stores, clock)
    first = values(clock)
    await kept.keep(first)
    assert await kept.keep(values(clock, "another")) == first
    assert await kept.of("a1") == {"s1": first}


@pytest.mark.parametrize(("age_s", "found"), [(59, True), (61, False)])
async def test_values_expire_whether_or_not_they_were_deleted(
    stores: TenantStores, age_s: float, found: bool
) -> None:
    clock = SteppedClock()
    await values_by(stores, clock).keep(values(clock))
    later = SteppedClock(clock.now() + timedelta(seconds=age_s))
    assert bool(await values_by(stores, later).of("a1")) is found


# --- a text that was sent ---------------------------------------------------------------------------------
def services_of(stores: TenantStores, clock: SteppedClock, *, days: int = 30) -> TenantServices:
    fake = FakeTenant()
    config = fake.config.model_copy(update={"records": RecordsSection(live_values_days=days)})
    return replace(
        fake.services,
        tenant=config,
        records=stores.records,
        live=LiveData(sent_values=values_by(stores, clock), mac_key=b"of-the-tenant"),
        clock=clock,
    )


TEXT = f"Good morning. It is {VALUE}. Bye."


def sent(services: TenantServices, text: str = TEXT, *, value: str = VALUE) -> Sent:
    start, mac = text.index(value), LiveMacs(services, "a1", "ana").signed("e1", value).mac
    span = LiveSpan(element_id="e1", start=start, end=start + len(value), mac=mac)
    return Sent(send_id="s1", text=text, live=(span,))


ANA = agent("ana")
LABELLED = "Good morning. It is [order status]. Bye."


def now() -> SteppedClock:
    """Return a clock of about the records' own time."""
    return SteppedClock(datetime.now(UTC))


async def asked(stores: TenantStores) -> None:
    await stores.records.put_answer(samples.answer().model_copy(update={"elements": (STATUS,)}))


async def texts(services: TenantServices, identity: Identity = ANA) -> list[str]:
    reading = await ReadAnswers(services).one("a1", identity=identity)
    return [one.sent.text for one in reading.sent]


async def until_no_byte_is_left(stores: TenantStores) -> None:
    async with asyncio.timeout(60):
        while VALUE.encode() in await stores.stored_bytes():
            pass


async def test_a_sent_text_is_read_with_its_live_values_while_they_live(stores: TenantStores) -> None:
    clock = now()
    services = services_of(stores, clock)
    await asked(stores)
    stored = await AppendToAnswer(services).sent("a1", sent(services), identity=ANA)
    assert stored.sent == sent(services)
    assert stored.live_until is not None
    assert await texts(services) == [TEXT]
    assert await texts(services, agent("ada", Role.AUDITOR)) == [TEXT]
    desk = await ReadAnswers(services).for_review("a1", identity=agent("rae"))
    assert [one.sent.text for one in desk.sent] == [LABELLED]


async def test_records_and_what_is_learned_from_have_labels_alone(stores: TenantStores) -> None:
    clock = now()
    services = services_of(stores, clock)
    await asked(stores)
    await AppendToAnswer(services).sent("a1", sent(services), identity=ANA)
    [kept] = await stores.records.list_sent("a1")
    assert (kept.sent.text, kept.live_until) == (LABELLED, None)
    rows = [row.stored for row in await stores.outbox.pending() if row.kind == "sent"]
    assert rows == [kept]
    never = services_of(stores, clock, days=0)
    assert await texts(never) == [LABELLED]


async def test_no_byte_of_a_live_value_is_left_after_its_time(stores: TenantStores) -> None:
    clock = now()
    services = services_of(stores, clock)
    await asked(stores)
    await AppendToAnswer(services).sent("a1", sent(services), identity=ANA)
    assert VALUE.encode() in await stores.stored_bytes()
    clock.step(31 * DAY_S)
    assert await texts(services) == [LABELLED]
    await until_no_byte_is_left(stores)
    with pytest.raises(ConflictError):  # nobody knows any more what was delivered
        await AppendToAnswer(services).sent("a1", sent(services), identity=ANA)
    assert VALUE.encode() not in await stores.stored_bytes()


async def test_a_tenant_that_keeps_no_live_value_has_labels_at_once(stores: TenantStores) -> None:
    clock = now()
    services = services_of(stores, clock, days=0)
    await asked(stores)
    stored = await AppendToAnswer(services).sent("a1", sent(services), identity=ANA)
    assert (stored.sent.text, stored.live_until) == (LABELLED, None)
    assert VALUE.encode() not in await stores.stored_bytes()


async def test_the_same_text_twice_is_one_and_another_text_is_refused(stores: TenantStores) -> None:
    clock = now()
    services = services_of(stores, clock)
    append = AppendToAnswer(services)
    await asked(stores)
    first = await append.sent("a1", sent(services), identity=ANA)
    assert await append.sent("a1", sent(services), identity=ANA) == first
    with pytest.raises(ConflictError):
        await append.sent("a1", sent(services, f"Now it is {VALUE}."), identity=ANA)
    with pytest.raises(ConflictError):  # the label would be the same
        await append.sent("a1", sent(services, TEXT.replace(VALUE, "Lost"), value="Lost"), identity=ANA)
    assert await texts(services_of(stores, clock)) == [TEXT]


async def test_a_span_of_an_element_that_the_answer_lacks_is_refused(stores: TenantStores) -> None:
    services = services_of(stores, SteppedClock())
    await stores.records.put_answer(samples.answer())
    with pytest.raises(InvalidRequestError):
        await AppendToAnswer(services).sent("a1", sent(services), identity=ANA)
    assert await stores.records.list_sent("a1") == []
