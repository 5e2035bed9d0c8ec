"""What a live value is signed for: nothing of it may be another's, changed, or too old."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from assistant.answer.live_macs import COUNTS_FOR, LiveMacs
from assistant.domain.live import Element, ElementDisplay, ElementKind, ElementState, LiveText
from assistant.stores.desk import HOLDS_FOR, WAITS_FOR
from tests.fakes.answering import FakeTenant

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


ROW = {"title": "Metformin", "values": [{"name": "n", "label": "", "text": "30 tablets"}]}
VALUES = [
    {"name": "status", "label": "Status", "text": "Shipped"},
    {"name": "next", "label": "Next fill", "text": "24 Nov"},
]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("status", {"values": VALUES}, ["Shipped, 24 Nov", "Shipped", "24 Nov"]),
        ("card", {"values": VALUES}, ["Status Shipped, Next fill 24 Nov", "Shipped", "24 Nov"]),
        (
            "link",
            {"values": VALUES[:1], "url": "https://t/1"},
            ["Shipped: https://t/1", "Shipped", "https://t/1"],
        ),
        ("table", {"rows": [ROW]}, ["Metformin: 30 tablets", "Metformin", "30 tablets"]),
        ("table", {"rows": [ROW | {"title": "x" * 500}] * 5}, ["x" * 500, "30 tablets"]),
    ],
)
def test_an_element_says_its_line_and_each_value(kind: str, data: dict[str, Any], said: list[str]) -> None:
    element = Element.model_validate(
        {
            "id": "e1",
            "name": "orders.status",
            "kind": ElementKind(kind),
            "state": ElementState.READY,
            "title": "Order",
            "source": "orders",
            "data": data,
            "display": ElementDisplay(place="block", start=0, end=0),
        }
    )
    texts = OWN.with_texts(element).texts
    assert [text.value for text in texts] == said
    assert OWN.genuine(texts) == texts
