"""Parameters, values as text, what is kept, and the circuit of live systems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
import pytest
from hypothesis import example, given, settings, strategies

from assistant.domain.clock import Deadline
from assistant.domain.identity import CareContext, Identity, Role
from assistant.domain.live import Caller, ElementProblem, LiveReadError
from assistant.options.live.connected import ConnectedElements, SystemRequest, SystemResponse
from assistant.options.live.connector import Connector, Operation
from assistant.options.live.parameters import find_parameters
from assistant.options.live.results import ResponseReader, element_data
from assistant.options.live.section import AskedSystem
from tests.options.live.live_scene import KeptReads, Switches
from tests.stage.tenant_stores import SteppedClock

NPI, WRONG_NPI = "1234567893", "1234567890"
DEA, WRONG_DEA = "AB1234563", "AB1234564"


def operation(*parameters: Mapping[str, Any], schema: object = True, **more: Any) -> Operation:
    """Return an operation whose responses have a JSON Schema, by default one that allows all."""
    path = "/v1/things/{" + parameters[0]["name"] + "}"
    given = {
        "name": "get",
        "operation_id": "get",
        "path": path,
        "response": json.dumps(schema),
        "personal": False,
        "parameters": list(parameters),
        "results": [{"name": "stock"}],
    }
    return Operation.model_validate_json(orjson.dumps(given | more))


def caller(
    question: str = "", labels: tuple[str, ...] = (), agent: str = "ann", **ids: tuple[str, ...]
) -> Caller:
    context = CareContext(
        agent, "C-1", ids | {"customer": ("C-1",)}, datetime.now(UTC) + timedelta(minutes=5)
    )
    identity = Identity("shop", agent, frozenset({Role.AGENT}), frozenset(labels))
    return Caller(identity, context if ids else None, question, "a1")


def values(of: Operation, by: Caller, *, context_decides: bool = True) -> dict[str, str]:
    return dict(find_parameters(of, by, context_decides=context_decides).values)


# --- parameters -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("check", "pattern", "right", "wrong"),
    [
        ("npi", r"\d{10}", NPI, WRONG_NPI),
        ("dea", r"[A-Z]{2}\d{7}", DEA, WRONG_DEA),
        ("luhn", r"\d{16}", "4111111111111111", "4111111111111112"),
    ],
)
def test_a_number_with_a_check_digit_is_taken_only_when_it_is_right(
    check: str, pattern: str, right: str, wrong: str
) -> None:
    of = operation({"name": "number", "words": "number", "check": check, "pattern": pattern})
    assert values(of, caller(f"Who is {right}?")) == {"number": right}
    assert values(of, caller(f"Is it {wrong} or {right}?")) == {"number": right}
    with pytest.raises(LiveReadError) as missing:
        values(of, caller(f"Who is {wrong}?"))
    assert missing.value.problem is ElementProblem.PARAMETER_MISSING


DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
ITEM = {"name": "item", "words": "item number", "pattern": r"SKU-\d{4}", "context": "item"}


@pytest.mark.parametrize(
    ("question", "ids", "found"),
    [
        ("Is SKU-1234 in stock?", (), "SKU-1234"),
        ("Is \uff33\uff2b\uff35-1234 in stock?", (), "SKU-1234"),
        ("Is it in stock?", ("SKU-9999",), "SKU-9999"),
        ("Is SKU-1234 in stock?", ("SKU-9999",), "SKU-1234"),
    ],
)
def test_a_value_that_is_nobody_s_comes_from_the_question_or_the_context(
    question: str, ids: tuple[str, ...], found: str
) -> None:
    assert values(operation(ITEM), caller(question, item=ids) if ids else caller(question)) == {"item": found}


@pytest.mark.parametrize(
    "question", ["", "SKU-12345", "XSKU-1234", "SKU-1234-5", "SKU-1234x", "SKU-1234 SKU-1235", "SKU - 1234"]
)
def test_what_is_no_whole_value_or_not_the_only_one_is_asked_for(question: str) -> None:
    with pytest.raises(LiveReadError) as missing:
        values(operation(ITEM), caller(question))
    assert missing.value.problem is ElementProblem.PARAMETER_MISSING


def test_an_optional_value_may_be_missing_and_two_are_still_asked_for() -> None:
    of = operation(ITEM, {"name": "day", "words": "day", "pattern": DAY, "required": False})
    assert values(of, caller("SKU-1234")) == {"item": "SKU-1234"}
    assert values(of, caller("SKU-1234 on 2026-11-24")) == {"item": "SKU-1234", "day": "2026-11-24"}
    assert values(of, caller("SKU-1234 on 24 Nov")) == {"item": "SKU-1234"}
    with pytest.raises(LiveReadError):
        values(of, caller("SKU-1234 on 2026-11-24 or 2026-11-25"))


# --- values as text ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ({}, 1200, "1200"),
        ({"unit": "tablets"}, 1200, "1,200 tablets"),
        ({}, True, "Yes"),
        ({"values": {"true": "In stock", "false": "Sold out"}}, False, "Sold out"),
        ({"format": "date"}, "2026-11-04", "Nov 4, 2026"),
        ({"format": "date-time"}, "2026-11-04T20:05:00Z", "Nov 4, 2026, 15:05 EST"),
        ({"currency": "USD"}, 1234.5, "$1,234.50"),
        ({"currency": "JPY"}, 500, "500 JPY"),
        ({}, "  Main   St\n4 ", "Main St 4"),
        ({"path": "stores[?name=='North'].units | [0]"}, None, "3"),
    ],
)
def test_a_value_is_shown_in_its_format(field: dict[str, Any], value: object, shown: str) -> None:
    assert read_one(field, value) == shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({}, 10**16),
        ({}, {"a": 1}),
        ({}, "x" * 501),
        ({}, "\u200b\u202e"),
        ({"format": "date"}, "2026-02-30"),
        ({"format": "date-time"}, "2026-11-04T20:05:00"),
        ({"currency": "USD"}, "1e9"),
        ({"values": {"a": "A"}}, "b"),
        ({"path": "sum(it)"}, "a"),
    ],
)
def test_a_value_of_another_form_refuses_the_response(field: dict[str, Any], value: object) -> None:
    with pytest.raises(LiveReadError) as refused:
        read_one(field, value)
    assert refused.value.problem is ElementProblem.SYSTEM_INVALID


def read_one(field: dict[str, Any], value: object, *, schema: object = True) -> str:
    of = operation(ITEM, schema=schema, results=[{"name": "it"} | field])
    file = _connector(of)
    body = orjson.dumps({"it": value, "parts": [2, 3], "stores": [{"name": "North", "units": 3}]})
    reading = ResponseReader(file, of, asked={}, context=None).read(body, as_of=datetime.now(UTC))
    found = reading.single["it"]
    assert found is not None
    return found.text


# --- what is kept -----------------------------------------------------------------------------------------
def _connector(of: Operation) -> Connector:
    data = {
        "schema_version": 1,
        "source": "stores",
        "time_zone": "America/New_York",
        "operations": [orjson.loads(of.model_dump_json())],
        "elements": [
            {
                "name": "stock",
                "kind": "card",
                "title": "Stock",
                "operation": "get",
                "fields": [of.results[0].name],
            }
        ],
    }
    return Connector.model_validate_json(orjson.dumps(data))


class CountingSystem:
    """``LiveSystems`` that answers with the number of its calls."""

    def __init__(self) -> None:
        self.requests: list[SystemRequest] = []

    async def call(self, request: SystemRequest, *, deadline: Deadline, most_bytes: int) -> SystemResponse:
        self.requests.append(request)
        return SystemResponse(200, "application/json", orjson.dumps({"stock": len(self.requests)}))


Whose = Literal["context", "agent"]


def stores(
    of: Operation, clock: SteppedClock, *, whose: Whose = "context", limits_s: Mapping[str, float] = {}
) -> tuple[ConnectedElements, CountingSystem]:
    system = CountingSystem()
    made = ConnectedElements(
        [AskedSystem("stores", _connector(of), whose, 2.0)],
        calls=system,
        switches=Switches(),
        reads=KeptReads(),
        pseudonym=lambda customer: customer,
        clock=clock,
        limits_s=limits_s,
    )
    return made, system


async def stock(of: ConnectedElements, by: Caller, clock: SteppedClock) -> str:
    filled = await of.fill("stores.stock", by, deadline=Deadline.after(60, clock=clock))
    return filled.data.values[0].text


async def asked(elements: ConnectedElements, clock: SteppedClock, number: int, **how: Any) -> str:
    given = caller("SKU-1234", **how)
    return await stock(elements, Caller(given.identity, None, given.question, f"a{number}"), clock)


async def test_what_is_nobody_s_is_kept_for_its_seconds_by_rights() -> None:
    clock = SteppedClock()
    elements, system = stores(operation(ITEM, cache_s=30), clock)
    assert [await asked(elements, clock, number) for number in range(3)] == ["1"] * 3
    assert await asked(elements, clock, 3, agent="bob") == "1"
    assert await asked(elements, clock, 4, labels=("staff",)) == "2"
    clock.step(31)
    assert await asked(elements, clock, 5) == "3"
    assert len(system.requests) == 3
    await elements.close()


def test_a_value_that_is_no_id_never_equals_a_parameter_that_was_not_asked_with() -> None:
    of = operation(ITEM | {"required": False}, path="/v1/things", results=[{"name": "it", "same_as": "item"}])
    for value in (None, 1.5, {"id": 1}, [1]):
        with pytest.raises(LiveReadError):
            ResponseReader(_connector(of), of, asked={}, context=None).read(
                orjson.dumps({"it": value}), as_of=datetime.now(UTC)
            )


# --- hostile values ---------------------------------------------------------------------------------------
ZONES = ("America/New_York", "Pacific/Kiritimati", "UTC", "Asia/Kathmandu")
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"unit": "tablets"},
    {"format": "date"},
    {"format": "date-time"},
    {"currency": "USD"},
    {"currency": "JPY"},
    {"format": "uri"},
)
TIMES = strategies.builds(
    "{}{}{}".format,
    strategies.datetimes().map(lambda at: at.isoformat()),
    strategies.sampled_from(["", ".5", ":60"]),
    strategies.sampled_from(["Z", "+14:00", "-23:59", "+23:59:59.999999", "", "z", "[UTC]"]),
)
SCALARS = (
    strategies.none()
    | strategies.booleans()
    | strategies.integers(min_value=-(2**63), max_value=2**64 - 1)
    | strategies.floats(allow_nan=False, allow_infinity=False)
    | strategies.text(max_size=600)
    | strategies.text("<>[](){}&*_`\\!#~|/:;ab1 \n\u202e", max_size=500)
    | strategies.builds(str.__mul__, strategies.text(max_size=4), strategies.integers(0, 250))
    | TIMES
    | strategies.dates().map(lambda day: day.isoformat())
    | strategies.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "-0", "1e400", "9" * 13])
    | strategies.from_regex(r"https://track\.example\.com/parcels/[ -~]{0,40}", fullmatch=True)
)
VALUES = SCALARS | strategies.recursive(
    SCALARS,
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner),
)


def fuzzed(kind: dict[str, Any], zone: str) -> Connector:
    """Return a connector with one value in a card, in the rows of a table and as a link."""
    is_link = kind.get("format") == "uri"
    shown = {"name": "said"} if is_link else {"name": "it"} | kind
    results = [shown, {"name": "row", "path": "rows[*].it"} | kind]
    elements = [{"name": "card", "kind": "card", "title": "It", "fields": [shown["name"]]}]
    if is_link:
        results = [shown, {"name": "it"} | kind]
        elements.append({"name": "link", "kind": "link", "title": "It", "fields": ["said"], "link": "it"})
    else:
        elements.append(
            {"name": "rows", "kind": "table", "title": "It", "fields": ["row"], "row_title": "row"}
        )
    described = {"name": "get", "operation_id": "get", "path": "/v1", "response": "true"}
    data = {
        "schema_version": 1,
        "source": "stores",
        "time_zone": zone,
        "links": ["https://track.example.com/parcels/"],
        "operations": [described | {"personal": False, "results": results}],
        "elements": [one | {"operation": "get"} for one in elements],
    }
    return Connector.model_validate_json(orjson.dumps(data))


FUZZED = [fuzzed(kind, zone) for kind in KINDS for zone in ZONES]


@settings(max_examples=400, deadline=None)
@given(file=strategies.sampled_from(FUZZED), value=VALUES, rows=strategies.lists(VALUES, max_size=2))
@example(file=fuzzed({"format": "date-time"}, "America/New_York"), value="0001-01-01T00:00:00Z", rows=[])
@example(file=fuzzed({}, "UTC"), value="](" * 250, rows=[])
@example(file=fuzzed({"format": "date-time"}, "Pacific/Kiritimati"), value="9999-12-31T23:59:59Z", rows=[])
def test_a_hostile_value_is_shown_or_refused_by_its_type(
    file: Connector, value: object, rows: list[object]
) -> None:
    of = file.operations[0]
    body = orjson.dumps({"it": value, "said": value, "rows": [{"it": one} for one in rows]})
    reader = ResponseReader(file, of, asked={}, context=None)
    problem = ElementProblem.SYSTEM_INVALID
    try:
        reading = reader.read(body, as_of=datetime.now(UTC))
        for element in file.elements:
            element_data(element, operation=of, reading=reading)
    except LiveReadError as refused:
        problem = refused.problem
    assert problem is ElementProblem.SYSTEM_INVALID
