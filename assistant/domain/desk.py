"""What people decide at the review desk, kept so that it can be read again and put back.

Each item has a kind, an id and revisions that are only ever added. The newest counts, an older one can be put
back, and the revisions are the audit trail. Example of an
item with two revisions::

    glossary_entry 7c1e  revision 1  by=ann  body={"said": "refill too soon", …, "state": "proposed"}
    glossary_entry 7c1e  revision 2  by=bob  body={"said": "refill too soon", …, "state": "live"}
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from assistant.domain.errors import NotFoundError, RecordsUnavailableError
from assistant.domain.public import PublicModel, RecordId

Body = TypeVar("Body", bound=PublicModel)


class DeskKind(StrEnum):
    # Each with the model of its ``DeskItem.body``
    CASE = "case"  # Case
    APPROVED_ANSWER = "approved_answer"  # DeskApprovedAnswer
    GLOSSARY_ENTRY = "glossary_entry"  # GlossaryEntry
    ROUTER_RELEASE = "router_release"  # RouterRelease
    CASE_INDEX = "case_index"  # of the desk's own module, assistant.options.desk
    """Ids of unresolved cases: of one question, or of one agent."""
    ACT_REQUEST = "act_request"  # ActRequest
    """What one person asked for and another one confirms."""


NOT_SERVED = frozenset({DeskKind.CASE, DeskKind.CASE_INDEX, DeskKind.ACT_REQUEST})
"""Kinds that serving never reads: a new revision of one does not change the desk's version, at which serving
processes reload what they read."""
JOINED = "joined"
"""Name of the list of cases for which another case stands in the queue, whatever their state."""


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
"""Names of the lists of cases: a case is in the one that ``Case.listed`` names."""
ActOfTwo = Literal["withdraw_source", "erase", "export", "send"]
"""What two people must ask for under the profile ``hipaa``; ``send`` where the tenant says so."""
Half = Literal["both", "first", "second"]
"""Which of the two requests for an act this one is. ``both``: both people send the same request, and the
second one runs the act. ``first``: it is recorded, and sent again runs the act after the confirmation.
``second``: it only confirms."""


class ActRequest(PublicModel):
    """Body of an item of the kind ``act_request``."""

    act: ActOfTwo
    subject: str
    """Name of the source; ``patient:`` and the keyed hash of a member number; ``desk``, ``training sets``;
    of ``send`` the answer's id."""
    asked_by: str
    confirmed_by: str | None = None

    def runs_by(self, half: Half) -> str | None:
        """Return the person whose request runs the act now; None while it waits for a confirmation.

        ``half`` "first": the one who asked, once another has confirmed. Otherwise: the one who confirmed.
        """
        return self.asked_by if half == "first" and self.confirmed_by else self.confirmed_by

    def check_begins(self, half: Half) -> None:
        """Raise NotFoundError for a confirmation ("second") that no request waits for.

        Called before this request is stored: then ``confirmed_by`` is set only if a request waited.
        """
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
    """SHA-256 of their file."""
    seed: int
    report: str
    """JSON of what cross-validation measured."""


def body_of_item(item: DeskItem, model: type[Body]) -> Body:
    """Return the item's body as ``model``, which must be the one of its kind. Raises RecordsUnavailableError
    for a body that a later release wrote."""
    try:
        return model.model_validate_json(item.body)
    except ValidationError:
        raise RecordsUnavailableError(
            f"The desk's {item.kind.value} {item.item_id} is of another release. Update this process."
        ) from None


def first_revision(
    kind: DeskKind, item_id: str, body: PublicModel, *, by: str, at: datetime, note: str = ""
) -> DeskItem:
    """Return revision 1 of a new item; nothing is stored."""
    return DeskItem(
        kind=kind, item_id=item_id, revision=1, at=at, by=by, note=note, body=body.model_dump_json()
    )


DeskQuestion = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=2_000)]
DeskWords = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
ItemKind = Literal["approved_answer", "glossary_entry"]
"""Kinds of ``DeskKind`` that reviewers make. Releases of weights have commands of their own."""
ResolutionKind = Literal[ItemKind, "correction", "dismissed"]


class CaseReason(StrEnum):
    """Why an answer is on the desk."""

    BAD_VERDICT = "bad_verdict"
    FACT_EDITED = "fact_edited"
    """The agent changed a number, code, dose, date or negation before sending."""
    UNSUPPORTED_SENT = "unsupported_sent"
    UNANSWERED = "unanswered"
    EMERGENCY = "emergency"
    """The message raised a red flag of the tenant."""
    DIFFERENT_VALUES = "different_values"
    """Documents in force give one thing different values. One case stands for all questions that met them."""
    ANSWER_SUSPENDED = "answer_suspended"
    """The approved answer that was made of this answer's case is suspended."""
    REVIEW_DUE = "review_due"
    """The review date of a document has passed; it is a case of no answer."""


def case_id(answer_id: str, reason: CaseReason) -> str:
    """Return the id of the one case of an answer and a reason: 32 hexadecimal digits."""
    return hashlib.sha256(f"{answer_id}#{reason.value}".encode()).hexdigest()[:32]


class Resolution(PublicModel):
    """How a case was, or shall be, resolved."""

    kind: ResolutionKind | Literal["document_question"]
    """``document_question``: of a release that added questions to documents; nothing makes it any more."""
    item_id: RecordId | None = None
    """The desk item that it made, live or proposed; None for a correction and a dismissal."""
    note: str = Field(default="", max_length=2_000)


class Case(PublicModel):
    """One answer that wants a reviewer. Its texts are read from the answer's record, under the reader's own
    labels, never copied here."""

    answer_id: RecordId
    reason: CaseReason
    opened_at: datetime
    state: CaseState = CaseState.OPEN
    documents: tuple[str, ...] = ()
    """Documents that the answer quoted, else its best candidates: whose owners may see the case."""
    reader_labels: tuple[str, ...] = ()
    """Access labels under which the question was asked: only a reader who holds them all sees the case."""
    verdict_reasons: tuple[str, ...] = ()
    changed_facts: tuple[str, ...] = ()
    gap: str | None = None
    """The cluster that an unanswered question belongs to."""
    same_hash: str | None = None  # made in assistant.options.desk
    """Equal for cases of the same question, reason, labels and documents. It holds no word of them."""
    joined: RecordId | None = None
    """The case that was open on the same question. It stands for this one in the queue."""
    assigned_to: str | None = None
    resolution: Resolution | None = None
    resolved_by: str | None = None
    """Who proposed the resolution."""
    approved_by: str | None = None
    """Who approved it; another person than ``resolved_by`` under the profile ``hipaa``."""

    @property
    def listed(self) -> str:
        """The list of cases that it is in."""
        return self.state.value if self.joined is None else JOINED


class ItemState(StrEnum):
    PROPOSED = "proposed"
    LIVE = "live"
    SUSPENDED = "suspended"
    """A source changed, was withdrawn, or the expiry has passed."""
    WITHDRAWN = "withdrawn"


class BoundSource(PublicModel):
    """A document whose content an approved answer rests on."""

    document_id: str
    content_hash: str


class DeskApprovedAnswer(PublicModel):
    """An answer that reviewers wrote and approved. It is quoted as it stands."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    questions: tuple[DeskQuestion, ...] = Field(min_length=1, max_length=20)
    """The question and its other wordings."""
    text: str = Field(min_length=1, max_length=20_000)
    """Markdown."""
    owner: str
    expires_on: date
    """The first day on which it is not served any more."""
    labels: tuple[str, ...] = ()
    """Access labels that a reader needs, all of them."""
    sources: tuple[BoundSource, ...] = Field(default=(), max_length=20)
    from_answer: RecordId | None = None
    state: ItemState = ItemState.PROPOSED
    proposed_by: str
    approved_by: str | None = None
    suspended_because: str = ""


class GlossaryEntry(PublicModel):
    """What callers say, and what the documents call it."""

    said: DeskWords
    means: DeskWords
    state: ItemState = ItemState.PROPOSED
    proposed_by: str
    approved_by: str | None = None
