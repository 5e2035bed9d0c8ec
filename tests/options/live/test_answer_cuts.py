"""A model's text with tags of live elements gives the same answer wherever the network cut it.

Text, places of sentences and labels, and element events are compared with those of the text in one part.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.answer.check import AnswerText
from assistant.answer.elements import CallBounds, Hydration, all_labels
from assistant.answer.events import ElementChanged, SentenceEnded, Token
from assistant.answer.prompt import Prompt, PromptDocument
from assistant.answer.services import LiveData
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.live import Caller, ElementState
from assistant.text.language import language
from tests.fakes.answering import FakeTenant, Gate, agent, document
from tests.fakes.live import FakeLive, of_customer
from tests.unit.answer.asking_and_reading import QUESTION, ask
from tests.unit.answer.cutting import cuts

DAY = "Retail refills are payable on day 23 of 30."
CAFE = "The caf\u00e9\u2019s r\u00e9sum\u00e9 \u2013 \U0001f48a \u85ac\u5c40 \u2013 is kept."
BO = of_customer("bo")
WORDS = language("en")
STORED = document(content=f"{DAY.removesuffix('.')} {{{{orders.summary}}}}. {CAFE}")
PROMPT = Prompt(
    prompt_id="answer/4",
    prompt_hash="",
    messages=(),
    documents=(PromptDocument(1, STORED, STORED.passages[0].units),),
    dropped_documents=0,
    history_turns=0,
    prompt_tokens=0,
    refusal="The documents do not answer this question.",
    partial="The documents do not say",
)

SHORT = {
    "in a sentence": "Refills {{orders.status}} are payable [1.1].",
    "alone": "Day 23 of 30.\n{{orders.summary}}\n",
    "side by side": "Payable {{orders.status}}{{ card orders.summary }}.",
    "half": "Payable on day 23. {{orders.stat",
    "before a bracket": "Payable {{orders.status}}(x) on day 23.",
    "beyond ASCII": "The caf\u00e9 {{orders.status}} \U0001f48a is kept.",
    "of a withheld sentence": "Payable. Day 25 {{orders.status}} too. Wait.",
    "of a sentence that fails": "Payable. <b>Day {{orders.status}} 23.",
}
STATUS = "{{orders.status}} "
LONG = {
    "good": f"{DAY}\n{STATUS}{{{{orders.summary}}}}\n{CAFE} {{{{status orders.status}}}} [1.1] [7.1]",
    "as many as an answer may have": f"{DAY} {STATUS * 8}\n{CAFE}",
    "then a sentence that is withheld": f"{DAY} {STATUS}Day 25 {STATUS}too. {CAFE} {STATUS * 9}",
    "that is withheld at once": f"Day 25 too. {STATUS * 20}{DAY}",
    "that fails at once": f"<think>Day 23.\n{STATUS * 20}{DAY}",
}
"""The section replaces the last one."""

Said = tuple[str, str | None, list[object]]


def released(parts: Sequence[str]) -> Said:
    """Return text, failure and events of a model's text in these parts. Needs a running loop."""
    tenant = FakeTenant()
    clock = SystemClock()
    elements = FakeLive(gates={"orders.status": Gate(), "orders.summary": Gate()})
    services = replace(tenant.services, live=LiveData(elements, pseudonym=str))
    hydration = Hydration(
        services,
        Caller(agent(), BO, QUESTION),
        deadline=Deadline.after(60, clock=clock),
        bounds=CallBounds(),
    )
    prompt = replace(PROMPT, elements=all_labels(services))
    text = AnswerText(prompt=prompt, language=WORDS, hydration=hydration)
    events: list[object] = [event for part in parts for event in text.write(part)]
    events += text.end(cut_short=False)
    hydration.cancel()
    assert_places(text.text, events)
    return text.text, text.failure, events


def assert_places(text: str, events: Iterable[object]) -> None:
    """Each element is pending at its label, after the token that has it."""
    seen = ""
    for event in events:
        if isinstance(event, Token):
            seen += event.text
        elif isinstance(event, ElementChanged):
            assert event.state is ElementState.PENDING
            shown = seen[event.display.start : event.display.end]
            assert shown == {"orders.status": "[order status]", "orders.summary": "[order]"}[event.name]
        else:
            assert isinstance(event, SentenceEnded)
            assert event.end == len(seen)
    assert seen == text
    assert "\ue000" not in text


def byte_by_byte(text: str) -> Iterator[str]:
    """Yield what a decoder of UTF-8 gives for each byte: nothing until a character is whole."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for byte in text.encode():
        yield decoder.decode(bytes([byte]))


def cut(text: str, *places: int) -> list[str]:
    return [text[start:end] for start, end in pairwise((0, *places, len(text)))]


@pytest.mark.parametrize("name", SHORT)
async def test_every_cut_in_two_or_three_gives_the_same_answer(name: str) -> None:
    text = SHORT[name]
    whole = released([text])
    for count in (1, 2):
        for places in combinations(range(len(text) + 1), count):
            assert released(cut(text, *places)) == whole, places


@pytest.mark.parametrize("name", SHORT | LONG)
async def test_one_byte_or_character_at_a_time_gives_the_same_answer(name: str) -> None:
    text = (SHORT | LONG)[name]
    whole = released([text])
    assert released(list(byte_by_byte(text))) == whole
    assert released(list(text)) == whole


@pytest.mark.parametrize("half", ["{{", "{{ {"])
async def test_half_a_tag_at_the_end_is_text(half: str) -> None:
    text, failure, events = released(list(byte_by_byte(f"Payable on day 23 {half}")))
    assert (text, failure, len(events)) == (f"Payable on day 23 {half}", None, 2)


def test_the_texts_have_elements_and_failures() -> None:
    async def all_of_them() -> list[Said]:
        return [released([text]) for text in (SHORT | LONG).values()]

    said = asyncio.run(all_of_them())
    elements = [sum(isinstance(event, ElementChanged) for event in events) for _, _, events in said]
    assert max(elements) == 8
    assert sum(count > 0 for count in elements) >= 5
    assert sum(failure is not None for _, failure, _ in said) >= 2


PIECES = [DAY, CAFE, "{{orders.status}}", "{{ card orders.summary }}", "{{orders.secret}}", "{{", "}}", "{",
          "[1.1]", "[9.1]", "\n", " ", "Day 25 too.", "<b>", "{{orders.", "status}}"]  # fmt: skip


@given(
    text=st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join),
    data=st.data(),
)
@settings(deadline=None)
def test_random_texts_cut_at_random_give_the_same_answer(text: str, data: st.DataObject) -> None:
    parts = cuts(text, data)

    async def both() -> tuple[Said, Said]:
        return released([text]), released(parts)

    whole, in_parts = asyncio.run(both())
    assert in_parts == whole


# The whole stream: with what it quotes in place of a text that fails, and each element ready


async def streamed(parts: Sequence[str]) -> tuple[str, list[object], list[object], object]:
    """Return text, text events, elements as they ended, and why the model's text was replaced."""
    tenant = FakeTenant.writing(*parts).with_documents(STORED)
    tenant.live_elements = FakeLive()
    tenant.use_model(writes_elements=True)
    source = {"name": "knowledge", "namespace": "", "access": "everyone", "elements": True}
    tenant.config = tenant.config.model_validate(tenant.config.model_dump() | {"sources": [source]})
    asked = await ask(tenant, context=BO)
    first = [one for one in asked.events if isinstance(one, Token | SentenceEnded)]
    first += [one for one in asked.elements if one.state is ElementState.PENDING]
    last = {one.id: one for one in asked.elements}
    assert {one.state for one in last.values()} <= {ElementState.READY}
    # the codes of their texts are of the second in which they were made
    ended = [last[name].model_copy(update={"texts": ()}) for name in sorted(last)]
    return asked.text, list(first), list(ended), asked.done.fallback


STEP = 1 if os.environ.get("EXAMPLES") == "new" else 3
"""Each stream has a tenant of its own: only ``make check-full`` cuts at every character."""


@pytest.mark.parametrize("name", LONG)
async def test_cuts_in_two_give_the_same_stream(name: str) -> None:
    text = LONG[name]
    whole = await streamed([text])
    assert whole[2] or "fails" in name
    for place in range(1, len(text), STEP):
        assert await streamed(cut(text, place)) == whole, place


@pytest.mark.parametrize("name", SHORT | LONG)
async def test_one_byte_at_a_time_gives_the_same_stream(name: str) -> None:
    text = (SHORT | LONG)[name]
    assert await streamed(list(byte_by_byte(text))) == await streamed([text])
