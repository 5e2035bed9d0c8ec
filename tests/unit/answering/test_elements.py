"""Live elements in answers: named by documents, filled while the text flows."""

from __future__ import annotations

from assistant.domain.elements import ElementState
from tests.fakes.answering import FakeTenant, document
from tests.fakes.live import FakeLive, of_customer
from tests.unit.answering.asking_and_reading import ask

REFILL = "Retail refills are payable on day 23 of 30 when {{orders.status}} is delivered."


def with_live(live: FakeLive | None = None, content: str = REFILL, *, allowed: bool = True) -> FakeTenant:
    tenant = FakeTenant().with_documents(document(content=content))
    tenant.live_elements = live or FakeLive()
    tenant.config = tenant.config.model_validate(
        tenant.config.model_dump()
        | {"sources": [{"name": "knowledge", "namespace": "", "elements": allowed}]}
    )
    return tenant


async def test_a_document_s_element_is_a_label_then_pending_then_ready() -> None:
    asked = await ask(with_live(), context=of_customer("bo"))
    states = [(one.id, one.state) for one in asked.elements]
    assert states == [("e1", ElementState.PENDING), ("e1", ElementState.READY)]
    ready = asked.elements[-1]
    assert asked.text[ready.display.start : ready.display.end] == "[order status]"
    assert ready.data is not None
    assert ready.data.values[0].text == "shipped order-bo"
    assert asked.record.text == asked.text
    assert "order status" not in asked.kept.text
