"""Single calls over real sockets: what is repeated, and what an error becomes."""

from __future__ import annotations

import pytest

from assistant.client import (
    ConflictingError,
    NotAllowedError,
    NotThereError,
    Patience,
    RefusedByServiceError,
    RejectedError,
    SignInError,
    UnavailableError,
    UnreachableError,
)
from assistant.domain.answers import Verdict, VerdictLabel
from tests.unit.client.served import answer, problem, serving

pytestmark = pytest.mark.loopback

VERDICT = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
STORED = {
    "answer_id": "a",
    "agent": "ann",
    "at": "2026-03-01T00:00:00Z",
    "verdict": VERDICT.model_dump(mode="json"),
}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (401, SignInError),
        (403, NotAllowedError),
        (404, NotThereError),
        (409, ConflictingError),
        (413, RejectedError),
        (422, RejectedError),
        (429, UnavailableError),
        (503, UnavailableError),
        (500, RefusedByServiceError),
    ],
)
async def test_each_status_is_an_error_of_its_own(status: int, kind: type[RefusedByServiceError]) -> None:
    async with serving((problem(status, "why", retryable=False),)) as served:
        with pytest.raises(RefusedByServiceError) as caught:
            await served.client.read_answer("a")
    assert type(caught.value) is kind
    assert caught.value.problem.code == "why"
    assert len(served.requests) == 1


async def test_a_verdict_is_sent_again_for_its_id_makes_it_one() -> None:
    async with serving((), (answer(200, STORED),)) as served:
        stored = await served.client.give_verdict("a", VERDICT)
    assert stored.verdict == VERDICT
    assert len(served.requests) == 2


def test_a_wait_that_the_service_asks_for_is_kept_within_bounds() -> None:
    patience = Patience(first_wait_s=0.1, longest_wait_s=3.0)
    assert patience.wait_s(1, asked_s=2.0) == 2.0
    assert patience.wait_s(1, asked_s=4.0) is None


async def test_trying_ends() -> None:
    async with serving((problem(503, "search_unavailable", retryable=True),)) as served:
        with pytest.raises(UnavailableError):
            await served.client.read_answer("a")
    assert len(served.requests) == 3


async def test_ids_cannot_lead_to_another_path() -> None:
    async with serving((answer(200, {"alive": True}),)) as served:
        with pytest.raises(UnreachableError):
            await served.client.read_answer("../documents/x?y#z")
    assert served.line(0) == "GET /v1/answers/..%2Fdocuments%2Fx%3Fy%23z"


def test_waits_double_up_to_a_bound_and_end() -> None:
    patience = Patience(attempts=4, first_wait_s=1.0, longest_wait_s=3.0)
    waits = [patience.wait_s(failures) for failures in (1, 2, 3)]
    for wait, longest in zip(waits, (1.0, 2.0, 3.0), strict=True):
        assert wait is not None
        assert longest / 2 <= wait <= longest
    assert patience.wait_s(4) is None
