"""The judgement of a reply by the model that writes: what it adds to the check by code, when it is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.domain.answers import ReplyCheck, Usage
from assistant.domain.errors import GenerationInterruptedError, GenerationUnavailableError, OverloadedError
from assistant.options.reply.judge import CheckedReply
from assistant.options.reply.write import WriteReply
from assistant.text.caches import forget_texts
from tests.fakes.answering import FakeTenant, Gate, JudgesAndWrites, ScriptedGenerator, Step, agent, verdicts
from tests.unit.answer.asking_and_reading import ask, deadline

LINE = "Early refill: Retail refills are payable on day 23 of 30."
HELD = verdicts((1, "held", 1, ""))
TWO = "Hi there. You can never refill on day 23 of 30."


class Desk:
    """One tenant with one answer, and the texts that are checked for it."""

    def __init__(self, tenant: FakeTenant, write: WriteReply, answer_id: str) -> None:
        self.tenant, self.write, self.answer_id = tenant, write, answer_id

    @classmethod
    async def opened(cls, *said: Step) -> Desk:
        tenant = FakeTenant.writing()
        answer_id = (await ask(tenant)).answer_id
        tenant.generator = JudgesAndWrites(verdicts=said)
        services = tenant.services
        return cls(tenant, WriteReply(services, AnswerQuestion(services).records), answer_id)

    @property
    def asked(self) -> list[str]:
        assert isinstance(self.tenant.generator, JudgesAndWrites)
        return self.tenant.generator.checked

    async def check(self, text: str, *, by_model: bool = True) -> CheckedReply:
        lines = await self.write.lines_of(self.answer_id, (), identity=agent("ana"))
        return await self.write.check(lines, text, deadline=deadline(self.tenant), by_model=by_model)


def sentences_of(prompt: str) -> list[str]:
    return prompt.partition("<sentences>\n")[2].partition("\n</sentences>")[0].split("\n")


async def test_what_code_does_not_see_is_named_with_the_line() -> None:
    desk = await Desk.opened(verdicts((1, "held", None, ""), (2, "opposite", 1, "never")))
    checked = await desk.check(TWO)
    [found] = checked.checks
    assert (found.kind, found.values, TWO[found.start : found.end]) == ("contradicts", ("never",), TWO[10:])
    assert found.line is not None
    assert found.line.endswith("Retail refills are payable on day 23 of 30.")
    assert checked.degraded == ()
    assert checked.usage == Usage(prompt_tokens=50, completion_tokens=7)
    [prompt] = desk.asked
    assert sentences_of(prompt) == ["1. Hi there.", "2. You can never refill on day 23 of 30."]
    assert f"\n1. {found.line}\n" in prompt


async def test_what_nothing_holds_and_what_is_missing_are_named() -> None:
    desk = await Desk.opened(verdicts((1, "not_held", None, "for free"), missing="day 23"))
    kinds = [(one.kind, one.values) for one in (await desk.check("You get it for free.")).checks]
    assert ("not_held", ("for free",)) in kinds
    assert ("missing", ("day 23",)) in kinds


async def test_a_sentence_that_code_names_is_named_once() -> None:
    desk = await Desk.opened(verdicts((1, "opposite", 1, "day 25")))
    [found] = (await desk.check("You can refill on day 25 of 30.")).checks
    assert (found.kind, found.values, found.line) == ("not_held", ("25",), None)


@pytest.mark.parametrize(
    "said",
    [
        "Looks fine to me.",
        HELD[:-2],
        verdicts(),
        verdicts((2, "held", 1, "")),
        verdicts((1, "held", 9, "")),
        verdicts((1, "held", 0, "")),
        verdicts((1, "fine", 1, "")),
        verdicts((1, "held", "1", "")),
        verdicts((1, "held", 1, ""), missing="day 24"),
        HELD.replace('"missing"', '"more": 1, "missing"'),
        GenerationUnavailableError("down"),
        GenerationInterruptedError("cut"),
        OverloadedError("429"),
    ],
    ids=lambda said: said if isinstance(said, str) else type(said).__name__,
)
async def test_without_a_verdict_the_check_by_code_stands_and_is_marked(said: Step) -> None:
    desk = await Desk.opened(said)
    checked = await desk.check("You can refill on day 25 of 30.")
    fault = ReplyCheck.found("not_held", ("25",), words="You can refill on day 25 of 30.")
    assert checked == CheckedReply((fault,), ("reply_check",))


async def test_a_late_verdict_is_not_waited_for() -> None:
    never = Gate()
    desk = await Desk.opened(never)
    desk.tenant.configure(limits={"first_token_timeout_s": 0.01})
    services = desk.tenant.services
    desk.write = WriteReply(services, AnswerQuestion(services).records)
    assert (await desk.check("You can refill on day 23 of 30.")).degraded == ("reply_check",)
    assert desk.tenant.generator.open_connections == 0


async def test_of_an_endless_stream_only_the_beginning_is_read() -> None:
    never = Gate()
    desk = await Desk.opened()
    desk.tenant.generator = generator = ScriptedGenerator("x" * 4_000, never)
    services = desk.tenant.services
    desk.write = WriteReply(services, AnswerQuestion(services).records)
    assert (await desk.check("You can refill on day 23 of 30.")).degraded == ("reply_check",)
    assert (never.reached.is_set(), generator.open_connections) == (False, 0)


async def test_of_an_edit_only_changed_sentences_are_judged() -> None:
    first, second, third = "Thanks for asking.", "You can refill on day 23 of 30.", "Bye."
    desk = await Desk.opened(
        verdicts((1, "held", None, ""), (2, "opposite", 1, ""), (3, "held", None, "")),
        verdicts((3, "held", None, "")),
        verdicts(missing="day 23"),
    )
    drafted = await desk.check(f"{first} {second} {third}")
    assert await desk.check(f"{first} {second} {third}") == CheckedReply(drafted.checks)
    edited = await desk.check(f"{first} {second} See you.")
    assert edited.checks == drafted.checks
    shorter = await desk.check(first)
    assert [(one.kind, one.values) for one in shorter.checks] == [("missing", ("day 23",))]
    assert [sentences_of(prompt) for prompt in desk.asked] == [
        [f"1. {first}", f"2. {second}", f"3. {third}"],
        [f"- {first}", f"- {second}", "3. See you."],
        [f"- {first}"],
    ]


async def test_what_was_judged_is_forgotten_with_the_texts() -> None:
    desk = await Desk.opened(HELD, HELD)
    await desk.check("You can refill on day 23 of 30.")
    forget_texts()
    await desk.check("You can refill on day 23 of 30.")
    assert len(desk.asked) == 2


async def test_by_code_alone_the_model_is_not_asked() -> None:
    desk = await Desk.opened()
    assert (await desk.check("You can refill on day 23 of 30.", by_model=False)) == CheckedReply(())


async def test_a_text_that_does_not_fit_the_model_is_marked() -> None:
    desk = await Desk.opened()
    desk.tenant.configure(generation={"context_tokens": 600, "max_tokens": 100})
    services = desk.tenant.services
    desk.write = WriteReply(services, AnswerQuestion(services).records)
    checked = await desk.check("You can refill it. " * 200)
    assert checked.degraded == ("reply_check",)
    assert desk.asked == []


async def test_a_cancellation_is_passed_on() -> None:
    gate = Gate()
    desk = await Desk.opened(gate)
    checking = asyncio.create_task(desk.check("You can refill on day 23 of 30."))
    await gate.reached.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking


@pytest.mark.parametrize("said", ["held", "not_held", "opposite"])
async def test_what_code_finds_stays_whatever_the_model_says(said: str) -> None:
    text = "You have it on day 23. That is in 9 days, or 8 weeks."
    desk = await Desk.opened(verdicts((1, "held", 1, ""), (2, said, 1, "8 weeks")))
    assert [(one.kind, one.start) for one in (await desk.check(text)).checks] == [("not_held", 23)]


async def test_a_verdict_is_of_one_agent() -> None:
    desk = await Desk.opened(HELD, verdicts((1, "not_held", None, "at once")))
    lines = await desk.write.lines_of(desk.answer_id, (), identity=agent("ana"))
    of_ben = replace(lines, record=lines.record.model_copy(update={"agent": "ben"}))
    text = "You can refill at once, on day 23."
    found = [
        (await desk.write.check(each, text, deadline=deadline(desk.tenant))).checks
        for each in (lines, lines, of_ben)
    ]
    assert [len(checks) for checks in found] == [0, 0, 1]
