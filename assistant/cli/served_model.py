"""``assistant models use --url`` and ``--endpoint``: checks an LLM that runs elsewhere, questions it, and
chooses it for tenants. What is wrong with it is reported now, and not to an agent."""
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
from pydantic import ValidationError

from assistant.answering.ports import AnswerGenerator
from assistant.answering.prompt import FileTokenCounter
from assistant.aws.event_stream import ChatChunkParser, ChatStreamError
from assistant.cli.models import choose_for, describe
from assistant.cli.terminal import GlobalOptions, Terminal, plain
from assistant.domain.clock import SystemClock
from assistant.domain.errors import AssistantError, ConfigurationError, LocalRuntimeError
from assistant.evaluation.model_questions import Counts, ask_model, load_model_questions, measure_reading
from assistant.local.processes import HOST
from assistant.recorded_model import CONTEXT_TOKENS
from assistant.settings.local_models import ServedLlm
from assistant.settings.model_artifacts import WRITER
from assistant.settings.process import GatewaySettings, inherited_environment
from assistant.settings.tenant import load_tenants

RECORDED = "recorded"
"""Name of the model that plays the committed recordings."""
DEFAULT_CONTEXT_TOKENS = 4096
"""Ollama's default on a small graphics card. It cuts a longer prompt, and tells neither."""
_LEAST_CONTEXT_TOKENS = 256
_OPEN_TO_ALL = 0o007
_FIRST_ANSWER_LIMIT_S = 300.0
"""A server may first load the model from disk; the gateway then waits 60 s, as SageMaker does."""
_QUESTIONS_LIMIT_S = 3600.0
_CONNECT_LIMIT_S = 5.0
_START_LIMIT_S = 30.0
_MOST_BYTES = 1024 * 1024
_SHOWN_CHARACTERS = 200
_EVENT_STREAM = "text/event-stream"
_ADVICE = {
    400: "The server refuses the request; its log says why",
    401: "Give the server's key by --key-file FILE",
    403: "Give the server's key by --key-file FILE",
    404: "Check that the path of the URL is the API's (mostly /v1), and that the server has the model",
    429: "The server is overloaded; try again when it is not",
}


@dataclass(frozen=True, slots=True)
class ServedOptions:
    """What the command was told of the model. Either ``url`` and ``model``, or ``endpoint`` is given."""

    url: str | None = None
    model: str | None = None
    endpoint: str | None = None
    key_file: Path | None = None
    context_tokens: int | None = None
    tokenizer: Path | None = None
    sends_questions_to: str | None = None

    @property
    def plays_recording(self) -> bool:
        """Whether committed answers are played in place of a model."""
        return self == ServedOptions(model=RECORDED)

    def described(self) -> ServedLlm:
        """Return the model, not yet checked. Raises ConfigurationError."""
        region = None if self.endpoint is None else _region()
        model = self.endpoint or self.model or ""
        name = f"{model}-at-{region or (self.url or '').partition('://')[2]}"
        try:
            return ServedLlm(
                name=re.sub(r"[^A-Za-z0-9]+", "-", name)[-80:].strip("-"),
                model=model,
                url=self.url and self.url.rstrip("/"),
                region=region,
                key_file=self.key_file and self.key_file.resolve(),
                sends_questions_to=self.sends_questions_to,
                tokenizer=self.tokenizer and self.tokenizer.resolve(),
                context_tokens=self.context_tokens or DEFAULT_CONTEXT_TOKENS,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"{first['msg'].removeprefix('Value error, ')}.") from None


def use_recorded_model(options: GlobalOptions, *, tenants: Sequence[str]) -> None:
    """Choose the recorded answers beside the tenants' folder for the tenants. Raises ConfigurationError."""
    folder = options.tenants_dir.resolve().parent / "evaluation" / "recorded"
    if not any(folder.glob("*.jsonl")):
        raise ConfigurationError(
            f"{folder}: there are no recorded answers. Use a checkout, or another model."
        )
    model = ServedLlm(
        name=RECORDED,
        model=RECORDED,
        recording=folder,
        context_tokens=CONTEXT_TOKENS,
        answering=WRITER,
    )
    describe(options, model)
    for tenant in tenants:
        choose_for(options, tenant, model, Terminal())


def use_served_model(options: GlobalOptions, *, tenants: Sequence[str], served: ServedOptions) -> None:
    """Check the model, question it, and choose it for the tenants. Nothing is chosen when it is refused.

    Raises ConfigurationError with what was seen and what to do.
    """
    terminal = Terminal()
    for tenant in tenants:
        load_tenants(options.tenants_dir).one(tenant)
    model = served.described()
    if model.tokenizer is not None:
        FileTokenCounter(model.tokenizer).load()
    key = None if model.key_file is None else read_key(model.key_file)
    told, asked = None, served.context_tokens
    if model.url is not None:
        with terminal.waiting(f"asking {model.url}"):
            told = asyncio.run(look_at_server(model, key=key))
        if told is not None and (asked or 0) > told:
            raise ConfigurationError(
                f"{model.url} serves {model.model} with {told} tokens, fewer than --context-tokens {asked}. "
                "Start the server with more, or ask for fewer here."
            )
        model = model.model_copy(update={"context_tokens": asked or told or model.context_tokens})
    counts, reads = asyncio.run(_question(model, terminal))
    answering = WRITER.model_copy(update={"writes_answers": counts.may_write, "reads_tokens": reads})
    model = model.model_copy(update={"answering": answering})
    describe(options, model)
    for tenant in tenants:
        choose_for(options, tenant, model, terminal)
    by = "--context-tokens" if asked else "the server" if told else "default; --context-tokens N sets it"
    terminal.say(f"context of {model.context_tokens} tokens ({by})")
    if model.tokenizer is None:
        terminal.say("tokens are estimated from characters, too many rather than too few; --tokenizer FILE")
    if reads is not None:
        terminal.say(f"reads {reads} prompt tokens in 3 s: a longer prompt would keep agents waiting")
    terminal.say(str(counts))
    if not counts.may_write:
        terminal.say("that is below the bound: this model writes no answers, they stay quoted")


def read_key(path: Path) -> str:
    """Return the key of a server. Raises ConfigurationError for a file that everybody may read, or that holds
    no key."""
    if path.stat().st_mode & _OPEN_TO_ALL:
        raise ConfigurationError(
            f"{path}: every user of this machine may read the key. Run: chmod 600 {path}"
        )
    key = path.read_bytes().strip()
    if not re.fullmatch(rb"[!-~]+", key):
        raise ConfigurationError(f"{path}: it must hold the server's key alone, on one line.")
    return key.decode()


async def look_at_server(model: ServedLlm, *, key: str | None) -> int | None:
    """Ask the chat server for a streamed answer; return the context that it tells of, None if it does not.

    Raises ConfigurationError with what was seen and what to do.
    """
    url, headers = str(model.url), {} if key is None else {"Authorization": f"Bearer {key}"}
    timeout = httpx.Timeout(_FIRST_ANSWER_LIMIT_S, connect=_CONNECT_LIMIT_S)
    try:
        async with (
            asyncio.timeout(_FIRST_ANSWER_LIMIT_S),
            httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as client,
        ):
            if (wrong := await _first_answer(client, url, model.model)) is not None:
                seen = f"{url}: {wrong}. Its models: curl {url}/models"
                raise ConfigurationError(plain(seen.replace(key, "…") if key else seen).plain)
            return await _told_context(client, url, model.model)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise ConfigurationError(
            f"{url} does not answer as a chat server ({type(error).__name__}). Is it running there? Try: "
            f"curl {url}/models"
        ) from None


async def _first_answer(client: httpx.AsyncClient, url: str, model: str) -> str | None:
    """Return what is wrong with a streamed answer, and what to do; None for a whole one."""
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "Reply with one word."}],
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with client.stream("POST", f"{url}/chat/completions", json=asked) as response:
        kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
        if response.is_redirect:
            return f"redirects to {response.headers.get('Location')}. Name that URL, if it is the server's"
        if response.status_code != 200 or kind != _EVENT_STREAM:
            text = await _excerpt(response)
            seen = f"POST /chat/completions gave status {response.status_code} and {kind}: {text}"
            advice = "This is no server that streams chat completions; name the base URL of one, mostly …/v1"
            return f"{seen}. {_ADVICE.get(response.status_code, advice)}"
        chunks, size = ChatChunkParser(), 0
        try:
            async for piece in response.aiter_bytes():
                chunks.feed(piece)
                size += len(piece)
                if chunks.done or size > _MOST_BYTES:
                    break
        except ChatStreamError as error:
            return f"{error}. Name a server of OpenAI's chat API"
    if chunks.finish_reason is None:
        return "its stream ended in the middle of an answer. See the server's log"
    return None


async def _excerpt(response: httpx.Response) -> str:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _SHOWN_CHARACTERS:
            break
    return " ".join(body.decode(errors="replace").split())[:_SHOWN_CHARACTERS] or "an empty body"


async def _told_context(client: httpx.AsyncClient, url: str, model: str) -> int | None:
    """Return the context of one request as the server tells it.

    llama.cpp lists the length that the model was trained with; what a request gets is in ``/props``.
    """
    props = await _read(client, f"{url.removesuffix('/v1')}/props")
    listed: Any = (await _read(client, f"{url}/models")).get("data")
    entries = cast("list[Any]", listed) if isinstance(listed, list) else []
    entry = next((one for one in entries if _at(one, "id") == model), None)
    trained = _size(entry, "meta", "n_ctx_train")
    return (
        _size(props, "default_generation_settings", "n_ctx")
        or _size(entry, "max_model_len")  # vLLM
        or _size(entry, "context_length")
        or (trained and min(trained, DEFAULT_CONTEXT_TOKENS))
    )


async def _read(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is none."""
    try:
        found: Any = (await client.get(url)).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _size(found: Any, *path: str) -> int | None:
    """Return the number of tokens at a path of JSON; None where there is none that a model can have."""
    size = _at(found, *path)
    return size if isinstance(size, int) and size >= _LEAST_CONTEXT_TOKENS else None


def _at(found: Any, *path: str) -> object:
    for name in path:
        found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
    return found


async def _question(model: ServedLlm, terminal: Terminal) -> tuple[Counts, int | None]:
    """Ask the shipped questions through the gateway, as the service does, and measure how fast it reads."""
    clock = SystemClock()
    try:
        async with asyncio.timeout(_QUESTIONS_LIMIT_S), _behind_gateway(model) as generator:
            with terminal.counting("questions to the model", "answered") as show:
                counts = await ask_model(generator, load_model_questions(), clock=clock, show=show)
            reads = await measure_reading(generator, context_tokens=model.context_tokens, clock=clock)
    except TimeoutError:
        raise ConfigurationError(
            f"{model.origin} took over an hour for twenty questions. Take a smaller model."
        ) from None
    except AssistantError as error:
        raise ConfigurationError(f"{model.origin} was asked, and failed: {error.message}") from None
    return counts, reads


@asynccontextmanager
async def _behind_gateway(model: ServedLlm) -> AsyncGenerator[AnswerGenerator]:
    """Yield the model as the service calls it: over a gateway in a process of its own. Raises
    LocalRuntimeError."""
    from assistant.aws.sagemaker import SageMakerGenerator, open_sagemaker_runtime

    settings = GatewaySettings.read(port=0, endpoints={}, served={model.endpoint: model})
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "assistant.local.gateway"),
        env=inherited_environment() | settings.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert gateway.stdout is not None  # noqa: S101 (for the type checker)
    try:
        line = await asyncio.wait_for(gateway.stdout.readline(), _START_LIMIT_S)
        if not line:
            raise LocalRuntimeError("The gateway did not start. Run assistant local up; its log says why.")
        ready: dict[str, Any] = orjson.loads(line)
        address = f"http://{HOST}:{ready['port']}"
        async with open_sagemaker_runtime(region="us-east-1", endpoint_url=address) as runtime:
            yield SageMakerGenerator(runtime, endpoint=model.endpoint)
    finally:
        if gateway.returncode is None:
            gateway.terminate()
        await gateway.wait()


def _region() -> str:
    """Return the region of the usual AWS settings. Raises ConfigurationError."""
    from aiobotocore.session import get_session

    session: Any = get_session()
    region = str(os.environ.get("AWS_REGION") or session.get_config_variable("region") or "")
    if not region:
        raise ConfigurationError("--endpoint needs a region: set AWS_REGION, or region in ~/.aws/config.")
    return region
