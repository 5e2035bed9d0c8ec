"""What commands do with the local processes: start what they need, and call the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

from assistant.answering.services import TenantServices
from assistant.cli.terminal import GlobalOptions, Terminal
from assistant.client import AssistantClient
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState
from assistant.domain.errors import ConfigurationError, LocalRuntimeError
from assistant.knowledge.ports import KnowledgeStores
from assistant.local.layout import ISSUER, SERVICE, Layout, port_wishes, url_of
from assistant.local.processes import ProcessPlan, Registry, Supervisor
from assistant.local.tokens import Grant, issue_token
from assistant.private_files import make_private_folder, replace_private
from assistant.settings.process import LocalSettings
from assistant.settings.tenant import TenantConfig
from assistant.wiring.live_index import ServedTenants
from assistant.wiring.services import open_tenants

_MIB = 1024 * 1024
_NODE_TIMEOUT_S = 3.0
_START_LIMIT_S = 30.0
_CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """What a command needs to start local processes and to call them."""

    options: GlobalOptions
    terminal: Terminal
    settings: LocalSettings
    tenants: Mapping[str, TenantConfig]
    layout: Layout
    supervisor: Supervisor

    @contextmanager
    def processes(
        self, needs: Sequence[str], *, command: str, yields: bool = False
    ) -> Generator[Mapping[str, int]]:
        """Have the named processes ready inside the block, with a spinner until then; yield their ports.

        Raises LocalRuntimeError.
        """
        require_node(self.settings)
        with ExitStack() as stack:
            with self.terminal.waiting("starting the local processes"):
                using = self.supervisor.using(needs, command=command, yields=yields)
                ports = stack.enter_context(using)
            yield ports

    def client(self, grant: Grant, ports: Mapping[str, int]) -> AssistantClient:
        """Return a client of the local service with this grant; the caller closes it."""
        return AssistantClient(url_of(SERVICE, ports), token=self.token(grant, ports))

    def token(self, grant: Grant, ports: Mapping[str, int]) -> str:
        """Sign a bearer token in this process, with the issuer's key in the state folder."""
        return issue_token(grant, state_dir=self.options.state_dir.resolve(), issuer=url_of(ISSUER, ports))


def local_runtime(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Read settings and tenant files, and start nothing. A wrong tenant file is named, and left out.

    Raises ConfigurationError.
    """
    return runtime_of(options, terminal, options.tenants().tenants)


def runtime_of(
    options: GlobalOptions, terminal: Terminal, tenants: Mapping[str, TenantConfig]
) -> LocalRuntime:
    """Return a runtime; without tenants it can show and stop processes, but not start them."""
    settings = options.local_settings()
    layout = Layout(
        tenants_dir=options.tenants_dir,
        state_dir=options.state_dir,
        tenants=tenants,
        settings=settings,
        models=options.local_models(tenants),
        checkout=_CHECKOUT if (_CHECKOUT / "tools" / "systems").is_dir() else None,
    )
    supervisor = Supervisor(
        registry=Registry.under(options.state_dir),
        settings=settings,
        wishes=port_wishes(settings, others=(*layout.model_servers, *layout.sample_systems)),
        plans=lambda ports: _planned(layout, ports),
        say=terminal.say,
        on_ready=lambda name, seconds: terminal.step(f"{name} ready ({seconds:.1f} s)"),
        together=layout.together,
    )
    return LocalRuntime(options, terminal, settings, tenants, layout, supervisor)


def _planned(layout: Layout, ports: Mapping[str, int]) -> Mapping[str, ProcessPlan]:
    """Return the plans, after the gateway was told of the models beside."""
    wanted = orjson.dumps(layout.beside_endpoints(ports), option=orjson.OPT_SORT_KEYS)
    path = layout.endpoints_file
    if (path.read_bytes() if path.exists() else b"{}") != wanted:
        make_private_folder(path.parent)
        replace_private(path, wanted)
    return layout.plans(ports)


def require_node(settings: LocalSettings) -> None:
    """Raise LocalRuntimeError if the settings search an OpenSearch node that does not answer."""
    if settings.search != "opensearch":
        return
    try:
        health = f"{settings.opensearch_url}/_cluster/health"
        httpx.get(health, timeout=_NODE_TIMEOUT_S, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        raise LocalRuntimeError(
            f"No OpenSearch node answers at {settings.opensearch_url}; start one with make opensearch-up "
            f"in a checkout, or name another with {LocalSettings.variable('opensearch_url')}."
        ) from None


async def has_knowledge(knowledge: KnowledgeStores) -> bool:
    """Return whether at least one document of the tenant is in the index."""
    counts = await knowledge.states.count_by_state()
    return bool(counts.get(DocumentState.LIVE) or counts.get(DocumentState.STALE))


@asynccontextmanager
async def open_served(
    runtime: LocalRuntime, ports: Mapping[str, int], tenants: Sequence[str], *, generates: bool = False
) -> AsyncGenerator[ServedTenants]:
    """Open tenants as the service does. Raises ConfigurationError for one without a document in its index."""
    settings = runtime.layout.service_settings(ports)
    async with open_tenants(settings, only=tenants, generates=generates, clock=SystemClock()) as opened:
        for tenant in tenants:
            if not await has_knowledge(opened[tenant].knowledge):
                raise ConfigurationError(
                    f"{tenant} has no knowledge yet: add some with assistant knowledge add --tenant "
                    f"{tenant} PATH."
                )
        yield opened


@asynccontextmanager
async def open_services(
    runtime: LocalRuntime, ports: Mapping[str, int], tenants: Sequence[str], *, generates: bool = False
) -> AsyncGenerator[Mapping[str, TenantServices]]:
    """Open the tenants' answer paths. Raises ConfigurationError for one without knowledge."""
    async with open_served(runtime, ports, tenants, generates=generates) as opened:
        yield {tenant: opened[tenant].answering for tenant in tenants}


def committed(options: GlobalOptions) -> Path:
    """Return the folder of committed questions, bounds and baseline, beside the tenants' folder."""
    return options.tenants_dir.parent / "evaluation"
