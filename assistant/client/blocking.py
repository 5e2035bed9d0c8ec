"""The client for code without an event loop: it runs a loop of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from assistant.answering.events import AnswerEvent
from assistant.client.client import AssistantClient
from assistant.client.connection import Patience
from assistant.client.streaming import Question

P = ParamSpec("P")
Result = TypeVar("Result")


def _blocking(
    method: Callable[Concatenate[AssistantClient, P], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[BlockingAssistantClient, P], Result]:
    """Return a method that waits for its namesake of ``AssistantClient``."""

    @wraps(method)
    def wait(self: BlockingAssistantClient, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self.runner.run(method(self.client, *args, **kwargs))

    return wait


class BlockingAssistantClient:
    """The methods of ``AssistantClient`` that a script needs, for one thread without a running event loop."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.client = AssistantClient(base_url, token=token, patience=patience, tls=tls)
        self.runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with closing(self.runner):
            self.runner.run(self.client.close())

    def stream(self, question: str | Question) -> Generator[AnswerEvent]:
        """Yield the events of an answer, as ``AssistantClient.stream`` does."""
        events = self.client.stream(question)

        async def next_event() -> AnswerEvent | None:
            return await anext(events, None)

        try:
            while (event := self.runner.run(next_event())) is not None:
                yield event
        finally:
            self.runner.run(events.aclose())

    ask = _blocking(AssistantClient.ask)
    read_answer = _blocking(AssistantClient.read_answer)
    cancel_answer = _blocking(AssistantClient.cancel_answer)
    give_verdict = _blocking(AssistantClient.give_verdict)
    keep_sent = _blocking(AssistantClient.keep_sent)
    keep_act = _blocking(AssistantClient.keep_act)
    read_element_again = _blocking(AssistantClient.read_element_again)
    list_documents = _blocking(AssistantClient.list_documents)
    bring_document = _blocking(AssistantClient.bring_document)
    document_status = _blocking(AssistantClient.document_status)
    withdraw_document = _blocking(AssistantClient.withdraw_document)
    read_document = _blocking(AssistantClient.read_document)
