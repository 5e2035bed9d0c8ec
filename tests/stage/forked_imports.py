"""Imports what our programs import, also where they import it late: for the process that forks them."""

from __future__ import annotations

import gc
import importlib
import os
import sys

from assistant.cli.main import COMMANDS
from tests.stage.processes import FORKED

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # nothing but one thread survives a fork
_PROGRAMS = ("assistant.cli.main", "assistant.service.__main__", *FORKED[1:])
_COMMANDS = [module for module, _ in COMMANDS.values()]
_LATE = (
    "aiobotocore.session",
    "aiohttp",
    "numpy",
    "psutil",
    "tantivy",
    "tests.contracts.twins",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.h11_impl",
)
for _name in (*_PROGRAMS, *_COMMANDS, *_LATE):
    importlib.import_module(_name)
for _name in _PROGRAMS:
    del sys.modules[_name]  # each is run anew, as __main__
gc.freeze()
