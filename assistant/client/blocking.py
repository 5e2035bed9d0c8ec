"""The client for code without an event loop: it has one of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Generator
from contextlib import closing
from types import TracebackType
from typing import Self

from assistant.answering.events import AnswerEvent
from assistant.api.wire import DocumentPage, DocumentText, StoredAnswer, WholeAnswer
from assistant.client.client import AssistantClient
from assistant.client.connection import Patience
from assistant.client.streaming import Question
from assistant.domain.answers import Sent, StoredSent, StoredVerdict, Verdict
from assistant.domain.documents import Document, DocumentStatus


class BlockingAssistantClient:
    """What a script needs of ``AssistantClient``; each method is its namesake. Not for threads to share, nor
    for use inside a running event loop."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client = AssistantClient(base_url, token=token, patience=patience, tls=tls)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with closing(self._runner):
            self._runner.run(self._client.close())

    def stream(self, question: str | Question) -> Generator[AnswerEvent]:
        events = self._client.stream(question)

        async def following() -> AnswerEvent | None:
            return await anext(events, None)

        try:
            while (event := self._runner.run(following())) is not None:
                yield event
        finally:
            self._runner.run(events.aclose())

    def ask(self, question: str | Question) -> WholeAnswer:
        return self._runner.run(self._client.ask(question))

    def read_answer(self, answer_id: str) -> StoredAnswer:
        return self._runner.run(self._client.read_answer(answer_id))

    def cancel_answer(self, answer_id: str) -> None:
        self._runner.run(self._client.cancel_answer(answer_id))

    def give_verdict(self, answer_id: str, verdict: Verdict) -> StoredVerdict:
        return self._runner.run(self._client.give_verdict(answer_id, verdict))

    def keep_sent(self, answer_id: str, sent: Sent) -> StoredSent:
        return self._runner.run(self._client.keep_sent(answer_id, sent))

    def list_documents(self, *, after: str | None = None, limit: int = 100) -> DocumentPage:
        return self._runner.run(self._client.list_documents(after=after, limit=limit))

    def bring_document(self, document: Document, *, knowledge_source: str | None = None) -> DocumentStatus:
        return self._runner.run(self._client.bring_document(document, knowledge_source=knowledge_source))

    def document_status(self, document_id: str) -> DocumentStatus:
        return self._runner.run(self._client.document_status(document_id))

    def withdraw_document(self, document_id: str) -> DocumentStatus:
        return self._runner.run(self._client.withdraw_document(document_id))

    def read_document(self, document_id: str) -> DocumentText:
        return self._runner.run(self._client.read_document(document_id))
