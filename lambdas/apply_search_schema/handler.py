"""Index, pipeline, alias, audit log, and who may use the index: custom resources of CloudFormation."""

from assistant.functions import FunctionEntry
from assistant.functions.setting_up import apply_search_schema
from assistant.settings.functions import SchemaSettings
from assistant.wiring.services import open_search_domain

handle = FunctionEntry(SchemaSettings, open_search_domain, apply_search_schema)
