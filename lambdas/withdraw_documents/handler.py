"""Withdrawn documents come out of the index."""

from assistant.functions import FunctionEntry
from assistant.functions.removing import withdraw_documents
from assistant.settings.functions import RemovingSettings
from assistant.wiring.services import open_removing

handle = FunctionEntry(RemovingSettings, open_removing, withdraw_documents)
