"""Questions about a chat over real HTTP: as turns, long, malformed; what the record keeps of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.running_service import RunningService

TURNS = [
    {"who": "customer", "text": "hi there", "at": "2026-03-14T09:00:00Z"},
    {"who": "agent", "text": "Hello Mo, may I have your birthday?"},
    {"who": "customer", "text": "6/1/1970"},
    {"who": "system", "text": "Mo is typing"},
    {"who": "customer", "text": "How long is the wait for a plaster?"},
]


async def recorded(service: RunningService, body: dict[str, Any]) -> dict[str, Any]:
    response = await service.client.post("/v1/answers", json=body, headers=service.headers())
    assert response.status_code == 200, response.text
    stored = await service.client.get(
        f"/v1/answers/{response.json()['answer_id']}", headers=service.headers()
    )
    return stored.json()["record"]


async def test_the_customers_words_are_searched_and_the_whole_chat_is_read(service: RunningService) -> None:
    record = await recorded(service, {"turns": TURNS})
    assert "How long is the wait for a plaster?" in record["question"]
    for kept in (record["question"], record["retrieval_question"], str(record["reading"])):
        assert "birthday" not in kept
        assert "typing" not in kept
    told = str(service.sagemaker.generations[-1].body)
    assert told.index("may I have your birthday?") < told.index("How long is the wait for a plaster?")


async def test_the_agents_question_is_searched_beside_the_customers_words(service: RunningService) -> None:
    record = await recorded(service, {"question": "Does a splint need a wait?", "turns": TURNS})
    *words, own = record["question"].split("\n")
    assert (words[-1], own) == ("How long is the wait for a plaster?", "Does a splint need a wait?")


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 422, "question"),
        ({"turns": []}, 422, "question"),
        ({"turns": [{"who": "bot", "text": "hi"}]}, 422, "turns.0.who"),
        ({"turns": [{"who": "customer"}]}, 422, "turns.0.text"),
        ({"turns": [{"who": "customer", "text": " "}]}, 422, "turns.0.text"),
        ({"turns": [{"who": "customer", "text": "hi", "at": "noon"}]}, 422, "turns.0.at"),
        ({"turns": [{"who": "agent", "text": "Hello."}]}, 422, "turns"),
        ({"turns": [{"who": "customer", "text": "hi"}] * 201}, 422, "turns"),
        ({"turns": [{"who": "customer", "text": "x" * 4_001}]}, 413, "turns.0.text"),
    ],
)
async def test_a_malformed_chat_is_refused_with_its_place(
    service: RunningService, body: dict[str, Any], status: int, named: str
) -> None:
    response = await service.client.post("/v1/answers", json=body, headers=service.headers())
    assert (response.status_code, named in response.json()["detail"]) == (status, True), response.text
