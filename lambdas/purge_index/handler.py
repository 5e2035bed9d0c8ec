"""What was deleted leaves the domain's disks; no withdrawal is forgotten."""

from assistant.bootstrap.functions import open_removing
from assistant.functions import FunctionEntry
from assistant.functions.removing import purge_index
from assistant.settings import RemovingSettings

handle = FunctionEntry(RemovingSettings, open_removing, purge_index)
