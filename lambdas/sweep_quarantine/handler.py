"""No raw captured call stays in the quarantine."""

from assistant.functions import FunctionEntry
from assistant.functions.redacting import sweep_quarantine
from assistant.settings.functions import RedactingSettings
from assistant.wiring.services import open_redacting

handle = FunctionEntry(RedactingSettings, open_redacting, sweep_quarantine)
