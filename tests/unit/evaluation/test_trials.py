"""What is counted of red flags and live elements."""

from __future__ import annotations

from assistant.evaluation.measures import figures
from assistant.evaluation.trials import (
    FlaggedMessage,
    LiveQuestion,
    judge_reads,
    raise_flags,
    with_own_flag,
)
from tests.fakes.answering import FakeTenant


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
