"""Makes the prompt of a reply from the lines of an answer.

A line is a unit of a document below its title and its heading path; ``check`` reads the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant.answer.check_model import SourceLine, shown_lines
from assistant.answer.excerpts import shown_title
from assistant.answer.prompt import fill_slots, load_prompt
from assistant.answer.quoting import neutralise
from assistant.domain.answers import AnswerRecord, QuotedUnit
from assistant.stores.ports import ChatMessage, DocumentTexts

PACKAGE = "assistant.options.reply"
"""Where the prompt files are."""
PROMPT = "reply/3"
"""The prompt file, with a section for each style."""


async def read_lines(
    record: AnswerRecord, units: Sequence[QuotedUnit], *, texts: DocumentTexts, labels: frozenset[str]
) -> list[SourceLine] | None:
    """Return each unit as a line; None where one was withdrawn or is not open to these
    access labels. Raises DependencyError."""
    titles = {use.document_id: shown_title(use.title) for use in record.passages}
    lines: list[SourceLine] = []
    for unit in units:
        parsed = await texts.read(unit.document_id, unit.content_hash, labels=labels)
        if parsed is None:
            return None
        start, end = unit.span
        heading = next((known.heading for known in parsed.units if known.span.start == start), "")
        lines.append(SourceLine(titles.get(unit.document_id, ""), heading, parsed.text[start:end]))
    return lines


def reply_messages(
    conversation: str,
    answer: str,
    lines: Sequence[SourceLine],
    *,
    tone: str,
    language: str,
    style: str | None = None,
    **more: str,
) -> tuple[ChatMessage, ChatMessage]:
    """Return the system and the user message for a reply.

    ``conversation``: its block. ``answer``: what the agent reads; empty where nothing answers. ``tone``: the
    tenant's, in words. ``language``: ISO 639-1 code of the reply's. ``style``: name of a section of the
    prompt file; None: the usual one. ``more``: texts for the slots ``emergency``, ``live`` and ``draft``,
    already neutralised, which are empty otherwise.
    """
    template = load_prompt(PROMPT, PACKAGE)
    slots = {
        **dict.fromkeys(("emergency", "live", "draft"), ""),
        **more,
        "tone": tone,
        "conversation": conversation,
        "answer": neutralise(answer) or "The documents do not answer this question.",
        "lines": shown_lines(lines, numbered=False) or "(none)",
        "style": f"{template.more[style]}\n\n" if style else "",
    }
    system = template.system.replace("{{language}}", language)
    return ChatMessage("system", system), ChatMessage("user", fill_slots(template, slots))
