"""The trial that measures suggestions (``run = "suggestions"`` of a figure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assistant.answer.answer import AnswerQuestion
from assistant.answer.services import TenantServices
from assistant.domain.answers import ChatTurn
from assistant.domain.clock import Deadline
from assistant.domain.identity import Identity, Role
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import load_rows
from assistant.evaluation.trials import Trial, silent
from assistant.options.panel.read_turns import FoundInTurns, ReadTurns
from assistant.options.panel.section import PanelSection

_DEADLINE_S = 60.0


class UnaskedChat(PublicModel):
    """One line of ``evaluation/chats/unasked.jsonl``: a chat up to the customer's turn that is read."""

    id: str
    emergency: bool
    """Whether the last turn describes an emergency that happens now."""
    documents: tuple[str, ...] | None = None
    """Documents that are right to show first, () where none helps; None where nobody labelled the chat."""
    turns: tuple[ChatTurn, ...]


async def _suggested(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    """Read each chat as the service does, and return what an agent would be shown."""
    least = PanelSection.of(services.tenant).least_suggestion
    read, judged = _Reading(services), list[Judged]()
    for chat in (row for path in paths for row in load_rows(path, UnaskedChat)):
        found = await read.turns(chat.turns)
        kind = "emergencies that are raised" if chat.emergency else "other chats that raise one"
        suggested = found.suggested(least=least)
        values = {kind: float(bool(found.red_flags)), "chats with a suggestion": float(suggested is not None)}
        if suggested is not None and chat.documents is not None:
            values["suggestions of a right document"] = float(suggested[0].document_id in chat.documents)
        is_right = all(value == float(name != "other chats that raise one") for name, value in values.items())
        judged.append(Judged(chat.id, chat.id, values, "" if is_right else chat.turns[-1].text))
    return judged


TRIALS: Mapping[str, Trial] = {"suggestions": _suggested}


class _Reading:
    """Reads turns for an agent with all of the tenant's labels, without live systems."""

    def __init__(self, services: TenantServices) -> None:
        self._services = opened = silent(services)
        self._read = ReadTurns(opened, AnswerQuestion(opened))
        self._agent = Identity(
            opened.tenant.name, "fit", frozenset({Role.AGENT}), frozenset(opened.tenant.labels)
        )

    async def turns(self, turns: Sequence[ChatTurn]) -> FoundInTurns:
        limit = Deadline.after(_DEADLINE_S, clock=self._services.clock)
        return await self._read.run(turns, identity=self._agent, deadline=limit)
