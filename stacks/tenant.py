"""One tenant as the stacks see it: its file, whole, with the images and model artifacts that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assistant.settings.deployment import EdgeSection, IdentitySection, ModelsSection, PlaceSection
from assistant.settings.images import ImageLock
from assistant.settings.model_artifacts import EmbeddingManifest, LlmManifest
from assistant.settings.tenant import TenantConfig

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedTenant:
    """``config`` is the tenant file as it will be read on AWS: the model's name and context, the index's
    copies and the place of the link secret are those of the deployment."""

    config: TenantConfig
    place: PlaceSection
    identity: IdentitySection
    edge: EdgeSection
    models: ModelsSection
    images: ImageLock
    llm: LlmManifest
    embedding: EmbeddingManifest

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_hipaa(self) -> bool:
        return self.place.profile == "hipaa"

    @property
    def is_dev(self) -> bool:
        return self.place.profile == "dev"

    @property
    def log_retention_days(self) -> int:
        """How long logs are kept: six years in a HIPAA programme."""
        return {"dev": 30, "standard": 365, "hipaa": 2192}[self.place.profile]

    @property
    def role_path(self) -> str:
        """Path of the tenant's roles: below the company's, so that an ARN shows whose a role is."""
        return f"{self.place.role_path}{self.name}/"

    @property
    def jwks_parameter(self) -> str:
        return self.identity.jwks_parameter or self.parameter("jwks")

    @property
    def power_parameter(self) -> str:
        return self.parameter("power")

    @property
    def link_secret_parameter(self) -> str:
        return self.parameter("document-links")

    def with_config(self, config: TenantConfig) -> DeployedTenant:
        """Return the tenant with its file as it is meant on AWS."""
        return replace(self, config=config)

    @property
    def metrics_service(self) -> str:
        """Value of the one dimension of the metrics that the tenant's tasks and functions tell."""
        return f"{self.place.name_prefix}-{self.name}"

    @property
    def cluster_name(self) -> str:
        """Name of the ECS cluster: fixed, because Container Insights names its log group after it."""
        return f"{self.place.name_prefix}-{self.name}"

    @property
    def insights_log_group(self) -> str:
        """Name of the log group that Container Insights writes the cluster's measurements to."""
        return f"/aws/ecs/containerinsights/{self.cluster_name}/performance"

    def parameter(self, name: str) -> str:
        """Return the full name of an SSM parameter of this tenant."""
        return self.place.parameter(self.name, name)

    def tags(self) -> Mapping[str, str]:
        """Return what every resource of the tenant is tagged with, data-class aside."""
        return {
            **self.place.required_tags,
            "tenant": self.name,
            "cost-center": self.place.cost_center,
            "profile": self.place.profile,
            "release": self.place.release,
        }
