"""The local processes of the product: which there are, what each is told, who waits for whom."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assistant.operations.ports import HOST, PortWishes
from assistant.operations.processes import ProcessPlan
from assistant.settings import (
    GatewaySettings,
    LocalIssuerSettings,
    LocalSettings,
    ModelServerSettings,
    ServiceSettings,
    TenantConfig,
    WorkerSettings,
)

EMBEDDING = "embedding"
LLM = "llm"
GATEWAY = "gateway"
ISSUER = "issuer"
WORKER = "worker"
SERVICE = "service"
ALL = (EMBEDDING, LLM, GATEWAY, ISSUER, WORKER, SERVICE)
FOR_SEARCH = (EMBEDDING, GATEWAY)
FOR_LOADING = (EMBEDDING, GATEWAY, WORKER)

_DRAIN_S = 5.0
"""A local service that is told to stop lets answers go on no longer: somebody pressed Ctrl-C."""


def port_wishes(settings: LocalSettings) -> PortWishes:
    """Service, issuer and gateway on ports that people know; the model servers on any."""
    first = settings.port
    return PortWishes(
        {
            SERVICE: first,
            ISSUER: first + 1 if first else 0,
            GATEWAY: first + 2 if first else 0,
            EMBEDDING: 0,
            LLM: 0,
        },
        asked_for="port" in settings.model_fields_set,
    )


def url_of(name: str, ports: Mapping[str, int]) -> str:
    """Return the base URL of a process, without a slash at its end."""
    return f"http://{HOST}:{ports[name]}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Makes the plans of all local processes. Each is configured by its own settings class only."""

    tenants_dir: Path
    state_dir: Path
    tenants: Mapping[str, TenantConfig]
    settings: LocalSettings

    @property
    def models_dir(self) -> Path:
        return self.state_dir.resolve() / "models"

    def plans(self, ports: Mapping[str, int]) -> dict[str, ProcessPlan]:
        """Return a plan a process, in the order of ALL. Raises ConfigurationError."""
        plans = (
            self._embedding(ports),
            self._llm(ports),
            self._gateway(ports),
            self._issuer(ports),
            self._worker(ports),
            self._service(ports),
        )
        return {plan.name: plan for plan in plans}

    def _embedding(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings = ModelServerSettings.read(
            task="embedding",
            port=ports[EMBEDDING],
            path=self.settings.embedding_path,
            artifacts_dir=self.models_dir,
            max_input_tokens=max(tenant.embedding.max_tokens for tenant in self.tenants.values()),
        )
        return ProcessPlan(EMBEDDING, _module("model_server"), settings.environment(), settings.port)

    def _llm(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings = ModelServerSettings.read(
            task="generation",
            port=ports[LLM],
            path=self.settings.generation_path,
            artifacts_dir=self.models_dir,
            context_tokens=max(tenant.generation.context_tokens for tenant in self.tenants.values()),
        )
        return ProcessPlan(LLM, _module("model_server"), settings.environment(), settings.port)

    def _gateway(self, ports: Mapping[str, int]) -> ProcessPlan:
        endpoints: dict[str, str] = {}
        for tenant in self.tenants.values():
            endpoints[tenant.embedding.endpoint] = url_of(EMBEDDING, ports)
            endpoints[tenant.generation.endpoint] = url_of(LLM, ports)
        settings = GatewaySettings.read(port=ports[GATEWAY], endpoints=endpoints)
        return ProcessPlan(
            GATEWAY, _module("sagemaker_gateway"), settings.environment(), port=settings.port, fixed_port=True
        )

    def _issuer(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings = LocalIssuerSettings.read(
            port=ports[ISSUER],
            tenants_dir=self.tenants_dir.resolve(),
            state_dir=self.state_dir.resolve(),
            redirect_origins=(url_of(SERVICE, ports), f"http://localhost:{ports[SERVICE]}"),
        )
        return ProcessPlan(
            ISSUER,
            _module("local_issuer"),
            settings.environment(),
            settings.port,
            fixed_port=True,
            reads=self._tenant_files(),
        )

    def _worker(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings = WorkerSettings.read(
            tenants_dir=self.tenants_dir.resolve(),
            state_dir=self.state_dir.resolve(),
            model_artifacts_dir=self.models_dir,
            sagemaker_endpoint_url=url_of(GATEWAY, ports),
            opensearch_applies_schema=True,
            **self._search(),
        )
        return ProcessPlan(
            WORKER,
            _module("ingesting_worker"),
            settings.environment(),
            port=None,
            after=(EMBEDDING, GATEWAY),
            reads=self._tenant_files(),
        )

    def _service(self, ports: Mapping[str, int]) -> ProcessPlan:
        return ProcessPlan(
            SERVICE,
            _module("service"),
            self.service_settings(ports).environment(),
            ports[SERVICE],
            fixed_port=True,
            after=(EMBEDDING, LLM, GATEWAY, ISSUER),
            reads=self._tenant_files(),
        )

    def service_settings(self, ports: Mapping[str, int]) -> ServiceSettings:
        """Return what the service runs with; a command that works in its own process takes the same."""
        return ServiceSettings.read(
            port=ports[SERVICE],
            tenants_dir=self.tenants_dir.resolve(),
            state_dir=self.state_dir.resolve(),
            model_artifacts_dir=self.models_dir,
            sagemaker_endpoint_url=url_of(GATEWAY, ports),
            issuer=url_of(ISSUER, ports),
            jwks_url=f"{url_of(ISSUER, ports)}/jwks.json",
            drain_timeout_s=_DRAIN_S,
            **self._search(),
        )

    def _search(self) -> dict[str, str]:
        """Return the settings of the index; none where it is the embedded one."""
        if self.settings.search == "embedded":
            return {}
        url = self.settings.opensearch_url
        return {"search": "opensearch", "opensearch_url": url, "opensearch_auth": "none"}

    def _tenant_files(self) -> tuple[Path, ...]:
        return tuple(self.tenants_dir.resolve() / f"{name}.toml" for name in self.tenants)


def _module(room: str) -> tuple[str, ...]:
    """Return what runs a room; -P keeps modules of the current folder out of it."""
    return (sys.executable, "-P", "-m", f"assistant.{room}")
