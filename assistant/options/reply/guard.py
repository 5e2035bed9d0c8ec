"""Guards what is sent to a patient: a text in which the check finds something is refused until the agent
sends it again and confirms each finding, with a reason or a second person where the tenant asks for it
(``[review] guard``: "seen", "reason", "second_person").

The check by code always runs. Where the model did not check the text, or its lines are gone, the text is sent
and ``degraded`` says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.answer.services import TenantServices
from assistant.domain.answers import OfConversation, ReplyCheck, Sent
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    ForbiddenError,
    ReplyFindingsError,
    SecondPersonNeededError,
)
from assistant.domain.identity import Identity
from assistant.options.reply.write import WriteReply
from assistant.service.stored import entry_of_read, not_found
from assistant.stores.desk import Contents, TwoPeople


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSent:
    """Guards one tenant's sent texts.

    Example: the first call raises ReplyFindingsError with a finding of id "3f2a"; then the agent confirms
    it::

        sent = Sent(send_id="s1", text="Pay $12.", confirmed=("3f2a",))
        await guard.run("a1", sent, checked.checks, by="ada")
    """

    services: TenantServices
    replies: WriteReply
    people: TwoPeople
    """With ``is_needed`` true: whether a second person is asked is decided here, by the tenant file."""

    async def run(self, answer_id: str, sent: Sent, found: tuple[ReplyCheck, ...], *, by: str) -> None:
        """Return where a text may be sent in which the check ``found`` something. ``by``: the agent who
        sends. A repetition of a recorded send passes; where its text is another, ``AppendToAnswer.sent``
        refuses it.

        Raises ReplyFindingsError (it says what the text needs), RecordsUnavailableError, DependencyError.
        """
        if not found or await self._is_on_record(answer_id, sent):
            return
        guard = self.services.tenant.guard
        if not {finding.id for finding in found} <= set(sent.confirmed):
            further_steps = {
                "seen": "",
                "reason": " and a reason",
                "second_person": "; another agent confirms it then",
            }
            raise ReplyFindingsError(
                f"Nothing is sent: the check found {len(found)} in the text. Correct it, or send it again "
                f"with the id of each finding in confirmed{further_steps[guard]}.",
                found,
            )
        if guard == "reason" and not any(map(str.isalnum, sent.reason or "")):
            raise ReplyFindingsError("Nothing is sent: write in reason why the text is right.", found)
        if guard == "second_person":
            await self._admit(answer_id, sent.text, found, by=by)

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
        checked = await self.replies.check_text(
            answer_id,
            text,
            OfConversation(),
            (),
            identity=owner,
            deadline=limit,
            by_model=False,
            may_be_gone=True,
        )
        await self._admit(answer_id, text, checked.checks, by=identity.agent, named=named, is_second=True)

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
