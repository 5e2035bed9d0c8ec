"""Live elements on the terminal: values in place of labels, what failed, and what comes late."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import Any

import pytest

from assistant.answering.events import Done, ElementChanged, SentenceEnded, Token
from assistant.cli.answer_view import AnswerPrinter
from assistant.domain.answers import FinishReason, Support, Usage
from assistant.domain.elements import (
    ElementData,
    ElementDisplay,
    ElementKind,
    ElementProblem,
    ElementRow,
    ElementState,
    ElementValue,
)

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


def sentence(end: int, *, citations: tuple[int, ...] = (1,)) -> SentenceEnded:
    return SentenceEnded(
        index=0, start=0, end=end, citations=citations, support=Support.SUPPORTED, reasons=()
    )


DONE = Done(finish_reason=FinishReason.STOP, citations=(), usage=Usage(), timings_ms={})


def test_a_value_takes_the_place_of_its_label(printer: AnswerPrinter, written: io.StringIO) -> None:
    for event in (Token(STEP), sentence(len(STEP)), element()):
        printer.show(event)
    before = written.getvalue()
    printer.show(ready("Delayed", about="order 4471-2208"))

    assert before == ""
    printer.show(Token(" Then wait"))
    printer.show(sentence(len(STEP) + 10, citations=()))
    assert written.getvalue() == f"Read the status: Delayed (orders, {TIME}, order 4471-2208) [1] Then wait"


def test_brackets_that_are_no_label_are_text_after_the_next_token(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    for event in (Token("Use form [AR-1] here"), sentence(20), Token(" and sign")):
        printer.show(event)

    assert written.getvalue() == "Use form [AR-1] here [1]"


def test_text_waits_for_a_value_until_the_answer_ends(printer: AnswerPrinter, written: io.StringIO) -> None:
    text = f"{STEP} Then wait here"
    for event in (Token(STEP), element(), Token(" Then wait here"), sentence(len(text), citations=())):
        printer.show(event)
    assert written.getvalue() == ""

    printer.show(DONE)
    assert f"{text}\n  Order status: " in written.getvalue()


@pytest.mark.parametrize(
    ("problem", "fields", "shown"),
    [
        (ElementProblem.SYSTEM_UNAVAILABLE, {}, "orders did not answer"),
        (ElementProblem.SYSTEM_LATE, {}, "orders did not answer in time"),
        (ElementProblem.SWITCHED_OFF, {}, "orders is switched off"),
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


def test_cards_tables_and_links_fit_a_line(printer: AnswerPrinter, written: io.StringIO) -> None:
    values = tuple(
        ElementValue(name=name, label=label, text=text)
        for name, label, text in (
            ("status", "Status", "Delayed"),
            ("promised", "Promised for", "Nov 18, 2026"),
        )
    )
    row = ElementRow(title="metformin", values=(ElementValue(name="days", label="", text="90 days"),))
    columns = (ElementValue(name="days", label="Supply", text=""),)
    card = ElementData(values=values)
    table = ElementData(columns=columns, rows=(row,))
    link = ElementData(values=values[:1], url="https://track.example.com/1")
    for event in (
        Token("Now: [a] [b] [c]"),
        ready("", element_id="e1", span=(5, 8), kind=ElementKind.CARD, data=card),
        ready(
            "", element_id="e2", span=(9, 12), kind=ElementKind.TABLE, data=table, as_of=date(2026, 11, 20)
        ),
        ready("", element_id="e3", span=(13, 16), kind=ElementKind.LINK, data=link),
        DONE,
    ):
        printer.show(event)

    assert (
        f"Now: Status Delayed · Promised for Nov 18, 2026 (orders, {TIME}) "
        "metformin: Supply 90 days (orders, 2026-11-20) "
        f"Delayed · https://track.example.com/1 (orders, {TIME})\n"
    ) in written.getvalue()


def test_untrusted_values_stay_on_their_line_and_steer_nothing(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    for event in (Token(STEP), element(), ready("Free\n\x1b[2J**[1]** [red]"), DONE):
        printer.show(event)

    assert "Read the status: Free \N{REPLACEMENT CHARACTER}[2J**[1]** [red] (orders" in written.getvalue()


def test_an_element_without_a_place_in_the_text_is_below_it(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    for event in (Token("Wait two days."), sentence(14), ready("Delayed", span=(14, 14)), DONE):
        printer.show(event)

    assert f"Wait two days. [1]\n  Order status: Delayed (orders, {TIME})\n" in written.getvalue()


def test_a_table_without_a_place_in_the_text_is_a_table_below_it(
    printer: AnswerPrinter, written: io.StringIO
) -> None:
    columns = tuple(ElementValue(name=one, label=one.title(), text="") for one in ("noise", "price"))
    rows = (
        ElementRow(title="Breeze 500", values=(ElementValue(name="price", label="", text="$130.00"),)),
        ElementRow(title="Haze 300", values=(ElementValue(name="noise", label="", text="43 dB"),)),
    )
    shown = ready("", span=(6, 6), kind=ElementKind.TABLE, data=ElementData(columns=columns, rows=rows))
    for event in (Token("Two."), shown, DONE):
        printer.show(event)

    lines = [" ".join(line.split()) for line in written.getvalue().splitlines()]
    at = lines.index(f"Order status (orders, {TIME})")
    assert lines[at + 1 : at + 4] == ["Noise Price", "Breeze 500 $130.00", "Haze 300 43 dB"]


@pytest.mark.parametrize(("said", "tables"), [("- Price: $130.00", 0), ("- Price: $129.00", 1)])
def test_a_table_whose_words_are_printed_is_not_printed_again(
    printer: AnswerPrinter, written: io.StringIO, said: str, tables: int
) -> None:
    text = f"**Breeze 500**\n\n{said}"
    value = ElementValue(name="price", label="Price", text="$130.00")
    data = ElementData(columns=(value,), rows=(ElementRow(title="Breeze 500", values=(value,)),))
    shown = ready("", span=(0, len(text)), kind=ElementKind.TABLE, data=data, title="Items compared")
    for event in (Token(text), shown, DONE):
        printer.show(event)

    assert written.getvalue().count("Items compared") == tables
