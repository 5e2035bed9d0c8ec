"""All configuration: one settings class a process, read from the environment, and the tenant file.

The name of an environment variable lives once, on the class that reads it.
"""

from assistant.settings.account_file import AccountConfig, load_account
from assistant.settings.artifacts import (
    EmbeddingManifest,
    LlmManifest,
    load_embedding_manifest,
    load_llm_manifest,
)
from assistant.settings.care_app import CareApp, CareAppConfig, load_care_app
from assistant.settings.deployment_sections import (
    EdgeSection,
    ExistingVpc,
    IdentitySection,
    ModelsSection,
    NetworkSection,
    ObservabilitySection,
    PlaceSection,
    PowerSection,
    ReachEntry,
    SearchSection,
    TasksSection,
)
from assistant.settings.images import ImageLock, LockedImage, load_images, write_digest
from assistant.settings.local import (
    GatewaySettings,
    LocalIssuerSettings,
    LocalSettings,
    ModelServerSettings,
)
from assistant.settings.probe import (
    PROBE_DEGRADED,
    PROBE_DIMENSION,
    PROBE_DURATION,
    PROBE_FAILED,
    PROBE_PAUSED,
    PROBE_SUBJECT,
    ProbeSettings,
)
from assistant.settings.process import ProcessSettings, inherited_environment
from assistant.settings.served import ServiceSettings, StoreSettings, WorkerSettings
from assistant.settings.tenant_file import (
    WHERE_IT_STANDS,
    EmbeddingSection,
    GateSection,
    GenerationSection,
    GlossaryText,
    IndexSection,
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
    "AccountConfig",
    "CareApp",
    "CareAppConfig",
    "EdgeSection",
    "EmbeddingManifest",
    "EmbeddingSection",
    "ExistingVpc",
    "GateSection",
    "GatewaySettings",
    "GenerationSection",
    "GlossaryText",
    "IdentitySection",
    "ImageLock",
    "IndexSection",
    "KnowledgeSection",
    "LimitsSection",
    "LlmManifest",
    "LocalIssuerSettings",
    "LocalSettings",
    "LockedImage",
    "ModelServerSettings",
    "ModelsSection",
    "NetworkSection",
    "ObservabilitySection",
    "PROBE_DEGRADED",
    "PROBE_DIMENSION",
    "PROBE_DURATION",
    "PROBE_FAILED",
    "PROBE_PAUSED",
    "PROBE_SUBJECT",
    "PlaceSection",
    "PowerSection",
    "ProbeSettings",
    "ProcessSettings",
    "PromptSection",
    "ReachEntry",
    "RetrievalSection",
    "SearchSection",
    "SecretsSection",
    "ServiceSettings",
    "StoreSettings",
    "TasksSection",
    "TenantConfig",
    "TenantName",
    "WHERE_IT_STANDS",
    "WorkerSettings",
    "inherited_environment",
    "load_account",
    "load_care_app",
    "load_embedding_manifest",
    "load_images",
    "load_llm_manifest",
    "load_tenant",
    "load_tenants",
    "write_digest",
]
