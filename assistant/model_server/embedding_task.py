"""Embeddings over HTTP as Text Embeddings Inference answers them on SageMaker.

Request ``{"inputs": "text" | ["text", …], "normalize": true, "truncate": false}``, answer
``[[float, …], …]``, errors ``{"error": …, "error_type": …}`` with the statuses of that server
(router/src/http/server.rs): an input that is too long is 413 ``Validation``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr, ValidationError
from starlette.responses import Response
from starlette.types import Scope, Send
from tokenizers import Tokenizer

from assistant.domain.errors import OverloadedError, PassageTooLongError
from assistant.model_server.embedding_engine import EmbeddingEngine, Vectors
from assistant.model_server.embedding_runtime import of_unit_length

MOST_INPUTS = 32
"""Inputs of one request, as that server has it by default (``max_client_batch_size``)."""
ErrorType = Literal["Validation", "Tokenizer", "Overloaded", "Backend", "Empty"]
_STATUS: dict[ErrorType, int] = {
    "Empty": 400,
    "Validation": 413,
    "Tokenizer": 422,
    "Overloaded": 429,
    "Backend": 424,
}
_SCOPE: Scope = {"type": "http"}


class _EmbedRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    inputs: StrictStr | list[StrictStr]
    normalize: StrictBool = True
    truncate: StrictBool = False


class EmbeddingTask:
    """A ``ServedTask`` over an engine and the model's tokenizer."""

    def __init__(self, engine: EmbeddingEngine, *, tokenizer: Tokenizer, max_input_tokens: int) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_input_tokens = max_input_tokens
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizing")

    async def healthy(self) -> bool:
        return self._engine.alive

    async def invoke(self, body: bytes, *, send: Send) -> None:
        await (await self._answer(body))(_SCOPE, _nothing_to_receive, send)

    def refuse(self, status: int, message: str) -> Response:
        return _error_response(status, message, kind="Validation" if status < 500 else "Backend")

    async def _answer(self, body: bytes) -> Response:
        try:
            request = _EmbedRequest.model_validate(orjson.loads(body))
        except orjson.JSONDecodeError:
            return _error("Tokenizer", "The body is not UTF-8 JSON.")
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in found["loc"]) or "the body"
            return _error("Tokenizer", f"{place}: {found['msg']}")
        texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
        refusal = _refusal(texts, truncate=request.truncate)
        if refusal is not None:
            return refusal
        try:
            vectors = await self._embed(texts, normalize=request.normalize)
        except PassageTooLongError as error:
            return _error("Validation", error.message)
        except OverloadedError as error:
            return _error("Overloaded", error.message)
        return Response(
            orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
        )

    async def _embed(self, texts: list[str], *, normalize: bool) -> Vectors:
        loop = asyncio.get_running_loop()
        passages = await loop.run_in_executor(self._tokenizing, self._tokenize, texts)
        vectors = await self._engine.embed(passages)
        if normalize:
            vectors = of_unit_length(vectors)
        return vectors

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        passages = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        longest = max(map(len, passages))
        if longest > self._max_input_tokens:
            raise PassageTooLongError(
                f"`inputs` must have at most {self._max_input_tokens} tokens. Given: {longest}"
            )
        return passages


def _refusal(texts: list[str], *, truncate: bool) -> Response | None:
    if truncate:
        return _error("Validation", "`truncate` is refused: this server never embeds a part of an input.")
    if not texts or not all(texts):
        return _error("Empty", "`inputs` cannot be empty")
    if len(texts) > MOST_INPUTS:
        return _error("Validation", f"batch size {len(texts)} > maximum allowed batch size {MOST_INPUTS}")
    return None


def _error(kind: ErrorType, message: str) -> Response:
    return _error_response(_STATUS[kind], message, kind=kind)


def _error_response(status: int, message: str, *, kind: ErrorType) -> Response:
    return Response(
        orjson.dumps({"error": message, "error_type": kind}), status, media_type="application/json"
    )


async def _nothing_to_receive() -> dict[str, str]:
    raise AssertionError("a whole response reads nothing from its client")
