"""Withdrawn documents come out of the index."""

from assistant.bootstrap.functions import open_removing
from assistant.functions import FunctionEntry
from assistant.functions.removing import withdraw_documents
from assistant.settings import RemovingSettings

handle = FunctionEntry(RemovingSettings, open_removing, withdraw_documents)
