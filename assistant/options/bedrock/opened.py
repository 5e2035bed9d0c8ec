"""Opens clients of Bedrock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from assistant.models.sagemaker import AwsRuntime
from assistant.process.aws.clients import open_client


@asynccontextmanager
async def open_bedrock_runtime(**place: Any) -> AsyncGenerator[AwsRuntime]:
    """Open a client of the Bedrock Runtime; ``place`` is that of ``open_client``."""
    async with open_client("bedrock-runtime", **place) as client:
        runtime = AwsRuntime(client)
        try:
            yield runtime
        finally:
            await runtime.close()
