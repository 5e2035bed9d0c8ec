"""The report's plots as inline SVG. No library that is locked here draws; three marks do not need one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from assistant.evaluation.measures import MEASURES, Estimate, Spread
from assistant.evaluation.results import QuestionResult

_LABEL_PX, _PLOT_PX, _ROW_PX = 330, 420, 20
_BINS = 20


def interval_plot(
    held_out: Mapping[str, Estimate], tuning: Mapping[str, Estimate], asked: Mapping[str, float]
) -> str:
    """Return a row for each share: value and interval of the held-out half, the tuning half, the bound."""
    shown = [one for one in MEASURES if one.name in held_out and not one.zero_within]
    rows: list[str] = []
    for at, measure in enumerate(shown):
        y = at * _ROW_PX + 14
        one, other = held_out[measure.name], tuning.get(measure.name)
        rows.append(_label(measure.title, y))
        rows.append(_line(_x(one.low), y, _x(one.high), y, "interval"))
        if other is not None:
            rows.append(f'<circle class="tuning" cx="{_x(other.value)}" cy="{y}" r="3.5"/>')
        rows.append(f'<circle class="held" cx="{_x(one.value)}" cy="{y}" r="4"/>')
        if measure.name in asked:
            at_bound = _x(asked[measure.name])
            rows.append(_line(at_bound, y - 8, at_bound, y + 8, "bound"))
    return _svg(rows, height=len(shown) * _ROW_PX + 24, axis=True)


def gate_plot(results: Sequence[QuestionResult], *, answered_from: float, possibly_from: float) -> str:
    """Return a histogram of the gate's probability: answerable questions upwards, unanswerable downwards."""
    counts = {True: [0] * _BINS, False: [0] * _BINS}
    for result in results:
        bin_ = min(_BINS - 1, int(result.probability * _BINS))
        counts[result.question.answerable][bin_] += 1
    most = max(1, *counts[True], *counts[False])
    width = _PLOT_PX / _BINS
    middle = 90
    rows: list[str] = []
    for answerable, style in ((True, "answerable"), (False, "unanswerable")):
        for at, count in enumerate(counts[answerable]):
            height = 76 * count / most
            top = middle - height if answerable else middle
            rows.append(
                f'<rect class="{style}" x="{_LABEL_PX + at * width + 1:.1f}" y="{top:.1f}" '
                f'width="{width - 2:.1f}" height="{height:.1f}"><title>{count}</title></rect>'
            )
    rows += [_label("answerable", middle - 30), _label("unanswerable", middle + 40)]
    for threshold in (possibly_from, answered_from):
        rows.append(_line(_x(threshold), 8, _x(threshold), 172, "bound"))
    return _svg(rows, height=190, axis=True)


def latency_plot(spreads: Mapping[str, Spread]) -> str:
    """Return a bar to the 95th percentile and a mark at the median for each step, in milliseconds."""
    longest = max((one.p95 for one in spreads.values()), default=1.0) or 1.0
    rows: list[str] = []
    for at, (step, one) in enumerate(spreads.items()):
        y = at * _ROW_PX + 14
        rows.append(_label(f"{step}: {one.p50:g} / {one.p95:g} ms", y))
        rows.append(
            f'<rect class="answerable" x="{_LABEL_PX}" y="{y - 6}" height="12" '
            f'width="{_PLOT_PX * one.p95 / longest:.1f}"/>'
        )
        median = _LABEL_PX + _PLOT_PX * one.p50 / longest
        rows.append(_line(median, y - 7, median, y + 7, "interval"))
    return _svg(rows, height=len(spreads) * _ROW_PX + 10, axis=False)


def _x(value: float) -> float:
    return round(_LABEL_PX + _PLOT_PX * min(1.0, max(0.0, value)), 1)


def _label(text: str, y: float) -> str:
    return f'<text x="{_LABEL_PX - 10}" y="{y + 4}" text-anchor="end">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}"/>'


def _svg(rows: Sequence[str], *, height: float, axis: bool) -> str:
    marks: list[str] = []
    if axis:
        for tenth in range(0, 11, 2):
            x = _x(tenth / 10)
            marks.append(_line(x, 0, x, height - 16, "grid"))
            marks.append(f'<text x="{x}" y="{height - 3}" text-anchor="middle">{tenth / 10:g}</text>')
    width = _LABEL_PX + _PLOT_PX + 20
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join((*marks, *rows))}</svg>'
