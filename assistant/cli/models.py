"""``assistant models``: describes models under the state folder, and chooses them; weights stay in place.

An LLM that runs elsewhere, behind a chat server or a SageMaker endpoint, is asked questions first; one that
may write checks sentences, too. Its owner reads what is wrong with it, and not an agent.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import httpx
import typer
from pydantic import ValidationError
from typer import Argument, Option

from assistant.answer.prompt import rendered
from assistant.answer.services import AnswerWriter
from assistant.documents.page import first_of
from assistant.documents.readable import pages_of
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState
from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError, NotFoundError
from assistant.evaluation.check_pairs import ModelAlone, ask_pairs, load_check_pairs
from assistant.evaluation.model_questions import Counts, ask_model, load_model_questions, measure_reading
from assistant.laptop.layout import models_dir
from assistant.models.artifacts import FileTokenCounter, model_elsewhere
from assistant.models.chat_server import CompletionParser
from assistant.models.recorded import CONTEXT_TOKENS, MAX_TOKENS, HeardModel
from assistant.option import installed
from assistant.process.private_files import make_private_folder, write_private
from assistant.process.settings import ModelServerSettings, inherited_environment
from assistant.stores.documents import STATES
from assistant.stores.ports import ChatMessage
from assistant.tenant import added_models as local_models
from assistant.tenant.added_models import ServedLlm
from assistant.tenant.manifests import WRITER, AnsweringTable
from assistant.tenant.tenant import EmbeddingSection, TenantConfig, load_tenants
from assistant.terminal.loading import follow_here
from assistant.terminal.local import local_runtime
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain, table

if TYPE_CHECKING:
    from assistant.model_server.embedding_graph import Pooling
    from assistant.stores.opened import EmbeddedTenant

app = typer.Typer(no_args_is_help=True, add_completion=False)
for option in installed():
    option.add_to_models(app)
_BUILD_TIMEOUT_S = 600.0
_SHOWN_DIGITS = 12
"""Of a SHA-256."""
# (task, name) of the models in the package
_PACKAGED = (("embedding", "all-MiniLM-L6-v2"), ("generation", "SmolLM2-135M-Instruct"))
RECORDED = "recorded"
"""Name of the model that plays the committed recordings."""
DEFAULT_CONTEXT_TOKENS = 4096
"""Ollama's default below 24 GiB of graphics memory, taken where a server tells no context. Ollama cuts a
longer prompt and reports no cut."""
_RAISED_CONTEXT_TOKENS = 32_768
"""What the advice for Ollama asks for, unless the model has less: prompts of five documents fit."""
_LEAST_CONTEXT_TOKENS = 256
_OPEN_TO_ALL = 0o007
"""Bits of a file's mode that let other users read, write or execute it."""
_FIRST_ANSWER_LIMIT_S = 300.0
"""A server may first load the model from disk; the service then waits 60 s, as SageMaker does."""
_QUESTIONS_LIMIT_S = 3600.0
"""Of all questions to a model together."""
_CONNECT_LIMIT_S = 5.0
_MOST_BYTES = 1024 * 1024
"""Read of a server's first answer."""
_SHOWN_CHARACTERS = 200
"""Of a server's error."""
_SHOWN_MODELS = 8
_EVENT_STREAM = "text/event-stream"
# HTTP status of a chat server = what to do
_ADVICE = {
    400: "The server refuses the request; its log says why. Where the model's chat template takes no system "
    "message, add --no-system-role",
    401: "Give the server's key by --key-file FILE",
    403: "Give the server's key by --key-file FILE",
    404: "Check that the path of the URL is the API's (mostly /v1), and that the server has the model",
    429: "The server is overloaded; try again when it is not",
}
WEIGHTS = "model.safetensors or model.onnx, tokenizer.json, config.json. They are not copied."
Url = Annotated[str | None, Option("--url", metavar="URL", help="A chat server's API: http://HOST:PORT/v1.")]
ModelOfUrl = Annotated[str | None, Option("--model", metavar="NAME", help="The model's name at --url.")]
Endpoint = Annotated[
    str | None, Option("--endpoint", metavar="NAME", help="A SageMaker endpoint, by your AWS settings.")
]
KeyFile = Annotated[Path | None, Option("--key-file", metavar="FILE", help="File with the key of --url.")]
ContextTokens = Annotated[
    int | None, Option(min=256, metavar="N", help="Tokens of prompt and answer together.")
]
Tokenizer = Annotated[Path | None, Option(metavar="FILE", help="The model's tokenizer.json.")]
SendsTo = Annotated[
    str | None,
    Option("--sends-questions-to", metavar="HOST", help="Host of a --url outside your private networks."),
]
SystemRole = Annotated[
    bool,
    Option(
        "--system-role/--no-system-role", help="Whether the chat template of --url takes a system message."
    ),
]


@app.command()
def add(
    context: typer.Context,
    folder: Annotated[Path, Argument(metavar="FOLDER", help=WEIGHTS)],
    tenant: Annotated[
        str | None,
        Option("--tenant", metavar="T", help="Use it for this tenant at once. Default: only add it."),
    ] = None,
    name: Annotated[str | None, Option(metavar="NAME", help="Default: that of the folder.")] = None,
    pooling: Annotated[Literal["mean", "cls"] | None, Option(help="If the folder does not say it.")] = None,
) -> None:
    """Check the folder of an embedding model, describe it in the state folder, and use it for a tenant."""
    add_model(GlobalOptions.of(context), folder, name=name, pooling=pooling, tenant=tenant)


@app.command(name="list")
def list_(context: typer.Context) -> None:
    """List the models of this machine and the tenants that use each."""
    list_models(GlobalOptions.of(context))


@app.command()
def use(
    context: typer.Context,
    tenant: Tenant,
    name: Annotated[str | None, Argument(metavar="[NAME]", help="Name of an added model.")] = None,
    packaged: Annotated[bool, Option("--packaged", help="Use the packaged models again.")] = False,
    url: Url = None,
    model: ModelOfUrl = None,
    endpoint: Endpoint = None,
    key_file: KeyFile = None,
    context_tokens: ContextTokens = None,
    tokenizer: Tokenizer = None,
    sends_questions_to: SendsTo = None,
    system_role: SystemRole = True,
) -> None:
    """Choose an added model for a tenant, the packaged ones, or an LLM behind a chat server or an endpoint.

    The last is asked twenty questions and timed first; one that may write checks 80 sentences, too."""
    served = ServedOptions(
        url, model, endpoint, key_file, context_tokens, tokenizer, sends_questions_to, system_role
    )
    served.check(others=(name is not None) + packaged)
    if url is None and endpoint is None:
        use_model(GlobalOptions.of(context), tenant=tenant, name=name)
    else:
        use_served_model(GlobalOptions.of(context), tenants=[tenant], served=served)


# --- models on this machine -------------------------------------------------------------------------------
def add_model(
    options: GlobalOptions, path: Path, *, name: str | None, pooling: Pooling | None, tenant: str | None
) -> None:
    """Load the weights once, describe them, and choose them for the tenant, if one is named. Weights that
    cannot be loaded leave the manifest of the state folder as it was. Raises ConfigurationError,
    ConflictError."""
    from assistant.model_server.weights import look_at

    terminal = Terminal()
    config = None if tenant is None else _served_so_far(options, tenant)
    with terminal.waiting("reading the model"):
        try:
            model = look_at(path, name=name, pooling=pooling)
        except ValidationError as error:
            raise ConfigurationError(
                f"{path}: its name is not one of letters, digits, dots and hyphens "
                f"({error.errors()[0]['msg']}). Give it one with --name."
            ) from None
    folder = models_dir(options.state_dir) / model.name
    manifest = folder / local_models.MANIFEST_FILE
    old_manifest = manifest.read_bytes() if manifest.is_file() else None
    describe(options, model)
    try:
        with terminal.waiting("loading the model once"):
            model = _built(model, folder, config)
    except ConfigurationError:
        if old_manifest is None:
            manifest.unlink()
        else:
            write_private(manifest, old_manifest)
        raise
    write_private(manifest, model.as_toml().encode())
    if config is None:
        terminal.show(f"Added {model.name} ({model.origin}).")
        terminal.say(f"no tenant uses it yet: assistant models use {model.name} --tenant T")
        return
    choose_for(options, config.name, model, terminal)


def use_model(options: GlobalOptions, *, tenant: str, name: str | None) -> None:
    """Choose an added model for the tenant, or with None the packaged ones."""
    terminal = Terminal()
    load_tenants(options.tenants_dir).one(tenant)
    folder = models_dir(options.state_dir)
    if name is None:
        local_models.choose_packaged(folder, tenant)
        terminal.show(f"{tenant} uses the packaged models.")
        _embed_again(options, terminal, tenant=tenant)
        return
    added = {model.name: model for model in local_models.added_models(folder)}
    if name not in added:
        known = ", ".join(added) or "none"
        raise NotFoundError(
            f"There is no added model {name}; there are: {known}. Add one: assistant models add FOLDER."
        )
    choose_for(options, tenant, added[name], terminal)


def list_models(options: GlobalOptions) -> None:
    """Print the packaged and the added models, and the tenants that use each."""
    terminal = Terminal()
    folder = models_dir(options.state_dir)
    chosen = options.local_models(options.tenants().tenants)
    rows: list[Mapping[str, Any]] = []
    for task, name in _PACKAGED:
        users = [tenant for tenant, models in chosen.items() if getattr(models, task) is None]
        rows.append({"name": name, "task": task, "packaged": True, "used_by": users})
    for model in local_models.added_models(folder):
        users = [tenant for tenant, models in chosen.items() if getattr(models, model.task) == model]
        rows.append(model.model_dump(mode="json") | {"packaged": False, "used_by": users})
    if options.writes({"models": rows}):
        return
    shown: list[tuple[str, ...]] = []
    for row in rows:
        path = str(row.get("path") or row.get("url") or row.get("region") or "package")
        digest, users = row.get("sha256", "")[:_SHOWN_DIGITS], ", ".join(row["used_by"])
        written = "written" if row.get("answering", {}).get("writes_answers") else "quoted"
        answers = "" if row["task"] == "embedding" else written
        shown.append((row["name"], row["task"], path, digest, answers, users))
    terminal.out.print(table("model", "task", "from", "sha256", "answers", "used by", rows=shown))


def describe(options: GlobalOptions, model: local_models.AddedModel) -> None:
    """Write the model's manifest into the state folder. Raises ConflictError where a model of this name has
    another origin, or is packaged."""
    folder = models_dir(options.state_dir) / model.name
    _refuse_other(folder, model)
    make_private_folder(folder)
    write_private(folder / local_models.MANIFEST_FILE, model.as_toml().encode())


def choose_for(
    options: GlobalOptions, tenant: str, model: local_models.AddedModel, terminal: Terminal
) -> None:
    """Choose an added model for the tenant, and print what follows from it. Documents are embedded again with
    an embedding model."""
    tenant_before = load_tenants(options.tenants_dir).one(tenant)
    local_models.choose(models_dir(options.state_dir), tenant, model)
    terminal.show(f"{tenant} uses {model.name} ({model.origin}).")
    if isinstance(model, local_models.AddedEmbedding):
        difference = (
            f"vectors of {model.dimensions} dimensions, the index of {tenant_before.name} has "
            f"{tenant_before.embedding.dimensions}"
            if model.dimensions != tenant_before.embedding.dimensions
            else "vectors of another model"
        )
        terminal.say(f"{difference}: the knowledge is embedded again into a new index version")
        _embed_again(options, terminal, tenant=tenant_before.name)


def _embed_again(options: GlobalOptions, terminal: Terminal, *, tenant: str) -> None:
    """Bring the tenant's documents into the index of the embedding model that was just chosen.

    Starts nothing where the tenant has no documents yet.
    """
    runtime = local_runtime(options, terminal)
    if not options.with_stores(tenant, lambda stores: stores.get(STATES).count_by_state()):
        return
    began_s = time.monotonic()
    with runtime.site(command="assistant models"):
        waiting = options.with_stores(tenant, _unfinished)  # the worker enqueues what its index lacks
        failed = asyncio.run(follow_here(runtime, tenant, waiting))
    seconds = time.monotonic() - began_s
    terminal.say(f"{len(waiting) - len(failed)} documents of {tenant} embedded in {seconds:.1f} s")
    for status in failed:
        terminal.say(f"not embedded: {status.document_id}: {status.failure_reason}")


async def _unfinished(stores: EmbeddedTenant) -> list[str]:
    """Return the ids of the documents that are not indexed yet."""
    unfinished = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
    pages = pages_of(stores.knowledge.states, unfinished)
    return [status.document_id async for page in pages for status in page]


def _served_so_far(options: GlobalOptions, tenant: str) -> TenantConfig:
    """Return the tenant's settings with the models that it uses here; those of its file alone where a chosen
    model is invalid."""
    file = load_tenants(options.tenants_dir).one(tenant)
    try:
        return options.tenant(tenant)
    except ConfigurationError:
        return file


def _refuse_other(folder: Path, model: local_models.AddedModel) -> None:
    """Raise ConflictError where ``folder`` has another model of this name, or the name is a packaged
    model's."""
    packaged = {name for _, name in _PACKAGED}
    if model.name in packaged:
        raise ConflictError(
            f"{model.name} is the name of a packaged model. Give this one another: --name NAME."
        )
    if not (folder / local_models.MANIFEST_FILE).is_file():
        return
    existing = local_models.read_added_model(folder)
    if (existing.task, existing.origin) != (model.task, model.origin):
        raise ConflictError(
            f"There is already a model {model.name} with other weights ({existing.origin}, these are "
            f"{model.origin}). Give this one another name: --name NAME."
        )


def _built(
    model: local_models.AddedEmbedding, folder: Path, tenant: TenantConfig | None
) -> local_models.AddedEmbedding:
    """Load the weights once; return the model with the cosines that were measured. Raises
    ConfigurationError.

    They are loaded in a separate process, since a runtime may end its process on bad weights.
    """
    embedding = EmbeddingSection() if tenant is None else tenant.embedding
    settings = ModelServerSettings(
        task="embedding",
        manifest=folder / local_models.MANIFEST_FILE,
        artifacts_dir=folder.parent,
        max_input_tokens=min(model.max_tokens, embedding.max_tokens),
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "assistant.model_server.artifact"],
        env=inherited_environment() | settings.environment(),
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT_S,
        check=False,
    )
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"the process ended with status {ended.returncode}"]
        raise ConfigurationError(f"{model.path}: the model cannot be served here: {lines[-1]}")
    artifact = json.loads(ended.stdout)
    measured = {name: artifact[name] for name in ("cosine_unrelated", "cosine_related")}
    return model.model_copy(update=measured)


# --- models that run elsewhere ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ServedOptions:
    """The command's options on a model that runs elsewhere: ``url`` and ``model``, or ``endpoint``; none of
    them where another option names the model."""

    url: str | None = None
    model: str | None = None
    endpoint: str | None = None
    key_file: Path | None = None
    context_tokens: int | None = None
    tokenizer: Path | None = None
    sends_questions_to: str | None = None
    system_role: bool = True

    def check(self, *, others: int) -> None:
        """Raise typer.BadParameter unless exactly one model is named. ``others``: how many of the command's
        other options name one (NAME, --packaged)."""
        if (self.url is not None) + (self.endpoint is not None) + others != 1:
            raise typer.BadParameter("Give one of NAME, --packaged, --url URL and --endpoint NAME.")
        if (self.url is None) != (self.model is None):
            raise typer.BadParameter("--url URL and --model NAME go together.")
        if self.url is None and (self.key_file, self.sends_questions_to) != (None, None):
            raise typer.BadParameter("--key-file and --sends-questions-to belong to --url.")

    def described(self) -> ServedLlm:
        """Return the model's description before it is checked. Raises ConfigurationError.

        Its name is made of the model's and the server's: ``llama3-2-at-localhost-11434-v1``.
        """
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
                answering=AnsweringTable(system_role=self.system_role),
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"{first['msg'].removeprefix('Value error, ')}.") from None


def _recordings(options: GlobalOptions) -> Path:
    """Return the folder of committed recordings, beside the tenants' folder."""
    return options.tenants_dir.resolve().parent / "evaluation" / "recorded"


def play_recorded_answers(options: GlobalOptions, *, tenants: Sequence[str]) -> None:
    """Choose the recorded answers, if the folder has any, for the tenants that have chosen no LLM."""
    folder = _recordings(options)
    without_model = [name for name in tenants if options.local_models([name])[name].generation is None]
    if not without_model or not any(folder.glob("*.jsonl")):
        return
    model = ServedLlm(
        name=RECORDED,
        model=RECORDED,
        recording=folder,
        context_tokens=CONTEXT_TOKENS,
        answer_tokens=MAX_TOKENS,
        # An answer is played for its exact prompt only, so what is written is known; one has element tags.
        answering=WRITER.model_copy(update={"writes_elements": True}),
    )
    describe(options, model)
    for tenant in without_model:
        choose_for(options, tenant, model, Terminal(brief=True).detail)


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
    window, offered, wanted = Window(), None, served.context_tokens
    if model.url is not None:
        with terminal.waiting(f"asking {model.url}"):
            window = asyncio.run(look_at_server(model, key=key))
        if (offered := window.tokens) is not None and (wanted or 0) > offered:
            raise ConfigurationError(
                f"{model.url} serves {model.model} with {offered} tokens, fewer than --context-tokens "
                f"{wanted}. Start the server with more, or ask for fewer here."
            )
        model = model.model_copy(update={"context_tokens": wanted or offered or model.context_tokens})
    model, counts = asyncio.run(_question(model, terminal))
    describe(options, model)
    for tenant in tenants:
        choose_for(options, tenant, model, terminal)
    by = "--context-tokens" if wanted else "the server" if offered else "default; --context-tokens N sets it"
    terminal.say(f"context of {model.context_tokens} tokens ({by})")
    if window.advice:
        terminal.say(window.advice)
    _show_measured(terminal, model, counts)


def _show_measured(terminal: Terminal, model: ServedLlm, counts: Counts) -> None:
    """Print how tokens are counted, how fast the model reads, how it answered, and how it checked."""
    if model.token_ratio is not None:
        terminal.say(
            f"tokens are estimated from characters, times {model.token_ratio:.2f} as the server counts"
        )
    elif model.tokenizer is None:
        terminal.say("tokens are estimated from characters, too many rather than too few; --tokenizer FILE")
    if (reads := model.answering.reads_tokens) is not None:
        terminal.say(f"reads {reads} prompt tokens in 3 s: a longer prompt would keep agents waiting")
    terminal.say(str(counts))
    if not counts.may_write:
        terminal.say("that is below the bound: this model writes no answers, they stay quoted")
    elif (check := model.answering.sentence_check) is not None:
        terminal.say(f"checks sentences: {check}")
        if not check.is_believed:
            terminal.say("that is below the bound: the page says *not checked* of what this model writes")


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


@dataclass(frozen=True, slots=True)
class Window:
    """The context length that a server reports."""

    tokens: int | None = None
    """Of one request; None where it reports none."""
    advice: str = ""
    """How much of the model's own context is unused, and how to raise it; empty where that is unknown."""


async def look_at_server(model: ServedLlm, *, key: str | None) -> Window:
    """Ask the chat server for a streamed answer; return the context length that it reports.

    Raises ConfigurationError with what was seen and what to do.
    """
    url, headers = str(model.url), {} if key is None else {"Authorization": f"Bearer {key}"}
    timeout = httpx.Timeout(_FIRST_ANSWER_LIMIT_S, connect=_CONNECT_LIMIT_S)
    try:
        async with (
            asyncio.timeout(_FIRST_ANSWER_LIMIT_S),
            httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as client,
        ):
            if (fault := await _first_answer(client, url, model)) is not None:
                report = f"{url}: {fault}. {await _models_of(client, url)}"
                raise ConfigurationError(plain(report.replace(key, "…") if key else report).plain)
            told = await _told_context(client, url, model.model)
            return await _window_of_ollama(client, url, model.model) if told is None else Window(told)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise ConfigurationError(
            f"{url} does not answer as a chat server ({type(error).__name__}). Is it running there? Try: "
            f"curl {url}/models"
        ) from None


async def _first_answer(client: httpx.AsyncClient, url: str, model: ServedLlm) -> str | None:
    """Ask for one word; return what is wrong with the streamed answer, and what to do. None for a valid
    one."""
    probe = (ChatMessage("system", "Reply with one word."), ChatMessage("user", "Are you there?"))
    messages = rendered(probe, system_role=model.answering.system_role)
    body = {
        "model": model.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        media_type = response.headers.get("Content-Type", "no content type").partition(";")[0]
        if response.is_redirect:
            return f"redirects to {response.headers.get('Location')}. Name that URL, if it is the server's"
        if response.status_code != 200 or media_type != _EVENT_STREAM:
            text = await _excerpt(response)
            report = f"POST /chat/completions gave status {response.status_code} and {media_type}: {text}"
            advice = "This is no server that streams chat completions; name the base URL of one, mostly …/v1"
            return f"{report}. {_ADVICE.get(response.status_code, advice)}"
        completion, size = CompletionParser(), 0
        async for piece in response.aiter_bytes():
            _, fault = completion.feed(piece)
            if fault is not None:
                return f"{fault}. Name a server of OpenAI's chat API"
            size += len(piece)
            if completion.is_done or size > _MOST_BYTES:
                break
    if completion.last_delta() is None:
        return "its stream ended in the middle of an answer. See the server's log"
    return None


async def _models_of(client: httpx.AsyncClient, url: str) -> str:
    """Return a sentence with the names of the server's models, which not every server lists."""
    names = [str(name) for entry in await _listed(client, url) if (name := _at(entry, "id"))]
    if names:
        return f"Its models: {first_of(names, most=_SHOWN_MODELS)}"
    return f"It lists no models at {url}/models; its manual or log names those that --model takes"


async def _listed(client: httpx.AsyncClient, url: str) -> list[Any]:
    """Return the entries of ``GET /models``: ``[{"id": "llama3.2", "max_model_len": 8192}]``. Empty where
    there are none."""
    listed: Any = (await _read(client, f"{url}/models")).get("data")
    return cast("list[Any]", listed) if isinstance(listed, list) else []


async def _excerpt(response: httpx.Response) -> str:
    """Return the first characters of a response's body, on one line."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _SHOWN_CHARACTERS:
            break
    return " ".join(body.decode(errors="replace").split())[:_SHOWN_CHARACTERS] or "an empty body"


async def _told_context(client: httpx.AsyncClient, url: str, model: str) -> int | None:
    """Return the context length of one request that the server reports; None where it reports none.

    llama.cpp lists the length that the model was trained with; what a request gets is in ``/props``. A
    trained length alone counts as ``DEFAULT_CONTEXT_TOKENS`` at most.
    """
    props = await _read(client, f"{url.removesuffix('/v1')}/props")
    entry = next((entry for entry in await _listed(client, url) if _at(entry, "id") == model), None)
    trained = _size(entry, "meta", "n_ctx_train")
    return (
        _size(props, "default_generation_settings", "n_ctx")
        or _size(entry, "max_model_len")  # vLLM
        or _size(entry, "context_length")
        or (trained and min(trained, DEFAULT_CONTEXT_TOKENS))
    )


async def _window_of_ollama(client: httpx.AsyncClient, url: str, model: str) -> Window:
    """Return the context of a model that Ollama has loaded; an unknown one for any other server.

    Beside /v1 Ollama has ``GET /api/ps``, with what a loaded model was given (``context_length``; releases
    before 0.11 lack it), and ``POST /api/show``, with the model's own maximum and its Modelfile's parameters,
    of which ``num_ctx`` goes before OLLAMA_CONTEXT_LENGTH (https://docs.ollama.com/context-length).
    """
    api = f"{url.removesuffix('/v1')}/api"
    shown = await _read(client, f"{api}/show", {"model": model})
    facts = shown.get("model_info")
    if (architecture := _at(facts, "general.architecture")) is None:
        return Window()
    most = _size(facts, f"{architecture}.context_length")
    in_file = re.search(r"^num_ctx\s+(\d+)", str(shown.get("parameters")), re.MULTILINE)
    loaded: Any = (await _read(client, f"{api}/ps")).get("models")
    names = (model, f"{model}:latest")
    entries = cast("list[Any]", loaded) if isinstance(loaded, list) else []
    entry = next(
        (entry for entry in entries if _at(entry, "model") in names or _at(entry, "name") in names), None
    )
    tokens = _size(entry, "context_length") or (int(in_file[1]) if in_file else DEFAULT_CONTEXT_TOKENS)
    tokens = min(tokens, most or tokens)
    raised = min(most or 0, _RAISED_CONTEXT_TOKENS)
    if tokens >= raised:
        return Window(tokens)
    line = f"OLLAMA_CONTEXT_LENGTH={raised} ollama serve"
    if in_file:
        file = f"printf 'FROM {model}\\nPARAMETER num_ctx {raised}\\n' > Modelfile"
        line = f"{file} && ollama create {model.partition(':')[0]}-long -f Modelfile"
    return Window(
        tokens,
        f"Ollama gives {tokens} of the model's {most} tokens: fewer documents fit. To raise it: {line}",
    )


async def _read(client: httpx.AsyncClient, url: str, body: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object at a URL; an empty one where there is none. ``body``: of a POST."""
    try:
        asked = client.get(url) if body is None else client.post(url, json=body)
        found: Any = (await asked).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _size(body: Any, *path: str) -> int | None:
    """Return the context length at a path of JSON: ``_size(entry, "meta", "n_ctx_train")``. None where there
    is none, or one below ``_LEAST_CONTEXT_TOKENS``."""
    size = _at(body, *path)
    return size if isinstance(size, int) and size >= _LEAST_CONTEXT_TOKENS else None


def _at(value: Any, *path: str) -> object:
    """Return the value at a path of JSON objects, None where there is none."""
    for name in path:
        value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value


async def _question(model: ServedLlm, terminal: Terminal) -> tuple[ServedLlm, Counts]:
    """Ask the model the shipped questions as the service does, and the shipped pairs of one that may write.
    Return the model with what was measured, and how it answered. Raises ConfigurationError."""
    from assistant.service.opened import served_generator  # this import takes half a second

    clock = SystemClock()
    try:
        async with asyncio.timeout(_QUESTIONS_LIMIT_S), AsyncExitStack() as stack:
            generator = HeardModel(await served_generator(model, stack), clock)
            with terminal.counting("questions to the model", "answered") as show:
                counts = await ask_model(
                    generator,
                    load_model_questions(),
                    clock=clock,
                    system_role=model.answering.system_role,
                    show=show,
                )
            reads = await measure_reading(generator, context_tokens=model.context_tokens, clock=clock)
            ratio = generator.token_ratio if model.tokenizer is None else None
            measured = {"writes_answers": counts.may_write, "reads_tokens": reads}
            answering = model.answering.model_copy(update=measured)
            model = model.model_copy(update={"answering": answering, "token_ratio": ratio})
            if counts.may_write:
                writer = AnswerWriter(generator, *model_elsewhere(model))
                with terminal.counting("sentences to the model", "checked") as show:
                    checker = ModelAlone(writer, model.context_tokens)
                    check = await ask_pairs(checker, load_check_pairs(), clock=clock, show=show)
                answering = answering.model_copy(update={"sentence_check": check})
                model = model.model_copy(update={"answering": answering})
    except TimeoutError:
        raise ConfigurationError(
            f"{model.origin} took over an hour for its questions. Take a smaller model."
        ) from None
    except AssistantError as error:
        raise ConfigurationError(f"{model.origin} was asked, and failed: {error.message}") from None
    return model, counts


def _region() -> str:
    """Return the region of the usual AWS settings. Raises ConfigurationError."""
    from aiobotocore.session import get_session

    session: Any = get_session()
    region = str(os.environ.get("AWS_REGION") or session.get_config_variable("region") or "")
    if not region:
        raise ConfigurationError("--endpoint needs a region: set AWS_REGION, or region in ~/.aws/config.")
    return region
