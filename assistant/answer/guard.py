"""Guards what is sent to a patient: a text in which the check finds something waits until an agent says that
they looked, with a reason or a second person where the tenant asks for it (``[review] guard``).

The check by code always runs. Where the model did not read the text, or the answer has no lines, the text is
sent and the response says so. A sentence of the tenant's emergencies stops nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from assistant.answer.reply import REPLY_CHECK, AnswerLines, WriteReply
from assistant.answer.reply_judge import CheckedReply
from assistant.answer.services import TenantServices
from assistant.answer.stored import entry_of_read, not_found, own_answer
from assistant.answer.support import piece_of
from assistant.domain.answers import LiveText, ReplyCheck, Sent
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    ConflictError,
    ForbiddenError,
    ReplyFindingsError,
    SecondPersonNeededError,
    WithdrawnError,
)
from assistant.domain.identity import Identity
from assistant.stores.desk import Contents, TwoPeople
from assistant.tenant.tenant import RedFlagEntry
from assistant.text.language import Language, fold, language, split_sentences
from assistant.text.values import Values

NO_LINES = "no_lines"
"""In ``degraded``: the answer has no lines that could be read, and only values were checked."""
_FEW = 2
"""Words that any text may have in common with an emergency's."""
_CLAUSE = re.compile(r"[,.;:\u2013\u2014]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSent:
    """Guards one tenant's sent texts.

    Example::

        degraded = await guard.run("a1", sent, shown=(), identity=ada, deadline=limit)
    """

    services: TenantServices
    replies: WriteReply
    people: TwoPeople

    async def run(
        self,
        answer_id: str,
        sent: Sent,
        *,
        shown: Sequence[LiveText],
        identity: Identity,
        deadline: Deadline,
        by_model: bool,
    ) -> CheckedReply:
        """Return what was found in a text that may be sent.

        Raises NotFoundError, ReplyFindingsError (it says what the text needs), RecordsUnavailableError,
        DependencyError.
        """
        checked = await self.check(
            answer_id, sent.text, shown, identity=identity, deadline=deadline, by_model=by_model
        )
        stopping = Emergencies.of(self.services).stopping(checked.checks, sent.text)
        if not stopping or await self._is_on_record(answer_id, sent):
            return checked
        guard = self.services.tenant.guard
        if not {one.id for one in stopping} <= set(sent.confirmed):
            more = {
                "seen": "",
                "reason": " and a reason",
                "second_person": "; another agent confirms it then",
            }
            raise ReplyFindingsError(
                f"Nothing is sent: the check found {len(stopping)} in the text. Correct it, or send it again "
                f"with the id of each finding in confirmed{more[guard]}.",
                stopping,
            )
        if guard == "reason" and not (sent.reason or "").strip():
            raise ReplyFindingsError("Nothing is sent: write in reason why the text is right.", stopping)
        if guard == "second_person":
            await self._admit(answer_id, sent.text, stopping, by=identity.agent)
        return checked

    async def confirm(self, answer_id: str, text: str, *, named: str | None, identity: Identity) -> None:
        """Confirm another agent's text that waits. ``named``: digest of the text, once it was looked at.

        Raises NotFoundError (no such answer, or the caller lacks its labels; nothing waits),
        ReplyFindingsError (what to look at, and the digest), RecordsUnavailableError, DependencyError.
        """
        record = await self.services.records.get_answer(answer_id)
        if record is None or not identity.labels.issuperset(record.labels):
            raise not_found()
        if record.agent != identity.agent:
            at = self.services.clock.now()
            entry = entry_of_read("answer", answer_id, [record], reader=identity.agent, at=at)
            await self.services.records.record_access(entry)
        owner = replace(identity, agent=record.agent)
        limit = Deadline.after(self.services.tenant.limits.answer_deadline_s, clock=self.services.clock)
        checked = await self.check(answer_id, text, (), identity=owner, deadline=limit, by_model=False)
        found = Emergencies.of(self.services).stopping(checked.checks, text)
        await self._admit(answer_id, text, found, by=identity.agent, named=named, is_second=True)

    async def check(
        self,
        answer_id: str,
        text: str,
        shown: Sequence[LiveText],
        *,
        identity: Identity,
        deadline: Deadline,
        by_model: bool,
    ) -> CheckedReply:
        """Return what is wrong with a text, where the answer has no lines by its values alone."""
        try:
            lines = await self.replies.lines_of(answer_id, shown, identity=identity)
        except (ConflictError, WithdrawnError):
            record = await own_answer(self.services, answer_id, identity=identity)
            lines = AnswerLines(record, (), tuple(one.value for one in shown), None, ())
            checked = await self.replies.check(lines, text, deadline=deadline, by_model=False)
            return replace(checked, degraded=(NO_LINES,))
        checked = await self.replies.check(lines, text, deadline=deadline, by_model=by_model)
        is_read = by_model or not self.services.writes_answers
        return checked if is_read else replace(checked, degraded=(REPLY_CHECK,))

    async def _admit(
        self,
        answer_id: str,
        text: str,
        found: Sequence[ReplyCheck],
        *,
        by: str,
        named: str | None = None,
        is_second: bool = False,
    ) -> None:
        async def contents() -> Contents:
            digest = hashlib.sha256(text.encode()).hexdigest()
            return Contents.of({answer_id: digest}, f"a text of {len(text)} characters")

        half = "second" if is_second else "first"
        try:
            await self.people.admit("send", answer_id, by=by, contents=contents, named=named, half=half)
        except (SecondPersonNeededError, ForbiddenError) as error:
            raise ReplyFindingsError(error.message, found) from None

    async def _is_on_record(self, answer_id: str, sent: Sent) -> bool:
        """Return whether this is a repetition: the agent looked before."""
        return any(
            one.sent.send_id == sent.send_id for one in await self.services.records.list_sent(answer_id)
        )


@dataclass(frozen=True)
class Emergencies:
    """What the tenant file says of emergencies, to tell their sentences in a text."""

    flags: Sequence[RedFlagEntry]
    language: Language

    @classmethod
    def of(cls, services: TenantServices) -> Emergencies:
        return cls(services.tenant.red_flags, language(services.tenant.language))

    def stopping(self, checks: Sequence[ReplyCheck], text: str) -> tuple[ReplyCheck, ...]:
        """Return the findings that stop a text."""
        return tuple(self._stopping(checks, text)) if any(one.stops for one in checks) else ()

    def _stopping(self, checks: Sequence[ReplyCheck], text: str) -> Iterator[ReplyCheck]:
        has_emergency = any(self._is_line(span.text) for span in split_sentences(text))
        for one in checks:
            is_excused = has_emergency if one.kind == "missing" else self._excuses(one, text)
            if one.stops and not is_excused:
                yield one

    def _excuses(self, one: ReplyCheck, text: str) -> bool:
        """Return whether a finding is about a line of an emergency."""
        sentence = text[one.start : one.end]
        names = {fold(value) for value in one.values if value.isalpha()}
        is_foreign = bool(names - self._told.words) or one.kind == "contradicts"
        return self._is_verbatim(sentence) or (self._is_line(sentence) and not is_foreign)

    def _is_line(self, sentence: str) -> bool:
        """Return whether a sentence tells to call one of the numbers, with no other value."""
        if self._is_verbatim(sentence):
            return True
        said, told = Values.of(sentence, self.language), self._told
        numbers = said.quantities.bare | said.moments | said.quantities.codes
        held = told.quantities.bare | told.moments | told.quantities.codes
        to_call = sorted(numbers & self._to_call)
        if not to_call or numbers - held or said.quantities.measures - told.quantities.measures:
            return False
        clause = _CLAUSE.split(fold(sentence).partition(to_call[0])[0])[-1]
        return piece_of(f"{clause} {to_call[0]}", self.language).marks["negation"] % 2 == 0

    def _is_verbatim(self, sentence: str) -> bool:
        plain = _plain(sentence)
        return len(plain.split()) > _FEW and any(
            plain in _plain(f"{each.text} {each.call}") for each in self.flags
        )

    @cached_property
    def _told(self) -> Values:
        texts = ["", *(part for each in self.flags for part in (each.text, each.call))]
        return Values.joined([Values.of(text, self.language) for text in texts])

    @cached_property
    def _to_call(self) -> frozenset[str]:
        """Return the numbers in ``call`` of all flags."""
        values = [Values.of(each.call, self.language) for each in self.flags]
        return frozenset[str]().union(*(each.quantities.bare | each.moments for each in values))


def _plain(text: str) -> str:
    return " ".join(fold(text).split()).rstrip(".! ")
