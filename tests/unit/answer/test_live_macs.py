"""What a live value is signed for: nothing of it may be another's, changed, or too old."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from assistant.answer.live_macs import COUNTS_FOR, LiveMacs
from assistant.domain.live import LiveText
from assistant.stores.desk import HOLDS_FOR, WAITS_FOR
from tests.stage.answering import FakeTenant

SERVICES = FakeTenant().services
OWN = LiveMacs(SERVICES, "a1", "ana")
TEXT = OWN.signed("e1", "Shipped")


def of(**changes: Any) -> LiveMacs:
    return LiveMacs(replace(SERVICES, **changes), "a1", "ana")


def test_a_value_counts_for_what_it_was_signed_for_alone() -> None:
    assert OWN.genuine([TEXT]) == (TEXT,)
    until, _, mac = TEXT.mac.partition(".")
    later = str(int(until) + 1)
    for changes in (
        {"value": "Lost"},
        {"element_id": "e2"},
        *(
            {"mac": mac}
            for mac in ("", ".", f"{later}.{mac}", f"{until}.", f"0{TEXT.mac}", "\u0663.x", "9" * 64)
        ),
    ):
        assert OWN.genuine([TEXT.model_copy(update=changes)]) == ()
    renamed = SERVICES.tenant.model_copy(update={"name": "another"})
    rekeyed = replace(SERVICES.live, mac_key=b"another")
    for other in (
        LiveMacs(SERVICES, "a2", "ana"),
        LiveMacs(SERVICES, "a1", "ben"),
        of(tenant=renamed),
        of(live=rekeyed),
    ):
        assert other.genuine([other.signed("e1", "Shipped")]) != ()
        assert other.genuine([TEXT]) == ()


def test_a_value_outlives_the_second_person_and_then_counts_no_more() -> None:
    clock = SERVICES.clock
    assert COUNTS_FOR > WAITS_FOR + HOLDS_FOR

    def after(hours: float) -> tuple[LiveText, ...]:
        class Later:
            now = staticmethod(lambda: clock.now() + timedelta(hours=hours))

        later: Any = Later
        return of(clock=later).genuine([TEXT])

    assert (after(25.9), after(26.1)) == ((TEXT,), ())
