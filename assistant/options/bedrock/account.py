"""The checks of Bedrock by ``assistant aws doctor``, for a tenant whose answers a Bedrock model writes.

``AccountChecks`` calls each check before a deployment. A check yields its findings, none if all is well:
``failure`` stops the deployment, ``warning`` does not. No check changes the account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistant.options.bedrock.section import BedrockSection
from assistant.terminal.account import AccountChecks, Finding, failure, low_quotas, warning

_MISSING = ("ResourceNotFoundException", "ValidationException")
"""Errors of calls that mean that there is no such model, profile or setting."""


def checks(account: AccountChecks) -> Mapping[str, Callable[[], Iterator[Finding]]]:
    """Return the checks by name; none for a tenant whose own endpoint writes. ``option.py`` joins them."""
    section = BedrockSection.of(account.tenant)
    if section is None:
        return {}
    bedrock = _Checks(account, section)
    return {
        "bedrock model": bedrock.model,
        "bedrock access": bedrock.access,
        "bedrock profile": bedrock.profile,
        "bedrock quota": bedrock.quota,
        "bedrock logging": bedrock.logging,
        "bedrock retention": bedrock.retention,
    }


@dataclass(frozen=True, slots=True)
class _Checks:
    """One method for each check. ``_response`` and ``_model`` ask Bedrock's control plane by the caller's
    role."""

    account: AccountChecks
    section: BedrockSection

    def _response(self, call: str, **parameters: Any) -> Mapping[str, Any]:
        """Return Bedrock's response to a call of boto3; empty where there is no such thing."""
        return self.account.aws.call("bedrock", call, missing=_MISSING, **parameters) or {}

    def _model(self) -> Mapping[str, Any] | None:
        """Return the model's details; None where the region does not have it."""
        response = self._response("get_foundation_model", modelIdentifier=self.section.model_id)
        return response.get("modelDetails")

    def model(self) -> Iterator[Finding]:
        """Check that the region serves the model as the tenant file names it."""
        model_id, region = self.section.model_id, self.account.aws.region
        model = self._model()
        if model is None:
            yield failure(f"{region} has no model {model_id}: aws bedrock list-foundation-models lists them.")
            return
        if not model.get("responseStreamingSupported"):
            yield failure(f"{model_id} does not stream, and answers are streamed. Name another model.")
        if self.section.regions is None and "ON_DEMAND" not in model["inferenceTypesSupported"]:
            yield failure(
                f"{region} serves {model_id} only through an inference profile. Write its id as model, and "
                "the regions of its models as regions: aws bedrock list-inference-profiles."
            )
        if (status := model.get("modelLifecycle", {}).get("status")) != "ACTIVE":
            yield warning(f"{model_id} is {status}: AWS says when it ends.")

    def access(self) -> Iterator[Finding]:
        """Check that the account has an agreement for the model and may call it.

        For a third party's model, Bedrock subscribes the account at the first call by a role that may
        subscribe. The service's role may not, so an operator subscribes beforehand.
        """
        model_id = self.section.model_id
        known = self._response("get_foundation_model_availability", modelId=model_id)
        if known.get("agreementAvailability", {}).get("status") != "AVAILABLE":
            yield failure(
                f"this account has no agreement for {model_id}. Read the offer (aws bedrock "
                f"list-foundation-model-agreement-offers --model-id {model_id}), then subscribe: aws bedrock "
                f"create-foundation-model-agreement --model-id {model_id} --offer-token TOKEN"
            )
        wanted = {"authorizationStatus": "AUTHORIZED", "entitlementAvailability": "AVAILABLE"}
        wanted["regionAvailability"] = "AVAILABLE"
        if lacking := [
            f"{name} {known.get(name)}" for name, value in wanted.items() if known.get(name) != value
        ]:
            yield failure(f"this account may not call {model_id}: {', '.join(lacking)}.")

    def profile(self) -> Iterator[Finding]:
        """Check that the inference profile leads to the model, in exactly the declared regions: the task's
        role may call no other region."""
        regions = self.section.regions
        if regions is None:
            return
        name = self.section.model
        profile = self._response("get_inference_profile", inferenceProfileIdentifier=name)
        if not profile:
            yield failure(f"there is no inference profile {name}: aws bedrock list-inference-profiles.")
            return
        # arn:aws:bedrock:REGION::foundation-model/MODEL
        arns = [str(model["modelArn"]).split(":", 5) for model in profile["models"]]
        if others := sorted({arn[5] for arn in arns} - {f"foundation-model/{self.section.model_id}"}):
            yield failure(f"{name} leads to {', '.join(others)}, not to {self.section.model_id}.")
        if {arn[3] for arn in arns} != set(regions):
            listed = ", ".join(f'"{region}"' for region in sorted({arn[3] for arn in arns}))
            yield failure(f"{name} may read prompts in these regions: regions = [{listed}]")

    def quota(self) -> Iterator[Finding]:
        """Check that the quota of requests a minute is at least the streams that one task may have open."""
        model = self._model()
        route = "On-demand" if self.section.regions is None else "Cross-region"
        model_name = "" if model is None else str(model["modelName"])
        name = f"{route} model inference requests per minute for {model_name}"
        yield from low_quotas(self.account.aws, "bedrock", {name: self.account.tenant.limits.streams})

    def logging(self) -> Iterator[Finding]:
        """Check that invocations are not logged. The switch is one for all tenants of an account and region.
        A failure under the profile ``hipaa``, else a warning, as in ``retention``."""
        if not self._response("get_model_invocation_logging_configuration").get("loggingConfig"):
            return
        message = (
            "model invocation logging is on in this account and region: it writes the prompts and answers of "
            "every tenant to one place. Off: aws bedrock delete-model-invocation-logging-configuration"
        )
        yield failure(message) if self.account.place.profile == "hipaa" else warning(message)

    def retention(self) -> Iterator[Finding]:
        """Check that the account's mode of data retention is ``none``: nobody may keep prompts, and a model
        that must keep them is refused."""
        mode = self._response("get_account_data_retention").get("mode")
        if mode == "none":
            return
        message = (
            f"data retention of this account and region is {mode}: by the model's own rule AWS or its "
            "provider may keep prompts. Keep none: aws bedrock put-account-data-retention --mode none"
        )
        yield failure(message) if self.account.place.profile == "hipaa" else warning(message)
