"""What ``assistant aws doctor`` asks of an account whose tenant writes by Bedrock. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistant.options.bedrock.section import BedrockGeneration, bedrock_of
from assistant.terminal.account import AccountChecks, Finding, failure, low_quotas, warning

_MISSING = ("ResourceNotFoundException", "ValidationException")


def checks(account: AccountChecks) -> Mapping[str, Callable[[], Iterator[Finding]]]:
    """Return the checks by name; none for a tenant whose own endpoint writes."""
    generation = bedrock_of(account.tenant)
    if generation is None:
        return {}
    asked = _Checks(account, generation)
    return {
        "bedrock model": asked.model,
        "bedrock access": asked.access,
        "bedrock profile": asked.profile,
        "bedrock quota": asked.quota,
        "bedrock logging": asked.logging,
        "bedrock retention": asked.retention,
    }


@dataclass(frozen=True, slots=True)
class _Checks:
    account: AccountChecks
    generation: BedrockGeneration

    def _asked(self, call: str, **given: Any) -> Mapping[str, Any]:
        """Return what Bedrock answers; empty where there is no such thing."""
        return self.account.aws.call("bedrock", call, missing=_MISSING, **given) or {}

    def _model(self) -> Mapping[str, Any] | None:
        found = self._asked("get_foundation_model", modelIdentifier=self.generation.model_id)
        return found.get("modelDetails")

    def model(self) -> Iterator[Finding]:
        """Check that the region serves the model as the tenant file names it."""
        model_id, region = self.generation.model_id, self.account.aws.region
        model = self._model()
        if model is None:
            yield failure(f"{region} has no model {model_id}: aws bedrock list-foundation-models lists them.")
            return
        if not model.get("responseStreamingSupported"):
            yield failure(f"{model_id} does not stream, and answers are streamed. Name another model.")
        if self.generation.bedrock_regions is None and "ON_DEMAND" not in model["inferenceTypesSupported"]:
            yield failure(
                f"{region} serves {model_id} only through an inference profile. Write its id as bedrock, and "
                "the regions of its models as bedrock_regions: aws bedrock list-inference-profiles."
            )
        if (status := model.get("modelLifecycle", {}).get("status")) != "ACTIVE":
            yield warning(f"{model_id} is {status}: AWS says when it ends.")

    def access(self) -> Iterator[Finding]:
        """Check that the account may use the model. Where a third party sells it, the first call of whoever
        may subscribe does so through AWS Marketplace: that is to be an action of its own, and the service's
        role cannot take it."""
        model_id = self.generation.model_id
        found = self._asked("get_foundation_model_availability", modelId=model_id)
        if found.get("agreementAvailability", {}).get("status") != "AVAILABLE":
            yield failure(
                f"this account has no agreement for {model_id}. Read the offer (aws bedrock "
                f"list-foundation-model-agreement-offers --model-id {model_id}), then subscribe: aws bedrock "
                f"create-foundation-model-agreement --model-id {model_id} --offer-token TOKEN"
            )
        wanted = {"authorizationStatus": "AUTHORIZED", "entitlementAvailability": "AVAILABLE"}
        wanted["regionAvailability"] = "AVAILABLE"
        if lacking := [
            f"{name} {found.get(name)}" for name, value in wanted.items() if found.get(name) != value
        ]:
            yield failure(f"this account may not call {model_id}: {', '.join(lacking)}.")

    def profile(self) -> Iterator[Finding]:
        """Check that the profile's models are in the declared regions: in others its calls are denied."""
        regions = self.generation.bedrock_regions
        if regions is None:
            return
        name = self.generation.bedrock
        found = self._asked("get_inference_profile", inferenceProfileIdentifier=name)
        if not found:
            yield failure(f"there is no inference profile {name}: aws bedrock list-inference-profiles.")
            return
        arns = [str(one["modelArn"]).split(":", 5) for one in found["models"]]
        if others := sorted({arn[5] for arn in arns} - {f"foundation-model/{self.generation.model_id}"}):
            yield failure(f"{name} leads to {', '.join(others)}, not to {self.generation.model_id}.")
        if {arn[3] for arn in arns} != set(regions):
            listed = ", ".join(f'"{region}"' for region in sorted({arn[3] for arn in arns}))
            yield failure(f"{name} may read prompts in these regions: bedrock_regions = [{listed}]")

    def quota(self) -> Iterator[Finding]:
        """Check that a minute has a call for each stream of a task."""
        model = self._model()
        way = "On-demand" if self.generation.bedrock_regions is None else "Cross-region"
        named = "" if model is None else str(model["modelName"])
        name = f"{way} model inference requests per minute for {named}"
        yield from low_quotas(self.account.aws, "bedrock", {name: self.account.tenant.limits.streams})

    def logging(self) -> Iterator[Finding]:
        """Check that invocations are not logged: one switch for all tenants of an account and region."""
        if not self._asked("get_model_invocation_logging_configuration").get("loggingConfig"):
            return
        said = (
            "model invocation logging is on in this account and region: it writes the prompts and answers of "
            "every tenant to one place. Off: aws bedrock delete-model-invocation-logging-configuration"
        )
        yield failure(said) if self.account.place.profile == "hipaa" else warning(said)

    def retention(self) -> Iterator[Finding]:
        """Check who may keep prompts: with ``none`` nobody, and a model that must is refused."""
        mode = self._asked("get_account_data_retention").get("mode")
        if mode == "none":
            return
        said = (
            f"data retention of this account and region is {mode}: by the model's own rule AWS or its "
            "provider may keep prompts. Keep none: aws bedrock put-account-data-retention --mode none"
        )
        yield failure(said) if self.account.place.profile == "hipaa" else warning(said)
