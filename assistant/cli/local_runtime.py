"""From the command's options to a supervisor over the product's processes."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from assistant.cli.global_options import GlobalOptions
from assistant.cli.layout import Layout, port_wishes
from assistant.cli.registry import Registry
from assistant.cli.search_node import require_node
from assistant.cli.starting import Starter
from assistant.cli.supervisor import Supervisor
from assistant.cli.terminal import Terminal
from assistant.settings.process import LocalSettings
from assistant.settings.tenant import TenantConfig


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """All that a command needs to have processes and to talk to them."""

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
        """Have the named processes ready inside the block, a spinner until they are; yield their ports.

        Raises LocalRuntimeError.
        """
        require_node(self.settings)
        with ExitStack() as stack:
            with self.terminal.waiting("starting the local processes"):
                using = self.supervisor.using(needs, command=command, yields=yields)
                ports = stack.enter_context(using)
            yield ports


def local_runtime(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Read settings and tenant files; nothing is started yet. A wrong file is named, and left out.

    Raises ConfigurationError.
    """
    return _runtime(options, terminal, options.tenants().tenants)


def runtime_without_tenants(options: GlobalOptions, terminal: Terminal) -> LocalRuntime:
    """Return what can look and stop, also when a tenant file is broken; it can start nothing."""
    return _runtime(options, terminal, {})


def _runtime(options: GlobalOptions, terminal: Terminal, tenants: Mapping[str, TenantConfig]) -> LocalRuntime:
    settings = options.local_settings()
    layout = Layout(
        tenants_dir=options.tenants_dir,
        state_dir=options.state_dir,
        tenants=tenants,
        settings=settings,
        models=options.local_models(tenants),
    )
    registry = Registry.under(options.state_dir)
    starter = Starter(
        registry=registry,
        settings=settings,
        logs_dir=registry.path.parent / "logs",
        on_ready=terminal.process_ready,
    )
    supervisor = Supervisor(
        registry=registry,
        settings=settings,
        starter=starter,
        wishes=port_wishes(settings, model_servers=layout.model_servers),
        plans=layout.plans,
        say=terminal.say,
    )
    return LocalRuntime(options, terminal, settings, tenants, layout, supervisor)
