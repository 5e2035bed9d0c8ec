"""The runtime's own loop without HTTP, in a process of its own: a request a line in, a result a line out."""

from __future__ import annotations

import sys
import time
from typing import Any

import orjson

from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.weights import locate_weights
from assistant.settings.process import ModelServerSettings


def main() -> None:
    settings = ModelServerSettings.read()
    weights = locate_weights(settings)
    runtime = LlamaRuntime(
        weights.path,
        model=weights.name,
        slots=settings.slots,
        context_tokens=settings.context_tokens,
        threads=settings.threads,
    )
    runtime.start()
    _say({"ready": True})
    for line in sys.stdin.buffer:
        _say(_generate(runtime, orjson.loads(line)))
    runtime.close()


def _generate(runtime: LlamaRuntime, request: dict[str, Any]) -> dict[str, float]:
    tokens, began_s = 0, time.perf_counter()

    def take(chunk: dict[str, Any]) -> bool:
        nonlocal tokens
        if chunk.get("usage"):
            tokens = chunk["usage"]["completion_tokens"]
        return False

    runtime.servers[0].handle_chat_completions(request, take)
    return {"tokens_per_s": tokens / (time.perf_counter() - began_s)}


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(message).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
