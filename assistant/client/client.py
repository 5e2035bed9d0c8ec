"""The client of the service's API.

It has a method for each operation that an asking application or a command of ours calls, with the operation's
name in docs/openapi.json; ``get`` and ``post`` take the paths of others.

    async with AssistantClient("https://assistant.example.com", token=Path("token")) as client:
        answer = await client.ask("How long is a return possible?")
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, RootModel

from assistant.answer.events import AnswerEvent
from assistant.client.connection import (
    Call,
    Connection,
    Patience,
    Question,
    answer_events,
    parse_response,
    stream_call,
)
from assistant.domain.answers import ReplyBody, StoredVerdict, Verdict
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.service import wire

Body = TypeVar("Body", bound=BaseModel)


class _JsonObject(RootModel[dict[str, Any]]):
    """A body that is not ours."""


class AssistantClient:
    """Calls one service with one caller's token, over kept connections.

    Every method raises a subclass of RefusedByServiceError, or UnreachableError, after the retries that
    ``patience`` allows. Give ``tls`` to trust a company's own certificate authority; by default the public
    ones are trusted. Give a file as ``token`` where tokens expire: it is read for each request.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Path | None,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.base_url = base_url
        self._patience = patience or Patience()
        self._connection = Connection(base_url, token=token, patience=self._patience, tls=tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    def stream(self, question: str | Question) -> AsyncGenerator[AnswerEvent]:
        """Return the events of an answer, the last one ``Done``, ``Problem`` or ``Checked``; see
        ``answer_events``.

        Close the generator (``contextlib.aclosing``) to leave before the answer's end.
        """
        return answer_events(self._connection, stream_call(_question(question)))

    async def ask(self, question: str | Question) -> wire.WholeAnswer:
        """Return the whole answer in one body."""
        asked = _question(question)
        key = asked.idempotency_headers()
        return await self._whole(wire.WholeAnswer, "/v1/answers", asked.body(), key=key)

    async def read_answer(self, answer_id: str) -> wire.StoredAnswer:
        """Return the answer's record, verdicts and sent replies."""
        return await self.get(wire.StoredAnswer, _path("answers", answer_id))

    async def cancel_answer(self, answer_id: str) -> None:
        """Cancel an answer. An ended answer does not change."""
        await self._connection.send(Call("DELETE", _path("answers", answer_id)))

    async def give_verdict(self, answer_id: str, verdict: Verdict) -> StoredVerdict:
        """Mark an answer; the same ``verdict_id`` with the same content is stored once."""
        return await self.post(StoredVerdict, _path("answers", answer_id, "verdict"), verdict)

    async def write_reply(self, answer_id: str, body: ReplyBody | None = None) -> wire.WholeAnswer:
        """Return a reply to the patient, written from an answer, with its checks. Its ``answer_id`` is the
        ``reply_id`` of what is sent."""
        asked = (body or ReplyBody()).model_dump(mode="json", exclude_none=True)
        return await self._whole(wire.WholeAnswer, _path("answers", answer_id, "reply"), asked)

    async def list_documents(
        self, *, state: Sequence[DocumentState] = (), after: str | None = None, limit: int = 100
    ) -> wire.DocumentPage:
        """Return a page of the documents in order of their ids; pass ``next_after`` for the next page."""
        states = [str(item) for item in state]
        return await self.get(wire.DocumentPage, "/v1/documents", limit=limit, state=states, after=after)

    async def bring_document(
        self, document: Document, *, knowledge_source: str | None = None, path: str | None = None
    ) -> DocumentStatus:
        """Index a document of the source; the same content again changes nothing.

        ``path``: of its file below the source's root; where the source's labels come from folders, it decides
        them. The status has the document's whole id.
        """
        params = _given(knowledge_source=knowledge_source, path=path)
        body = document.model_dump(mode="json", exclude_unset=True)
        return await self._read(DocumentStatus, Call("POST", "/v1/documents", params=params, json=body))

    async def list_sources(self) -> wire.WritableSources:
        """Return the sources that the caller may add documents to."""
        return await self.get(wire.WritableSources, "/v1/knowledge-sources")

    async def upload_results(self, upload_ids: Sequence[str]) -> wire.UploadStates:
        """Return what became of up to 50 uploads."""
        return await self.get(wire.UploadStates, "/v1/uploads", upload_id=list(upload_ids))

    async def read_document_again(self, document_id: str) -> wire.ReadingAgain:
        """Have a document read again by the service's readers."""
        return await self.post(wire.ReadingAgain, _path("documents", document_id, "read-again"), {})

    async def document_status(self, document_id: str) -> DocumentStatus:
        """Return the state of a document's indexing."""
        return await self.get(DocumentStatus, _path("documents", document_id, "status"))

    async def withhold_document(self, document_id: str, *, reason: str) -> DocumentStatus:
        """Remove a document from the answers until it is sent again; its text is kept."""
        return await self.post(
            DocumentStatus, _path("documents", document_id, "withhold"), {"reason": reason}
        )

    async def withdraw_document(self, document_id: str) -> DocumentStatus:
        """Withdraw a document: it is unreadable at once, and the worker removes it from the index."""
        return await self._read(DocumentStatus, Call("DELETE", _path("documents", document_id)))

    async def audit(
        self,
        *,
        document_id: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> wire.AuditPage:
        """Return a page of who saw a document or what an agent saw; pass ``next_after`` for the next."""
        asked_for = {"document_id": document_id, "agent": agent, "since": since, "until": until}
        return await self.get(wire.AuditPage, "/v1/audit", **asked_for, after=after, limit=limit)

    async def send_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to a request of the Model Context Protocol. It is not repeated, since
        a repeat could ask a second time."""
        return (await self._whole(_JsonObject, "/v1/mcp", message)).root

    async def _whole(
        self, model: type[Body], path: str, body: Any, *, key: Mapping[str, str] | None = None
    ) -> Body:
        """Ask for a text that a model writes, as one body. ``key``: the header of an idempotency key; without
        one the call is not repeated, since a repeat could write another text."""
        call = Call(
            "POST",
            path,
            json=body,
            headers={"accept": "application/json", **(key or {})},
            read_timeout_s=self._patience.whole_timeout_s,
            is_repeatable=bool(key),
        )
        return await self._read(model, call)

    async def get(
        self, model: type[Body], path: str, **params: str | int | datetime | list[str] | None
    ) -> Body:
        """Return what a path has, such as ``/v1/desk/gaps``: for operations that have no method here."""
        return await self._read(model, Call("GET", path, params=_given(**params)))

    async def post(self, model: type[Body], path: str, body: BaseModel | dict[str, Any]) -> Body:
        """Send a body to a path, and return the response; as ``get``."""
        content = body if isinstance(body, dict) else body.model_dump(mode="json")
        return await self._read(model, Call("POST", path, json=content))

    async def _read(self, model: type[Body], call: Call) -> Body:
        return parse_response(model, (await self._connection.send(call)).content)


def _question(question: str | Question) -> Question:
    return Question(question=question) if isinstance(question, str) else question


def _given(**params: str | int | datetime | list[str] | None) -> dict[str, str | int | list[str]]:
    """Return the query parameters that are not None, times in ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in params.items()
        if value is not None
    }


def _path(*parts: str) -> str:
    """Return a path below ``/v1`` with its parts percent-encoded: ``_path("documents", "a/b")`` →
    ``/v1/documents/a%2Fb``."""
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))
