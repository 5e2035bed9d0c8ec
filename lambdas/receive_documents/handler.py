"""Raw files of the inbox become documents."""

from assistant.functions import FunctionEntry
from assistant.functions.receiving import receive_documents
from assistant.settings.functions import ReceivingSettings
from assistant.wiring.services import open_receiving

handle = FunctionEntry(ReceivingSettings, open_receiving, receive_documents)
