"""Prints the first-party files that one warm request executes, in order of first execution.

``python -m tools.traced_files`` traces one streamed ``POST /v1/answers`` on the embedded stores. ``python
-m tools.traced_files document`` traces one document from ``POST /v1/documents`` to the index; the child
process that parses it is not traced.

The service, a scripted SageMaker and the client share one process. Only files of ``assistant`` count,
without ``assistant/local``, which the scripted SageMaker uses.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from types import FrameType

import httpx

from assistant.knowledge.worker import IngestionWorker
from assistant.settings.process import WorkerSettings
from assistant.wiring.services import open_ingestion
from tests.fakes.running_service import RunningService, running_service

_ROOT = str(Path(__file__).parents[1])
_COUNTED = f"{_ROOT}/assistant/"
_NOT_COUNTED = f"{_ROOT}/assistant/local/"
_WARM_UPS = 5
_LIVE_WITHIN_S = 60.0
_POLL_S = 0.05


class FileTracer:
    """Notes each file whose functions are called, in all threads, while ``is_on``."""

    def __init__(self) -> None:
        self.is_on = False
        self.files: dict[str, None] = {}

    def install(self) -> None:
        """Trace this thread and those that start from now on."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if self.is_on and event == "call":
            name = frame.f_code.co_filename
            if name not in self.files and name.startswith(_COUNTED) and not name.startswith(_NOT_COUNTED):
                self.files[name] = None


async def trace_answer(tracer: FileTracer, service: RunningService) -> None:
    await service.know("wait", "The wait is two days.")
    for request in range(_WARM_UPS + 1):
        tracer.is_on = request == _WARM_UPS
        response = await service.ask(accept="text/event-stream")
        tracer.is_on = False
        if "event: done" not in response.text:
            raise RuntimeError(f"The traced question was not answered: {response.text[:300]}")


async def trace_document(tracer: FileTracer, service: RunningService) -> None:
    async with aclosing(_running_worker(service)) as running:
        await anext(running)
        for request in range(_WARM_UPS + 1):
            tracer.is_on = request == _WARM_UPS
            await _index_document(service, f"note-{request}")
            tracer.is_on = False


async def _running_worker(service: RunningService) -> AsyncGenerator[None]:
    """Run the ingestion worker on the service's stores in this process."""
    settings = service.settings
    if settings is None:
        raise RuntimeError("The service has no settings.")
    worker_settings = WorkerSettings(
        tenants_dir=settings.tenants_dir,
        state_dir=settings.state_dir,
        model_artifacts_dir=settings.model_artifacts_dir,
        sagemaker_endpoint_url=settings.sagemaker_endpoint_url,
    )
    async with open_ingestion(worker_settings) as tenants:
        worker = next(IngestionWorker(tenant) for tenant in tenants if tenant.tenant == "clinic")
        await worker.prepare()
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await task


async def _index_document(service: RunningService, document_id: str) -> None:
    """Send one document and return when it is live."""
    headers = service.headers("olga", roles=("knowledge_owner",))
    body = {
        "document_id": document_id,
        "title": f"Note {document_id}",
        "content": "The wait is two days.",
        "media_type": "text/plain",
        "source": "handbook",
        "labels": [],
    }
    _checked(await service.client.post("/v1/documents", json=body, headers=headers))
    path = f"/v1/documents/{document_id}"
    async with asyncio.timeout(_LIVE_WITHIN_S):
        while (await _state(service, path, headers)) != "live":  # noqa: ASYNC110 - the API has no event for it
            await asyncio.sleep(_POLL_S)


async def _state(service: RunningService, path: str, headers: dict[str, str]) -> str:
    return _checked(await service.client.get(f"{path}/status", headers=headers)).json()["state"]


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code >= 400:
        raise RuntimeError(f"{response.request.url}: {response.status_code} {response.text[:300]}")
    return response


async def main(what: str) -> None:
    tracer = FileTracer()
    tracer.install()
    trace = trace_document if what == "document" else trace_answer
    with tempfile.TemporaryDirectory() as folder:
        async with running_service(Path(folder)) as service:
            await trace(tracer, service)
    for number, name in enumerate(tracer.files, start=1):
        print(f"{number:3d} {name.removeprefix(_ROOT + '/')}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "answer"))
