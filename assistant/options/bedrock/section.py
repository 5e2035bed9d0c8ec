"""``[bedrock]``: the model of Amazon Bedrock that writes, in place of an LLM endpoint."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from assistant.options.bedrock.models import retention_of
from assistant.tenant.deployment import PlaceSection
from assistant.tenant.deployment_checks import Contradiction
from assistant.tenant.manifests import CheckCounts
from assistant.tenant.tenant import TenantConfig, TenantTable
from assistant.tenant.toml_file import Tables

# "amazon.nova-lite-v1:0", or with a profile's part before it: "us.amazon.nova-lite-v1:0".
ModelId = Annotated[str, StringConstraints(pattern=r"^([a-z]{2,8}\.)?[a-z0-9-]+\.[a-z0-9.-]+(:[0-9]+)?$")]
# "us-east-1", "us-gov-west-1"
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")]


class BedrockSection(TenantTable):
    """``[bedrock]``: a model of Amazon Bedrock writes the answers, and there is no LLM endpoint."""

    writes: ClassVar = True

    model: ModelId
    """A model that the tenant's own region serves (``amazon.nova-lite-v1:0``), or with ``regions`` an
    inference profile (``us.amazon.nova-lite-v1:0``). It is ``generation.model``, too."""
    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=30)] | None = None
    """The regions of the profile's models, all of them: a prompt may be read in any."""
    sentence_check: CheckCounts | None = None
    """How the model checked planted and true sentences: the line that ``assistant aws doctor`` prints.
    Absent: what it writes counts as not checked."""

    def check(self, tenant: TenantConfig, /) -> None:
        generation = tenant.generation
        if "model" in generation.model_fields_set and generation.model != self.model:
            raise ValueError(
                f'generation.model = "{generation.model}" is another than bedrock.model. Delete it'
            )
        if self.model.startswith("global."):
            raise ValueError("a global profile may read prompts in any region, so none can be declared")
        generation = generation.model_copy(update={"model": self.model})
        object.__setattr__(tenant, "generation", generation)  # frozen once it is validated

    @property
    def model_id(self) -> str:
        """The model behind the profile: its id without the first part."""
        return self.model if self.regions is None else self.model.partition(".")[2]


TABLES: Tables = {TenantConfig: BedrockSection}


def contradictions(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield what is wrong in the file of a tenant that writes by Bedrock: the limit of the context, keys of
    LLM endpoints, and what its deployment does not allow. Nothing for another tenant."""
    if (bedrock := BedrockSection.of(tenant)) is None:
        return
    if "context_tokens" not in tenant.generation.model_fields_set:
        yield Contradiction(
            ("generation", "context_tokens"),
            "is not given. Write how many tokens of a prompt and its answer you pay for at most, as "
            "context_tokens = 16384.",
        )
    for name in ("llm", "llm_instance"):
        if tenant.models is not None and getattr(tenant.models, name) is not None:
            yield Contradiction(("models", name), "no LLM endpoint is made beside [bedrock]. Delete the key.")
    if tenant.deployment is not None:
        yield from _deployed(bedrock, tenant.deployment)


def _deployed(bedrock: BedrockSection, place: PlaceSection) -> Iterator[Contradiction]:
    """Check the region, the profile's regions, and who keeps prompts."""
    from botocore.session import Session  # the laptop and the containers do not judge deployments

    key, region, session = ("bedrock", "model"), place.region, Session()
    if region not in session.get_available_regions("bedrock", session.get_partition_for_region(region)):
        yield Contradiction(
            key, f"botocore knows no Bedrock in {region}. Delete [bedrock], or deploy where it is served."
        )
    if bedrock.regions is not None and region not in bedrock.regions:
        yield Contradiction(("bedrock", "regions"), f"{region}, the tenant's own, is not there.")
    kept = retention_of(bedrock.model_id)
    if place.profile == "hipaa" and kept is not None:
        yield Contradiction(
            key,
            f'"{bedrock.model}" keeps prompts for {kept.days} days ({kept.source}, {kept.date}); '
            "profile hipaa allows none that does.",
        )
