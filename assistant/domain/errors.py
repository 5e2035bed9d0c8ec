"""The error tree. Every error has a stable code, says what happened and what to do.

Only the edge (``assistant.service``, ``assistant.cli``) turns an error into a status or an exit code: a
number below, such as (422), is the HTTP status that the service answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class AssistantError(Exception):
    """Root of all errors of the product.

    ``code`` is stable and documented. ``retryable``: the same call may succeed later. No message contains a
    question, an answer or a secret. ``retry_after_s``: seconds to wait before a retry, where it is known.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidRequestError(AssistantError):
    """The request breaks its schema (422)."""

    code = "invalid_request"


class SourceNeededError(InvalidRequestError):
    """The tenant has several sources, and the request does not say which one it is about (422)."""

    code = "source_needed"


class ContextRefusedError(InvalidRequestError):
    """The context of the question does not verify, or is not of this tenant and agent (422).

    It is no 401: the agent's own sign-in is in order, and signing in again would not help.
    """

    code = "context_refused"


class ContextUsedError(AssistantError):
    """The context token was counted for another answer before (409)."""

    code = "context_used"


class UnreadableRequestError(AssistantError):
    """The body is not UTF-8 JSON (400)."""

    code = "unreadable_request"


class TooLargeError(AssistantError):
    """The body or a field is over its size limit (413)."""

    code = "too_large"


class UnauthenticatedError(AssistantError):
    """No token, or one that does not verify (401)."""

    code = "unauthenticated"


class TokenRevokedError(UnauthenticatedError):
    """The agent's token was issued before their access was revoked (401)."""

    code = "token_revoked"


class TenantNotServedError(AssistantError):
    """The token's tenant is configured, and its configuration was refused when the service started (503)."""

    code = "tenant_not_served"


class ForbiddenError(AssistantError):
    """The token is valid, its roles do not allow this (403)."""

    code = "forbidden"


class LabelsWidenedError(AssistantError):
    """The caller lacks a document's labels and may not make it readable to more agents (403)."""

    code = "labels_widened"


class NotFoundError(AssistantError):
    """There is no such thing, or it belongs to another tenant or agent (404, one body for both)."""

    code = "not_found"


class ConflictError(AssistantError):
    """The id was used before with other content (409)."""

    code = "conflict"


class ContentsChangedError(ConflictError):
    """The things that the caller looked at were changed or removed since: look again, and decide anew
    (409)."""

    code = "contents_changed"


class OpenCasesError(ConflictError):
    """The agent's work has as many open cases at the desk as the tenant allows (409)."""

    code = "open_cases_reached"


class SecondPersonNeededError(ConflictError):
    """The request is recorded; another person must ask for the same before it runs (409)."""

    code = "second_person_needed"


class ReplyFindingsError(ConflictError):
    """The check found something in a text for a patient, and nothing is sent: an agent looks first (409).

    ``findings``: a ``ReplyCheck`` each; not typed so, because ``answers`` imports this module indirectly.
    """

    code = "reply_findings"

    def __init__(self, message: str, findings: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class OverloadedError(AssistantError):
    """A bound on work in progress is reached (429, with ``Retry-After``)."""

    code = "overloaded"
    retryable = True


class DependencyError(AssistantError):
    """A dependency is down, slow or returns an invalid response (503)."""

    code = "dependency_unavailable"
    retryable = True


class ReplyNotDeliveredError(DependencyError):
    """The care application did not take a reply that is recorded."""

    code = "reply_not_delivered"
    retryable = False
    """The product never sends a reply again by itself: the agent decides."""


class EmbeddingUnavailableError(DependencyError):
    """The embedding endpoint did not return vectors in time."""

    code = "embedding_unavailable"


class SearchUnavailableError(DependencyError):
    """The passage index did not answer in time."""

    code = "search_unavailable"


class GenerationUnavailableError(DependencyError):
    """The generation endpoint failed before the first token."""

    code = "generation_unavailable"


class GenerationInterruptedError(DependencyError):
    """The generation endpoint's stream broke after its first token."""

    code = "generation_interrupted"


class RecordsUnavailableError(DependencyError):
    """The store of answers and verdicts did not answer in time."""

    code = "records_unavailable"


class EndpointPausedError(DependencyError):
    """The tenant's model endpoints are paused on purpose (503)."""

    code = "endpoint_paused"


class AnswerInterruptedError(DependencyError):
    """The process that wrote the answer ended before it, or nobody waited for the answer."""

    code = "interrupted"


class WithdrawnError(AssistantError):
    """The reader may not read a document of the answer any more, or it was withdrawn (410)."""

    code = "withdrawn"


class DeadlineExceededError(AssistantError):
    """The whole answer's deadline passed."""

    code = "deadline_exceeded"
    retryable = True


class DocumentInvalidError(AssistantError):
    """A document is malformed and cannot be parsed; the message names it and the line."""

    code = "document_invalid"


class ParsingStoppedError(AssistantError):
    """Parsing a document exceeded a limit or ended its process; the message says which."""

    code = "parsing_stopped"


class PassageTooLongError(AssistantError):
    """An embedding input exceeds the model's token limit. It is refused, never cut."""

    code = "passage_too_long"


class ConfigurationError(AssistantError):
    """A setting or a tenant file is wrong; the message names file, key and what is allowed."""

    code = "configuration_invalid"


class LocalRuntimeError(AssistantError):
    """A local process could not be started or reached: port in use, missing package, full disk."""

    code = "local_runtime"


class DeploymentError(AssistantError):
    """A deployment step failed: a check, the CDK's command line, a call to the account."""

    code = "deployment_failed"
