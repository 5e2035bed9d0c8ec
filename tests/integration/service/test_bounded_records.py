"""One answer takes a bounded number of verdicts, sent texts and acts; what it has can be repeated."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.service.stored import MOST
from tests.fakes.running_service import RunningService

KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "verdict": ("verdict_id", MOST["verdicts"], {"label": "bad"}),
    "sent": ("send_id", MOST["sends"], {"text": "Two days."}),
    "acts": ("act_id", MOST["acts"], {"kind": "possibly_taken"}),
}


@pytest.mark.parametrize("path", KINDS)
async def test_a_program_without_end_fills_one_answer_to_its_bound_and_no_further(
    service: RunningService, path: str
) -> None:
    name, most, body = KINDS[path]
    answer = (await service.answered())["answer_id"]
    other = (await service.answered())["answer_id"]

    async def put(number: int, to: str = answer) -> int:
        given = {name: f"id-{number}", **body}
        response = await service.client.post(
            f"/v1/answers/{to}/{path}", json=given, headers=service.headers()
        )
        return response.status_code

    assert {await put(number) for number in range(most)} == {200}
    assert [await put(most), await put(most + 1)] == [409, 409]
    assert await put(0) == 200  # a repetition after a lost response
    assert await put(most, to=other) == 200
