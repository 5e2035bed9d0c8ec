"""The local processes of the product: their names, settings, ports and start order.

This module decides which model servers run: one for each embedding model that a tenant uses, and one for each
LLM that may write a tenant's answers. The packaged LLM may not, so it is never started. An LLM that runs
elsewhere has no process here: the service calls it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from assistant.local.processes import HOST, PortWishes, ProcessPlan
from assistant.settings.deployment import ReachEntry
from assistant.settings.local_models import (
    MANIFEST_FILE,
    PACKAGED,
    AddedEmbedding,
    AddedModel,
    ServedLlm,
    TenantModels,
)
from assistant.settings.process import (
    GatewaySettings,
    LocalIssuerSettings,
    LocalSettings,
    ModelServerSettings,
    ProcessSettings,
    ServiceSettings,
    WorkerSettings,
)
from assistant.settings.tenant import TenantConfig

EMBEDDING = "embedding"
"""The server of the packaged embedding model; ``embedding-NAME`` serves an added one."""
LLM = "llm"
"""Prefix of the server of an added LLM: ``llm-NAME``."""
GATEWAY = "gateway"
ISSUER = "issuer"
WORKER = "worker"
SERVICE = "service"

ORDER_SYSTEM = "orders"
"""The sample order system of a pharmacy."""
_SAMPLE_SYSTEMS = (ORDER_SYSTEM, "stores")
"""Systems of ``tools/systems`` in a checkout. Each stands for the system that the checkout's connector file
``<name>.toml`` describes; the shop's lets every agent read every order."""
_IN_STATE = "state:"
T = TypeVar("T")
ENDPOINTS_FILE = "endpoints.json"
"""In the folder of models: the endpoints that the gateway learns while it runs."""
_DRAIN_S = 5.0
"""How long a local service lets answers finish after Ctrl-C."""


def port_wishes(settings: LocalSettings, *, others: tuple[str, ...] = ()) -> PortWishes:
    """Return well-known ports for service, issuer and gateway, and any free ones for the others."""
    first = settings.port
    return PortWishes(
        {
            SERVICE: first,
            ISSUER: first + 1 if first else 0,
            GATEWAY: first + 2 if first else 0,
            **dict.fromkeys(others, 0),
        },
        asked_for="port" in settings.model_fields_set,
    )


def url_of(name: str, ports: Mapping[str, int]) -> str:
    """Return the base URL of a process, without a trailing slash."""
    return f"http://{HOST}:{ports[name]}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Plans all local processes. Each is configured only by its own settings class."""

    tenants_dir: Path
    state_dir: Path
    tenants: Mapping[str, TenantConfig]
    settings: LocalSettings
    models: Mapping[str, TenantModels] = field(default_factory=dict[str, TenantModels])
    """Tenant = the added models that it uses; ``tenants`` already have them applied."""
    checkout: Path | None = None
    """Folder of the source, where its sample systems are; None for an installed package."""

    @property
    def models_dir(self) -> Path:
        return models_dir(self.state_dir)

    @property
    def everything(self) -> tuple[str, ...]:
        """Names of all processes that serve answers."""
        return (*self.model_servers, *self.sample_systems, GATEWAY, ISSUER, WORKER, SERVICE)

    @property
    def for_search(self) -> tuple[str, ...]:
        return (*self._all_embedding_servers, GATEWAY)

    @property
    def for_loading(self) -> tuple[str, ...]:
        return (*self.for_search, WORKER)

    @property
    def model_servers(self) -> tuple[str, ...]:
        return (*self._all_embedding_servers, *self._llm_servers)

    @property
    def sample_systems(self) -> dict[str, list[tuple[str, ReachEntry]]]:
        """Process = the tenants' ``[[reach]]`` entries that it stands for, each with its tenant's name."""
        return _grouped(
            (name, (tenant.name, entry))
            for tenant in self.tenants.values()
            for entry in tenant.systems
            if (name := self._sample_of(tenant.name, entry))
        )

    def _sample_of(self, tenant: str, entry: ReachEntry) -> str | None:
        given = self.settings.reach_addresses.keys() & {entry.name, f"{tenant}/{entry.name}"}
        if self.checkout is None or entry.connector is None or given:
            return None
        file = (self.tenants_dir / entry.connector).resolve()
        is_ours = file.is_relative_to(self.checkout.resolve())
        return file.stem if is_ours and file.stem in _SAMPLE_SYSTEMS else None

    @property
    def _embedding_servers(self) -> dict[str, list[TenantConfig]]:
        """Process = the tenants whose text it embeds."""
        return _grouped(
            (_server_name(EMBEDDING, self._of(name).embedding), tenant)
            for name, tenant in self.tenants.items()
        )

    @property
    def _beside_servers(self) -> dict[str, list[TenantConfig]]:
        """Process = the tenants, with its model applied, that have an index of it beside the live one."""
        tenants_beside: list[tuple[str, TenantConfig]] = []
        for name, tenant in self.tenants.items():
            models = self._of(name)
            if (applied := models.beside_applied_to(tenant)) is not None:
                model = models.beside if isinstance(models.beside, AddedEmbedding) else None
                tenants_beside.append((_server_name(EMBEDDING, model), applied))
        return _grouped(tenants_beside)

    def beside_endpoints(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return endpoint name = URL of the embedding models beside: the gateway reads them from a file, so
        that no process restarts when a reindex begins."""
        return {
            tenant.embedding.endpoint: url_of(name, ports)
            for name, served in self._beside_servers.items()
            for tenant in served
        }

    @property
    def endpoints_file(self) -> Path:
        return self.models_dir / ENDPOINTS_FILE

    @property
    def gateway_key_file(self) -> Path:
        return self.state_dir.resolve() / "gateway-key"

    @property
    def together(self) -> frozenset[str]:
        """Processes that run whenever the gateway does: every embedding server."""
        return frozenset(self._all_embedding_servers)

    @property
    def _all_embedding_servers(self) -> dict[str, None]:
        return dict.fromkeys((*self._embedding_servers, *self._beside_servers))

    @property
    def _llm_servers(self) -> dict[str, list[TenantConfig]]:
        """Process = the tenants whose answers it writes."""
        writing = {name: self._of(name).generation for name in self._writing}
        return _grouped(
            (_server_name(LLM, model), self.tenants[name])
            for name, model in writing.items()
            if not isinstance(model, ServedLlm)
        )

    @property
    def _writing(self) -> list[str]:
        """Names of the tenants whose answers a model may write."""
        return [name for name, tenant in self.tenants.items() if self._of(name).writes(tenant)]

    def _of(self, tenant: str) -> TenantModels:
        return self.models.get(tenant, PACKAGED)

    def plans(self, ports: Mapping[str, int]) -> dict[str, ProcessPlan]:
        """Return the plan of every process, in the order of ``everything``. Raises ConfigurationError."""
        plans = (
            *(self._embedding(name, ports) for name in self._all_embedding_servers),
            *(self._llm(name, served, ports) for name, served in self._llm_servers.items()),
            *(self._sample_system(name, entries, ports) for name, entries in self.sample_systems.items()),
            self._gateway(ports),
            self._issuer(ports),
            self._worker(ports),
            self._service(ports),
        )
        return {plan.name: plan for plan in plans}

    def _embedding(self, name: str, ports: Mapping[str, int]) -> ProcessPlan:
        served, beside = self._embedding_servers.get(name, []), self._beside_servers.get(name, [])
        longest = max(tenant.embedding.max_tokens for tenant in (*served, *beside))
        model = self._of(served[0].name).embedding if served else self._of(beside[0].name).beside
        added = model if isinstance(model, AddedEmbedding) else None
        return self._model_server(name, added, ports, task="embedding", max_input_tokens=longest)

    def _llm(self, name: str, served: list[TenantConfig], ports: Mapping[str, int]) -> ProcessPlan:
        longest = max(tenant.generation.context_tokens for tenant in served)
        model = self._of(served[0].name).generation
        return self._model_server(name, model, ports, task="generation", context_tokens=longest)

    def _model_server(
        self, name: str, model: AddedModel | None, ports: Mapping[str, int], **settings: str | int
    ) -> ProcessPlan:
        manifest = None if model is None else self.models_dir / model.name / MANIFEST_FILE
        read = ModelServerSettings.read(
            port=ports[name], manifest=manifest, artifacts_dir=self.models_dir, **settings
        )
        return _plan(
            name, "model_server", read, port=read.port, reads=() if manifest is None else (manifest,)
        )

    def _sample_system(
        self, name: str, entries: list[tuple[str, ReachEntry]], ports: Mapping[str, int]
    ) -> ProcessPlan:
        state = self.state_dir.resolve()
        # The service makes each tenant's token on first use; ours are the only ones that it accepts.
        tokens = [
            state / "secrets" / tenant / entry.secret_name.removeprefix(_IN_STATE)
            for tenant, entry in entries
            if entry.secret_name.startswith(_IN_STATE)
        ]
        command = (sys.executable, "-P", "-m", "tools.systems", name, "--port", str(ports[name]))
        return ProcessPlan(
            name,
            command,
            {"PYTHONPATH": str(self.checkout), "SYSTEM_TOKEN_FILES": os.pathsep.join(map(str, tokens))},
            ports[name],
        )

    def _gateway(self, ports: Mapping[str, int]) -> ProcessPlan:
        endpoints: dict[str, str] = {}
        for name, served in self._embedding_servers.items():
            endpoints |= {tenant.embedding.endpoint: url_of(name, ports) for tenant in served}
        for name, served in self._llm_servers.items():
            endpoints |= {tenant.generation.endpoint: url_of(name, ports) for tenant in served}
        settings = GatewaySettings.read(
            port=ports[GATEWAY],
            endpoints=endpoints,
            key_file=self.gateway_key_file,
            endpoints_file=self.endpoints_file,
        )
        return _plan(GATEWAY, "local.gateway", settings, port=settings.port)

    def _issuer(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings = LocalIssuerSettings.read(
            port=ports[ISSUER],
            redirect_origins=(url_of(SERVICE, ports), f"http://localhost:{ports[SERVICE]}"),
            **self._folders(),
        )
        return _plan(ISSUER, "local.issuer", settings, port=settings.port, reads=self._tenant_files())

    def _worker(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings, after = self.worker_settings(ports), (*self._embedding_servers, GATEWAY)
        return _plan(WORKER, "local.knowledge_worker", settings, after=after, reads=self._tenant_files())

    def _service(self, ports: Mapping[str, int]) -> ProcessPlan:
        settings = self.service_settings(ports)
        after = (*self.model_servers, *self.sample_systems, GATEWAY, ISSUER)
        return _plan(SERVICE, "api", settings, port=settings.port, after=after, reads=self._tenant_files())

    def worker_settings(self, ports: Mapping[str, int]) -> WorkerSettings:
        """Return the worker's settings; a command that writes an index beside it uses the same."""
        return WorkerSettings.read(
            opensearch_applies_schema=True, **self._folders(), **self._models_and_index(ports)
        )

    def service_settings(self, ports: Mapping[str, int]) -> ServiceSettings:
        """Return the service's settings; a command that answers in its own process uses the same."""
        return ServiceSettings.read(
            port=ports[SERVICE],
            issuer=url_of(ISSUER, ports),
            jwks_url=f"{url_of(ISSUER, ports)}/jwks.json",
            care_jwks_url=f"{url_of(ISSUER, ports)}/care/jwks.json",
            reach_addresses=self._reach_addresses(ports),
            drain_timeout_s=_DRAIN_S,
            captures=self.settings.capture,
            quoted_tenants=tuple(name for name in self.tenants if name not in self._writing),
            **self._folders(),
            **self._models_and_index(ports),
        )

    def _reach_addresses(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the address of each system that is on this machine, by ``tenant/system``."""
        samples = {
            f"{tenant}/{entry.name}": url_of(name, ports)
            for name, entries in self.sample_systems.items()
            for tenant, entry in entries
        }
        return {**samples, **self.settings.reach_addresses}

    def _folders(self) -> dict[str, Any]:
        return {
            "tenants_dir": self.tenants_dir.resolve(),
            "only_tenants": tuple(self.tenants),
            "state_dir": self.state_dir.resolve(),
        }

    def _models_and_index(self, ports: Mapping[str, int]) -> dict[str, Any]:
        """Return the settings of models and index; the embedded index needs none."""
        models = {
            "model_artifacts_dir": self.models_dir,
            "sagemaker_endpoint_url": url_of(GATEWAY, ports),
            "gateway_key_file": self.gateway_key_file,
            "local_models": {name: models.served for name, models in self.models.items()},
        }
        if self.settings.search == "embedded":
            return models
        url = self.settings.opensearch_url
        return models | {"search": "opensearch", "opensearch_url": url, "opensearch_auth": "none"}

    def _tenant_files(self) -> tuple[Path, ...]:
        """Return the tenants' files with those that they name: a change restarts what reads them."""
        folder = self.tenants_dir.resolve()
        named = (
            folder / file
            for tenant in self.tenants.values()
            for entry in tenant.reach
            for file in (entry.connector, entry.ca_file, _openapi_of(entry))
            if file is not None
        )
        return (*(folder / f"{name}.toml" for name in self.tenants), *dict.fromkeys(named))


def _openapi_of(entry: ReachEntry) -> Path | None:
    """Return the OpenAPI file of an entry's connector, relative to the tenant file."""
    if entry.connector is None or entry.inline is None or entry.inline.openapi is None:
        return None
    return Path(entry.connector).parent / entry.inline.openapi


def models_dir(state_dir: Path) -> Path:
    """Return the folder of added models and of what is derived from weights."""
    return state_dir.resolve() / "models"


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Return the second parts by the first, in their order."""
    groups: dict[str, list[T]] = {}
    for name, each in pairs:
        groups.setdefault(name, []).append(each)
    return groups


def _server_name(kind: str, model: AddedModel | None) -> str:
    return kind if model is None else f"{kind}-{model.name}"


def _plan(
    name: str,
    module: str,
    settings: ProcessSettings,
    *,
    port: int | None = None,
    after: tuple[str, ...] = (),
    reads: tuple[Path, ...] = (),
) -> ProcessPlan:
    """Return the plan of a module of ours; -P keeps the current folder out of sys.path."""
    command = (sys.executable, "-P", "-m", f"assistant.{module}")
    chosen = name in (GATEWAY, ISSUER, SERVICE)
    return ProcessPlan(name, command, settings.environment(), port, chosen, after, reads)
