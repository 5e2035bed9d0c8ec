from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest

from assistant.answer.events import (
    Checked,
    Done,
    ElementChanged,
    Problem,
    RedFlags,
    SentenceEnded,
    Sources,
    Started,
    Token,
    unchecked_notice,
)
from assistant.domain.answers import (
    AnswerRecord,
    CandidateDocument,
    Certainty,
    FinishReason,
    GateDecision,
    LiveMatch,
    LiveMatchState,
    Mode,
    Sentence,
    SentenceCheck,
    Source,
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
from assistant.terminal.answer_view import AnswerPrinter, Replayed, explain, show_replayed
from assistant.terminal.terminal import Terminal
from tests.contracts.samples import answer

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


def test_a_message_in_a_language_without_red_flags_has_the_notice_in_their_place(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(STARTED.model_copy(update={"unchecked_language": "es"}))
    notice, said = unchecked_notice("es"), "The model has read it, and names no emergency."
    assert " ".join(written.getvalue().split()) == notice
    printer.show(RedFlags(red_flags=()))  # the model's reading has come
    assert " ".join(written.getvalue().split()) == f"{notice} {said}"


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


def test_no_evidence_is_said_so(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(Sources(sources=(SOURCE,)))
    ending = done(FinishReason.NO_EVIDENCE, detail="Not in the knowledge base. Nothing speaks of “x”.")
    printer.show(ending.model_copy(update={"escalation": "Claims Desk, ext. 4100"}))
    said = "Not in the knowledge base. Nothing speaks of “x”.\nAsk: Claims Desk, ext. 4100\n"
    assert written.getvalue().startswith(said)
    assert "Looked at" in written.getvalue()


def quoted(**changes: Any) -> Done:
    """Return the end of a quoted answer."""
    return done(FinishReason.STOP).model_copy(update={"mode": Mode.QUOTED} | changes)


def test_an_answer_of_live_values_alone_is_not_called_a_quote(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    printer.show(Sources(sources=(SOURCE,)))
    printer.show(Token("[order status]"))
    printer.show(ready("Shipped", span=(0, 14)))
    printer.show(quoted())
    said = written.getvalue()
    assert "Live values; no document is quoted\n" in said
    assert "word for word" not in said
    assert "Sources" not in said


def test_an_uncertain_answer_says_so_and_whom_to_ask(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(quoted(mode=Mode.WRITTEN, certainty=Certainty.POSSIBLY, escalation="Team Lead, ext. 1"))
    assert "Not certain: check before you send.\n" in written.getvalue()
    assert "Ask: Team Lead, ext. 1\n" in written.getvalue()


def test_a_check_names_the_sentences_that_are_not_held(printer: AnswerPrinter, written: io.StringIO) -> None:
    printer.show(Token("Wait."))
    printer.show(sentence(end=5))
    printer.show(done(FinishReason.STOP).model_copy(update={"mode": Mode.WRITTEN, "check_follows": True}))
    assert "Not checked" not in written.getvalue()
    verdict = SentenceCheck(index=0, verdict="opposite", words="Wait")
    printer.show(Checked(by="qwen", sentences=(verdict,)))
    assert "A line says otherwise (Wait): Wait." in written.getvalue()


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


# --- live elements --------------------------------------------------------------------------------------
STEP = "Read the status: [order status]"
LABEL = (STEP.index("["), len(STEP))
AT = datetime(2026, 11, 20, 14, 2, tzinfo=UTC)
TIME = f"{AT.astimezone():%H:%M}"


def element(
    state: ElementState = ElementState.PENDING,
    *,
    span: tuple[int, int] = LABEL,
    element_id: str = "e1",
    **fields: Any,
) -> ElementChanged:
    return ElementChanged(
        **{
            "id": element_id,
            "name": "orders.status",
            "kind": ElementKind.STATUS,
            "state": state,
            "title": "Order status",
            "source": "orders",
            "display": ElementDisplay(place="inline", start=span[0], end=span[1]),
            **fields,
        }
    )


def ready(text: str, **fields: Any) -> ElementChanged:
    data = ElementData(values=(ElementValue(name="status", label="Status", text=text),))
    return element(ElementState.READY, **{"data": data, "as_of": AT, **fields})


def failed(problem: ElementProblem, **fields: Any) -> ElementChanged:
    return element(ElementState.FAILED, problem=problem, **fields)


DONE = done(FinishReason.STOP)


def test_a_value_takes_the_place_of_its_label(printer: AnswerPrinter, written: io.StringIO) -> None:
    for event in (Token(STEP), sentence(end=len(STEP), citations=(1,)), element()):
        printer.show(event)
    printer.show(Token(" Then wait"))
    printer.show(sentence(end=len(STEP) + 10))
    printer.show(ready("Delayed", about="order 4471-2208"))

    assert written.getvalue() == "", "from the first label on, text waits for the answer's end"
    printer.show(DONE)
    filled = f"Read the status: Delayed (orders, {TIME}, order 4471-2208) [1] Then wait\n"
    assert written.getvalue().startswith(filled)


@pytest.mark.parametrize(
    ("problem", "fields", "shown"),
    [
        (ElementProblem.SYSTEM_UNAVAILABLE, {}, "orders did not answer"),
        (
            ElementProblem.PARAMETER_MISSING,
            {"detail": "Give the {order} number."},
            "Give the {order} number.",
        ),
    ],
)
def test_what_failed_says_why_beside_its_label(
    printer: AnswerPrinter,
    written: io.StringIO,
    problem: ElementProblem,
    fields: dict[str, str],
    shown: str,
) -> None:
    for event in (Token(STEP), element(), failed(problem, **fields), DONE):
        printer.show(event)

    assert f"{STEP} ({shown})\n" in written.getvalue()


def test_untrusted_values_stay_on_their_line_and_steer_nothing(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    for event in (Token(STEP), element(), ready("Free\n\x1b[2J**[1]** [red]"), DONE):
        printer.show(event)

    assert "Read the status: Free \N{REPLACEMENT CHARACTER}[2J**[1]** [red] (orders" in written.getvalue()


# --- records --------------------------------------------------------------------------------------------
FIRST_SCHEMA = answer().model_copy(
    update={
        "schema_version": 1,
        "prompt_hash": "0" * 64,
        "sentences": (
            Sentence(
                index=0,
                start=0,
                end=10,
                citations=(),
                support=Support.UNSUPPORTED,
                reasons=("number_not_in_passage",),
            ),
        ),
        "gate": GateDecision(
            passed=True,
            best_cosine=0.61,
            coverage=0.75,
            min_cosine=0.2,
            min_coverage=0.4,
            missing_terms=("x",),
        ),
    }
)
QUOTED = answer().model_copy(
    update={
        "candidates": tuple(
            CandidateDocument(document_id=f"d{n}", score=9.5 - n, features={"title_cosine": 0.61})
            for n in range(7)
        ),
        "weights": {"ranker": "b" * 64},
        "live_matches": (
            LiveMatch(
                element="orders.refill",
                state=LiveMatchState.NOT_ABOUT,
                cosine=0.6,
                least=0.56,
                against=0.65,
                unknown_words=2,
                example="May she refill it?",
            ),
        ),
    }
)


def test_a_quoted_answer_is_explained_by_what_decided_it(terminal: Terminal, written: io.StringIO) -> None:
    explain(terminal, QUOTED)
    shown = [" ".join(line.split()) for line in written.getvalue().splitlines()]
    for line in ("candidates", "d0 9.5 title_cosine 0.61", "more 2: --json", "model not asked"):
        assert line in shown
    assert f"weights ranker {'b' * 64}" in shown
    assert "a question that no element answers is as near" in written.getvalue()


def test_a_record_of_the_first_schema_is_explained(terminal: Terminal, written: io.StringIO) -> None:
    explain(terminal, AnswerRecord.model_validate_json(FIRST_SCHEMA.model_dump_json()))
    shown = written.getvalue()
    assert "min_cosine 0.2\n" in shown
    assert "missing_terms x\n" in shown
    assert "candidates" not in shown


@pytest.mark.parametrize("record", [FIRST_SCHEMA, QUOTED], ids=["schema 1", "schema 2"])
def test_a_record_is_replayed(terminal: Terminal, written: io.StringIO, record: AnswerRecord) -> None:
    show_replayed(terminal, Replayed(record, (), ()))
    shown = written.getvalue()
    assert shown.startswith("When may it be refilled?\n")
    assert "On day 24." in shown
    assert ("a number that its source does not have" in shown) is (record.schema_version == 1)
