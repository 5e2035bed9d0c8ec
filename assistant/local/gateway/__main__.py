"""``python -m assistant.local.gateway``: configured by GatewaySettings."""

from __future__ import annotations

from assistant.http_process import open_socket, run, serve
from assistant.local.gateway.gateway import Gateway
from assistant.settings.process import GatewaySettings
from assistant.telemetry import configure_logging

_SHUTDOWN_TIMEOUT_S = 1.0


async def serve_gateway() -> None:
    """Serve until a signal."""
    settings = GatewaySettings.read()
    configure_logging(settings.log_level)
    listener = open_socket(settings.host, settings.port)
    async with Gateway(settings.endpoints, cut_seed=settings.cut_seed) as gateway:
        await serve(gateway, listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)


if __name__ == "__main__":
    run(serve_gateway())
