"""What is counted of red flags and live elements."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from assistant.domain.errors import ConfigurationError, GenerationUnavailableError
from assistant.evaluation.measures import Judged, figures
from assistant.evaluation.trials import (
    FlaggedMessage,
    LiveQuestion,
    ask_elements,
    judge_reads,
    raise_flags,
    with_own_flag,
)
from tests.fakes.answering import FakeTenant
from tests.fakes.live import FakeLive


def live(*asks: tuple[str, ...]) -> LiveQuestion:
    return LiveQuestion(id="q", tenant="shop", question="Where is it?", wording="w", asks=asks)


def test_each_asked_value_counts_for_itself() -> None:
    judged = judge_reads(live(("order.state", "order.day"), ("stock",)), ["order.day"])
    found = {name: one.value for name, one in figures(judged).items()}
    assert found == {
        "asked values that an element shows": 0.5,
        "asked values with the best element": 0.0,
        "questions that ask a value, and more is read": 0.0,
        "questions that ask several, exactly right": 0.0,
    }
    assert judged[-1].miss.endswith("asks order.state|order.day + stock; read order.day")


def test_an_element_that_was_not_asked_is_counted() -> None:
    assert judge_reads(live(("stock",)), ["stock", "price"])[-1].values == {
        "questions that ask a value, and more is read": 1.0
    }
    [none] = judge_reads(live(), ["price"])
    assert none.values == {"questions that ask none, and one is read": 1.0}
    assert none.miss
    assert judge_reads(live(), [])[0].miss == ""


def writing(*steps: str) -> FakeTenant:
    """Return a tenant with live systems whose model may write no elements, by its manifest."""
    tenant = FakeTenant.writing(*steps)
    tenant.live_elements = FakeLive()
    return tenant


async def wrote(tenant: FakeTenant, asked: LiveQuestion) -> list[Judged]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "live.jsonl"
        path.write_text(asked.model_copy(update={"tenant": tenant.config.name}).model_dump_json())
        return await ask_elements(tenant.services, [path], writes=True)


REFILLS = "On which day is a refill payable?"


async def test_the_elements_that_a_model_names_are_judged_and_none_is_read() -> None:
    tenant = writing("Day 23 [1.1]. {{orders.status}} {{orders.", "status}} {{orders.nothing}}")
    value, whole = await wrote(tenant, live(("orders.status",)).model_copy(update={"question": REFILLS}))
    assert value.values["asked values that an element shows"] == 1.0
    assert (whole.miss, whole.degraded) == ("", ())
    [request] = tenant.generator.requests
    assert "{{orders.status}}" in request.messages[0].content  # listed, whatever the manifest says yet
    assert isinstance(tenant.live_elements, FakeLive)
    assert tenant.live_elements.calls == []


async def test_a_model_that_names_another_element_misses() -> None:
    tenant = writing("{{stores.stock}}")
    [none] = await wrote(tenant, live().model_copy(update={"question": REFILLS}))
    assert none.values == {"questions that ask none, and one is read": 1.0}
    assert none.miss.endswith("read stores.stock")


async def test_no_figure_rests_on_a_question_on_which_the_model_failed() -> None:
    tenant = writing()
    tenant.generator.steps[:] = [GenerationUnavailableError("No answer to this prompt was recorded.")]
    judged = await wrote(tenant, live(("orders.status",)).model_copy(update={"question": REFILLS}))
    assert [one.degraded for one in judged] == [("generation_unavailable",)] * 2


async def test_a_tenant_whose_answers_are_quoted_is_told_to_choose_a_model() -> None:
    with pytest.raises(ConfigurationError, match="assistant models use"):
        await wrote(FakeTenant(), live())


async def test_messages_of_a_writer_are_counted_by_their_setting() -> None:
    tenant = FakeTenant()
    own = FlaggedMessage(setting="own_flag", flag="battery", message="swallowed a battery")
    others = [own.model_copy(update={"message": f"swallowed {number}"}) for number in range(5)]
    widened = with_own_flag(tenant.config, [own, *others])
    assert [flag.name for flag in widened.red_flags] == ["battery"]
    messages = [
        FlaggedMessage(setting="ordinary", flag=None, message="refill?"),
        FlaggedMessage(setting="between", flag="chest", message="chest pain"),
        FlaggedMessage(setting="spanish", flag="chest", message="me duele el pecho y no puedo respirar"),
        own,
    ]
    clock = tenant.services.clock
    judged = await raise_flags(tenant.config, tenant.services.embedder, messages, clock=clock)
    assert [one.values for one in judged] == [
        {"English messages with a notice": 0.0, "ordinary messages that raise a flag": 0.0},
        {
            "English messages with a notice": 0.0,
            "emergencies within other text that raise a flag": 0.0,
            "emergencies that raise their flag": 0.0,
        },
        {"Spanish emergencies with a banner or notice": 0.0},
        {"English messages with a notice": 0.0, "messages that raise a flag of ten examples": 0.0},
    ]
    assert [bool(one.miss) for one in judged] == [False, True, True, True]
