"""The client of the service's API.

It has one method for each operation of docs/openapi.json, with the operation's name, except operations of
options that a page of the console or a helpdesk's server calls: ``get`` and ``post`` take their paths.

    async with AssistantClient("https://assistant.example.com", token=Path("token")) as client:
        answer = await client.ask("How long is a return possible?")
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel

from assistant.answer.events import AnswerEvent
from assistant.client.connection import (
    Call,
    Connection,
    Patience,
    Question,
    answer_events,
    parse_response,
    resume_call,
    stream_call,
)
from assistant.domain.answers import (
    Act,
    CheckBody,
    ReplyBody,
    Sent,
    StoredAct,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.documents import Document, DocumentState, DocumentStatus, WithdrawalReceipt
from assistant.domain.identity import PlainContext
from assistant.domain.live import Element
from assistant.service import wire
from assistant.service.wire import Overview

Body = TypeVar("Body", bound=BaseModel)


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

    def follow_answer(
        self, answer_id: str, *, last_event_id: str | None = None
    ) -> AsyncGenerator[AnswerEvent]:
        """Return the events of an answer: those after ``last_event_id`` from the task that writes it,
        else all."""
        return answer_events(self._connection, resume_call(quote(answer_id, safe=""), after=last_event_id))

    async def ask(self, question: str | Question) -> wire.WholeAnswer:
        """Return the whole answer in one body."""
        asked = _question(question)
        key = asked.idempotency_headers()
        return await self._whole(wire.WholeAnswer, "/v1/answers", asked.body(), key=key)

    async def chat(self, messages: Sequence[dict[str, str]], **parameters: Any) -> wire.ChatCompletion:
        """Return a whole answer in OpenAI's form. For streams in that form use OpenAI's own client."""
        body = {"model": "default", "messages": list(messages)} | parameters
        return await self._whole(wire.ChatCompletion, "/v1/chat/completions", body)

    async def list_models(self) -> wire.ChatModels:
        """Return the tenant's model in OpenAI's form."""
        return await self.get(wire.ChatModels, "/v1/models")

    async def read_answer(self, answer_id: str) -> wire.StoredAnswer:
        """Return the answer's record, verdicts and sent replies."""
        return await self.get(wire.StoredAnswer, _path("answers", answer_id))

    async def read_conversation(self, conversation_id: str) -> wire.Conversation:
        """Return the conversation's newest 50 answers, oldest first."""
        return await self.get(wire.Conversation, "/v1/answers", conversation_id=conversation_id)

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

    async def check_reply(self, answer_id: str, body: CheckBody) -> wire.ReplyChecks:
        """Return what is wrong with a text for the patient, by the lines of an answer."""
        return await self.post(wire.ReplyChecks, _path("answers", answer_id, "reply", "check"), body)

    async def keep_sent(self, answer_id: str, sent: Sent) -> StoredSent:
        """Store the reply that was sent; the same ``send_id`` with the same content is stored once."""
        return await self.post(StoredSent, _path("answers", answer_id, "sent"), sent)

    async def confirm_sent(self, answer_id: str, text: str, *, contents: str | None = None) -> None:
        """Confirm another agent's text that waits for a second person; ``contents``: the digest that the
        refusal of the first call names."""
        body = wire.ConfirmRequest(text=text, contents=contents).model_dump(mode="json", exclude_none=True)
        await self._connection.send(Call("POST", _path("answers", answer_id, "sent", "confirm"), json=body))

    async def keep_act(self, answer_id: str, act: Act) -> StoredAct:
        """Store what was done with an answer; the same ``act_id`` with the same content is stored once."""
        return await self.post(StoredAct, _path("answers", answer_id, "acts"), act)

    async def read_element_again(
        self, answer_id: str, element_id: str, *, context: str | PlainContext | None = None
    ) -> Element:
        """Read a live element of an answer again. ``context``: of this conversation, as in a question."""
        body = wire.ElementRequest(context=context).model_dump(mode="json", exclude_none=True)
        return await self.post(Element, _path("answers", answer_id, "elements", element_id), body)

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

    async def upload_file(
        self, path: str, content: bytes, *, knowledge_source: str | None = None
    ) -> wire.UploadState:
        """Upload a file of the source, whose ``path`` is below the source's root; after a broken connection
        it is sent again. ``upload_results`` tells what became of it."""
        params = _given(path=path, knowledge_source=knowledge_source)
        return await self._read(wire.UploadState, Call("POST", "/v1/uploads", params=params, content=content))

    async def upload_results(self, upload_ids: Sequence[str]) -> wire.UploadStates:
        """Return what became of up to 50 uploads."""
        return await self.get(wire.UploadStates, "/v1/uploads", upload_id=list(upload_ids))

    async def document_details(self, document_id: str) -> wire.DocumentDetails:
        """Return a document's state, its kept contents, and the answers that used it lately."""
        return await self.get(wire.DocumentDetails, _path("documents", document_id, "details"))

    async def restore_document(self, document_id: str, content_hash: str) -> DocumentStatus:
        """Receive a kept content of a document again."""
        path = _path("documents", document_id, "restore")
        return await self.post(DocumentStatus, path, {"content_hash": content_hash})

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

    async def waiting_document(self, document_id: str) -> wire.WaitingDocument:
        """Return the content that waits for a second person, and the one that answered before."""
        return await self.get(wire.WaitingDocument, _path("documents", document_id, "waiting"))

    async def release_documents(
        self, contents: Mapping[str, str], *, knowledge_source: str | None = None
    ) -> wire.ReleasedDocuments:
        """Release what waits for a second person in these contents: id = content hash."""
        asked = {"knowledge_source": knowledge_source, "contents": dict(contents)}
        return await self.post(wire.ReleasedDocuments, "/v1/documents/release", asked)

    async def withdraw_document(self, document_id: str) -> DocumentStatus:
        """Withdraw a document: it is unreadable at once, and the worker removes it from the index."""
        return await self._read(DocumentStatus, Call("DELETE", _path("documents", document_id)))

    async def source_contents(self, name: str) -> wire.SourceContents:
        """Return what a withdrawal of a source would withdraw."""
        return await self.get(wire.SourceContents, _path("knowledge-sources", name, "contents"))

    async def withdraw_source(self, name: str, *, contents: str | None = None) -> wire.WithdrawnSource:
        """Withdraw every document of a source that the caller may know of. Under hipaa two people do, and the
        second names the ``contents`` of ``source_contents``."""
        call = Call("DELETE", _path("knowledge-sources", name, "documents"), params=_given(contents=contents))
        return await self._read(wire.WithdrawnSource, call)

    async def withdrawal_receipt(self, document_id: str) -> WithdrawalReceipt:
        """Return what a withdrawal removed, place by place, and what remains until when."""
        return await self.get(WithdrawalReceipt, _path("documents", document_id, "receipt"))

    async def read_document(
        self, document_id: str, *, content_hash: str | None = None, span: tuple[int, int] | None = None
    ) -> wire.DocumentText:
        """Return the stored text; with ``content_hash`` and ``span`` of a source, with the cited passage."""
        start, end = (None, None) if span is None else span
        path = _path("documents", document_id)
        return await self.get(wire.DocumentText, path, content_hash=content_hash, start=start, end=end)

    async def read_linked_document(self, document_url: str) -> wire.DocumentText:
        """Return the stored text that a source's ``document_url`` opens, with the cited passage."""
        body = {"token": document_url.partition("#")[2]}
        return await self.post(wire.DocumentText, "/v1/documents/linked", body)

    async def read_original(self, document_id: str) -> bytes:
        """Return the file as it was received: ``read_document`` with ``format=original``."""
        call = Call("GET", _path("documents", document_id), params={"format": "original"})
        return (await self._connection.send(call)).content

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

    async def live_reads(
        self,
        *,
        agent: str | None = None,
        customer: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> wire.LiveReadsPage:
        """Return a page of who read which data of live systems, whose by pseudonym, and when; no values.
        Pass ``next_after`` for the next page."""
        asked_for = {"agent": agent, "customer": customer, "since": since, "until": until}
        return await self.get(wire.LiveReadsPage, "/v1/live-reads", **asked_for, after=after, limit=limit)

    async def read_overview(self, *, first: date | None = None, last: date | None = None) -> Overview:
        """Return the numbers of at most 92 days, by default the last 30; for managers and auditors."""
        days = {"from": first and str(first), "to": last and str(last)}
        return await self.get(Overview, "/v1/overview", **days)

    async def alive(self) -> bool:
        """Return whether the service process answers."""
        return bool(orjson.loads((await self._connection.send(Call("GET", "/healthz"))).content)["alive"])

    async def openapi(self) -> dict[str, Any]:
        """Return the service's OpenAPI document."""
        return orjson.loads((await self._connection.send(Call("GET", "/openapi.json"))).content)

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
        """Return what a path has, such as ``/v1/desk/gaps``: for operations of options, which have no method
        here."""
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
