"""All configuration: one settings class a process, read from the environment, and the tenant file.

The name of an environment variable lives once, on the class that reads it.
"""

from assistant.settings.local import (
    GatewaySettings,
    LocalIssuerSettings,
    LocalSettings,
    ModelServerSettings,
)
from assistant.settings.process import ProcessSettings, inherited_environment
from assistant.settings.served import ServiceSettings, StoreSettings, WorkerSettings
from assistant.settings.tenant_file import (
    EmbeddingSection,
    GateSection,
    GenerationSection,
    GlossaryText,
    KnowledgeSection,
    LimitsSection,
    PromptSection,
    RetrievalSection,
    SecretsSection,
    TenantConfig,
    TenantName,
    load_tenant,
    load_tenants,
)

__all__ = [
    "EmbeddingSection",
    "GateSection",
    "GatewaySettings",
    "GenerationSection",
    "GlossaryText",
    "KnowledgeSection",
    "LimitsSection",
    "LocalIssuerSettings",
    "LocalSettings",
    "ModelServerSettings",
    "ProcessSettings",
    "PromptSection",
    "RetrievalSection",
    "SecretsSection",
    "ServiceSettings",
    "StoreSettings",
    "TenantConfig",
    "TenantName",
    "WorkerSettings",
    "inherited_environment",
    "load_tenant",
    "load_tenants",
]
