"""From answer events to OpenAI's chat chunks, to one chat completion, and from problems to its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import orjson

from assistant.answering.events import (
    AnswerEvent,
    Done,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.domain.answers import FinishReason, Sentence, Source
from assistant.service.chat_wire import (
    ChatAnnotation,
    ChatAnswer,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatDelta,
    ChatError,
    ChatErrorBody,
    ChatUsage,
    UrlCitation,
)

_END = b"data: [DONE]\n\n"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_NO_ANSWER = {
    FinishReason.NO_EVIDENCE: "Not in the knowledge base.",
    FinishReason.SOURCES_ONLY: "No answer was written; these passages were found:",
    FinishReason.REFUSED: "The sources do not answer this question.",
}


class ChatEncoder:
    """Encodes the events of one answer as chat chunks. ``created`` is Unix time in seconds."""

    __slots__ = ("_created", "_include_usage", "_prefix", "_reading", "_suffix")

    def __init__(self, *, created: int, include_usage: bool) -> None:
        self._created = created
        self._include_usage = include_usage
        self._reading = ChatReading()
        self._prefix = b""
        self._suffix = b""

    def encode(self, event: AnswerEvent) -> bytes:
        """Return the server-sent events for one answer event; there may be none."""
        if isinstance(event, Token):  # the hot path: everything but the text was encoded once
            self._reading.see(event)
            return self._prefix + orjson.dumps(event.text) + self._suffix
        if isinstance(event, Problem):
            return _data(chat_error(event).model_dump_json().encode())
        self._reading.see(event)
        if isinstance(event, Started):
            return self._begin()
        return self._end(event) if isinstance(event, Done) else b""

    def _begin(self) -> bytes:
        delta = ChatDelta(role="assistant", content="")
        marked = self._chunk(ChatDelta(content="\0"))
        self._prefix, _, self._suffix = marked.partition(rb'"\u0000"')
        return self._chunk(delta, answer=self._reading.answer())

    def _end(self, done: Done) -> bytes:
        reading = self._reading
        notice = reading.notice(done)
        parts = [self._chunk(ChatDelta(content=notice))] if notice else []
        parts.append(
            self._chunk(
                ChatDelta(annotations=reading.annotations()),
                finish_reason=_finish_reason(done),
                answer=reading.answer(done),
            )
        )
        if self._include_usage:
            parts.append(self._chunk(None, usage=_usage(done)))
        return b"".join([*parts, _END])

    def _chunk(
        self,
        delta: ChatDelta | None,
        *,
        finish_reason: Literal["stop", "length"] | None = None,
        usage: ChatUsage | None = None,
        answer: ChatAnswer | None = None,
    ) -> bytes:
        chunk = ChatCompletionChunk(
            id=self._reading.started.answer_id,
            created=self._created,
            model=self._reading.started.model,
            choices=() if delta is None else (ChatChunkChoice(delta=delta, finish_reason=finish_reason),),
            usage=usage,
            answer=answer,
        )
        found = chunk.model_dump(mode="json")
        if answer is None:
            del found["answer"]
        if not self._include_usage:
            del found["usage"]
        for choice in found["choices"]:
            choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
        return _data(orjson.dumps(found))


class ChatReading:
    """What the chat's last chunk, or its one body, says of the events before."""

    __slots__ = ("_sentences", "_sources", "_texts", "started")

    started: Started

    def __init__(self) -> None:
        self._sources: tuple[Source, ...] = ()
        self._texts: list[str] = []
        self._sentences: list[Sentence] = []

    def see(self, event: AnswerEvent) -> None:
        match event:
            case Token():
                self._texts.append(event.text)
            case Started():
                self.started = event
            case Sources():
                self._sources = event.sources
            case SentenceEnded():
                self._sentences.append(Sentence(**event.model_dump()))
            case _:
                pass

    def text(self) -> str:
        return "".join(self._texts)

    def notice(self, done: Done) -> str:
        """Return what says in words that there is no answer; empty where the text is one, or says so."""
        if done.finish_reason not in _NO_ANSWER or self.text().strip():
            return ""
        lines = [_NO_ANSWER[done.finish_reason]]
        if done.finish_reason is FinishReason.SOURCES_ONLY:
            lines += [f"[{source.n}] {source.title}" for source in self._sources]
        elif done.reason:
            lines.append(done.reason)
        return "\n".join(lines)

    def annotations(self) -> tuple[ChatAnnotation, ...]:
        """Return one annotation for each source that a sentence cites, over the sentence."""
        sources = {source.n: source for source in self._sources}
        return tuple(
            ChatAnnotation(
                url_citation=UrlCitation(
                    start_index=sentence.start,
                    end_index=sentence.end,
                    url=sources[n].url or sources[n].document_url,
                    title=sources[n].title,
                )
            )
            for sentence in self._sentences
            for n in sentence.citations
            if n in sources
        )

    def answer(self, done: Done | None = None) -> ChatAnswer:
        return ChatAnswer(
            answer_id=self.started.answer_id,
            conversation_id=self.started.conversation_id,
            index_version=self.started.index_version,
            finish_reason=done.finish_reason if done else None,
            reason=done.reason if done else None,
            recorded=done.recorded if done else True,
            sources=self._sources if done else (),
            sentences=tuple(self._sentences) if done else (),
            timings_ms=done.timings_ms if done else {},
        )


def chat_completion(events: Sequence[AnswerEvent], *, created: int) -> ChatCompletion:
    """Return the events of an answer that ended with ``done`` as one body."""
    reading = ChatReading()
    for event in events:
        reading.see(event)
    done = events[-1]
    assert isinstance(done, Done)  # noqa: S101 - as promised by the caller
    message = ChatCompletionMessage(
        content=reading.text() + reading.notice(done), annotations=reading.annotations()
    )
    return ChatCompletion(
        id=reading.started.answer_id,
        created=created,
        model=reading.started.model,
        choices=(ChatChoice(message=message, finish_reason=_finish_reason(done)),),
        usage=_usage(done),
        answer=reading.answer(done),
    )


def chat_error(problem: Problem, *, param: str | None = None) -> ChatError:
    """Return the problem in OpenAI's shape, with our own code."""
    return ChatError(
        error=ChatErrorBody(
            message=problem.detail,
            type=_TYPES.get(problem.status, "invalid_request_error"),
            code=problem.code,
            param=param,
            retryable=problem.retryable,
        )
    )


def _finish_reason(done: Done) -> Literal["stop", "length"]:
    return "length" if done.finish_reason is FinishReason.LENGTH else "stop"


def _usage(done: Done) -> ChatUsage:
    usage = done.usage
    return ChatUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def _data(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"
