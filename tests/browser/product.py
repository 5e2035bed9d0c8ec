"""The product as ``assistant tenant up`` starts it, and a second service with a scripted model,
behind a relay that a test can cut."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from assistant.laptop.issuer import issuer_application
from assistant.laptop.layout import HOST, Addresses, Layout
from assistant.process.settings import LocalSettings, ServiceSettings, inherited_environment
from assistant.tenant.added_models import ServedLlm, TenantModels
from assistant.tenant.manifests import AnsweringTable
from assistant.tenant.tenant import load_tenants
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind


class Front:
    """A proxy between browsers and the service, whose connections a test resets as a broken network does.

    ``port`` is where clients connect; ``to_port`` is the service's.
    """

    def __init__(self, *, to_port: int) -> None:
        self._proxy = FaultyProxy(f"{HOST}:{to_port}")
        self._loop = asyncio.new_event_loop()

    @property
    def port(self) -> int:
        return self._proxy.port

    def cut(self) -> None:
        """Reset every open connection."""
        self._run(self._proxy.break_by(Fault(Kind.REFUSE)))
        self._run(self._proxy.heal())

    @contextmanager
    def running(self) -> Iterator[Front]:
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        try:
            self._run(self._proxy.start())
            yield self
        finally:
            self._run(self._proxy.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(timeout=_STOP_LIMIT_S)
            self._loop.close()

    def _run(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_STOP_LIMIT_S)


_HOLD_LIMIT_S = 30.0
_LINE = re.compile(r"^\[(\d+\.\d+)\] (.+)$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.]+(?=\.)")


@dataclass(frozen=True)
class Held:
    """A point in the answer at which the server waits for the test."""

    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class ScriptedLlm:
    """Writes ``script`` word by word as OpenAI chunks.

    As its prompt asks, it ends each sentence that a line of the prompt states with the number of that line.
    """

    port: int
    script: tuple[str | Held, ...] = ("Nothing was scripted.",)
    calls: int = 0
    """Answers that were begun."""

    def says(self, *script: str | Held) -> None:
        self.script = script

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self._invoke, methods=["POST"])])

    async def _invoke(self, request: Request) -> Response:
        self.calls += 1
        lines = _LINE.findall(orjson.loads(await request.body())["messages"][-1]["content"])
        return StreamingResponse(self._chunks(lines), media_type="text/event-stream")

    async def _chunks(self, lines: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        for part in self.script:
            if isinstance(part, Held):
                await asyncio.to_thread(part.released.wait, _HOLD_LIMIT_S)
            else:
                for word in _cited(part, lines).split(" "):
                    yield _chunk({"delta": {"content": f"{word} "}, "finish_reason": None})
                    await asyncio.sleep(0)
        yield _chunk({"delta": {}, "finish_reason": "stop"})
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        yield _event({"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _cited(text: str, lines: list[tuple[str, str]]) -> str:
    """Return the text with the number of a line at the end of each sentence whose words that line has."""

    def cite(sentence: re.Match[str]) -> str:
        words = _words(sentence[0])
        number = next((number for number, line in lines if words <= _words(line)), None)
        return sentence[0] if number is None else f"{sentence[0]} [{number}]"

    return _SENTENCE.sub(cite, text)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _chunk(choice: dict[str, object]) -> bytes:
    return _event({"id": "scripted", "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]})


def _event(data: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


@contextmanager
def scripted_llm() -> Iterator[ScriptedLlm]:
    """Serve on a free port of this machine for as long as the block runs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        llm = ScriptedLlm(port=listening.getsockname()[1])
        with in_thread(llm.application(), listening):
            yield llm


@contextmanager
def in_thread(application: Starlette, listening: socket.socket) -> Iterator[None]:
    """Serve an application beside the test, which blocks its own thread."""
    config = uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


REPOSITORY = Path(__file__).parents[2]
_PATIENCE = "[limits]\nfirst_token_timeout_s = 40\nanswer_deadline_s = 40\n"
"""A machine that runs other tests as well may need longer for the first word than an agent would wait. But an
answer whose task was killed counts as interrupted only when its deadline is over."""
_WRITER = AnsweringTable(writes_answers=True)
_STAFF = """
[[sources]]
name = "staff"
access = "folder"
folders = { "" = [], "pay" = ["hr"] }
"""
"""A source of the clinic, without documents."""
_COMMAND_LIMIT_S = 600
_STOP_LIMIT_S = 20


@dataclass(frozen=True)
class Product:
    """What serves one state folder."""

    tenants: Path
    state: Path
    addresses: dict[str, str]
    """Listener → base URL."""

    @property
    def url(self) -> str:
        return self.addresses["service"]

    def assistant(self, *arguments: str) -> str:
        """Run a command and return what it prints."""
        done = subprocess.run(
            [*self._command(), *arguments],
            capture_output=True,
            text=True,
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "assistant.cli.main"]
        return [*command, "--tenants", str(self.tenants), "--state", str(self.state)]


@contextmanager
def running_product(folder: Path) -> Iterator[Product]:
    """Start the product on free ports with its state under ``folder``; stop it at the end."""
    product = Product(_patient_tenants(folder), folder / "state", {})
    try:
        status = json.loads(product.assistant("--port", "0", "--json", "tenant", "up"))
        for process in status["processes"]:
            if process["address"]:
                product.addresses[process["name"]] = process["address"]
        yield product
    finally:
        product.assistant("tenant", "down")


@dataclass
class Rehearsal:
    """A second service of the product, behind a network that a test can cut, with a scripted model."""

    llm: ScriptedLlm
    front: Front
    service: OwnProcess

    @property
    def url(self) -> str:
        """The address that agents use: the relay's, not the service's."""
        return f"http://127.0.0.1:{self.front.port}"


@contextmanager
def rehearsal_of(product: Product) -> Iterator[Rehearsal]:
    """Start an issuer and a service over the product's state, whose LLM is a scripted chat server."""
    with ExitStack() as stack:
        llm = stack.enter_context(scripted_llm())
        scripted = ServedLlm(
            name="scripted",
            model="scripted",
            url=f"http://{HOST}:{llm.port}/v1",
            context_tokens=8192,
            tokenizer=next((product.state / "models").glob("*/tokenizer.json")),
            answering=_WRITER,
        )
        models = TenantModels(generation=scripted)
        tenants = {
            name: models.applied_to(tenant) for name, tenant in load_tenants(product.tenants).tenants.items()
        }
        layout = Layout(
            product.tenants, product.state, tenants, LocalSettings(), dict.fromkeys(tenants, models)
        )
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        front = stack.enter_context(Front(to_port=port).running())
        listening = stack.enter_context(socket.socket())
        listening.bind((HOST, 0))
        addresses = Addresses(
            service=f"http://{HOST}:{port}", issuer=f"http://{HOST}:{listening.getsockname()[1]}"
        )
        issuer = issuer_application(
            addresses.issuer,
            state_dir=product.state,
            tenants={name: tenant.display_name for name, tenant in tenants.items()},
            redirect_origins=frozenset((f"http://{HOST}:{front.port}",)),  # agents come through the network
        )
        stack.enter_context(in_thread(issuer, listening))
        settings = layout.service_settings(addresses).model_copy(update={"port": port})
        service = OwnProcess(settings)
        stack.callback(service.stop)
        service.start()
        yield Rehearsal(llm, front, service)


class OwnProcess:
    """A service of the product that the tests start and stop."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, and wait for its ready line."""
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "assistant.service"],
            env=inherited_environment() | self._settings.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert '"ready"' in line, f"the service did not start: {line!r}"

    def stop(self) -> None:
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[str]], None]) -> None:
        if self._process is None:
            return
        how(self._process)
        self._process.wait(timeout=_STOP_LIMIT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _patient_tenants(folder: Path) -> Path:
    """Copy the repository's tenant files, with longer timeouts, to a folder that also has its knowledge."""
    tenants = folder / "tenants"
    tenants.mkdir()
    (folder / "knowledge").symlink_to(REPOSITORY / "knowledge")
    (tenants / "connectors").symlink_to(REPOSITORY / "tests/tenants/connectors")
    for path in (REPOSITORY / "tests/tenants").glob("*.toml"):
        text = path.read_text(encoding="utf-8").replace('"../../knowledge/', '"../knowledge/')
        assert "[limits]" not in text
        added = _PATIENCE + (_STAFF if path.stem == "clinic" else "")
        (tenants / path.name).write_text(f"{text}\n{added}", encoding="utf-8")
    return tenants
