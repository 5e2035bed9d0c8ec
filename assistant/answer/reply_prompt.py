"""What a model reads for a reply: the lines of an answer, below what they stand under."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.answer.excerpts import shown_title
from assistant.answer.prompt import fill_slots, load_prompt, neutralise, quoted
from assistant.domain.answers import AnswerRecord, QuotedUnit
from assistant.stores.ports import ChatMessage, DocumentTexts

PROMPT = "reply/1"


async def read_lines(
    record: AnswerRecord, units: Sequence[QuotedUnit], *, texts: DocumentTexts, labels: frozenset[str]
) -> list[str] | None:
    """Return each unit's text below its title and heading; None where one is gone. Raises DependencyError."""
    titles = {use.document_id: shown_title(use.title) for use in record.passages}
    lines: list[str] = []
    for unit in units:
        parsed = await texts.read(unit.document_id, unit.content_hash, labels=labels)
        if parsed is None:
            return None
        start, end = unit.span
        heading = next((one.heading for one in parsed.units if one.span.start == start), "")
        lines.append(f"{titles.get(unit.document_id, '')}\n{heading}\n{parsed.text[start:end]}")
    return lines


def reply_messages(
    question: str, lines: Sequence[str], *, tone: str, style: str | None = None, **more: str
) -> tuple[ChatMessage, ChatMessage]:
    """Return what a model reads for a reply. ``lines``: of ``read_lines``. ``more``: the slots ``before``,
    ``live`` and ``draft``, where there is something."""
    template = load_prompt(PROMPT)
    slots = {
        **dict.fromkeys(("before", "live", "draft"), ""),
        **more,
        "tone": tone,
        "question": neutralise(question),
        "lines": "\n".join(f"- {one}" for one in map(shown_line, lines)),
        "style": f"{template.more[style]}\n\n" if style else "",
    }
    return ChatMessage("system", template.system), ChatMessage("user", fill_slots(template, slots))


def shown_line(line: str) -> str:
    """Return a line of a document below what it stands under: the last heading, or the title."""
    title, heading, text = line.split("\n", 2)
    above = heading.rpartition(" > ")[2] or title
    return f"{quoted(above)}: {quoted(text)}" if above else quoted(text)
