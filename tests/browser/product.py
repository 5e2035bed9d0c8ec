"""The product as ``assistant local up`` starts it, and a second service of it before a scripted model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from assistant.operations.layout import GATEWAY, ISSUER, SERVICE, Layout, port_wishes, url_of
from assistant.operations.processes import ProcessPlan
from assistant.settings import LocalSettings, inherited_environment, load_tenants

REPOSITORY = Path(__file__).parents[2]
_PATIENCE = "[limits]\nfirst_token_timeout_s = 90\n"
"""A machine that runs other tests as well may need longer for the first word than an agent would wait."""
_COMMAND_LIMIT_S = 180
_STOP_LIMIT_S = 20


@dataclass(frozen=True)
class Product:
    """What runs for one state folder."""

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
        command = [sys.executable, "-m", "assistant.operations.main"]
        return [*command, "--tenants", str(self.tenants), "--state", str(self.state)]


@contextmanager
def running_product(folder: Path) -> Iterator[Product]:
    """Bring everything up on free ports, with all it keeps under ``folder``; stop all of it at the end."""
    product = Product(_patient_tenants(folder), folder / "state", {})
    try:
        status = json.loads(product.assistant("--port", "0", "--json", "local", "up"))
        for process in status["processes"]:
            if process["address"]:
                product.addresses[process["name"]] = process["address"]
        yield product
    finally:
        product.assistant("local", "down")


@contextmanager
def service_before(product: Product, *, llm_port: int) -> Iterator[str]:
    """Start a gateway, an issuer and a service over the product's state and embeddings, with another LLM.

    Yields the service's base URL.
    """
    given = {"embedding": urlsplit(product.addresses["embedding"]).port or 0, "llm": llm_port}
    settings = LocalSettings(port=0)
    ports = port_wishes(settings).choose(given)
    layout = Layout(product.tenants, product.state, load_tenants(product.tenants), settings)
    plans = layout.plans(ports)
    with ExitStack() as stack:
        for name in (GATEWAY, ISSUER, SERVICE):
            stack.enter_context(_running(plans[name]))
        yield url_of(SERVICE, ports)


@contextmanager
def _running(plan: ProcessPlan) -> Iterator[None]:
    process = subprocess.Popen(
        plan.arguments,
        env=inherited_environment() | plan.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert '"ready"' in line, f"{plan.name} did not start: {line!r}"
        yield
    finally:
        process.terminate()
        process.wait(timeout=_STOP_LIMIT_S)
        assert process.stdout is not None
        process.stdout.close()


def _patient_tenants(folder: Path) -> Path:
    """Write the repository's tenant files again beside its knowledge, with longer limits."""
    tenants = folder / "tenants"
    tenants.mkdir()
    (folder / "knowledge").symlink_to(REPOSITORY / "knowledge")
    for path in (REPOSITORY / "tenants").glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        assert "[limits]" not in text
        (tenants / path.name).write_text(f"{text}\n{_PATIENCE}", encoding="utf-8")
    return tenants
