"""The LLM runtime (llama.cpp through xllamacpp): a server of its own on a loopback port of this process.

Measured on 2 cores: small prompt batches, else one long prompt stalls every other stream for seconds; closing
a connection frees its slot in milliseconds, but not inside a prompt.
"""

from __future__ import annotations

import secrets
from importlib import import_module
from pathlib import Path
from typing import Any

from assistant.domain.errors import ConfigurationError

_PROMPT_BATCH_TOKENS = 256
_CACHE_RAM_MIB = 0
"""Prompts of finished slots are not kept aside: by default that takes up to 8 GiB."""
_SPARE_HTTP_THREADS = 4


class LlamaRuntime:
    """A running model. ``address`` and ``api_key`` are what its HTTP server is asked with."""

    def __init__(self, path: Path, *, model: str, slots: int, context_tokens: int, threads: int) -> None:
        self._path = path
        self._model = model
        self._slots = slots
        self._context_tokens = context_tokens
        self._threads = threads
        self._server: Any = None
        self.api_key = secrets.token_urlsafe(32)

    def start(self) -> None:
        """Load the model and open the port. Raises ConfigurationError when the weights cannot be loaded."""
        xllamacpp: Any = import_module("xllamacpp")
        try:
            self._server = xllamacpp.Server(self._parameters(xllamacpp))
        except RuntimeError as error:
            raise ConfigurationError(f"{self._path}: the weights cannot be loaded: {error}") from None

    @property
    def address(self) -> str:
        """Base URL on the loopback interface."""
        return str(self._server.listening_address)

    @property
    def server(self) -> Any:
        """The library's own object: benchmarks ask it without HTTP."""
        return self._server

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def close(self) -> None:
        """Stop the runtime; running generations end at once."""
        self._server = None

    def _parameters(self, xllamacpp: Any) -> Any:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._path)
        parameters.model_alias = {self._model}
        parameters.n_parallel = self._slots
        parameters.n_ctx = self._slots * self._context_tokens
        parameters.kv_unified = False
        parameters.fit_params = False
        parameters.n_batch = parameters.n_ubatch = _PROMPT_BATCH_TOKENS
        # One thread of two, for prompts as well: the runtime's threads wait for each other at barriers by
        # spinning, and beside other busy processes a prompt of 500 tokens took 36 s with two, 9 s with one.
        parameters.cpuparams.n_threads = max(1, self._threads // 2)
        parameters.cpuparams_batch.n_threads = max(1, self._threads // 2)
        parameters.cache_ram_mib = _CACHE_RAM_MIB
        parameters.n_threads_http = self._slots + _SPARE_HTTP_THREADS
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [self.api_key]
        parameters.ui = False
        parameters.sse_ping_interval = -1
        parameters.verbosity = 0
        return parameters
