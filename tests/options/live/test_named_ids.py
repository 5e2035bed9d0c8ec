"""What is shown is what was asked: ids that a question names in any spelling, over a real socket."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from assistant.domain.clock import Deadline
from assistant.domain.live import Caller, ElementProblem, Filled, LiveReadError
from assistant.options.live.connector import load_connector
from assistant.options.live.parameters import NamedIds
from tests.options.live.live_scene import ORDER, LiveScene, connector, context, identity, live_scene, order
from tests.stage.servers import Exchange

CUSTOMER = "PT-204417"
OWN = context(CUSTOMER, prescription=("7301842-04417",))
TWO = context(CUSTOMER, order=(ORDER, "8485-5790"))

OTHERS = [
    "Where is order 8485-5790?",
    "Where is order 8485\u20135790?",
    "Where is order 8485\u20115790?",
    "Where is order 8485\u00ad5790?",
    "Where is order \uff18\uff14\uff18\uff15-\uff15\uff17\uff19\uff10?",
    "Where is order \u0668\u0664\u0668\u0665-\u0665\u0667\u0669\u0660?",
    "Where is # 8485-5790?",
    "Where is order 4471-2209?",
    "Where is order 4471-2208 and order 8485-5790?",
    "Where are 4471-2208/8485-5790?",
]
NOT_FOUND = [
    "Where is order 84855790?",
    "Where is order 8485.5790?",
    "Where is order 8485_5790?",
    "Where is order 8485 5790?",
    "Where is order 8485 - 5790?",
    "Where is order 8485/5790?",
    "Where is order 8485:5790?",
    "Where is order 8485,5790?",
    "Where is order 8485\u200b5790?",
    "Where is order \u0668\u0664\u0668\u0665\u0665\u0667\u0669\u0660?",
    "Where is order 8 4 8 5 5 7 9 0?",
    "Where is order 84 85 57 90?",
    "Where is order 8485-579O?",
    "Where is order8485-5790?",
    "Where is #84855790?",
    "Where is nr 84855790?",
    "Where is nr.8485-5790?",
    "When will no. 8485 5790 arrive?",
    "When will 8485 5790 arrive?",
    "order:84855790 where?",
    "84855790's status?",
    "Where is (84855790)?",
    "Where is order 848557?",
    "Where is order number 8485-57?",
    "Where is order no. 8485?",
    "Where is order #84855?",
    "Where is order 84,855,790?",
    "Is 84855790 days late?",
    "Where is order 4471-2208-1?",
    "Where is order 44712209?",
    "Where is her order 4471-22008?",
    "Where is the order of PT-598484?",
    "Where is the order of pt598484?",
    "Where is the order of PT 598484?",
    "Where is the order of patient 598484?",
    "Where is the order of customer PT.598.484?",
    "Where is the order with prescription 1234567-12345?",
    "Where is the order with prescription 123456712345?",
    "Where is the order with Rx 1234567 12345?",
    "Where is the order with rx# 1234567?",
    "Where is order 44712208, 84855790?",
    "Where are 4471 2208 8485 5790?",
    "Where are 44712208/84855790?",
    "Is order 4471-2208 of PT-204417 or PT-598484?",
    "Was the order shipped on 24.11.2026?",
    "Where is her order? Phone +49 30 1234 5678.",
    "Where is her order? Tracking number 9400 1112 0255 5555 5555 55.",
    "Where is her order? NDC 00093-1048-01, lot 84855790.",
    "Where is her order? DOB 04121961.",
    "Where is her order? 1208 Main St is her address.",
]
OWN_SAID = [
    "Where is her order?",
    "Where is order 4471-2208?",
    "Where is order 44712208?",
    "Where is order 4471 2208?",
    "Where is order 4471.2208 now?",
    "Where is #4471-2208?",
    "Where is nr. 44712208?",
    "Where is the order ending in 2208?",
    "Where is order 2208?",
    "Where is order 4471-2208, customer PT-204417?",
    "Where is the order of pt 204417?",
    "Where is the order of patient 204417?",
    "Where is order \uff14\uff14\uff17\uff11\uff0d\uff12\uff12\uff10\uff18?",
    "Where is order 4471-2208 with prescription 7301842-04417?",
    "Where is the order with prescription 730184204417?",
    "Where is order 4471-2208, and 4471 2208 again?",
]
ORDINARY = [
    "Where is her order? She has 2 refills.",
    "Will the order arrive by 24 Nov?",
    "Will the order arrive by Nov 24, 2026 at 10:30?",
    "Was the order shipped on 11/24/2026?",
    "Was the order shipped on 2026-11-24?",
    "Her copay was $12, later $1,200.50. Where is her order?",
    "Where is her order? It was promised in 3 days.",
    "Call her at 555-123-4567. Where is her order?",
    "Where is her order? Her phone is (555) 123-4567.",
    "Where is her order? Phone +1 415 555 2671.",
    "Where is her order of metformin 500 mg, 90 tablets?",
    "Is the order for 30 or 90 days?",
    "She took 1000 mg, 2000 mg. Where is her order?",
    "Does the order from 2026 count? It is 100 % paid.",
    "Where is her order? She was born 04/12/1961.",
    "Where is her order of 3 boxes, 12,000 units, for 24/7 care?",
]


async def answers(exchange: Exchange) -> None:
    found = order(id=exchange.target.partition("?")[0][-9:], customer={"id": CUSTOMER})
    await exchange.respond(200, orjson.dumps(found), Content_Type="application/json")


@pytest.mark.parametrize("question", OTHERS)
async def test_an_id_of_another_is_refused_in_every_spelling(question: str) -> None:
    async with live_scene(answers) as scene:
        assert (await scene.fill(of=OWN)).about == f"order {ORDER}"
        error = await scene.refused(question=question, of=OWN)
        assert error.problem is ElementProblem.NOT_ALLOWED
        assert "not of this conversation's customer" in error.message
        assert len(scene.server.exchanges) == 1
        assert set(scene.outcomes[1:]) == {"not_allowed"}


@pytest.mark.parametrize("question", NOT_FOUND)
async def test_a_number_that_no_pattern_finds_is_asked_and_nothing_is_shown_in_its_place(
    question: str,
) -> None:
    async with live_scene(answers) as scene:
        assert (await scene.fill(of=OWN)).about == f"order {ORDER}"
        error = await scene.refused(question=question, of=OWN)
        assert error.problem is ElementProblem.PARAMETER_MISSING
        assert "which is no known id. Give the order number, or ask without" in error.message
        assert len(scene.server.exchanges) == 1
        assert scene.outcomes[1:] == ["parameter_missing"]


@pytest.mark.parametrize("question", [*OWN_SAID, *ORDINARY])
async def test_the_customer_s_own_order_is_shown(question: str) -> None:
    async with live_scene(answers) as scene:
        filled = await scene.fill(question=question, of=OWN)
        assert (filled.about, filled.data.values[0].text) == (f"order {ORDER}", "Shipped")
        assert scene.outcomes == ["ready"]


@pytest.mark.parametrize(
    "question", ["Where is 84855790?", "Where is order 8485 5790?", "Order ending in 5790?"]
)
async def test_an_id_chooses_among_the_customer_s_own_in_any_spelling(question: str) -> None:
    async with live_scene(answers) as scene:
        assert (await scene.fill(question=question, of=TWO)).about == "order 8485-5790"


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Where is her order?", "Which order? Give the order number."),
        ("Where are 4471-2208 and 8485-5790?", "Give one order number: the question names two."),
        ("Where are 44712208, 8485 5790?", "Give one order number: the question names two."),
    ],
)
async def test_one_of_two_orders_is_asked_for(question: str, asked: str) -> None:
    async with live_scene(answers) as scene:
        error = await scene.refused(question=question, of=TWO)
        assert (error.problem, error.message) == (ElementProblem.PARAMETER_MISSING, asked)
        assert scene.server.exchanges == []


async def test_another_id_of_a_kind_that_the_context_lacks_is_found_by_the_connector_s_pattern() -> None:
    with_prescription = connector(
        more="""[[elements]]
name = "status" -> [[operations]]
name = "get_prescription"
operation_id = "getPrescription"
personal = true

[[operations.parameters]]
name = "number"
context = "prescription"
pattern = "[0-9]{7}-[0-9]{5}"
words = "prescription number"

[[operations.results]]
name = "customer"
same_as_context = "customer"

[[elements]]
name = "status\"""",
        path="""  "paths": { -> "paths": {
    "/v1/prescriptions/{number}": {
      "get": {
        "operationId": "getPrescription",
        "parameters": [{"name": "number", "in": "path", "schema": {"type": "string"}}],
        "responses": {"200": {"content": {"application/json": {"schema": {}}}}}
      }
    },""",
    )
    async with live_scene(answers, file=with_prescription) as scene:
        of = context(CUSTOMER)
        assert (await scene.fill(of=of)).about == f"order {ORDER}"
        error = await scene.refused(question="Where is the order with 1234567-12345?", of=of)
        assert error.message == "prescription 1234567-12345 is not of this conversation's customer."


async def test_where_the_system_decides_an_id_with_its_pattern_is_taken() -> None:
    async with live_scene(answers, whose="agent") as scene:
        question = "Where is order 8485-5790?"
        assert (await scene.fill(question=question, without_context=True)).about == "order 8485-5790"


async def test_where_the_system_decides_half_an_id_is_not_replaced_by_the_context_s() -> None:
    async with live_scene(answers, whose="agent") as scene:
        assert (await scene.fill(of=OWN)).about == f"order {ORDER}"
        error = await scene.refused(question="Where is order 848557?", of=OWN)
        assert error.problem is ElementProblem.PARAMETER_MISSING


@pytest.mark.parametrize(
    "question",
    [
        "1 2 3 4 5 6 7 8 " * 250,
        "order 1-2" * 400,
        "PT " * 1_300,
        "8485.5790." * 400,
        "Nov 1 " * 600,
        "call 1 " * 570,
    ],
    ids=lambda question: question[:12],
)
def test_the_longest_question_is_read_in_bounded_work(question: str) -> None:
    patterns = [("order", r"\d{4}-\d{4}"), ("account", r"[A-Z]{1,3}\d{4,9}")]
    ids, unknown = NamedIds(patterns, TWO).found(question[:4_000])
    assert len(ids) + len(unknown) <= 4_000


def test_an_id_is_found_whatever_follows_it() -> None:
    patterns = [("account", r"[A-Z]{2}\d{5}")]
    for question in ("Where is so12345?", "Where is so12345/customer 12?"):
        ids, _ = NamedIds(patterns, TWO).found(question)
        assert [one.value for one in ids] == ["SO12345"]


FILE = load_connector(Path(__file__).parents[3] / "tests/tenants/connectors" / "orders.toml")
NUMBER = "7301842-04417"


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


@pytest.mark.parametrize("names", [(), ("metformin",), ("metfromin",), ("metformine",)], ids=str)
async def test_the_medicine_that_the_question_names_is_shown(names: tuple[str, ...]) -> None:
    async with live_scene(metformin, file=FILE) as scene:
        for element in ("refill", "refill_status"):
            filled = await fill(scene, element, *names)
            assert (filled.about, filled.is_of_another) == (f"prescription {NUMBER}", False)


@pytest.mark.parametrize("names", [("lisinopril",), ("metformin", "lisinopril")], ids=str)
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
