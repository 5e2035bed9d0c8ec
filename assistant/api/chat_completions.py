"""``POST /v1/chat/completions``: the same answer as ``POST /v1/answers``, for clients of OpenAI's API.

What a request may hold stands in ``chat_request``, what comes back in ``chat_wire``. An answer cannot be
resumed here (OpenAI's clients do not know how); ``Idempotency-Key`` joins a repeat to the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.answering.events import Problem
from assistant.api.answers import AnswerRequests, SendRefusal, idempotency_key
from assistant.api.chat_encoding import ChatEncoder, chat_completion, chat_error
from assistant.api.chat_request import ChatAsking, RefusedChatError, read_chat_request
from assistant.api.delivery import Numbered, Reading, event_of, send_json, send_stream, whole_events
from assistant.api.limits import CHAT_LIMIT_BYTES, read_body
from assistant.api.problems import problem_headers, problem_of

CHAT_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The endpoint, on the flow of ``AnswerRequests``."""

    answers: AnswerRequests

    async def complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def work() -> None:
            headers = Headers(scope=scope)
            identity = await self.answers.identify(headers)
            try:
                chat = read_chat_request(await read_body(scope, receive, limit_bytes=CHAT_LIMIT_BYTES))
                asked = self.answers.asked(chat.request, identity, key=idempotency_key(headers))
                chat.check_model(asked.tenant.answering.model.model_id)
            except RefusedChatError as error:
                await self.answers.refuse(send, problem_of(error.refused), _sending_error(param=error.param))
                return
            async with self.answers.exchange.asking(asked, receive) as reading:
                deliver = self._send_chunks if chat.streamed else self._send_completion
                await deliver(reading, send, chat)

        await self.answers.at_edge(work, send, send_refusal=_sending_error())

    async def _send_chunks(self, reading: Reading, send: Send, chat: ChatAsking) -> None:
        """Send chunks until the answer ends. Raises as ``send_stream``."""
        encoder = ChatEncoder(
            created=self._created(), include_usage=chat.include_usage, certainty=reading.certainty
        )

        def encode(numbered: Sequence[Numbered]) -> bytes:
            events = [event for _, item in numbered if (event := event_of(item)) is not None]
            return b"".join(map(encoder.encode, events))

        await send_stream(
            reading, send, limits=self.answers.limits, encode=encode, headers=[_answer_id(reading)]
        )

    async def _send_completion(self, reading: Reading, send: Send, _chat: ChatAsking) -> None:
        """Send one body once the answer has ended. Raises as ``send_whole``."""
        if events := await whole_events(reading):
            body = chat_completion(events, created=self._created()).model_dump_json().encode()
            await send_json(send, body, limits=self.answers.limits, headers=[_answer_id(reading)])

    def _created(self) -> int:
        return int(self.answers.service.clock.now().timestamp())


def _answer_id(reading: Reading) -> tuple[bytes, bytes]:
    return (b"x-answer-id", reading.answer_id.encode())


def _sending_error(*, param: str | None = None) -> SendRefusal:
    """Return how a refusal is sent here: in OpenAI's shape, with what its clients ask before a retry."""

    async def send_error(send: Send, problem: Problem, *, retry_after_s: float | None = None) -> None:
        body = orjson.dumps(chat_error(problem, param=param).model_dump())
        headers = problem_headers(problem, retry_after_s=retry_after_s) | {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-should-retry": "true" if problem.retryable else "false",
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return send_error
