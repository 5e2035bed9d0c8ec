"""Signals of agents, and the sets that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assistant.domain.answers import VerdictLabel
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.events import (
    Edit,
    FeedbackEvent,
    FeedbackKind,
    FeedbackText,
    ReplacedText,
    ShownDocument,
)
from assistant.options.desk.section import FeedbackSection
from assistant.options.models_lab.training_sets import Sets, build_sets, export_of_sets
from assistant.stores.ports import ChatMessage
from tests.options.desk.moving import tenant

START = datetime(2026, 3, 1, tzinfo=UTC)
DRAFT = "Keep the parcel in the refrigerator and call the pharmacist on duty today."
BETTER = "Do not use it. We replace a warm insulin parcel free of charge within one day."


class Finder:
    """Replaces one name, as an improved filter would."""

    def replace(self, text: str) -> ReplacedText:
        count = text.count("Mrs. Ivanova")
        return ReplacedText(text.replace("Mrs. Ivanova", "<NAME>"), {"NAME": count} if count else {}, ())


def unique_id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Signals:
    """Events with their texts, in the order in which they are added."""

    def __init__(self) -> None:
        self.events: list[FeedbackEvent] = []
        self.texts: dict[str, FeedbackText] = {}

    def add(
        self,
        answer_id: str,
        kind: FeedbackKind,
        question: str = "The insulin parcel arrived warm, what now?",
        *,
        document: str = "cold-chain",
        words: Mapping[str, Any] | None = None,
        is_quoted: bool = True,
        **more: Any,
    ) -> Signals:
        number = len(self.events)
        text_id = unique_id("text", number)
        shown = ShownDocument(
            document_id=document, position=1, score=1.0, features={}, is_listed=True, is_quoted=is_quoted
        )
        self.events.append(
            FeedbackEvent(
                event_id=unique_id("event", number),
                kind=kind,
                at=START + timedelta(hours=number),
                tenant="pharmacy",
                answer_id=answer_id,
                conversation="0" * 32,
                agent=f"{number:032x}",
                asked_at=START,
                documents=(shown,),
                prompt_id="answer/1",
                model_id="m",
                index_version="1",
                settings_hash="s",
                text_id=text_id,
                **more,
            )
        )
        self.texts[text_id] = FeedbackText(question=question, shown=DRAFT, **(words or {}))
        return self

    def good(self, answer_id: str, *args: Any, **more: Any) -> Signals:
        return self.add(answer_id, FeedbackKind.VERDICT, *args, label=VerdictLabel.GOOD, **more)

    def bad(self, answer_id: str, *args: Any, **more: Any) -> Signals:
        return self.add(answer_id, FeedbackKind.VERDICT, *args, label=VerdictLabel.BAD, **more)

    def sent(self, answer_id: str, text: str, *args: Any, **more: Any) -> Signals:
        distance = 0 if text == DRAFT else 5
        more = {"edit": Edit(distance=distance, words=15), "words": {"sent": text}} | more
        return self.add(answer_id, FeedbackKind.SENT, *args, **more)

    async def prompt_of(self, answer_id: str, question: str) -> tuple[ChatMessage, ...] | None:
        """Return a prompt whose sources hold all that was said; those of ``silent`` hold nothing."""
        if answer_id == "gone":
            return None
        own = [one for one in self.texts.values() if one.question == question] or self.texts.values()
        said = [text for one in own for text in (one.shown, one.sent, one.better_text) if text]
        sources = "" if answer_id == "silent" else "\n".join(said)
        return (ChatMessage("user", f"{sources}\n{question}"),)

    async def sets(self, approved: Sequence[ApprovedAnswer] = ()) -> Sets:
        return await build_sets(
            self.events, texts=self.texts, approved=approved, prompt_of=self.prompt_of, patients_data=Finder()
        )


def write(sets: Sets, folder: Path) -> Path:
    by = tenant(FeedbackSection(purpose="to improve the answers of all agents."), name="pharmacy")
    return export_of_sets(sets, tenant=by, window=(START, START + timedelta(days=7))).write(folder)
