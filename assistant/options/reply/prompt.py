"""Makes the prompt of a reply from the lines of an answer.

A line is a unit of a document as three lines of text: its title, its heading path, its text. ``check`` and
``judge`` read the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant.answer.excerpts import shown_title
from assistant.answer.prompt import fill_slots, load_prompt, neutralise, quoted
from assistant.domain.answers import AnswerRecord, QuotedUnit
from assistant.stores.ports import ChatMessage, DocumentTexts

PACKAGE = "assistant.options.reply"
"""Where the prompt files are."""
PROMPT = "reply/1"
"""The prompt file. It has the slots question, lines, tone, style, before, live and draft, and a section for
each style."""


async def read_lines(
    record: AnswerRecord, units: Sequence[QuotedUnit], *, texts: DocumentTexts, labels: frozenset[str]
) -> list[str] | None:
    """Return each unit as "title\\nheading\\ntext"; None where one was withdrawn or is not open to these
    access labels. Raises DependencyError."""
    titles = {use.document_id: shown_title(use.title) for use in record.passages}
    lines: list[str] = []
    for unit in units:
        parsed = await texts.read(unit.document_id, unit.content_hash, labels=labels)
        if parsed is None:
            return None
        start, end = unit.span
        heading = next((known.heading for known in parsed.units if known.span.start == start), "")
        lines.append(f"{titles.get(unit.document_id, '')}\n{heading}\n{parsed.text[start:end]}")
    return lines


def reply_messages(
    question: str, lines: Sequence[str], *, tone: str, style: str | None = None, **more: str
) -> tuple[ChatMessage, ChatMessage]:
    """Return the system and the user message for a reply.

    ``lines``: of ``read_lines``. ``tone``: the tenant's, in words. ``style``: name of a section of the prompt
    file; None: the usual one. ``more``: texts for the slots ``before``, ``live`` and ``draft``, already
    neutralised, which are empty otherwise.
    """
    template = load_prompt(PROMPT, PACKAGE)
    slots = {
        **dict.fromkeys(("before", "live", "draft"), ""),
        **more,
        "tone": tone,
        "question": neutralise(question),
        "lines": "\n".join(f"- {line}" for line in map(shown_line, lines)),
        "style": f"{template.more[style]}\n\n" if style else "",
    }
    return ChatMessage("system", template.system), ChatMessage("user", fill_slots(template, slots))


def shown_line(line: str) -> str:
    """Return a line as a model reads it, with the last heading, or else the title, before its text:
    "By mail: Mail order refills are payable on day 68."."""
    title, heading, text = line.split("\n", 2)
    above = heading.rpartition(" > ")[2] or title
    return f"{quoted(above)}: {quoted(text)}" if above else quoted(text)
