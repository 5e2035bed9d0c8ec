"""``python -m assistant.sagemaker_gateway``: configured by GatewaySettings."""

from __future__ import annotations

from assistant.http_process import open_socket, run, serve
from assistant.sagemaker_gateway.gateway import Gateway
from assistant.settings import GatewaySettings
from assistant.telemetry import configure_logging

_SHUTDOWN_TIMEOUT_S = 1.0


async def serve_gateway(settings: GatewaySettings) -> None:
    """Serve until a signal."""
    listener = open_socket(settings.host, settings.port)
    async with Gateway(settings.endpoints, cut_seed=settings.cut_seed) as gateway:
        await serve(gateway, listener, shutdown_timeout_s=_SHUTDOWN_TIMEOUT_S)


def main() -> None:
    settings = GatewaySettings()  # pyright: ignore[reportCallIssue] : read from the environment
    configure_logging(settings.log_level)
    run(serve_gateway(settings))


if __name__ == "__main__":
    main()
