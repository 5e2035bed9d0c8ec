"""From answer events to OpenAI's chat chunks, to one chat completion, and from problems to its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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
from assistant.api.chat_wire import (
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
from assistant.domain.answers import Certainty, FinishReason, Sentence, Source
from assistant.text.safe_markdown import safe_markdown

_END = b"data: [DONE]\n\n"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_POSSIBLY = "Possibly: check before you send."
_LEAD = f"{_POSSIBLY}\n\n"
_NO_ANSWER = {
    FinishReason.NO_EVIDENCE: "Not in the knowledge base.",
    FinishReason.SOURCES_ONLY: "Nothing could be quoted; these passages were found:",
    FinishReason.REFUSED: "The sources do not answer this question.",
}
"""What the content says where ``done`` has no reason in words."""


class ChatEncoder:
    """Encodes the events of one answer as chat chunks.

    ``created`` is Unix time in seconds. ``certainty`` is what is known of it before the first event: an
    uncertain answer begins with a notice. Where only ``done`` tells, the notice ends it.
    """

    __slots__ = ("_certainty", "_created", "_include_usage", "_prefix", "_reading", "_suffix")

    def __init__(self, *, created: int, include_usage: bool, certainty: Certainty | None = None) -> None:
        self._created = created
        self._certainty = certainty
        self._include_usage = include_usage
        self._reading = ChatReading()
        self._prefix = b""
        self._suffix = b""

    def encode(self, event: AnswerEvent) -> bytes:
        """Return the server-sent events for one answer event; there may be none."""
        if isinstance(event, Token):  # the hot path: everything but the text was encoded once
            lead = b""
            if self._certainty is Certainty.POSSIBLY and not self._reading.lead:
                self._reading.lead = _LEAD
                lead = self._text(_LEAD)
            self._reading.see(event)
            return lead + self._text(event.text)
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

    def _text(self, text: str) -> bytes:
        return self._prefix + orjson.dumps(text) + self._suffix

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

    __slots__ = ("_sentences", "_sources", "_texts", "lead", "started")

    started: Started

    def __init__(self) -> None:
        self.lead = ""
        """What stands before the answer's text in the content: offsets count it."""
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
                lead = len(self.lead)
                moved: dict[str, Any] = {"start": event.start + lead, "end": event.end + lead}
                self._sentences.append(Sentence(**event.model_dump() | moved))
            case _:
                pass

    def text(self) -> str:
        return "".join(self._texts)

    def notice(self, done: Done) -> str:
        """Return what the content says after the answer's text; empty where the text says all.

        Without a text: why there is none, and whom to ask. After one: that it is uncertain, where the lead
        does not say so.
        """
        if self.text().strip():
            is_unsaid = done.certainty is Certainty.POSSIBLY and not self.lead
            return f"\n\n{_POSSIBLY}" if is_unsaid else ""
        if done.finish_reason not in _NO_ANSWER:
            return ""
        if done.finish_reason is FinishReason.SOURCES_ONLY:
            titles = [
                f"[{source.n}] {safe_markdown(source.title, allowed_urls=())}" for source in self._sources
            ]
            return "\n".join([_NO_ANSWER[done.finish_reason], *titles])
        reason = done.reason or _NO_ANSWER[done.finish_reason]
        return f"{reason}\n\nAsk: {done.escalation}" if done.escalation else reason

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
        """Return our own field of the first chunk, with ``done`` that of the last one."""
        started = self.started
        begun = ChatAnswer(
            answer_id=started.answer_id,
            conversation_id=started.conversation_id,
            index_version=started.index_version,
        )
        if done is None:
            return begun
        of_done = {name: getattr(done, name) for name in Done.model_fields if name in ChatAnswer.model_fields}
        marks = {"sources": self._sources, "sentences": tuple(self._sentences)}
        return begun.model_copy(update=of_done | marks)


def chat_completion(events: Sequence[AnswerEvent], *, created: int) -> ChatCompletion:
    """Return the events of an answer that ended with ``done`` as one body."""
    reading, done = ChatReading(), events[-1]
    assert isinstance(done, Done)  # noqa: S101 - as promised by the caller
    if done.certainty is Certainty.POSSIBLY:
        reading.lead = _LEAD
    for event in events:
        reading.see(event)
    message = ChatCompletionMessage(
        content=reading.lead + reading.text() + reading.notice(done), annotations=reading.annotations()
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
