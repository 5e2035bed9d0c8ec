"""What was deleted leaves the domain's disks; no withdrawal is forgotten."""

from assistant.functions import FunctionEntry
from assistant.functions.removing import purge_index
from assistant.settings.functions import RemovingSettings
from assistant.wiring.services import open_removing

handle = FunctionEntry(RemovingSettings, open_removing, purge_index)
