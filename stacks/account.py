"""The key of what an account's tenants share: images and word of their budgets. No patient's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar, cast

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import AccountConfig, load_account
from assistant.settings.images import ImageLock
from stacks.boundary import EXCEPTIONS, SHARED, TenantBoundary
from stacks.policy import acknowledge
from stacks.tenant import ROOT, DeployedTenant
from stacks.tenant_stack import OUTLIVES


def account_key(scope: Construct, construct_id: str) -> kms.IKey:
    key = kms.Key(
        scope,
        construct_id,
        description="Images of the assistant and word of its budgets",
        enable_key_rotation=True,
        pending_window=cdk.Duration.days(30),
    )
    key.add_to_resource_policy(told_by_budgets(cdk.Stack.of(key), ["kms:Decrypt", "kms:GenerateDataKey*"]))
    return cast("kms.IKey", key)


def told_by_budgets(stack: cdk.Stack, actions: list[str], resource: str = "*") -> iam.PolicyStatement:
    """Return what AWS Budgets of this account may do with a topic or its key (there ``*`` is the key).

    https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-sns-policy.html
    """
    budgets = stack.format_arn(
        service="budgets", region="", resource="*", arn_format=cdk.ArnFormat.NO_RESOURCE_NAME
    )
    statement = iam.PolicyStatement(
        sid="BudgetsTell",
        actions=actions,
        resources=[resource],
        conditions={
            "StringEquals": {"aws:SourceAccount": stack.account},
            "ArnLike": {"aws:SourceArn": budgets},
        },
    )
    statement.add_service_principal("budgets.amazonaws.com")
    return statement


# Where every tenant's budget is told of in an account and region.


class BudgetTopic(sns.Topic):
    """Named ``<name_prefix>-budget``: tenants refer to it by that name."""

    def __init__(
        self, scope: Construct, construct_id: str, *, name_prefix: str, key: kms.IKey, email: str | None
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            topic_name=f"{name_prefix}-budget",
            display_name="Budgets of the assistant's tenants",
            master_key=key,
            enforce_ssl=True,
        )
        self.add_to_resource_policy(told_by_budgets(cdk.Stack.of(self), ["sns:Publish"], self.topic_arn))
        if email is not None:
            sns.CfnSubscription(self, "Email", topic_arn=self.topic_arn, protocol="email", endpoint=email)


# The registry's places for our own images, as ``images.lock.toml`` names them.


_UNTAGGED_DAYS = 14
"""What a broken push leaves. What has a tag stays: a deployment pins digests, and goes back to old ones."""


class ImageRepositories(Construct):
    """One repository an image that is kept in the deployment account, scanned on push, tags never moved."""

    def __init__(self, scope: Construct, construct_id: str, *, images: ImageLock, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        for name, image in images.images.items():
            if not image.is_own:
                continue
            ecr.Repository(
                self,
                "".join(part.capitalize() for part in name.split("_")),
                repository_name=image.repository,
                image_scan_on_push=True,
                image_tag_mutability=ecr.TagMutability.IMMUTABLE,
                encryption=ecr.RepositoryEncryption.KMS,
                encryption_key=key,
                lifecycle_rules=[
                    ecr.LifecycleRule(
                        description="What a broken push leaves",
                        tag_status=ecr.TagStatus.UNTAGGED,
                        max_image_age=cdk.Duration.days(_UNTAGGED_DAYS),
                    )
                ],
            )


# The account stage: what stands once in an account and region, for all tenants in it.


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServiceRole:
    """A service-linked role: IAM makes one an account of each service, and refuses a second."""

    construct_id: str
    service: str
    purpose: str


_SERVICE_ROLES: Mapping[str, _ServiceRole] = {
    "search_service_role": _ServiceRole(
        construct_id="SearchServiceRole",
        service="opensearchservice.amazonaws.com",
        purpose="Lets search domains stand in a VPC",
    ),
    "ecs_service_role": _ServiceRole(
        construct_id="EcsServiceRole",
        service="ecs.amazonaws.com",
        purpose="Lets ECS attach tasks to networks and load balancers",
    ),
    "ecs_scaling_role": _ServiceRole(
        construct_id="EcsScalingRole",
        service="ecs.application-autoscaling.amazonaws.com",
        purpose="Lets Application Auto Scaling count tasks of ECS services",
    ),
    "sagemaker_scaling_role": _ServiceRole(
        construct_id="SageMakerScalingRole",
        service="sagemaker.application-autoscaling.amazonaws.com",
        purpose="Lets Application Auto Scaling count instances of SageMaker endpoints",
    ),
}
"""By their item of the account file. A service makes its own at its first use, but by another request than
the one that needs it: the first cluster of an account was seen to fail by that race."""
_ONCE_AN_ACCOUNT = (*_SERVICE_ROLES, "boundary")
"""IAM has no regions: what one region of an account made, another finds there."""


class AccountStage(cdk.Stage):
    def __init__(self, scope: Construct, *, tenants: Sequence[DeployedTenant], config: AccountConfig) -> None:
        place = tenants[0].place
        super().__init__(
            scope,
            f"Account-{place.account}-{place.region}",
            env=cdk.Environment(account=place.account, region=place.region),
            stage_name="assistant-account",
        )
        AccountStack(self, "Account", tenants=tenants, config=config)
        tags = {**place.required_tags, "tenant": SHARED, "cost-center": config.cost_center}
        for key, value in {**tags, "data-class": "internal"}.items():
            cdk.Tags.of(self).add(key, value)
        acknowledge(self, EXCEPTIONS)

    @classmethod
    def for_places(
        cls, scope: Construct, tenants: Sequence[DeployedTenant], *, folder: Path | None = None
    ) -> list[AccountStage]:
        """Make one stage for each account and region that the tenants stand in.

        ``folder`` holds the account files: ``accounts`` unless context ``-c accounts=DIR`` names another.
        Raises ConfigurationError naming file and key.
        """
        given = scope.node.try_get_context("accounts")
        folder = folder or (Path(str(given)) if given else ROOT / "accounts")
        places = {key: list(those) for key, those in groupby(sorted(tenants, key=_place_of), key=_place_of)}
        configs = {
            (account, region): load_account(folder, account=account, region=region)
            for account, region in places
        }
        _refuse_twice_an_account(configs, folder=folder)
        return [cls(scope, tenants=those, config=configs[key]) for key, those in places.items()]


class AccountStack(cdk.Stack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenants: Sequence[DeployedTenant],
        config: AccountConfig,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="Private care assistant: what all tenants of an account and region share",
            termination_protection=True,
            synthesizer=_synthesizer(tenants),
        )
        prefixes = sorted({tenant.place.name_prefix for tenant in tenants})
        for item, role in _SERVICE_ROLES.items():
            if getattr(config, item) == "create":
                iam.CfnServiceLinkedRole(
                    self, role.construct_id, aws_service_name=role.service, description=role.purpose
                )
        if config.log_policy == "create":
            self._add_log_policy(prefixes)
        if config.boundary == "create":
            self._add_boundaries(tenants, regions=config.regions)
        self._add_kept_under_a_key(tenants, config=config)
        for resource in self.node.find_all():
            if isinstance(resource, cdk.CfnResource):
                resource.apply_removal_policy(OUTLIVES)

    def _add_log_policy(self, prefixes: Sequence[str]) -> None:
        """A region takes ten such policies; a domain's own, as CDK would make it, is one a domain."""
        domains = self.format_arn(service="es", resource="domain", resource_name="*")
        statement = iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[self._log_groups(prefix) for prefix in prefixes],
            conditions={
                "StringEquals": {"aws:SourceAccount": self.account},
                "ArnLike": {"aws:SourceArn": domains},
            },
        )
        statement.add_service_principal("es.amazonaws.com")
        logs.CfnResourcePolicy(
            self,
            "SearchLogPolicy",
            policy_name="assistant-search-logs",
            policy_document=self.to_json_string(iam.PolicyDocument(statements=[statement]).to_json()),
        )

    def _log_groups(self, prefix: str) -> str:
        """Of all tenants: a generated name begins with that of its stack, and this with the prefix."""
        return self.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"{prefix}-*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )

    def _add_boundaries(self, tenants: Sequence[DeployedTenant], *, regions: Sequence[str]) -> None:
        """One a prefix, unless the company bounds these tenants with a policy of its own."""
        scope = Construct(self, "Boundaries")
        bounded = [tenant for tenant in tenants if tenant.place.permissions_boundary is None]
        for prefix in sorted({tenant.place.name_prefix for tenant in bounded}):
            TenantBoundary(
                scope,
                _id_for(prefix),
                name_prefix=prefix,
                regions=[self.region, *regions],
            )

    def _add_kept_under_a_key(self, tenants: Sequence[DeployedTenant], *, config: AccountConfig) -> None:
        if config.repositories == "existing" and config.budget_topic == "existing":
            return
        key = account_key(self, "AccountKey")
        if config.repositories == "create":
            ImageRepositories(self, "Images", images=_agreed(tenants, lambda t: t.images, "images"), key=key)
        if config.budget_topic == "create":
            topics = Construct(self, "BudgetTopics")
            for prefix in sorted({tenant.place.name_prefix for tenant in tenants}):
                BudgetTopic(
                    topics,
                    _id_for(prefix),
                    name_prefix=prefix,
                    key=key,
                    email=config.budget_email,
                )


def _place_of(tenant: DeployedTenant) -> tuple[str, str]:
    return tenant.place.account, tenant.place.region


def _id_for(prefix: str) -> str:
    return "".join(part.capitalize() for part in prefix.split("-"))


def _refuse_twice_an_account(configs: Mapping[tuple[str, str], AccountConfig], *, folder: Path) -> None:
    for item in _ONCE_AN_ACCOUNT:
        made: dict[str, str] = {}
        for (account, region), config in configs.items():
            if getattr(config, item) != "create":
                continue
            if account in made:
                raise ConfigurationError(
                    f'{folder}/{account}-{region}.toml: {item} must be "existing": {made[account]} of '
                    "the same account creates it, and IAM has no regions."
                )
            made[account] = region


_T = TypeVar("_T")


def _agreed(tenants: Sequence[DeployedTenant], read: Callable[[DeployedTenant], _T], what: str) -> _T:
    """Return what all tenants of a place say alike. Raises ConfigurationError where they do not."""
    first = read(tenants[0])
    for tenant in tenants[1:]:
        if read(tenant) != first:
            raise ConfigurationError(
                f"{tenant.name} and {tenants[0].name} stand in one account and region and differ in {what}; "
                "make them equal."
            )
    return first


def _synthesizer(tenants: Sequence[DeployedTenant]) -> cdk.DefaultStackSynthesizer:
    qualifier = _agreed(tenants, lambda t: t.place.bootstrap_qualifier, "deployment.bootstrap_qualifier")
    return cdk.DefaultStackSynthesizer(qualifier=qualifier)
