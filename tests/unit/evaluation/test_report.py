from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

from assistant.evaluation.questions import (
    EvaluationQuestion,
    PartResult,
    QuestionResult,
    QuotedUnit,
    RankedCandidate,
    ShownQuote,
)
from assistant.evaluation.report import report_page
from assistant.evaluation.runs import Bounds, Run
from tests.unit.evaluation.results import HELD_OUT, question, result, run, unanswerable


def page(*results: QuestionResult, against: Run | None = None) -> str:
    return report_page(kept(*results), bounds={"pharmacy": Bounds(least={"right": 0.6})}, against=against)


def kept(*results: QuestionResult) -> Run:
    return Run(name="monday", made_at=datetime(2026, 1, 1, tzinfo=UTC), tenants=(run(*results),))


def quoted(asked: EvaluationQuestion) -> QuestionResult:
    units = (
        QuotedUnit(heading="Steps", text="Within 7 days.", is_gold=True, is_key=True, holds=("7 days",)),
        QuotedUnit(heading="Steps", text="Within 2 days.", is_gold=False, is_key=False, telltale=("2 days",)),
    )
    part = PartResult(
        searched=asked.question,
        is_found=True,
        best_cosine=0.75,
        quote=ShownQuote(document_id=HELD_OUT, title="Parcel", units=units),
        also=None,
        ranking=(
            RankedCandidate(
                document_id=HELD_OUT, title="Parcel", score=2.0, is_right=True, features={"title_cosine": 0.5}
            ),
        ),
    )
    return result(asked, parts=(part,), telltale=1.0)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
            if name == "src" or tag in ("script", "link", "iframe", "img"):
                self.loads.append(tag)


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


def test_every_question_has_its_place() -> None:
    reader = read(page(*(result(question(f"q{n}")) for n in range(7)), result(unanswerable("u"))))
    assert {f"q-pharmacy-q{n}" for n in range(7)} | {"q-pharmacy-u"} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))


def test_the_page_loads_nothing_and_its_links_lead_into_it() -> None:
    html = page(result(question("a"), right=0.0), result(unanswerable("u"), is_found=True))
    reader = read(html)
    assert reader.loads == []
    assert reader.links
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert "url(" not in html


def test_a_question_shows_gold_quote_ranking_and_nearness() -> None:
    html = page(
        quoted(question("a", gold=("Within 7 days.",), answer_contains=("7 days",), telltale=("2 days",)))
    )
    for said in ("holds: 7 days", "other branch: 2 days", "title_cosine 0.5", "nearest 0.750", "marked"):
        assert said in html
    assert re.search(r'class="unit gold">.*?Within 7 days\.', html)
    assert re.search(r'class="unit wrong">.*?Within 2 days\.', html)


def test_what_people_wrote_is_not_markup() -> None:
    html = page(quoted(question("a", question="<script>alert(1)</script> & more")))
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html


def test_a_bound_that_is_missed_is_said() -> None:
    assert 'class="missed">missed' in page(result(right=0.0))
    assert 'class="met">met' in page(result())


def test_changes_against_another_run_are_listed() -> None:
    html = page(result(question("a"), right=0.0), against=kept(result(question("a"))))
    assert "found, right → found, wrong" in html
    assert "-1.000" in html
