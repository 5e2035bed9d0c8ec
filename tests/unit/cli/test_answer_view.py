from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from assistant.answering.events import Done, ElementChanged, Problem, SentenceEnded, Sources, Started, Token
from assistant.cli.answer_view import AnswerPrinter, print_sources
from assistant.cli.terminal import Terminal
from assistant.domain.answers import (
    AlsoPossible,
    Certainty,
    FinishReason,
    Mode,
    Source,
    SourceAsked,
    SourceFacts,
    Support,
    Usage,
)
from assistant.domain.elements import ElementData, ElementDisplay, ElementKind, ElementState, ElementValue

SOURCE = Source(
    n=1,
    document_id="refill",
    title="Refill too soon",
    url=None,
    source="procedures",
    score=0.03,
    snippet="…",
    span=(0, 10),
    document_url="/v1/documents/refill?token=t",
)
STATUS = ElementChanged(
    id="e1",
    name="orders.status",
    kind=ElementKind.STATUS,
    state=ElementState.READY,
    title="Order status",
    source="orders",
    data=ElementData(values=(ElementValue(name="status", label="Status", text="Shipped"),)),
    display=ElementDisplay(place="inline", start=0, end=14),
)
STARTED = Started(answer_id="a1", conversation_id="c1", model="m", index_version="v1", trace_id=None)


def sentence(*, end: int, citations: tuple[int, ...] = (), reasons: tuple[str, ...] = ()) -> SentenceEnded:
    support = Support.UNSUPPORTED if reasons else Support.SUPPORTED
    return SentenceEnded(index=0, start=0, end=end, citations=citations, support=support, reasons=reasons)


def done(reason: FinishReason, *, citations: tuple[int, ...] = (), detail: str | None = None) -> Done:
    usage = Usage(prompt_tokens=100, completion_tokens=7)
    return Done(finish_reason=reason, citations=citations, usage=usage, timings_ms={}, reason=detail)


def test_a_sentence_is_written_when_it_ends_with_its_citations(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(STARTED)
    for token in ("Call ", "the plan.", " T"):
        printer.show(Token(token))
    assert (written.getvalue(), printer.first_text_s is None) == ("", False)
    printer.show(sentence(end=14, citations=(1, 2)))
    assert written.getvalue() == "Call the plan. [1][2]"


def test_a_citation_that_the_text_has_is_not_said_twice(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(Token("Call the plan [1]."))
    printer.show(sentence(end=18, citations=(1,)))
    assert written.getvalue() == "Call the plan [1]."


def test_an_unsupported_sentence_is_marked_with_the_reason(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(Token("Take 40 mg."))
    printer.show(sentence(end=11, reasons=("number_differs",)))
    assert written.getvalue().startswith("Take 40 mg. (unsupported: its source has another number")


def test_sources_are_numbered_with_title_and_link(printer: AnswerPrinter, written: io.StringIO) -> None:
    for event in (
        STARTED,
        Sources(sources=(SOURCE,)),
        Token("Yes."),
        done(FinishReason.STOP, citations=(1,)),
    ):
        printer.show(event)
    assert "1  Refill too soon  refill" in written.getvalue()
    assert "http://127.0.0.1:8700/v1/documents/refill?token=t" in written.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_address_is_behind_the_title(written: io.StringIO, is_terminal: bool) -> None:
    console = Console(file=written, width=100, force_terminal=is_terminal, highlight=False, soft_wrap=True)
    address = f"/v1/documents/refill?token={'t' * 400}"
    long = SOURCE.model_copy(update={"document_url": address})
    print_sources(Terminal(out=console), [long], cited=[1], base_url="http://127.0.0.1:8700")
    linked = f";http://127.0.0.1:8700{address}\x1b\\" in written.getvalue()
    assert (linked, "t" * 400 in written.getvalue()) == (is_terminal, is_terminal)
    assert "Refill too soon" in written.getvalue()


def test_the_publishers_link_goes_before_our_own(printer: AnswerPrinter, written: io.StringIO) -> None:
    published = SOURCE.model_copy(update={"url": "https://example.org/refill"})
    printer.show(Sources(sources=(published,)))
    printer.show(done(FinishReason.STOP))
    assert "https://example.org/refill" in written.getvalue()


def test_no_evidence_is_said_so(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(Sources(sources=(SOURCE,)))
    ending = done(FinishReason.NO_EVIDENCE, detail="Not in the knowledge base. Nothing speaks of “x”.")
    printer.show(ending.model_copy(update={"escalation": "Claims Desk, ext. 4100"}))
    said = "Not in the knowledge base. Nothing speaks of “x”.\nAsk: Claims Desk, ext. 4100\n"
    assert written.getvalue().startswith(said)
    assert "Looked at" in written.getvalue()


def quoted(**changes: Any) -> Done:
    """Return the end of a quoted answer."""
    update = {"mode": Mode.QUOTED, "certainty": Certainty.ANSWERED} | changes
    return done(FinishReason.STOP).model_copy(update=update)


def test_headings_are_bold_and_other_marks_stay(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(Token("**Steps**\n\n1. Call, ** as said."))
    printer.show(quoted())
    assert written.getvalue().startswith("Steps\n\n1. Call, ** as said.\n")


def test_a_badge_says_how_the_text_was_made(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(Token("Wait."))
    printer.show(quoted())
    assert "Wait.\n\nQuoted word for word\n" in written.getvalue()
    assert "Possibly" not in written.getvalue()


def test_an_answer_of_live_values_alone_is_not_called_a_quote(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(Sources(sources=(SOURCE,)))
    printer.show(Token("[order status]"))
    printer.show(STATUS)
    printer.show(quoted())
    said = written.getvalue()
    assert "Live values; no document is quoted\n" in said
    assert "word for word" not in said
    assert "Sources" not in said


def test_beside_live_values_only_cited_documents_are_listed(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    other = SOURCE.model_copy(update={"n": 2, "document_id": "other", "title": "Another"})
    third = SOURCE.model_copy(update={"n": 3, "document_id": "third", "title": "Contending"})
    also = AlsoPossible(document_id="third", title="Third", effective_date=None, text="No.", citations=(3,))
    printer.show(Sources(sources=(SOURCE, other, third)))
    printer.show(Token("Wait."))
    printer.show(sentence(end=5, citations=(1,)))
    printer.show(STATUS)
    printer.show(quoted(citations=(1,), also=(also,)))
    said = written.getvalue()
    assert "Quoted word for word\n" in said
    assert "Refill too soon" in said
    assert "Contending" in said
    assert "Another" not in said


@pytest.mark.parametrize(
    ("fallback", "why"),
    [
        ("unsupported", "the sources do not support what it wrote"),
        ("generation_unavailable", "it did not answer (generation_unavailable)"),
    ],
)
def test_a_quote_in_place_of_written_text_says_why(
    printer: AnswerPrinter, written: io.StringIO, fallback: str, why: str
) -> None:
    printer.show(quoted(fallback=fallback))
    assert f"Quoted word for word, in place of the model's text: {why}\n" in written.getvalue()


def test_an_uncertain_answer_says_so_and_whom_to_ask(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(quoted(certainty=Certainty.POSSIBLY, escalation="Team Lead, ext. 1"))
    assert "Possibly: check before you send. Ask: Team Lead, ext. 1\n" in written.getvalue()


def test_what_else_helps_the_agent_follows_the_answer(printer: AnswerPrinter, written: io.StringIO) -> None:
    also = AlsoPossible(
        document_id="damaged",
        title="Damaged item",
        effective_date=date(2026, 2, 1),
        text="**Steps**\n\n- Ask for a photo.",
        citations=(4, 5),
    )
    printer.show(
        quoted(
            also=(also,),
            clarify="Was it opened?",
            unanswered=("Who pays?",),
            reply_draft="Please wait.",
            asked=(
                SourceAsked(name="reviews", kind="reviews", weight=0.5, state="late"),
                SourceAsked(name="orders", kind="live", weight=0.5, state="not_asked"),
            ),
        )
    )
    shown = written.getvalue()
    for part in (
        "Did not answer: reviews.\n",
        "\nNot answered: Who pays?\n",
        "\nAsk back  Was it opened?\n",
        "\nAlso possible  Damaged item, effective 2026-02-01 [4][5]\n  Steps\n\n  - Ask for a photo.\n",
        "\nReply draft  edit it before you send it\n  Please wait.\n",
    ):
        assert part in shown


def test_a_problem_is_kept_for_the_command(printer: AnswerPrinter, written: io.StringIO) -> None:
    problem = Problem(title="late", status=503, detail="Too late.", code="deadline_exceeded", retryable=True)
    printer.show(Token("Half"))
    printer.show(problem)
    assert printer.problem == problem
    assert written.getvalue() == "Half\n"


def test_text_that_would_steer_the_terminal_is_made_harmless(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(Token("a\x1b[2Jb\x9bc\u202ed"))
    printer.show(sentence(end=len("a\x1b[2Jb\x9bc\u202ed")))
    assert written.getvalue() == "a�[2Jb�c�d"


def test_a_mark_stands_behind_its_sentence_though_the_next_has_begun(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(Token("Call the plan."))
    printer.show(Token(" Then"))
    printer.show(sentence(end=14, citations=(1,)))
    printer.show(Token(" wait"))
    printer.show(sentence(end=24))
    assert written.getvalue() == "Call the plan. [1] Then wait"


def test_sources_of_one_document_stand_together(printer: AnswerPrinter, written: io.StringIO) -> None:
    other = SOURCE.model_copy(update={"n": 2, "document_id": "damaged", "title": "Damaged"})
    again = SOURCE.model_copy(update={"n": 3})
    printer.show(Sources(sources=(SOURCE, other, again)))
    printer.show(done(FinishReason.STOP))
    assert "1, 3  Refill too soon  refill" in written.getvalue()
    assert written.getvalue().count("Refill too soon") == 1


def test_a_source_of_a_shop_is_printed_with_its_facts(printer: AnswerPrinter, written: io.StringIO) -> None:
    price, review = (
        SourceFacts(item_id="k2", price=Decimal("49.90"), currency="EUR", rating=4.5, ratings=8),
        SourceFacts(item_id="k2", rating=2.0, helpful_votes=12),
    )
    sources = [
        SOURCE.model_copy(update={"n": 1, "document_id": "k2", "facts": price}),
        SOURCE.model_copy(update={"n": 2, "document_id": "r1", "facts": review}),
    ]
    print_sources(printer.terminal, sources, cited=[1], base_url="")
    assert "k2, 49.90 EUR, 4.5 of 5 stars of 8 ratings\n" in written.getvalue()
    assert "r1, 2 of 5 stars, 12 found it helpful\n" in written.getvalue()
