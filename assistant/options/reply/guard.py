"""Guards what is sent to a patient: a text in which the check finds something is refused until the agent
sends it again and confirms each finding, with a reason or a second person where the tenant asks for it
(``[review] guard``: "seen", "reason", "second_person").

The check by code always runs. Where the model did not read the text, or the answer has no lines, the text is
sent and ``degraded`` says so. A sentence that tells to call an emergency number of the tenant file ("Call 911
now") is never a finding that stops a text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from assistant.answer.live_macs import LiveMacs
from assistant.answer.services import TenantServices
from assistant.answer.stored import entry_of_read, not_found, own_answer
from assistant.answer.support import piece_of
from assistant.domain.answers import ReplyCheck, Sent
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    ConflictError,
    ForbiddenError,
    ReplyFindingsError,
    SecondPersonNeededError,
    WithdrawnError,
)
from assistant.domain.identity import Identity
from assistant.domain.live import LiveText
from assistant.options.reply.judge import CheckedReply
from assistant.options.reply.write import REPLY_CHECK, AnswerLines, WriteReply
from assistant.stores.desk import Contents, TwoPeople
from assistant.tenant.tenant import RedFlagEntry
from assistant.text.language import Language, fold, language, split_sentences
from assistant.text.values import Values

NO_LINES = "no_lines"
"""In ``degraded``: the answer has no lines that could be read, and only values were checked."""
_FEW = 2
"""A sentence of so few words is not taken for one of an emergency's text: any text may have "Call now"."""
_CLAUSE = re.compile(r"[,.;:\u2013\u2014]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSent:
    """Guards one tenant's sent texts.

    Example: the first call raises ReplyFindingsError with a finding of id "3f2a"; then the agent confirms
    it::

        sent = Sent(send_id="s1", text="Pay $12.", confirmed=("3f2a",))
        checked = await guard.run("a1", sent, shown=(), identity=ada, deadline=limit, by_model=True)
        checked.degraded  # (): the model has read it
    """

    services: TenantServices
    replies: WriteReply
    people: TwoPeople
    """With ``is_needed`` true: whether a second person is asked is decided here, by the tenant file."""

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

        ``shown``: live values of the request: the text may have those with a right MAC. ``by_model``:
        whether the model reads the text too. A repetition of a recorded send passes; where its text is
        another, ``AppendToAnswer.sent`` refuses it.

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
        if not {finding.id for finding in stopping} <= set(sent.confirmed):
            further_steps = {
                "seen": "",
                "reason": " and a reason",
                "second_person": "; another agent confirms it then",
            }
            raise ReplyFindingsError(
                f"Nothing is sent: the check found {len(stopping)} in the text. Correct it, or send it again "
                f"with the id of each finding in confirmed{further_steps[guard]}.",
                stopping,
            )
        if guard == "reason" and not any(map(str.isalnum, sent.reason or "")):
            raise ReplyFindingsError("Nothing is sent: write in reason why the text is right.", stopping)
        if guard == "second_person":
            await self._admit(answer_id, sent.text, stopping, by=identity.agent)
        return checked

    async def confirm(self, answer_id: str, text: str, *, named: str | None, identity: Identity) -> None:
        """Confirm another agent's text that waits for a second person; its agent then sends it again. The
        read of the other agent's answer is recorded.

        ``named``: digest of the text that the caller looked at; None: the error says what to look at, and the
        digest.

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
        stopping = Emergencies.of(self.services).stopping(checked.checks, text)
        await self._admit(answer_id, text, stopping, by=identity.agent, named=named, is_second=True)

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
            live = LiveMacs(self.services, answer_id, identity.agent).genuine(shown)
            lines = AnswerLines(record, (), tuple(text.value for text in live), None, (), live)
            checked = await self.replies.check(lines, text, deadline=deadline, by_model=False)
            return replace(checked, degraded=(NO_LINES,))
        checked = await self.replies.check(lines, text, deadline=deadline, by_model=by_model)
        is_read = by_model or not self.services.writes_answers
        return checked if is_read else replace(checked, degraded=(REPLY_CHECK,))

    async def _admit(
        self,
        answer_id: str,
        text: str,
        findings: Sequence[ReplyCheck],
        *,
        by: str,
        named: str | None = None,
        is_second: bool = False,
    ) -> None:
        """Return where two people stand for this text; else raise ReplyFindingsError with what the next one
        must do. ``by``: who asks; ``is_second``: to confirm, by the digest ``named``. Other errors as
        ``TwoPeople.admit``."""

        async def contents() -> Contents:
            digest = hashlib.sha256(text.encode()).hexdigest()
            return Contents.of({answer_id: digest}, f"a text of {len(text)} characters")

        half = "second" if is_second else "first"
        try:
            await self.people.admit("send", answer_id, by=by, contents=contents, named=named, half=half)
        except (SecondPersonNeededError, ForbiddenError) as error:
            raise ReplyFindingsError(error.message, findings) from None

    async def _is_on_record(self, answer_id: str, sent: Sent) -> bool:
        """Return whether a text of this ``send_id`` is recorded: it passed the guard then."""
        return any(
            stored.sent.send_id == sent.send_id for stored in await self.services.records.list_sent(answer_id)
        )


@dataclass(frozen=True)
class Emergencies:
    """What the tenant file says of emergencies, to recognise their sentences in a text.

    Example: of a flag with the text "Tell them to call 911." and the contact "911", a finding about the
    sentence "Please call 911 right away." does not stop a text; one about "Do not call 911." or "Call 912."
    does.
    """

    flags: Sequence[RedFlagEntry]
    language: Language

    @classmethod
    def of(cls, services: TenantServices) -> Emergencies:
        return cls(services.tenant.red_flags, language(services.tenant.language))

    def stopping(self, checks: Sequence[ReplyCheck], text: str) -> tuple[ReplyCheck, ...]:
        """Return those of ``checks`` that stop the text: no "reckoned" one, and none that is excused because
        it is about an emergency's sentence."""
        return tuple(self._stopping(checks, text)) if any(check.stops for check in checks) else ()

    def _stopping(self, checks: Sequence[ReplyCheck], text: str) -> Iterator[ReplyCheck]:
        has_emergency = any(self._is_call(span.text) for span in split_sentences(text))
        for finding in checks:
            # who tells to call for help need not answer the question
            is_excused = has_emergency if finding.kind == "missing" else self._excuses(finding, text)
            if finding.stops and not is_excused:
                yield finding

    def _excuses(self, finding: ReplyCheck, text: str) -> bool:
        """Return whether a finding is about an emergency's sentence, and not about a name that it lacks."""
        sentence = text[finding.start : finding.end]
        names = {fold(value) for value in finding.values if value.isalpha()}
        is_foreign = bool(names - self._flag_values.words) or finding.kind == "contradicts"
        return self._is_verbatim(sentence) or (self._is_call(sentence) and not is_foreign)

    def _is_call(self, sentence: str) -> bool:
        """Return whether a sentence is one of a flag, or tells to call one of the numbers, with no value that
        no flag has. "Do not call 911" tells the opposite: its clause has an odd number of negations."""
        if self._is_verbatim(sentence):
            return True
        values, known = Values.of(sentence, self.language), self._flag_values
        numbers = values.quantities.bare | values.moments | values.quantities.codes
        known_numbers = known.quantities.bare | known.moments | known.quantities.codes
        to_call = sorted(numbers & self._to_call)
        if not to_call or numbers - known_numbers or values.quantities.measures - known.quantities.measures:
            return False
        return self._is_told(to_call[0], fold(sentence))

    def _is_verbatim(self, sentence: str) -> bool:
        """Return whether a sentence of more than a few words stands in a flag's text and contact, and says
        the same there: "Leave them alone." does not stand in "Do not leave them alone."."""
        plain = f" {_plain(sentence)}"
        wholes = [f" {_plain(f'{flag.text} {flag.call}')}" for flag in self.flags]
        return len(plain.split()) > _FEW and any(
            plain in whole and self._is_told(plain, whole) for whole in wholes
        )

    def _is_told(self, words: str, text: str) -> bool:
        """Return whether a text tells these words of it, and not the opposite."""
        clause = _CLAUSE.split(text.partition(words)[0])[-1]
        return piece_of(f"{clause} {words}", self.language).marks["negation"] % 2 == (
            piece_of(words, self.language).marks["negation"] % 2
        )

    @cached_property
    def _flag_values(self) -> Values:
        """The values of all flags' texts and contacts."""
        texts = ["", *(part for flag in self.flags for part in (flag.text, flag.call))]
        return Values.joined([Values.of(text, self.language) for text in texts])

    @cached_property
    def _to_call(self) -> frozenset[str]:
        """The numbers in ``call`` of all flags."""
        values = [Values.of(flag.call, self.language) for flag in self.flags]
        return frozenset[str]().union(*(value.quantities.bare | value.moments for value in values))


def _plain(text: str) -> str:
    return " ".join(fold(text).split()).rstrip(".! ")
