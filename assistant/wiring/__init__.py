"""The only place that chooses adapters: builds what each process needs from its settings.

Adapters are imported where they are chosen, and engines by their adapter on first use: a process pays only
for what it uses.
"""

from assistant.wiring.clients import ProcessClients, open_clients
from assistant.wiring.ingestion import open_ingestion
from assistant.wiring.kept import TenantStores, open_stores
from assistant.wiring.key_source import open_key_source
from assistant.wiring.served import ServedTenant, open_tenants

__all__ = [
    "ProcessClients",
    "ServedTenant",
    "TenantStores",
    "open_clients",
    "open_ingestion",
    "open_key_source",
    "open_stores",
    "open_tenants",
]
