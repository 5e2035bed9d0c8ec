"""The result of a comparison: a row for each candidate, and one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from statistics import median

from assistant.evaluation.questions import EvaluationQuestion
from assistant.evaluation.report import STYLE, html_table, label, line, share_x, svg
from assistant.tuning.comparison import AT_ONCE, Candidate, Measured, Stopped, wilson

_LEAST_TOKENS = 5
"""Of an answer whose speed counts."""
_ROW_PX = 22
_LEFT_PX, _WIDE_PX, _HIGH_PX = 60, 640, 260


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate's line of the table. None where nothing was measured."""

    candidate: Candidate
    asked: int
    right: float | None
    right_low: float
    right_high: float
    written: float | None
    """Share of its answers whose text a model wrote; the others fell back to quotes."""
    supported: float | None
    """Share of its sentences that the sources support."""
    refused_rightly: float | None
    """Share of the unanswerable questions that it refused."""
    refused_wrongly: float | None
    failed: int
    first_token_ms: float | None
    """Median, one question at a time."""
    first_token_ms_loaded: float | None
    """Median, eight at once."""
    tokens_per_s: float | None
    """Median over the answers of what the model wrote a second, one at a time; discarded drafts count."""
    tokens_per_s_loaded: float | None
    """Of all answers together, eight at once: tokens over an eighth of the answers' time."""
    usd_per_1000: float | None
    """Of 1,000 answers on an instance that answers eight at once all the time."""


def rows_of(
    candidates: Sequence[Candidate], measured: Sequence[Measured], questions: Sequence[EvaluationQuestion]
) -> list[Row]:
    """Return a row for each candidate, those with the most right answers first."""
    by_qid = {question.qid: question for question in questions}
    rows: list[Row] = []
    for candidate in candidates:
        own = [one for one in measured if one.digest == candidate.digest and one.qid in by_qid]
        alone = [one for one in own if one.at_once == 1]
        loaded = [one for one in own if one.at_once == AT_ONCE]
        answerable = [one for one in alone if by_qid[one.qid].answerable]
        others = [one for one in alone if not by_qid[one.qid].answerable]
        right = sum(one.right for one in answerable)
        low, high = wilson(right, len(answerable))
        sentences = sum(one.sentences for one in alone)
        busy_s = sum(one.total_ms for one in loaded) / 1000 / AT_ONCE
        rows.append(
            Row(
                candidate=candidate,
                asked=len(alone),
                right=_share(right, len(answerable)),
                right_low=low,
                right_high=high,
                written=_share(
                    sum(one.written for one in alone), sum(one.first_token_ms is not None for one in alone)
                ),
                supported=_share(sum(one.supported for one in alone), sentences),
                refused_rightly=_share(sum(one.outcome == "refused" for one in others), len(others)),
                refused_wrongly=_share(sum(one.outcome == "refused" for one in answerable), len(answerable)),
                failed=sum(one.outcome == "failed" for one in own),
                first_token_ms=_median([one.first_token_ms for one in alone]),
                first_token_ms_loaded=_median([one.first_token_ms for one in loaded]),
                tokens_per_s=_median([_own_speed(one) for one in alone]),
                tokens_per_s_loaded=_throughput(loaded, busy_s),
                usd_per_1000=_cost(candidate, busy_s, len(loaded)),
            )
        )
    return sorted(rows, key=lambda row: -(row.right or 0.0))


def _throughput(loaded: Sequence[Measured], busy_s: float) -> float | None:
    tokens = sum(one.model_tokens for one in loaded)
    return tokens / busy_s if tokens and busy_s else None


def _own_speed(measured: Measured) -> float | None:
    if measured.model_tokens < _LEAST_TOKENS or measured.model_ms <= 0:
        return None
    return (measured.model_tokens - 1) / (measured.model_ms / 1000)


def _cost(candidate: Candidate, busy_s: float, answers: int) -> float | None:
    if candidate.kind == "quoted":
        return 0.0  # the embedding endpoint is the same for all
    if candidate.usd_per_hour is None or not answers:
        return None
    return candidate.usd_per_hour * busy_s / 3600 / answers * 1000


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


HEADINGS = (
    "candidate",
    "right",
    "95 of 100",
    "written",
    "supported",
    "refused, rightly",
    "refused, wrongly",
    "failed",
    "first text ms",
    f"… {AT_ONCE} at once",
    "tokens/s",
    f"… {AT_ONCE} at once",
    "USD / 1,000",
    "asked",
)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as the table's texts, in the order of ``HEADINGS``."""
    return (
        row.candidate.name,
        _percent(row.right),
        f"{row.right_low:.0%} to {row.right_high:.0%}",
        _percent(row.written),
        _percent(row.supported),
        _percent(row.refused_rightly),
        _percent(row.refused_wrongly),
        str(row.failed),
        _number(row.first_token_ms),
        _number(row.first_token_ms_loaded),
        _number(row.tokens_per_s),
        _number(row.tokens_per_s_loaded),
        "" if row.usd_per_1000 is None else f"{row.usd_per_1000:.2f}",
        str(row.asked),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def comparison_page(
    rows: Sequence[Row], stopped: Sequence[Stopped], *, tenant: str, questions: int, made_at: datetime
) -> str:
    """Return the whole page."""
    out = "".join(f"<li>{escape(said(one))}</li>" for one in stopped)
    prices = "; ".join(
        f"{row.candidate.name}: {row.candidate.usd_per_hour:g} USD an hour"
        for row in rows
        if row.candidate.usd_per_hour is not None
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Comparison for {escape(tenant)}</title><style>\n"
        f"{STYLE.read_text(encoding='utf-8')}</style></head><body><h1>Comparison for {escape(tenant)}</h1>"
        f"<p class=dim>{made_at:%Y-%m-%d %H:%M} UTC · {questions} questions, the same for all, in one random "
        f"order; then {AT_ONCE} at once. Right: holds what a right answer holds and nothing of the other "
        "branch, whether a model wrote it or it fell back to quotes.</p>"
        f"{html_table(HEADINGS, map(cells, rows))}"
        f"<h3>Right answers, with 95 of 100 intervals</h3>{_right_plot(rows)}"
        f"<h3>Right answers against the time to the first text</h3>{_trade_plot(rows)}"
        f"<h3>Stopped early</h3><ul>{out or '<li>none</li>'}</ul>"
        f"<p class=dim>Cost: the instance that serves the model, busy with {AT_ONCE} answers at once all the "
        f"time; not the rest of the tenant. {escape(prices) or 'No price was given.'}</p></body></html>\n"
    )


def said(stopped: Stopped) -> str:
    """Return in a sentence why a candidate was stopped."""
    return (
        f"{stopped.candidate} after {stopped.after} questions: at most {stopped.high:.0%} right, "
        f"{stopped.leader} at least {stopped.leader_low:.0%}"
    )


def _right_plot(rows: Sequence[Row]) -> str:
    drawn: list[str] = []
    for at, row in enumerate(rows):
        y = at * _ROW_PX + 14
        drawn.append(label(row.candidate.name, y))
        drawn.append(line(share_x(row.right_low), y, share_x(row.right_high), y, "interval"))
        if row.right is not None:
            drawn.append(f'<circle class="held" cx="{share_x(row.right)}" cy="{y}" r="4"/>')
    return svg(drawn, height=len(rows) * _ROW_PX + 24, axis=True)


def _trade_plot(rows: Sequence[Row]) -> str:
    """Return a point for each candidate: time to the first text to the right, right answers upwards."""
    shown = [(row, row.right, row.first_token_ms) for row in rows]
    points = [(row, right, first) for row, right, first in shown if right is not None and first is not None]
    longest = max((first for _, _, first in points), default=1.0) or 1.0
    bottom = _HIGH_PX - 30
    drawn = [
        line(_LEFT_PX, bottom, _LEFT_PX + _WIDE_PX, bottom, "grid"),
        line(_LEFT_PX, 10, _LEFT_PX, bottom, "grid"),
        f'<text x="{_LEFT_PX - 8}" y="14" text-anchor="end">100 %</text>',
        f'<text x="{_LEFT_PX - 8}" y="{bottom}" text-anchor="end">0 %</text>',
        f'<text x="{_LEFT_PX + _WIDE_PX}" y="{_HIGH_PX - 8}" text-anchor="end">{longest:.0f} ms</text>',
    ]
    for row, right, first in points:
        x = _LEFT_PX + _WIDE_PX * first / longest
        y = bottom - (bottom - 10) * right
        anchor, shift = ("end", -8) if first > longest / 2 else ("start", 8)
        drawn.append(f'<circle class="held" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        drawn.append(
            f'<text x="{x + shift:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">'
            f"{escape(row.candidate.name)}</text>"
        )
    return svg(drawn, height=_HIGH_PX, axis=False)
