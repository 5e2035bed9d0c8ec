"""A benchmark's stand-in in a process of its own: the CPU that is measured is then the caller's alone.

The module serves itself when it is started with ``--serve``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

SERVE = "--serve"


async def serve(make: Callable[[], asyncio.Protocol]) -> None:
    """Serve on a free port, which is printed, until the process is ended."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@asynccontextmanager
async def stand_in_process(module: str, *arguments: str) -> AsyncGenerator[str]:
    """Start ``module --serve arguments`` and give its base URL; it is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, SERVE, *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{(await process.stdout.readline()).decode().strip()}"
    finally:
        process.kill()
        await process.wait()
