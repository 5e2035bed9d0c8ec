"""Raw captured calls leave the quarantine, redacted."""

from assistant.bootstrap.functions import open_redacting
from assistant.functions import FunctionEntry
from assistant.functions.redacting import redact_capture
from assistant.settings import RedactingSettings

handle = FunctionEntry(RedactingSettings, open_redacting, redact_capture)
