"""``python -m assistant.local.issuer``: settings from the environment, see LocalIssuerSettings."""

from __future__ import annotations

import structlog

from assistant.domain.clock import SystemClock
from assistant.http_process import open_socket, run, serve
from assistant.local.issuer.application import LocalIssuer
from assistant.local.issuer.signing_key import load_or_create_signing_key
from assistant.local.issuer.tokens import TokenSigner
from assistant.settings.process import LocalIssuerSettings
from assistant.settings.tenant import load_tenants
from assistant.telemetry import configure_logging

_log = structlog.get_logger(__name__)


async def main() -> None:
    settings = LocalIssuerSettings.read()
    configure_logging(settings.log_level)
    listener = open_socket(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    signer = TokenSigner(
        key=load_or_create_signing_key(settings.state_dir),
        issuer=f"http://{host}:{listener.getsockname()[1]}",
        audience=settings.audience,
        clock=SystemClock(),
    )
    issuer = LocalIssuer(
        signer=signer,
        tenants=_tenants(settings),
        redirect_origins=frozenset(settings.redirect_origins),
    )
    await serve(issuer.application(), listener, shutdown_timeout_s=2.0)


def _tenants(settings: LocalIssuerSettings) -> dict[str, str]:
    """Return the display names of the tenants that sign-in offers, by name."""
    files = load_tenants(settings.tenants_dir, only=settings.only_tenants)
    for name, error in files.refused.items():
        _log.warning("tenant_left_out", tenant=name, reason=error.message)
    return {name: one.display_name for name, one in files.tenants.items()}


if __name__ == "__main__":
    run(main())
