"""Raw files of the inbox become documents."""

from assistant.bootstrap.functions import open_receiving
from assistant.functions import FunctionEntry
from assistant.functions.receiving import receive_documents
from assistant.settings import ReceivingSettings

handle = FunctionEntry(ReceivingSettings, open_receiving, receive_documents)
