"""No raw captured call stays in the quarantine."""

from assistant.bootstrap.functions import open_redacting
from assistant.functions import FunctionEntry
from assistant.functions.redacting import sweep_quarantine
from assistant.settings import RedactingSettings

handle = FunctionEntry(RedactingSettings, open_redacting, sweep_quarantine)
