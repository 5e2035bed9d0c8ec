"""Documents go into the index."""

from assistant.bootstrap.functions import open_ingesting
from assistant.functions import FunctionEntry
from assistant.functions.ingesting import ingest_documents
from assistant.settings import IngestingSettings

handle = FunctionEntry(IngestingSettings, open_ingesting, ingest_documents)
