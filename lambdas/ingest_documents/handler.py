"""Documents go into the index."""

from assistant.functions import FunctionEntry
from assistant.functions.ingesting import ingest_documents
from assistant.settings.functions import IngestingSettings
from assistant.wiring.services import open_ingesting

handle = FunctionEntry(IngestingSettings, open_ingesting, ingest_documents)
