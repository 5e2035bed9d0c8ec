"""The product as ``assistant tenant up`` starts it, and a second service whose model is scripted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from assistant.local.layout import GATEWAY, ISSUER, SERVICE, Layout, port_wishes
from assistant.local.processes import ProcessPlan
from assistant.settings.local_models import AddedLlm, TenantModels
from assistant.settings.model_artifacts import AnsweringTable
from assistant.settings.process import LocalSettings, inherited_environment
from assistant.settings.tenant import load_tenants
from tests.browser.scripted_llm import ScriptedLlm, scripted_llm
from tests.browser.tcp_relay import Front

REPOSITORY = Path(__file__).parents[2]
_PATIENCE = "[limits]\nfirst_token_timeout_s = 90\n"
"""A machine that runs other tests as well may need longer for the first word than an agent would wait."""
_WRITER = AnsweringTable(writes_answers=True)
_SCRIPTED = TenantModels(
    generation=AddedLlm(
        name="scripted", path=REPOSITORY, sha256="0" * 64, context_tokens=8192, answering=_WRITER
    )
)
"""The packaged model may not write answers; the scripted one may. Nothing is read at its path."""
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
    """The running processes of one state folder."""

    tenants: Path
    state: Path
    addresses: dict[str, str]
    """Process → base URL."""

    @property
    def url(self) -> str:
        return self.addresses[SERVICE]

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
    """Start a gateway, an issuer and a service over the product's state and embeddings, with another LLM."""
    settings = LocalSettings(port=0)
    tenants = {
        name: _SCRIPTED.applied_to(tenant) for name, tenant in load_tenants(product.tenants).tenants.items()
    }
    layout = Layout(product.tenants, product.state, tenants, settings, dict.fromkeys(tenants, _SCRIPTED))
    _describe_scripted(layout.models_dir)
    with ExitStack() as stack:
        llm = stack.enter_context(scripted_llm())
        given = {"embedding": urlsplit(product.addresses["embedding"]).port or 0, "llm-scripted": llm.port}
        ports = port_wishes(settings).choose(given)
        plans = layout.plans(ports)
        front = stack.enter_context(Front(to_port=ports[SERVICE]).running())
        sign_in = layout.plans({**ports, SERVICE: front.port})[ISSUER]  # agents come through the network
        processes = [OwnProcess(plan) for plan in (plans[GATEWAY], sign_in, plans[SERVICE])]
        for process in processes:
            stack.callback(process.stop)
            process.start()
        yield Rehearsal(llm, front, processes[-1], product.state / "tenants")


def _describe_scripted(models: Path) -> None:
    """Write the model server's description of its model, with the embedding model's tokenizer."""
    folder = models / "scripted"
    folder.mkdir()
    facts = {"schema_version": 1, "model": "scripted", "digest": "0" * 64, "max_input_tokens": 8192}
    template = {"template_tokens_per_message": 4, "template_tokens_fixed": 4}
    answering = _WRITER.model_dump(mode="json")
    text = json.dumps({**facts, **template, "answering": answering})
    (folder / "artifact.json").write_text(text, encoding="utf-8")
    shutil.copy(next(models.glob("*/tokenizer.json")), folder)


class OwnProcess:
    """A process of the product that the tests start and stop."""

    def __init__(self, plan: ProcessPlan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, and wait for its ready line."""
        self._process = process = subprocess.Popen(
            self._plan.arguments,
            env=inherited_environment() | self._plan.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert '"ready"' in line, f"{self._plan.name} did not start: {line!r}"

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
