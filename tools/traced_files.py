"""Prints the first-party files that one warm request executes, in order of first execution.

``python -m tools.traced_files`` traces one streamed ``POST /v1/answers`` on the embedded stores. ``python
-m tools.traced_files document`` traces one Markdown file from the disk to the index, as ``assistant knowledge
add`` and the worker process it; the parsing process is not traced.

The service, a scripted SageMaker and the client share one process. Only files of ``assistant`` count,
without ``assistant/local``, which the scripted SageMaker uses.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

from assistant.domain.documents import DocumentState
from assistant.knowledge.add_documents import AddDocuments
from assistant.knowledge.files import read_sources
from assistant.knowledge.parsing_process import ParsingProcess
from assistant.knowledge.pipeline import TenantIngestion
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.knowledge.worker import IngestionWorker
from assistant.settings.process import WorkerSettings
from assistant.settings.tenant import load_tenants
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
    async with _running_worker(service) as (ingestion, source):
        add = AddDocuments(ingestion.stores, clock=ingestion.clock)
        with tempfile.TemporaryDirectory() as folder, ParsingProcess() as parsing:
            for number in range(_WARM_UPS + 1):
                path = Path(folder) / f"note-{number}.md"
                path.write_text(f"# Note {number}\n\nThe wait is two days.\n")
                tracer.is_on = number == _WARM_UPS
                summary = await add(
                    read_sources([path], parsing=parsing), source=source, writer=Writer("tracer")
                )
                await _until_live(ingestion, summary.enqueued_ids[0])
                tracer.is_on = False


@asynccontextmanager
async def _running_worker(service: RunningService) -> AsyncGenerator[tuple[TenantIngestion, KnowledgeSource]]:
    """Run one tenant's ingestion worker on the service's stores, in this process. Yield its services and
    first source."""
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
        ingestion = next(tenant for tenant in tenants if tenant.tenant == "clinic")
        tenant_file = load_tenants(settings.tenants_dir).tenants[ingestion.tenant]
        worker = IngestionWorker(ingestion)
        await worker.prepare()
        task = asyncio.create_task(worker.run())
        try:
            yield ingestion, KnowledgeSources.of(tenant_file).all[0]
        finally:
            worker.stop()
            await task


async def _until_live(ingestion: TenantIngestion, document_id: str) -> None:
    async with asyncio.timeout(_LIVE_WITHIN_S):
        while True:
            status = await ingestion.stores.states.get(document_id)
            if status is not None and status.state is DocumentState.LIVE:
                return
            await asyncio.sleep(_POLL_S)


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
