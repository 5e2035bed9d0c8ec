"""``bedrock`` of ``[generation]``: the model of Amazon Bedrock that writes, in place of an LLM endpoint."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from assistant.options.bedrock.models import retention_of
from assistant.tenant.deployment_checks import Contradiction
from assistant.tenant.tenant import GenerationSection, TenantConfig
from assistant.tenant.toml_file import KeyMark, keys_of

# "amazon.nova-lite-v1:0", or with a profile's part before it: "us.amazon.nova-lite-v1:0".
ModelId = Annotated[str, StringConstraints(pattern=r"^([a-z]{2,8}\.)?[a-z0-9-]+\.[a-z0-9.-]+(:[0-9]+)?$")]
# "us-east-1", "us-gov-west-1"
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")]


class BedrockGeneration(GenerationSection):
    """``[generation]`` with the keys of this option."""

    bedrock: Annotated[ModelId | None, KeyMark.NO_ANSWER] = None
    """A model that the tenant's own region serves (``amazon.nova-lite-v1:0``), or with ``bedrock_regions`` an
    inference profile (``us.amazon.nova-lite-v1:0``). Answers are then written by it, and there is no LLM
    endpoint. It is ``model``, too."""
    bedrock_regions: Annotated[
        tuple[Region, ...] | None, KeyMark.NO_ANSWER, Field(min_length=1, max_length=30)
    ] = None
    """The regions of the profile's models, all of them: a prompt may be read in any."""

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        if self.bedrock is None:
            if self.bedrock_regions is not None:
                raise ValueError("bedrock_regions are of the profile that bedrock names, and there is none")
            return self
        if "model" in self.model_fields_set and self.model != self.bedrock:
            raise ValueError(f'model = "{self.model}" is another than bedrock. Delete model')
        if self.bedrock.startswith("global."):
            raise ValueError("a global profile may read prompts in any region, so none can be declared")
        object.__setattr__(self, "model", self.bedrock)  # frozen once it is validated
        return self

    @property
    def has_endpoint(self) -> bool:
        """Whether an LLM endpoint of the tenant writes; overrides the section's own answer."""
        return self.bedrock is None

    @property
    def model_id(self) -> str:
        """The model behind the profile: its id without the first part."""
        assert self.bedrock is not None  # noqa: S101 - callers ask of a tenant that has one
        return self.bedrock if self.bedrock_regions is None else self.bedrock.partition(".")[2]


def bedrock_of(tenant: TenantConfig) -> BedrockGeneration | None:
    """Return the table of a tenant that writes by Bedrock; None for another."""
    generation = keys_of(tenant.generation, BedrockGeneration)
    return None if generation.has_endpoint else generation


def contradictions(tenant: TenantConfig) -> Iterable[Contradiction]:
    """Yield what is wrong in the file of a tenant that writes by Bedrock; nothing for another tenant."""
    if (generation := bedrock_of(tenant)) is not None:
        yield from _contradictions(generation, tenant)


def _contradictions(generation: BedrockGeneration, tenant: TenantConfig) -> Iterator[Contradiction]:
    """Check the limit of the context, keys of LLM endpoints, the region, the profile's regions and retention.

    All but the first two need ``[deployment]``.
    """
    key = ("generation", "bedrock")
    if "context_tokens" not in generation.model_fields_set:
        yield Contradiction(
            key,
            "context_tokens is not given. Write how many tokens of a prompt and its answer you pay for at "
            "most, as context_tokens = 16384.",
        )
    for name in ("llm", "llm_instance"):
        if tenant.models is not None and getattr(tenant.models, name) is not None:
            yield Contradiction(("models", name), "no LLM endpoint is made beside bedrock. Delete the key.")
    if tenant.deployment is None:
        return
    from botocore.session import Session  # the laptop and the containers do not judge deployments

    region = tenant.deployment.region
    session = Session()
    if region not in session.get_available_regions("bedrock", session.get_partition_for_region(region)):
        yield Contradiction(
            key, f"botocore knows no Bedrock in {region}. Delete bedrock, or deploy where it is served."
        )
    regions = generation.bedrock_regions
    if regions is not None and tenant.deployment.region not in regions:
        yield Contradiction(
            ("generation", "bedrock_regions"), f"{tenant.deployment.region}, the tenant's own, is not there."
        )
    kept = retention_of(generation.model_id)
    if tenant.deployment.profile == "hipaa" and kept is not None:
        yield Contradiction(
            key,
            f'"{generation.bedrock}" keeps prompts for {kept.days} days ({kept.source}, {kept.date}); '
            "profile hipaa allows none that does.",
        )
