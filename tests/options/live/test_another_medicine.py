"""The values of one medicine are never the answer to a question about another, over a real socket."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from assistant.domain.clock import Deadline
from assistant.domain.live import Caller, ElementProblem, Filled, LiveReadError
from assistant.options.live.connector import load_connector
from tests.fakes.scripted_http import Exchange
from tests.options.live.live_scene import LiveScene, context, identity, live_scene

FILE = load_connector(Path(__file__).parents[3] / "tests/tenants/connectors" / "orders.toml")
CUSTOMER, NUMBER = "PT-204417", "7301842-04417"


async def metformin(exchange: Exchange) -> None:
    found = {
        "prescription_id": NUMBER,
        "customer_id": CUSTOMER,
        "medicine": "metformin 500 mg tablets",
        "refill_status": "shipped",
        "next_fill_date": "2027-01-12",
        "refills_left": 3,
        "last_fill_date": "2026-11-01",
        "schedule": "",
        "days_supply": 30,
        "automatic_refill": False,
        "prescriber_npi": "1847536608",
        "store": "10045",
    }
    await exchange.respond(200, orjson.dumps(found), Content_Type="application/json")


async def fill(scene: LiveScene, element: str, *names: str) -> Filled:
    of = context(CUSTOMER, prescription=(NUMBER,))
    caller = Caller(identity(), of, "May she refill it?", "a1", names)
    return await scene.elements.fill(
        f"orders.{element}", caller, deadline=Deadline.after(5.0, clock=scene.clock)
    )


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("metformin",),
        ("metfromin",),
        ("metformine",),
    ],
    ids=str,
)
async def test_the_medicine_that_the_question_names_is_shown(names: tuple[str, ...]) -> None:
    async with live_scene(metformin, file=FILE) as scene:
        for element in ("refill", "refill_status"):
            filled = await fill(scene, element, *names)
            assert (filled.about, filled.is_of_another) == (f"prescription {NUMBER}", False)


@pytest.mark.parametrize(
    "names",
    [
        ("lisinopril",),
        ("metformin", "lisinopril"),
    ],
    ids=str,
)
async def test_the_card_of_another_medicine_says_so(names: tuple[str, ...]) -> None:
    async with live_scene(metformin, file=FILE) as scene:
        filled = await fill(scene, "refill", *names)
        assert filled.is_of_another
        assert filled.about == (
            f"prescription {NUMBER}: metformin 500 mg tablets. The question names lisinopril"
        )


@pytest.mark.parametrize("element", ["refill_status", "next_fill"])
async def test_a_value_without_its_medicine_is_not_shown_for_another(element: str) -> None:
    async with live_scene(metformin, file=FILE) as scene:
        with pytest.raises(LiveReadError) as refused:
            await fill(scene, element, "lisinopril")
        assert refused.value.problem is ElementProblem.PARAMETER_MISSING
        assert refused.value.is_of_another
        assert refused.value.message == (
            f"Prescription {NUMBER} is of metformin 500 mg tablets; the question names lisinopril. "
            "Give the prescription number of lisinopril."
        )
        assert scene.outcomes == ["ready"]  # it was read, and the record says so
