"""The product as ``assistant tenant up`` starts it, and a second service whose model is scripted."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant.laptop.issuer import issuer_application
from assistant.laptop.layout import HOST, Addresses, Layout
from assistant.process.settings import LocalSettings, ServiceSettings, inherited_environment
from assistant.tenant.added_models import ServedLlm, TenantModels
from assistant.tenant.manifests import AnsweringTable
from assistant.tenant.tenant import load_tenants
from tests.browser.scripted_llm import ScriptedLlm, in_thread, scripted_llm
from tests.browser.tcp_relay import Front

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
    tenants_state: Path

    @property
    def url(self) -> str:
        """The address that agents use: the relay's, not the service's."""
        return f"http://127.0.0.1:{self.front.port}"

    def state_of(self, tenant: str) -> Path:
        return self.tenants_state / tenant


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
        yield Rehearsal(llm, front, service, product.state / "tenants")


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
