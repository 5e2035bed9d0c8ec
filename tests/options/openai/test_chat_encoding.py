"""Answer events as the chunks and bodies that OpenAI's own client reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion as OpenAiCompletion
from openai.types.chat import ChatCompletionChunk as OpenAiChunk

from assistant.answer.events import (
    AnswerEvent,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
    unchecked_notice,
)
from assistant.domain.answers import (
    AlsoPossible,
    Certainty,
    FinishReason,
    Mode,
    Source,
    SourceAsked,
    Support,
    Usage,
)
from assistant.domain.live import (
    ElementData,
    ElementDisplay,
    ElementKind,
    ElementProblem,
    ElementState,
    ElementValue,
)
from assistant.options.openai.chat import ChatEncoder, chat_completion, chat_error
from assistant.service.wire import ChatCompletionChunk

STARTED = Started(answer_id="a1", conversation_id="c1", model="tiny", index_version="v1", trace_id=None)
CREATED = 1_700_000_000


def source(n: int, *, url: str | None) -> Source:
    return Source(
        n=n,
        document_id=f"d{n}",
        title=f"Title {n}",
        url=url,
        source="handbook",
        score=0.1,
        snippet="",
        span=(0, 3),
        document_url=f"/v1/documents/d{n}?token=t",
    )


SOURCES = Sources(sources=(source(1, url="https://example.org/1"), source(2, url=None)))


def done(reason: FinishReason = FinishReason.STOP, *, why: str | None = None) -> Done:
    usage = Usage(prompt_tokens=5, completion_tokens=3)
    return Done(finish_reason=reason, citations=(1, 2), usage=usage, timings_ms={"total": 1.0}, reason=why)


WRITTEN: tuple[AnswerEvent, ...] = (
    STARTED,
    SOURCES,
    Token('Wait "two"\n'),
    Token("days. 💊"),
    SentenceEnded(index=0, start=0, end=18, citations=(2, 1), support=Support.SUPPORTED),
    done(),
)


POSSIBLY = done().model_copy(
    update={
        "mode": Mode.WRITTEN,
        "certainty": Certainty.POSSIBLY,
        "also": (
            AlsoPossible(
                document_id="d2", title="Title 2", effective_date=None, text="Or call.", citations=(2,)
            ),
        ),
        "clarify": "Was it opened?",
        "escalation": "Team Lead, ext. 1",
        "fallback": "unsupported",
        "asked": (SourceAsked(name="reviews", kind="reviews", weight=1.0, state="late"),),
    }
)
UNSURE: tuple[AnswerEvent, ...] = (*WRITTEN[:-1], POSSIBLY)


def chunks(events: Sequence[AnswerEvent], *, include_usage: bool = False) -> list[Any]:
    encoder = ChatEncoder(created=CREATED, include_usage=include_usage)
    text = b"".join(map(encoder.encode, events)).decode()
    data = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    assert data.pop() == "[DONE]"
    return [orjson.loads(piece) for piece in data]


def text_of(found: Sequence[Any]) -> str:
    return "".join(choice["delta"].get("content", "") for chunk in found for choice in chunk["choices"])


def test_each_chunk_is_what_the_schema_and_openai_s_client_say() -> None:
    found = chunks(WRITTEN, include_usage=True)
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk)
        OpenAiChunk.model_validate(chunk)
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in found} == {("a1", "tiny", CREATED)}


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
def test_a_text_that_was_cut_says_so_in_openai_s_words(reason: FinishReason) -> None:
    found = chunks([*WRITTEN[:-1], done(reason)])
    OpenAiChunk.model_validate(found[-1])
    assert found[-1]["choices"][0]["finish_reason"] == reason


def test_the_text_comes_whole_and_the_last_choice_says_why_it_ended() -> None:
    found = chunks(WRITTEN)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(found) == 'Wait "two"\ndays. 💊'
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * (len(found) - 1) + ["stop"]


def element(**changes: Any) -> ElementChanged:
    fields: dict[str, Any] = {
        "id": "e1",
        "name": "orders.status",
        "kind": ElementKind.STATUS,
        "state": ElementState.READY,
        "title": "Order status",
        "source": "orders",
        "as_of": datetime(2026, 11, 22, 14, 2, tzinfo=UTC),
        "about": "order 4471-2208",
        "data": ElementData(values=(ElementValue(name="status", label="Status", text="Shipped"),)),
        "display": ElementDisplay(place="inline", start=0, end=14),
    }
    return ElementChanged(**fields | changes)


def said_with(*elements: ElementChanged) -> str:
    events = (STARTED, SOURCES, Token("[order status]"), *elements, done())
    assert text_of(chunks(events)) == chat_completion(events, created=CREATED).choices[0].message.content
    return text_of(chunks(events))


def test_a_client_that_reads_the_text_alone_gets_live_values_under_it() -> None:
    card = [("Status", "Shipped"), ("Next fill", "24 Nov")]
    values = tuple(
        ElementValue(name=f"v{at}", label=label, text=text) for at, (label, text) in enumerate(card)
    )
    refill = element(id="e2", kind=ElementKind.CARD, title="Refill", data=ElementData(values=values))
    assert said_with(refill, element()) == (
        "[order status]"
        "\n\n[order status]: Shipped (orders, order 4471-2208, 2026-11-22 14:02 UTC)"
        "\n\n[refill]: Status Shipped, Next fill 24 Nov (orders, order 4471-2208, 2026-11-22 14:02 UTC)"
    )


def test_the_text_alone_says_why_a_live_value_is_missing() -> None:
    late = element(
        state=ElementState.FAILED, problem=ElementProblem.SYSTEM_LATE, data=None, detail="orders is late."
    )
    assert said_with(late) == "[order status]\n\n[order status]: orders is late. (order 4471-2208)"


def test_live_values_in_the_text_alone_are_text() -> None:
    hostile = ElementValue(
        name="status", label="Status", text="<img src=x> [pay](https://evil.example)\n# Hi"
    )
    said = said_with(element(data=ElementData(values=(hostile,))))
    assert "evil.example" not in said
    assert "<img" not in said
    assert said.count("\n") == 2


def test_the_content_names_what_is_not_answered() -> None:
    half = done().model_copy(update={"unanswered": ("Who pays?",)})
    assert text_of(chunks((*WRITTEN[:-1], half))).endswith("days. 💊\n\nNot answered: Who pays?")


def test_a_citation_is_an_annotation_over_its_sentence() -> None:
    annotations = chunks(WRITTEN)[-1]["choices"][0]["delta"]["annotations"]
    assert annotations == [
        {
            "type": "url_citation",
            "url_citation": {"start_index": 0, "end_index": 18, "url": url, "title": title},
        }
        for url, title in (("/v1/documents/d2?token=t", "Title 2"), ("https://example.org/1", "Title 1"))
    ]


def test_no_usage_is_told_where_no_model_was_asked() -> None:
    quoted = [
        event.model_copy(update={"usage": Usage()}) if isinstance(event, Done) else event for event in WRITTEN
    ]
    assert not any(chunk["usage"] for chunk in chunks(quoted, include_usage=True))
    assert "usage" not in chat_completion(quoted, created=CREATED).model_dump(mode="json")


def test_usage_comes_in_a_chunk_of_its_own_and_only_when_it_is_asked_for() -> None:
    *others, last = chunks(WRITTEN, include_usage=True)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert {chunk["usage"] for chunk in others} == {None}
    assert not any("usage" in chunk for chunk in chunks(WRITTEN))


def test_the_whole_completion_holds_what_the_chunks_hold() -> None:
    found = chunks(WRITTEN, include_usage=True)
    whole = chat_completion(WRITTEN, created=CREATED).model_dump(mode="json")
    OpenAiCompletion.model_validate(whole)
    message = whole["choices"][0]["message"]
    assert message["content"] == text_of(found)
    assert message["annotations"] == found[-2]["choices"][0]["delta"]["annotations"]
    assert whole["answer"] == found[-2]["answer"]
    assert whole["usage"] == found[-1]["usage"]


@pytest.mark.parametrize(
    ("reason", "why", "text"),
    [
        (FinishReason.NO_EVIDENCE, "Nothing speaks of x.", "Nothing speaks of x."),
        (FinishReason.NO_EVIDENCE, None, "Not in the knowledge base."),
        (
            FinishReason.SOURCES_ONLY,
            "generation_unavailable",
            "Nothing could be quoted; these passages were found:\n[1] Title 1\n[2] Title 2",
        ),
        (FinishReason.REFUSED, None, "The sources do not answer this question."),
    ],
)
def test_no_answer_is_said_in_words_and_told_by_our_own_field(
    reason: FinishReason, why: str | None, text: str
) -> None:
    events = (STARTED, SOURCES, done(reason, why=why))
    found = chunks(events)
    assert text_of(found) == text
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert (found[-1]["answer"]["finish_reason"], found[-1]["answer"]["reason"]) == (reason, why)
    whole = chat_completion(events, created=CREATED)
    assert (whole.choices[0].message.content, whole.answer.finish_reason) == (text, reason)


def test_marks_of_an_answer_behind_a_notice_are_offsets_of_the_content() -> None:
    started = STARTED.model_copy(update={"unchecked_language": "es"})
    events = (started, *WRITTEN[1:])
    found = chunks(events)
    whole = chat_completion(events, created=CREATED).model_dump(mode="json")
    content = text_of(found)
    assert content == f'{unchecked_notice("es")}\n\nWait "two"\ndays. 💊'
    assert whole["choices"][0]["message"]["content"] == content
    for answer in (found[-1]["answer"], whole["answer"]):
        mark = answer["sentences"][0]
        assert content[mark["start"] : mark["end"]] == 'Wait "two"\ndays. 💊'
    for marks in (
        found[-1]["choices"][0]["delta"]["annotations"],
        whole["choices"][0]["message"]["annotations"],
    ):
        citation = marks[0]["url_citation"]
        assert content[citation["start_index"] : citation["end_index"]] == 'Wait "two"\ndays. 💊'


def test_a_written_answer_that_is_uncertain_ends_with_a_notice() -> None:
    found = chunks(UNSURE)
    assert text_of(found) == 'Wait "two"\ndays. 💊\n\nNot certain: check before you send.'
    assert chat_completion(UNSURE, created=CREATED).choices[0].message.content == text_of(found)
    assert found[-1]["answer"]["sentences"][0]["start"] == 0


def test_a_quoted_section_ends_with_a_notice_and_an_approved_answer_has_none() -> None:
    ending = done().model_copy(update={"mode": Mode.QUOTED, "citations": (1,)})
    assert text_of(chunks((*WRITTEN[:-1], ending))).endswith("days. 💊\n\nQuoted from the documents.")
    first, *others = SOURCES.sources
    approved = Sources(sources=(first.model_copy(update={"kind": "approved"}), *others))
    assert text_of(chunks((STARTED, approved, *WRITTEN[2:-1], ending))).endswith("days. 💊")


def test_a_problem_in_mid_stream_is_an_error_and_no_end() -> None:
    encoder = ChatEncoder(created=CREATED, include_usage=False)
    encoder.encode(STARTED)
    problem = Problem(
        title="t", status=503, detail="Broke off.", code="generation_interrupted", retryable=True
    )
    data = encoder.encode(problem)
    assert orjson.loads(data.removeprefix(b"data: ")) == chat_error(problem).model_dump()
    assert b"[DONE]" not in data


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "authentication_error"), (404, "invalid_request_error"), (429, "rate_limit_error")],
)
def test_an_error_has_openai_s_type_and_our_code(status: int, kind: str) -> None:
    problem = Problem(title="t", status=status, detail="Why.", code="ours", retryable=False)
    error = chat_error(problem, param="n").error
    assert (error.type, error.code, error.message, error.param) == (kind, "ours", "Why.", "n")
