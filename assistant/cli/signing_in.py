"""Tokens of the local issuer, signed in the command's own process with the key of the state folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assistant.cli.global_options import GlobalOptions
from assistant.cli.layout import ISSUER, port_wishes, url_of
from assistant.cli.registry import Registry
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import Role
from assistant.local.issuer.tokens import Grant, issue_token


def print_token(
    options: GlobalOptions, *, tenant: str, agent: str, roles: Sequence[Role], labels: Sequence[str]
) -> None:
    """Print a token for the service that runs, or that these options would start."""
    options.tenant(tenant)
    grant = Grant(tenant, agent, roles=tuple(roles), labels=tuple(labels))
    Terminal().line(token_for(options, grant, ports=_ports(options)))


def token_for(options: GlobalOptions, grant: Grant, *, ports: Mapping[str, int]) -> str:
    """Return a signed bearer token in the name of the issuer on these ports."""
    return issue_token(grant, state_dir=options.state_dir.resolve(), issuer=url_of(ISSUER, ports))


def _ports(options: GlobalOptions) -> Mapping[str, int]:
    running = Registry.under(options.state_dir).read()
    if running is not None:
        running.drop_dead()
        if ISSUER in running.processes:
            return running.ports
    wishes = port_wishes(options.local_settings()).by_name
    if not wishes[ISSUER]:
        raise ConfigurationError(
            "A token names its issuer, and with --port 0 its port is known only while it runs: "
            "start it with assistant local up."
        )
    return wishes
