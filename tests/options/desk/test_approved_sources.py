"""An approved answer is served or offered only while its sources are unchanged."""

from __future__ import annotations

import pytest

from assistant.answer.sources import EvidenceQuery
from assistant.domain.desk import BoundSource
from assistant.evaluation.judging import untraced
from assistant.options.desk.approved import OfferApproved, ServedAnswer
from tests.fakes.answering import FakeTenant, document, vector_of
from tests.options.desk.desk import FakeDesk, approved
from tests.options.desk.test_approved_serving import status
from tests.unit.answer.asking_and_reading import deadline

SAME = "Which desk takes a refill that came too soon?"
NEAR = "Which desk takes a late refill that came?"


async def found(question: str, *, content_hash: str = "hash-of-refill") -> ServedAnswer | None:
    """Return what is found where one answer is live, which rests on a document with this content now."""
    tenant, desk = FakeTenant(), FakeDesk()
    tenant.search.documents[:] = [document("refill")]
    tenant.live.live["refill"] = status(content_hash=content_hash)
    bound = BoundSource(document_id="refill", content_hash="hash-of-refill")
    desk.add(approved(SAME, sources=[bound]))
    offer = OfferApproved(tenant.services)
    await offer.load(desk)
    query = EvidenceQuery(question, vector_of(question))
    return await offer.find(query, untraced(deadline(tenant)), meanings={})


@pytest.mark.parametrize(("question", "is_equal"), [(SAME, True), (NEAR, False)])
async def test_the_same_question_is_served_and_a_near_one_offered(question: str, is_equal: bool) -> None:
    answer = await found(question)
    assert answer is not None
    assert (answer.answers, answer.wording, list(answer.documents)) == (is_equal, SAME, ["refill"])


@pytest.mark.parametrize("question", [SAME, NEAR])
async def test_an_answer_whose_source_changed_is_neither_served_nor_offered(question: str) -> None:
    assert await found(question, content_hash="newer") is None
