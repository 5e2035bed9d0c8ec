"""``POST /v1/chat/completions``: the answers of ``POST /v1/answers`` for clients of OpenAI's API.

- The last message, of role ``user``, is the question. The user's two messages before it are its earlier
  questions (``ChatQuestion``): where a model writes, it reads them.
- Messages of role ``assistant`` are never read: answers rest on passages, and a client could write anything
  into them. To have the recorded turns in the prompt, a client sends ``conversation_id`` (from
  ``answer.conversation_id`` of the first answer); then earlier messages are not read at all.
- The system prompt is the tenant's: messages of other roles are never read, and a ``Warning`` header says so;
  or the tenant file refuses them.
- Nothing is refused that an answer in text obeys: tools may be offered, for a model need not call one. What
  an answer cannot obey (a tool that must be called, JSON, several choices) is refused, and says what to do.
  What is unknown is ignored, and named in the ``Warning``. Null is as good as absent.
- An answer cannot be resumed here: OpenAI's clients cannot do it. ``Idempotency-Key`` joins a repeat to the
  first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Annotated, Any, Literal, TypeVar, get_args

import orjson
from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.answer.events import (
    AnswerEvent,
    Done,
    Problem,
    RedFlags,
    Sources,
    Started,
    Token,
    unchecked_notice,
)
from assistant.answer.request import MAX_EARLIER_CHARACTERS, ChatQuestion
from assistant.domain.answers import Certainty, FinishReason, Mode, RedFlag, Sentence
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import AssistantError, InvalidRequestError, NotFoundError, UnreadableRequestError
from assistant.domain.identity import ContextToken, PlainContext
from assistant.domain.live import Element, ElementDisplay, ElementValue
from assistant.domain.public import PublicModel, RecordId, fields_of
from assistant.options.openai.section import OpenAiSection
from assistant.service import streams as delivery
from assistant.service import wire
from assistant.service.answers import Answers, SendRefusal, idempotency_key
from assistant.service.errors import invalid_request, problem_headers, problem_of, send_refusal
from assistant.service.streams import Numbered, Reading, send_json, send_stream, whole_answer, whole_events
from assistant.tenant.tenant import TenantConfig
from assistant.text.markup import label_of
from assistant.text.safe_markdown import inert, safe_markdown

PlaceT = TypeVar("PlaceT", Sentence, ElementDisplay)
CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
DEFAULT_MODEL = "default"
_MAX_MESSAGES = 200
_Text = Annotated[str, StringConstraints(max_length=50_000)]
_NO_TOOL = "No tool is called here. Leave it out, or send auto or none."
_REFUSALS = {
    "messages": "Send at least one message, each with a role: user, assistant, system, developer or tool. "
    "A user's has text, as a string or in parts of type text.",
    "n": "A question has one answer. Leave n out, or send 1.",
    "response_format": "An answer is text, not JSON. Leave response_format out, or send type text.",
    "modalities": "An answer is text. Leave modalities out, or send text.",
    "logprobs": "An answer has no log probabilities. Leave logprobs and top_logprobs out.",
    "top_logprobs": "An answer has no log probabilities. Leave logprobs and top_logprobs out.",
    "tool_choice": _NO_TOOL,
    "function_call": _NO_TOOL,
}
"""What to do about a parameter that no answer obeys."""
_MOST_NAMED = 10


class ChatTextPart(PublicModel):
    type: Literal["text"]
    text: _Text


class ChatUserMessage(PublicModel):
    model_config = ConfigDict(extra="ignore")

    role: Literal["user"]
    content: _Text | Annotated[tuple[ChatTextPart, ...], Field(min_length=1, max_length=50)]

    def text(self) -> str:
        parts = (self.content,) if isinstance(self.content, str) else (part.text for part in self.content)
        return "".join(parts).strip()


_OtherRole = Literal["assistant", "system", "developer", "tool", "function"]
_ROLES = ("user", *get_args(_OtherRole))


class ChatOtherMessage(PublicModel):
    """Of the assistant, as a client gives it back, or an instruction or a tool's result. It is never read."""

    model_config = ConfigDict(extra="ignore")

    role: _OtherRole


class ChatStreamOptions(PublicModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None


class ChatResponseFormat(PublicModel):
    type: Literal["text"]


class ChatRequest(PublicModel):
    """A chat request. What is not named here is ignored, and named in a ``Warning`` header."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """The served model's id, or ``default``."""
    messages: tuple[Annotated[ChatUserMessage | ChatOtherMessage, Field(discriminator="role")], ...] = Field(
        min_length=1, max_length=_MAX_MESSAGES
    )
    """The last one is the question, of role user."""
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    """Only with ``stream``."""
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """Stands above ``max_tokens``; the tenant's own limit above both."""
    conversation_id: RecordId | None = None
    filters: SearchFilters = SearchFilters()
    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """As in ``POST /v1/answers``."""

    # Served in one way only: any other value is refused.
    n: int | None = Field(default=None, ge=1, le=1)
    response_format: ChatResponseFormat | None = None
    modalities: tuple[Literal["text"], ...] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=0)
    tool_choice: Literal["auto", "none"] | None = None
    function_call: Literal["auto", "none"] | None = None

    # Taken, without effect.
    temperature: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    parallel_tool_calls: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None

    @property
    def ignored(self) -> tuple[str, ...]:
        """What the answer does not obey: roles of messages, and parameters that are not named here."""
        roles = (message.role for message in self.messages if message.role not in ("user", "assistant"))
        unknown = (name for name, value in (self.model_extra or {}).items() if value not in (None, [], {}))
        named = (name[:64] for name in unknown if name.isidentifier() and name.isascii())
        return tuple(dict.fromkeys((*(f"{role} messages" for role in roles), *named)))[:_MOST_NAMED]

    def check_roles(self, tenant: TenantConfig) -> None:
        """Raises RefusedChatError (422) for a system message where the tenant file refuses them."""
        if OpenAiSection.of(tenant).system_messages == "ignored":
            return
        for at, message in enumerate(self.messages):
            if message.role in ("system", "developer"):
                text = "The prompt is the tenant's own: no system message is taken. Leave it out."
                raise _refused(text, param=f"messages.{at}.role")

    def check_model(self, served: str) -> None:
        """Raises RefusedChatError (404) unless the request names the served model or ``default``."""
        if self.model not in (DEFAULT_MODEL, served):
            raise RefusedChatError(
                NotFoundError(f'The model here is "{served}"; ask for it, or for "{DEFAULT_MODEL}".'),
                param="model",
            )


class RefusedChatError(AssistantError):
    """A chat request was refused; ``param`` names the wrong parameter, if there is one."""

    def __init__(self, refused: AssistantError, *, param: str | None) -> None:
        super().__init__(refused.message, retry_after_s=refused.retry_after_s)
        self.refused = refused
        self.param = param


def read_chat_request(body: bytes) -> ChatRequest:
    """Return the request of a body. Raises RefusedChatError (400, 413, 422)."""
    try:
        return ChatRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            unreadable = UnreadableRequestError("The body is not valid JSON in UTF-8.")
            raise RefusedChatError(unreadable, param=None) from None
        param = _param(first["loc"])
        advice = _REFUSALS.get((param or "").partition(".")[0])
        if advice is not None and not first["type"].endswith("too_long"):
            raise _refused(advice, param=param or "") from None
        raise RefusedChatError(invalid_request(error), param=param) from None


def question_of(chat: ChatRequest) -> ChatQuestion:
    """Return a chat request as a question. Raises RefusedChatError (422)."""
    last, place = chat.messages[-1], f"messages.{len(chat.messages) - 1}"
    if not isinstance(last, ChatUserMessage):
        raise _refused("The last message must be the user's question.", param=f"{place}.role")
    if chat.stream_options is not None and not chat.stream:
        raise _refused("stream_options goes only with stream: true; leave it out.", param="stream_options")
    try:
        return ChatQuestion(
            question=last.text(),
            conversation_id=chat.conversation_id,
            filters=chat.filters,
            context=chat.context,
            max_tokens=chat.max_completion_tokens or chat.max_tokens,
            earlier_questions=_earlier_questions(chat),
        )
    except ValidationError as error:
        raise RefusedChatError(invalid_request(error), param=f"{place}.content") from None


def _earlier_questions(chat: ChatRequest) -> tuple[str, ...]:
    """Return the user's messages before the last one, at most two, oldest first; none where records have the
    turns.

    A message without text, or over MAX_EARLIER_CHARACTERS, and those before it are left out. Example, of "A",
    "B" and the question: ("A", "B"); if A is too long ("B",); if B is, none: A is not what came before.
    """
    texts = [message.text() for message in chat.messages[:-1] if isinstance(message, ChatUserMessage)]
    latest_first = takewhile(lambda text: 0 < len(text) <= MAX_EARLIER_CHARACTERS, reversed(texts[-2:]))
    return tuple(latest_first)[::-1] if chat.conversation_id is None else ()


def _param(location: Sequence[int | str]) -> str | None:
    """Return the parameter's path, without pydantic's names of a union's branches."""
    named = (part for part in location if isinstance(part, int) or part.isidentifier())
    parts = [str(part)[:64] for part in named if part not in _ROLES]
    return ".".join(parts) or None


def _refused(message: str, *, param: str) -> RefusedChatError:
    return RefusedChatError(InvalidRequestError(message), param=param)


_END = b"data: [DONE]\n\n"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_UNCERTAIN = "Not certain: check before you send."
_QUOTED = "Quoted from the documents."
_NO_ANSWER = {
    FinishReason.NO_EVIDENCE: "Not in the knowledge base.",
    FinishReason.SOURCES_ONLY: "Nothing could be quoted; these passages were found:",
    FinishReason.REFUSED: "The sources do not answer this question.",
}
"""Content of an answer without text, when ``done`` has no reason in words."""


@dataclass(slots=True)
class ChatReading:
    """Collects the events of one answer, in the order of its stream (``Started`` first, ``Sources`` before
    the text, ``Done`` last), and tells the text that each adds to the content.

    Example: of ``Started``, ``Sources``, ``Token("Wait two days.")`` and ``Done``, ``see`` returns "", "",
    "Wait two days." and "". Then ``whole`` is the answer, and ``notice`` what the content ends with.
    """

    events: list[AnswerEvent] = field(default_factory=list[AnswerEvent])
    """Those seen so far, a token's text as the content has it."""
    started: Started = field(init=False)
    """The first event; set when it is seen."""
    lead: str = ""
    """Text before the answer in the content: red flags. Offsets in the content include it."""
    _late: str = ""
    """Red flags that came after the text began: they stand after it."""
    _urls: tuple[str, ...] = ()
    """Of the sources: links to them stay."""

    def see(self, event: AnswerEvent) -> str:
        """Take the next event, and return the text that it adds to the content: ``lead``, a token's, or none.

        A token's text is made inert, for a chat client draws quotes as Markdown, too. Its length stays
        (``inert``), and so do the offsets of sentences and elements.
        """
        text = ""
        if isinstance(event, Token):
            text = inert(event.text, listed_urls=self._urls)
            event = Token(text)
        elif isinstance(event, Sources):
            self._urls = tuple(source.url for source in event.sources if source.url)
        elif isinstance(event, RedFlags):
            flags = "".join(map(_red_flag, event.red_flags))
            if any(isinstance(seen, Token) for seen in self.events):
                self._late += f"\n\n{flags.strip()}"
            else:
                text, self.lead = flags, self.lead + flags
        elif isinstance(event, Started):
            text = "".join(map(_red_flag, event.red_flags))
            if event.unchecked_language is not None:
                text += f"{unchecked_notice(event.unchecked_language)}\n\n"
            self.started, self.lead = event, text
        self.events.append(event)
        return text

    def whole(self) -> wire.WholeAnswer:
        """Return the answer that has ended; its sentences and elements have offsets of the content:
        the answer's own, moved by the length of ``lead``."""
        whole, by = whole_answer(self.events), len(self.lead)
        if not by:
            return whole
        sentences = tuple(_moved(sentence, by) for sentence in whole.sentences)
        elements = tuple(
            element.model_copy(update={"display": _moved(element.display, by)}) for element in whole.elements
        )
        return whole.model_copy(update={"sentences": sentences, "elements": elements})

    def notice(self, whole: wire.WholeAnswer) -> str:
        """Return the content after the answer's text, possibly empty.

        Without a text: why there is none, and whom to ask. After a text: what its live elements show, and
        that it is quoted, or written and uncertain. A client that knows nothing of elements shows the label
        in the text, and the value under it: "[order status]: Shipped (orders, …)".
        """
        if whole.text.strip():
            notes = [_line_of(element) for element in whole.elements if not _is_quoted(element)]
            notes += [_QUOTED] if _is_section(whole) else []
            notes += [_UNCERTAIN] if whole.certainty is Certainty.POSSIBLY else []
            notes += [f"{missing}. The answer may change." for missing in whole.loading]
            if withheld := sum(sentence.detail == "withheld" for sentence in whole.sentences):
                notes += [f"Withheld: {withheld} of the model's sentences, with values that no source has."]
            notes += [
                f"Not answered: {safe_markdown(question, allowed_urls=())}" for question in whole.unanswered
            ]
            return self._late + "".join(f"\n\n{note}" for note in notes)
        if whole.finish_reason not in _NO_ANSWER:
            return ""
        if whole.finish_reason is FinishReason.SOURCES_ONLY:
            titles = [f"[{source.n}] {inert(source.title)}" for source in whole.sources]
            return "\n".join([_NO_ANSWER[whole.finish_reason], *titles])
        reason = inert(whole.reason or _NO_ANSWER[whole.finish_reason])
        return f"{reason}\n\nAsk: {whole.escalation}" if whole.escalation else reason


def _is_section(whole: wire.WholeAnswer) -> bool:
    """Return whether sections of documents are quoted, and no approved answer."""
    cited = [source.kind for source in whole.sources if source.n in whole.citations]
    return whole.mode is Mode.QUOTED and "document" in cited and "approved" not in cited


def _moved(place: PlaceT, by: int) -> PlaceT:
    """Return the sentence, or the place of an element, with its offsets in the text ``by`` characters on."""
    return place.model_copy(update={"start": place.start + by, "end": place.end + by})


def _annotations(whole: wire.WholeAnswer) -> tuple[wire.ChatAnnotation, ...]:
    """Return one annotation for each source that a sentence cites, over the sentence. An approved answer has
    no address, and none: what it rests on is cited beside it."""
    sources = {source.n: source for source in whole.sources}
    return tuple(
        wire.ChatAnnotation(
            url_citation=wire.UrlCitation(
                start_index=sentence.start, end_index=sentence.end, url=url, title=sources[n].title
            )
        )
        for sentence in whole.sentences
        for n in sentence.citations
        if n in sources and (url := sources[n].url or sources[n].document_url)
    )


def _answer(events: wire.WholeAnswer | Started) -> wire.ChatAnswer:
    """Return the field ``answer``: of the first chunk, or of an answer that has ended."""
    return wire.ChatAnswer(**fields_of(events, wire.ChatAnswer))


def _red_flag(flag: RedFlag) -> str:
    """Return an emergency as a paragraph before the answer."""
    return f"**{safe_markdown(f'{flag.text} Call: {flag.call}', allowed_urls=())}**\n\n"


def _is_quoted(element: Element) -> bool:
    """Return whether the element is made of documents: the text has its words."""
    rows = element.data.rows if element.data is not None else ()
    return any(value.citations for row in rows for value in row.values)


def _line_of(element: Element) -> str:
    data = element.data
    if data is None:
        said, origin = element.detail, element.about
    else:
        rows = [f"{row.title}: {_words_of(row.values)}" for row in data.rows]
        said = "; ".join(filter(None, (_words_of(data.values), *rows, data.url)))
        at = element.as_of
        when = at.strftime("%Y-%m-%d %H:%M %Z") if isinstance(at, datetime) else None
        origin = ", ".join(filter(None, (element.source, element.about, when)))
    line = " ".join(f"{said} ({origin})".split() if origin else said.split())
    allowed = [data.url] if data is not None and data.url is not None else []
    return f"{label_of(element.title)}: {safe_markdown(line, allowed_urls=allowed).strip()}"


def _words_of(values: Sequence[ElementValue]) -> str:
    """Return values as words; the label of a single one is the element's own."""
    if len(values) == 1:
        return values[0].text
    return ", ".join(f"{value.label} {value.text}".strip() for value in values)


@dataclass(slots=True)
class ChatEncoder:
    """Encodes the events of one answer, in the order of its stream, as chat chunks."""

    created: int
    """Unix time in seconds."""
    include_usage: bool
    _reading: ChatReading = field(default_factory=ChatReading)
    _prefix: bytes = b""
    """What a chunk of text has before its text as JSON, so that only the text is encoded for each token:
    ``data: {"id": …, "choices": [{"delta": {"content": ``. Set by ``_begin``, as is ``_suffix``."""
    _suffix: bytes = b""
    """What it has after its text: ``}, …}], …}`` and a blank line."""

    def encode(self, event: AnswerEvent) -> bytes:
        """Return the server-sent events for one answer event, possibly none."""
        if isinstance(event, Problem):
            return _data(chat_error(event).model_dump_json().encode())
        text = self._reading.see(event)
        if isinstance(event, Token):
            return self._text(text)
        if isinstance(event, Started):
            return self._begin() + (self._text(text) if text else b"")
        if isinstance(event, Done):
            return self._end()
        return self._text(text) if text else b""

    def _begin(self) -> bytes:
        """Return the first chunk; set what each chunk of text has before and after its text, by cutting the
        chunk of a placeholder at it. No other field of a chunk has a NUL."""
        chunk_of_placeholder = self._chunk(wire.ChatDelta(content="\0"))
        self._prefix, _, self._suffix = chunk_of_placeholder.partition(rb'"\u0000"')
        delta = wire.ChatDelta(role="assistant", content="")
        return self._chunk(delta, answer=_answer(self._reading.started))

    def _text(self, text: str) -> bytes:
        return self._prefix + orjson.dumps(text) + self._suffix

    def _end(self) -> bytes:
        whole = self._reading.whole()
        notice = self._reading.notice(whole)
        parts = [self._chunk(wire.ChatDelta(content=notice))] if notice else []
        parts.append(
            self._chunk(
                wire.ChatDelta(annotations=_annotations(whole)),
                finish_reason=_finish_reason(whole),
                answer=_answer(whole),
            )
        )
        if self.include_usage and (usage := _usage(whole)):
            parts.append(self._chunk(None, usage=usage))
        return b"".join([*parts, _END])

    def _chunk(
        self,
        delta: wire.ChatDelta | None,
        *,
        finish_reason: wire.ChatFinishReason | None = None,
        usage: wire.ChatUsage | None = None,
        answer: wire.ChatAnswer | None = None,
    ) -> bytes:
        chunk = wire.ChatCompletionChunk(
            id=self._reading.started.answer_id,
            created=self.created,
            model=self._reading.started.model,
            choices=()
            if delta is None
            else (wire.ChatChunkChoice(delta=delta, finish_reason=finish_reason),),
            usage=usage,
            answer=answer,
        )
        fields = chunk.model_dump(mode="json")
        if answer is None:
            del fields["answer"]
        if not self.include_usage:
            del fields["usage"]
        for choice in fields["choices"]:
            choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
        return _data(orjson.dumps(fields))


def chat_completion(events: Sequence[AnswerEvent], *, created: int) -> wire.ChatCompletion:
    """Return the events of an answer that ended with ``done`` as one body."""
    reading = ChatReading()
    text = "".join(map(reading.see, events))
    whole = reading.whole()
    message = wire.ChatCompletionMessage(
        content=text + reading.notice(whole), annotations=_annotations(whole)
    )
    return wire.ChatCompletion(
        id=whole.answer_id,
        created=created,
        model=whole.model,
        choices=(wire.ChatChoice(message=message, finish_reason=_finish_reason(whole)),),
        usage=_usage(whole),
        answer=_answer(whole),
    )


def chat_error(problem: Problem, *, param: str | None = None) -> wire.ChatError:
    """Return the problem in OpenAI's form, with our code."""
    return wire.ChatError(
        error=wire.ChatErrorBody(
            message=problem.detail,
            type=_TYPES.get(problem.status, "invalid_request_error"),
            code=problem.code,
            param=param,
            retryable=problem.retryable,
        )
    )


def _finish_reason(whole: wire.WholeAnswer) -> wire.ChatFinishReason:
    if whole.finish_reason is FinishReason.CONTENT_FILTER:
        return "content_filter"
    return "length" if whole.finish_reason is FinishReason.LENGTH else "stop"


def _usage(whole: wire.WholeAnswer) -> wire.ChatUsage | None:
    """Return the tokens that a model read and wrote; None where none was asked."""
    prompt, completion = whole.usage.prompt_tokens, whole.usage.completion_tokens
    if not prompt and not completion:
        return None
    return wire.ChatUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def _data(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


async def complete_chat(answers: Answers, scope: Scope, receive: Receive, send: Send) -> None:
    """The same answer as from /v1/answers, with the same admission, retrieval, gate, checks and record; the
    id of the completion is its answer_id. The last message, with role user, is the question. Where a model
    writes, it reads the two previous user messages, too; without one, a question that makes no sense
    without them is to be asked in full. Messages with role assistant are never read; with conversation_id
    (from answer.conversation_id) the recorded turns are used instead. Messages of other roles and unknown
    parameters are ignored, and named in a Warning header; a parameter that no answer in text obeys is
    refused (422). The content is the answer's text. A quoted section, and a written answer that is
    uncertain, end with a line that says so. Without evidence the content is the reason and whom to ask.
    Both have finish_reason stop; answer.finish_reason and answer.certainty distinguish them.
    """

    async def work() -> None:
        headers = Headers(scope=scope)
        identity = await answers.identify(scope, "questions")
        try:
            body = await delivery.read_body(scope, receive, limit_bytes=delivery.CHAT_LIMIT_BYTES)
            chat = read_chat_request(body)
            question = await answers.question(question_of(chat), identity, key=idempotency_key(headers))
            chat.check_roles(question.tenant.answering.tenant)
            chat.check_model(question.tenant.answering.writer.model.model_id)
        except RefusedChatError as error:
            await answers.refuse(send, problem_of(error.refused), _refusal_sender(param=error.param))
            return
        async with answers.asking(question, receive) as reading:
            await _send_answer(answers, reading, send, chat=chat)

    await answers.at_edge(work, send, send_refusal=_refusal_sender())


async def list_models(answers: Answers, scope: Scope, _receive: Receive, send: Send) -> None:
    """The one model that a chat may name, beside ``default``, which is the same."""

    async def work() -> None:
        identity = await answers.identify(scope, "reads")
        model = answers.service.tenants[identity.tenant].answering.writer.model.model_id
        created = int(answers.service.clock.now().timestamp())
        entry = wire.ChatModel(id=model, created=created, owned_by=identity.tenant)
        body = wire.ChatModels(data=(entry,)).model_dump_json().encode()
        await send_json(send, body, limits=answers.limits)

    await answers.at_edge(work, send, send_refusal=_refusal_sender())


async def _send_answer(answers: Answers, reading: Reading, send: Send, *, chat: ChatRequest) -> None:
    """Send chunks, or one body once the answer has ended. Raises as ``send_stream`` and ``whole_events``."""
    created = int(answers.service.clock.now().timestamp())
    headers = [(b"x-answer-id", reading.answer_id.encode())]
    if chat.ignored:
        headers.append((b"warning", f'299 - "Ignored: {", ".join(chat.ignored)}"'.encode()))
    if not chat.stream:
        if events := await whole_events(reading):
            body = chat_completion(events, created=created).model_dump_json().encode()
            await send_json(send, body, limits=answers.limits, headers=headers)
        return
    include_usage = bool(chat.stream_options and chat.stream_options.include_usage)
    encoder = ChatEncoder(created=created, include_usage=include_usage)

    def encode(numbered: Sequence[Numbered]) -> bytes:
        return b"".join(encoder.encode(event) for _, event in numbered)

    await send_stream(reading, send, limits=answers.limits, encode=encode, headers=headers, until_done=True)


def _refusal_sender(*, param: str | None = None) -> SendRefusal:
    """Return a function that sends a refusal in OpenAI's form, with the header that its clients check."""

    async def send_error(send: Send, problem: Problem, *, retry_after_s: float | None = None) -> None:
        body = orjson.dumps(chat_error(problem, param=param).model_dump())
        headers = problem_headers(problem, retry_after_s=retry_after_s) | {
            "content-type": "application/json",
            "x-should-retry": "true" if problem.retryable else "false",
        }
        await send_refusal(send, problem.status, body, headers)

    return send_error
