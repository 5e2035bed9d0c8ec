"""Raw captured calls leave the quarantine, redacted."""

from assistant.functions import FunctionEntry
from assistant.functions.redacting import redact_capture
from assistant.settings.functions import RedactingSettings
from assistant.wiring.services import open_redacting

handle = FunctionEntry(RedactingSettings, open_redacting, redact_capture)
