"""The LLM runtime (llama.cpp through xllamacpp): a server a slot, each on a loopback port of this process.

A slot computes one answer alone and from its first token, so that at temperature 0 the same prompt gives
the same bytes (docs/decisions/0027). Closing a connection frees its slot in milliseconds, but not inside a
prompt.
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
    """A running model. ``addresses`` and ``api_key`` are what its HTTP servers are asked with."""

    def __init__(self, path: Path, *, model: str, slots: int, context_tokens: int, threads: int) -> None:
        self._path = path
        self._model = model
        self._slots = slots
        self._context_tokens = context_tokens
        self._threads = threads
        self._servers: list[Any] = []
        self.api_key = secrets.token_urlsafe(32)

    def start(self) -> None:
        """Load the model and open the ports. Raises ConfigurationError when the weights cannot be loaded."""
        xllamacpp: Any = import_module("xllamacpp")
        try:
            for _ in range(self._slots):
                self._servers.append(xllamacpp.Server(self._parameters(xllamacpp)))
        except RuntimeError as error:
            raise ConfigurationError(f"{self._path}: the weights cannot be loaded: {error}") from None

    @property
    def address(self) -> str:
        """Base URL of the first slot on the loopback interface."""
        return self.addresses[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Base URLs on the loopback interface, one a slot; a slot takes one request at once."""
        return tuple(str(server.listening_address) for server in self._servers)

    @property
    def servers(self) -> tuple[Any, ...]:
        """The library's own objects, one a slot: benchmarks ask them without HTTP."""
        return tuple(self._servers)

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def close(self) -> None:
        """Stop the runtime; running generations end at once."""
        self._servers = []

    def _parameters(self, xllamacpp: Any) -> Any:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._path)
        parameters.model_alias = {self._model}
        # Answers in one batch, and prompts read in part from a cache, are computed by other kernels than
        # an answer alone from its first token: their numbers differ in the last bits, and so do the words.
        parameters.n_parallel = 1
        parameters.cache_prompt = False
        parameters.n_ctx = self._context_tokens
        # Weights that are mapped are one copy for all slots; repacked ones would be a copy each.
        parameters.no_extra_bufts = self._slots > 1
        parameters.kv_unified = False
        parameters.fit_params = False
        parameters.n_batch = parameters.n_ubatch = _PROMPT_BATCH_TOKENS
        # One thread of two, for prompts as well: a server's threads wait for each other at barriers by
        # spinning, and beside other busy processes a prompt of 500 tokens took 36 s with two, 9 s with one.
        threads = max(1, min(self._threads // 2, self._threads // self._slots))
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.cache_ram_mib = _CACHE_RAM_MIB
        parameters.n_threads_http = 1 + _SPARE_HTTP_THREADS
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [self.api_key]
        parameters.ui = False
        parameters.sse_ping_interval = -1
        parameters.verbosity = 0
        return parameters
