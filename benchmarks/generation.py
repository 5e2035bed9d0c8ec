"""One generated stream: through the model server, against the runtime's own loop, in turns in the same run.

The loop has the same weights and parameters in a process of its own, without HTTP. The ratio that is asked
for is the median of the rounds' ratios, over the whole request from sending to the last token, so that what
else the machine does weighs on both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import orjson

from assistant.settings.process import ModelServerSettings
from tools.processes import Started, read_line, started

_QUESTION = "List the first 500 prime numbers."
"""The model goes on to the limit."""
_TIMEOUT_S = 120.0
_READY_TIMEOUT_S = 600.0
"""The first start ever fetches and builds the model."""


def measure_generation(*, rounds: int, tokens: int) -> float:
    """Return the model server's tokens a second by the loop's, the median of the rounds."""
    request = {
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with tempfile.TemporaryDirectory() as scratch:
        environment = ModelServerSettings(
            task="generation", port=0, artifacts_dir=Path(scratch)
        ).environment()
        with (
            started("assistant.model_server", environment=environment, timeout_s=_READY_TIMEOUT_S) as server,
            started("benchmarks.generation_loop", environment=environment) as loop,
            httpx.Client(base_url=server.url, timeout=_TIMEOUT_S, trust_env=False) as http,
        ):
            speeds = [(_by_server(http, request), _by_loop(loop, request)) for _ in range(rounds + 1)]
    return statistics.median(served / own for served, own in speeds[1:])  # the first round warms both


def _by_loop(loop: Started, request: dict[str, Any]) -> float:
    """Return tokens a second."""
    assert loop.popen.stdin is not None
    loop.popen.stdin.write(orjson.dumps(request) + b"\n")
    loop.popen.stdin.flush()
    return orjson.loads(read_line(loop.popen, timeout_s=_TIMEOUT_S))["tokens_per_s"]


def _by_server(http: httpx.Client, request: dict[str, Any]) -> float:
    """Return tokens a second."""
    began_s, tokens = time.perf_counter(), 0
    with http.stream("POST", "/invocations", json=request) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                chunk = orjson.loads(line.removeprefix("data: "))
                if chunk.get("usage"):
                    tokens = chunk["usage"]["completion_tokens"]
    return tokens / (time.perf_counter() - began_s)
