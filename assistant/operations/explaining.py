"""How an answer came about: both legs with raw scores, fused rank, gate, prompt, time per step."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from assistant.domain.answers import AnswerRecord, GateDecision, PassageUse
from assistant.operations.terminal import Terminal, plain, styled


def explain(terminal: Terminal, record: AnswerRecord) -> None:
    """Print what the record says of retrieval, gate, prompt, model and time."""
    terminal.out.print()
    if record.retrieval_question != record.question:
        _fact(terminal, "retrieved as", record.retrieval_question)
    terminal.out.print(_passages(record))
    _fact(terminal, "gate", _gate_in_words(record.gate))
    _fact(terminal, "prompt", f"{record.prompt_id}, SHA-256 {record.prompt_hash or 'none'}")
    if record.dropped_passages:
        _fact(terminal, "", f"{record.dropped_passages} passages left out for want of room")
    _fact(terminal, "model", f"{record.model_id}, SHA-256 {record.model_digest or 'not known'}")
    parameters = ", ".join(f"{name} {value}" for name, value in record.parameters.items())
    _fact(terminal, "parameters", parameters or "none")
    _fact(terminal, "index", record.index_version)
    _fact(terminal, "settings", f"SHA-256 {record.settings_hash}")
    _fact(terminal, "tokens", f"{record.usage.prompt_tokens} in, {record.usage.completion_tokens} out")
    if record.removed_markers:
        _fact(terminal, "taken out", " ".join(record.removed_markers))
    terminal.out.print(_timings(record))


def _passages(record: AnswerRecord) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("n", "fused", "score", "BM25", "score", "vector", "cosine"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("prompt", no_wrap=True)
    table.add_column("passage", overflow="fold")
    for use in record.passages:
        table.add_row(*_passage_cells(use))
    return table


def _passage_cells(use: PassageUse) -> list[Text | str]:
    return [
        Text(str(use.n), style="cyan"),
        f"#{use.rank}",
        f"{use.fused_score:.4f}",
        _rank(use.lexical_rank),
        _score(use.lexical_score, digits=2),
        _rank(use.vector_rank),
        _score(use.cosine, digits=3),
        "read" if use.in_prompt else "",
        plain(use.passage_id),
    ]


def _rank(rank: int | None) -> str:
    return "-" if rank is None else f"#{rank}"


def _score(score: float | None, *, digits: int) -> str:
    return "-" if score is None else f"{score:.{digits}f}"


def _gate_in_words(gate: GateDecision | None) -> str:
    if gate is None:
        return "not reached"
    missing = f"; not found: {', '.join(gate.missing_terms)}" if gate.missing_terms else ""
    return (
        f"{'passed' if gate.passed else 'closed'}: best cosine {gate.best_cosine:.3f} and "
        f"{gate.coverage:.0%} of the question's terms, on a line through {gate.min_cosine:.3f} and "
        f"{gate.min_coverage:.0%}{missing}"
    )


def _timings(record: AnswerRecord) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=10)
    table.add_column()
    table.add_column(justify="right")
    for index, (step, milliseconds) in enumerate(record.timings_ms.items()):
        table.add_row(Text("time" if index == 0 else "", style="bold"), step, f"{milliseconds:.1f} ms")
    return table


def _fact(terminal: Terminal, name: str, value: str) -> None:
    terminal.out.print(styled((f"{name:<11}", "bold"), (value, "")))
