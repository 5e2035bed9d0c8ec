"""Whether anything is near a question."""

from __future__ import annotations

import pytest

from assistant.answer.find import Gate
from assistant.tenant.tenant import GateSection


@pytest.mark.parametrize(("cosine", "passed"), [(-1.0, False), (0.39, False), (0.4, True), (0.9, True)])
def test_what_is_as_near_as_the_tenant_says_passes(cosine: float, passed: bool) -> None:
    decision = Gate(GateSection(hopeless_cosine=0.4), asks_model=False).run(cosine)
    assert (decision.passed, decision.best_cosine, decision.min_cosine) == (passed, cosine, 0.4)


def test_a_model_is_asked_of_what_is_too_far_for_a_section() -> None:
    settings = GateSection()
    assert not Gate(settings, asks_model=False).run(0.3).passed
    assert Gate(settings, asks_model=True).run(0.3).passed
    assert not Gate(settings, asks_model=True).run(0.2).passed
