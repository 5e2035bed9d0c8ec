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
PROMPT = "reply/4"
"""The prompt file, with a section for each style."""
_CHARACTERS_A_TOKEN = 4
"""By which a part of the context is counted before the model's tokenizer counts the whole prompt."""


async def read_lines(
    record: AnswerRecord,
    units: Sequence[QuotedUnit],
    *,
    texts: DocumentTexts,
    labels: frozenset[str],
    context_tokens: int,
) -> list[SourceLine] | None:
    """Return the lines of the documents that have these units: whole, since what a patient has to be told
    often stands below what an answer cites. Of a document that would take more than what is left of a third
    of the model's context, its sections with such units, else the units alone.

    None where one was withdrawn or is not open to these access labels. Raises DependencyError.
    """
    titles = {use.document_id: shown_title(use.title) for use in record.passages}
    cited: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for unit in units:
        cited.setdefault((unit.document_id, unit.content_hash), []).append(unit.span)
    lines, room = list[SourceLine](), context_tokens * _CHARACTERS_A_TOKEN // 3
    for (document_id, content_hash), spans in cited.items():
        parsed = await texts.read(document_id, content_hash, labels=labels)
        if parsed is None:
            return None
        headings = {unit.span.start: unit.heading for unit in parsed.units}
        held = [(headings.get(start, ""), parsed.text[start:end]) for start, end in spans]
        whole = [(unit.heading, unit.text) for unit in parsed.units]
        sections = [line for line in whole if line[0] in {heading for heading, _ in held}]
        fits = (part for part in (whole, sections) if part and sum(len(text) for _, text in part) <= room)
        kept = next(fits, held)
        room -= sum(len(text) for _, text in kept)
        lines += (SourceLine(titles.get(document_id, ""), heading, text) for heading, text in kept)
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
