"""The calls of a deployment to the AWS account: parameters, stacks, quotas, the probe. All have timeouts."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.deployment import PlaceSection
from assistant.settings.tenant import TenantConfig

_LIMITS = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"})

_NEVER_CREATED = frozenset(
    {
        "REVIEW_IN_PROGRESS",
        "CREATE_IN_PROGRESS",
        "CREATE_FAILED",
        "ROLLBACK_IN_PROGRESS",
        "ROLLBACK_FAILED",
        "ROLLBACK_COMPLETE",
    }
)
"""A first creation that has not ended, or failed: ``cdk deploy`` creates such a stack again."""


def place_of(tenant: TenantConfig, file: Path) -> PlaceSection:
    """Return where a tenant is deployed. Raises ConfigurationError when it is only served locally."""
    if tenant.deployment is None:
        raise ConfigurationError(f"{file}: there is no [deployment] section, so it is only served locally.")
    return tenant.deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A quota of the account."""

    code: str
    """``L-…``: an increase is requested by it."""
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccount:
    """One account and region, by the credentials of whoever runs the command."""

    account: str
    region: str

    def require(self) -> None:
        """Raise DeploymentError when the credentials are missing or another account's."""
        found = self._call("sts", "get_caller_identity")["Account"]
        if found != self.account:
            raise DeploymentError(
                f"These credentials are of account {found}; the tenant file says {self.account}. "
                "Use those of the right account (AWS_PROFILE)."
            )

    def parameter(self, name: str) -> str | None:
        """Return an SSM parameter's value, or None where there is none. Raises DeploymentError."""
        found = self._call("ssm", "get_parameter", missing="ParameterNotFound", Name=name)
        return None if found is None else str(found["Parameter"]["Value"])

    def create_parameter(self, name: str, *, value: str) -> None:
        """Make a parameter that is not there. Raises DeploymentError."""
        self._call("ssm", "put_parameter", Name=name, Value=value, Type="String", Overwrite=False)

    def template(self, stack: str) -> Mapping[str, Any] | None:
        """Return a deployed stack's template; None where there is none. Raises DeploymentError."""
        if self._described(stack) is None:
            return None
        body = self._call("cloudformation", "get_template", StackName=stack)["TemplateBody"]
        return cast("Mapping[str, Any]", json.loads(body) if isinstance(body, str) else body)

    def outputs(self, stack: str) -> Mapping[str, str]:
        """Return a deployed stack's outputs; empty where there is none. Raises DeploymentError."""
        outputs = (self._described(stack) or {}).get("Outputs", [])
        return {str(output["OutputKey"]): str(output["OutputValue"]) for output in outputs}

    def invoke(self, function: str) -> Mapping[str, Any]:
        """Invoke a function and return its result. Raises DeploymentError, also when it failed."""
        answer = self._call("lambda", "invoke", FunctionName=function)
        said = answer["Payload"].read()
        if answer.get("FunctionError"):
            raise DeploymentError(f"{function} failed: {said.decode(errors='replace')[:500]}")
        return cast("Mapping[str, Any]", json.loads(said or b"{}"))

    def zones_of_service(self, name: str) -> frozenset[str] | None:
        """Return the zones, by this account's names, of an endpoint service; None where it is not offered.

        Raises DeploymentError.
        """
        found = self._call(
            "ec2", "describe_vpc_endpoint_services", missing="InvalidServiceName", ServiceNames=[name]
        )
        details: list[Mapping[str, Any]] = found["ServiceDetails"] if found else []
        zones = frozenset(str(zone) for each in details for zone in each["AvailabilityZones"])
        return zones if details else None

    def certificate(self, arn: str) -> Mapping[str, Any] | None:
        """Return what ACM says of a certificate; None where there is none. Raises DeploymentError."""
        found = self._call(
            "acm", "describe_certificate", missing="ResourceNotFoundException", CertificateArn=arn
        )
        return None if found is None else cast("Mapping[str, Any]", found["Certificate"])

    def role(self, name: str) -> Mapping[str, Any] | None:
        """Return a role; None where there is none. Raises DeploymentError."""
        found = self._call("iam", "get_role", missing="NoSuchEntity", RoleName=name)
        return None if found is None else cast("Mapping[str, Any]", found["Role"])

    def concurrent_functions(self) -> int:
        """Return how many functions may run at once. Raises DeploymentError."""
        return int(self._call("lambda", "get_account_settings")["AccountLimit"]["ConcurrentExecutions"])

    def quotas(self, service: str, *, names: Collection[str]) -> Mapping[str, Quota]:
        """Return the named quotas of a service that exist here, by name. Raises DeploymentError.

        An account that never asked for a quota has AWS's default.
        """
        found: dict[str, Quota] = {}
        for call in ("list_service_quotas", "list_aws_default_service_quotas"):
            token: Mapping[str, str] = {}
            while set(names) - found.keys():
                page = self._call("service-quotas", call, ServiceCode=service, MaxResults=100, **token)
                for each in page["Quotas"]:
                    if each["QuotaName"] in names:
                        quota = Quota(code=str(each["QuotaCode"]), value=float(each["Value"]))
                        found.setdefault(str(each["QuotaName"]), quota)
                if "NextToken" not in page:
                    break
                token = {"NextToken": str(page["NextToken"])}
        return found

    def _described(self, stack: str) -> Mapping[str, Any] | None:
        found = self._call("cloudformation", "describe_stacks", missing="ValidationError", StackName=stack)
        described = found["Stacks"][0] if found else None
        return None if described is None or described["StackStatus"] in _NEVER_CREATED else described

    def _call(self, service: str, call: str, *, missing: str | None = None, **given: Any) -> Any:
        try:
            client = cast("Any", boto3).client(service, region_name=self.region, config=_LIMITS)
            return getattr(client, call)(**given)
        except ClientError as error:
            if missing is not None and error.response.get("Error", {}).get("Code") == missing:
                return None
            raise DeploymentError(f"{service} refused {call}: {error}") from None
        except BotoCoreError as error:
            raise DeploymentError(f"Cannot call {service}: {error}") from None
