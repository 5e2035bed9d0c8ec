"""Revisions: what people decide, kept so that it can be read again and put back.

Each item has a kind, an id and revisions that are only ever added. The newest counts, an older one can be put
back, and the revisions are the audit trail.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from assistant.domain.answers import RecordId
from assistant.domain.errors import NotFoundError, RecordsUnavailableError
from assistant.domain.public import PublicModel

Body = TypeVar("Body", bound=PublicModel)


class DeskKind(StrEnum):
    CASE = "case"
    APPROVED_ANSWER = "approved_answer"
    DOCUMENT_QUESTION = "document_question"
    GLOSSARY_ENTRY = "glossary_entry"
    ROUTER_RELEASE = "router_release"
    CASE_INDEX = "case_index"
    """Ids of unresolved cases: of one question, or of one agent."""
    ACT_REQUEST = "act_request"
    """What one person asked for and another one confirms."""


NOT_SERVED = frozenset({DeskKind.CASE, DeskKind.CASE_INDEX, DeskKind.ACT_REQUEST})
"""Kinds that serving never reads: their revisions leave the desk's version as it is."""
JOINED = "joined"
"""List of the cases for which another one stands in the queue, whatever their state."""


class DeskItem(PublicModel):
    """One revision of one item."""

    kind: DeskKind
    item_id: RecordId
    revision: int = Field(ge=1)
    at: datetime
    by: str
    """The token's ``sub`` of who made this revision; ``learner`` for a job."""
    note: str = Field(default="", max_length=2_000)
    """Why, in the words of who made it."""
    body: str
    """JSON of the kind's own model below."""


class CaseState(StrEnum):
    OPEN = "open"
    ASKED_OWNER = "asked_owner"
    """A correction was asked of the document's owner."""
    PROPOSED = "proposed"
    """Resolved by one person; a second one must approve."""
    RESOLVED = "resolved"
    DISMISSED = "dismissed"


CASE_LISTS = (*(state.value for state in CaseState), JOINED)
ActOfTwo = Literal["withdraw_source", "erase", "export", "send"]
"""What two people must ask for under the profile ``hipaa``; ``send`` where the tenant says so."""


Half = Literal["both", "first", "second"]
"""What a request for an act of two is: of an act that runs by the second one, or one of the two."""


class ActRequest(PublicModel):
    """Body of an item of the kind ``act_request``."""

    act: ActOfTwo
    subject: str
    """Name of the source; ``patient:`` and the keyed hash of a member number; ``desk``, ``training sets``;
    of ``send`` the answer's id."""
    asked_by: str
    confirmed_by: str | None = None

    def runs_by(self, half: Half) -> str | None:
        """Return whose request runs the confirmed act; None while it waits."""
        return self.asked_by if half == "first" and self.confirmed_by else self.confirmed_by

    def check_begins(self, half: Half) -> None:
        """Raise NotFoundError for a confirmation that no request waits for."""
        if half == "second" and self.confirmed_by is None:
            raise NotFoundError(f"No request for {self.act} of {self.subject} with these contents waits.")


class ReleaseState(StrEnum):
    REFUSED = "refused"
    """The evaluation gate refused it; it is kept for its report."""
    LIVE = "live"
    REPLACED = "replaced"
    """Was live, and is the way back."""
    ROLLED_BACK = "rolled_back"


class RouterRelease(PublicModel):
    """A learned router of sources, and all that is needed to judge, serve and take it back."""

    artifact_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of ``router_json``."""
    router_json: str
    """Bytes of a router file."""
    state: ReleaseState
    """``live``, ``replaced``, ``rolled_back``, or ``refused``: it did not beat the words of the kinds."""
    questions: int = Field(ge=0)
    """Labelled questions that it was learned from."""
    questions_sha256: str
    """Of their file."""
    seed: int
    report: str
    """JSON of what cross-validation measured."""


def body_of_item(item: DeskItem, model: type[Body]) -> Body:
    """Raises RecordsUnavailableError for a body that a later release wrote."""
    try:
        return model.model_validate_json(item.body)
    except ValidationError:
        raise RecordsUnavailableError(
            f"The desk's {item.kind.value} {item.item_id} is of another release. Update this process."
        ) from None


def first_revision(
    kind: DeskKind, item_id: str, body: PublicModel, *, by: str, at: datetime, note: str = ""
) -> DeskItem:
    """Return a new item."""
    return DeskItem(
        kind=kind, item_id=item_id, revision=1, at=at, by=by, note=note, body=body.model_dump_json()
    )
