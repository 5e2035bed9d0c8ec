"""``python -m assistant.local.knowledge_worker``: configured by WorkerSettings."""

from __future__ import annotations

import asyncio
import os
import sys

from assistant.domain.errors import AssistantError
from assistant.local.knowledge_worker.process import work
from assistant.settings.process import WorkerSettings
from assistant.telemetry import configure_logging, configure_tracing


def main() -> None:
    os.umask(0o077)  # what the worker and its engines write is for its owner only
    try:
        settings = WorkerSettings.read()
        configure_logging(settings.log_level)
        configure_tracing("ingesting-worker", otlp_endpoint=settings.otlp_endpoint)
        asyncio.run(work(settings))
    except AssistantError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
