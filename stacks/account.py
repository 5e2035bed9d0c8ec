"""The account stage: resources that exist once in an account and region, for all tenants in it.

Deploying it again is safe. The account file, ``accounts/<account>-<region>.toml``, says for each of them
whether this stage creates it or it exists: ``boundary = "existing"``. Without a file all are created.
Everything stays when the stack or the last tenant is deleted: a stage that is made anew then needs
``existing``.

One resource is the permissions boundary of every tenant's roles (``TenantBoundary``): the most that any of
them may do, whatever its policies allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from assistant.tenant.deployed_names import ACCOUNT_VERSION, ACCOUNT_VERSION_OUTPUT
from assistant.tenant.deployment import AccountConfig, load_account
from assistant.tenant.manifests import ImageLock
from stacks.options import option_stacks
from stacks.policy import acknowledge, exceptions, hipaa, nag, wildcard
from stacks.processes import CORPUS_IMAGE, LEARNING_IMAGE, PULL_IMAGE
from stacks.roles import DUTY_TAG, Duty, allow_service, log_group_arn, resource_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import OUTLIVES, has_budgets, pascal_case
from stacks.trail import EXCEPTIONS as TRAIL_EXCEPTIONS
from stacks.trail import AccountTrail, add_relay

SHARED = "shared"
"""Value of the tag ``tenant`` on resources that all tenants of an account use."""

SERVICES = (
    "backup:Copy*BackupVault",
    "backup:DescribeBackupVault",
    "backup:TagResource",
    "cloudformation:*",
    "cloudwatch:*",
    "dynamodb:*",
    "ec2:AssignPrivateIpAddresses",
    "ec2:*NetworkInterface*",
    "ec2:Describe*",
    "ec2:UnassignPrivateIpAddresses",
    "ecr:*",
    "ecs:RunTask",
    "ecs:TagResource",
    "es:*",
    "events:*Rule*",
    "events:*Targets",
    "execute-api:Invoke",
    "iam:PassRole",
    "kms:*",
    "lambda:*",
    "logs:*",
    "s3:*",
    "sagemaker:*",
    "secretsmanager:GetSecretValue",
    "sqs:*",
    "ssm:*",
    "ssmmessages:*",
    "states:*",
    "vpc-lattice-svcs:Invoke",
    "xray:*",
)
"""Actions that roles of a tenant can have: those of their policies; where a tenant file asks for it,
``ssmmessages`` for ECS Exec, ``Invoke`` for live systems that want signed requests, ``ecs`` and ``PassRole``
for scheduled tasks. A policy beyond them grants nothing."""

_COPIES = ("backup:CopyIntoBackupVault", "backup:DescribeBackupVault", "kms:CreateGrant", "kms:DescribeKey")
"""What AWS Backup's role does with a vault of the company's in another account or region. The tenants'
policies name it; a grant is for a service alone (``GrantKeyToPerson``)."""

_UNDOING = (
    "dynamodb:DeleteTable*",
    "dynamodb:PutResourcePolicy",
    "dynamodb:UpdateContinuousBackups",
    "ecr:BatchDeleteImage",
    "ecr:DeleteRepository*",
    "ecr:PutImage*",
    "ecr:SetRepositoryPolicy",
    "es:DeleteDomain",
    "es:UpdateDomainConfig",
    "kms:CancelKeyDeletion",
    "kms:Disable*",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "lambda:AddPermission",
    "lambda:CreateFunctionUrlConfig",
    "logs:DeleteLogGroup",
    "logs:DeleteLogStream",
    "logs:DeleteRetentionPolicy",
    "logs:PutRetentionPolicy",
    "s3:DeleteBucket*",
    "s3:PutAccountPublicAccessBlock",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "sns:AddPermission",
    "sqs:AddPermission",
)
"""Actions that open or destroy a store, a key or an audit log: only a deployment needs them."""
_UNDOING_BUT_FOR_BACKUP = ("dynamodb:DeleteBackup", "s3:PutBucket*")
"""Likewise, but the role of AWS Backup has them: it ends its copies, and asks a bucket for its events
(``PutBucketNotification``)."""


class TenantBoundary(iam.ManagedPolicy):
    """Managed policy ``<name_prefix>-boundary``: it allows the services that tenants' roles need, and denies
    what none of them may do there.

    It has a fixed name, because tenant stages and CDK's own bootstrap refer to it by name, and the root path,
    where IAM looks a boundary up.

    All conditions of a statement must hold for it to deny. ``"Null": {key: "false"}`` says that the request
    has the key, ``"true"`` that it does not. A tenant's role has the tag ``tenant`` with its tenant's name.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        regions: Sequence[str],
        of_aws: Sequence[str] = (),
    ) -> None:
        """``of_aws``: further actions, on resources that AWS owns in any region. Neither region nor account
        bounds them here: the tenants' policies name the resources.

        ``regions``: all in which the roles may act.
        """
        caller_tenant = "${aws:PrincipalTag/tenant}"
        super().__init__(
            scope,
            construct_id,
            managed_policy_name=f"{name_prefix}-boundary",
            description="Bounds every role of every tenant: its services, its account, regions and tenant",
            statements=[
                iam.PolicyStatement(sid="OnlyTheseServices", actions=[*SERVICES, *of_aws], resources=["*"]),
                _deny("OpenOrDestroy", actions=_UNDOING),
                _deny(
                    "OpenOrDestroyBesideBackup",
                    actions=_UNDOING_BUT_FOR_BACKUP,
                    conditions={"StringNotEquals": {DUTY_TAG: Duty.BACKUP.value}},
                ),
                _deny(
                    # Of these actions only PassRole has this key. An action without it is denied, too: a key
                    # that is absent is not equal.
                    "RightsGrow",
                    actions=("iam:*", "organizations:*", "sts:AssumeRole*"),
                    conditions={"StringNotEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
                ),
                _deny(
                    # A grant is a permission on a key that no policy shows. Services set this flag for
                    # theirs.
                    "GrantKeyToPerson",
                    actions=("kms:CreateGrant",),
                    conditions={"BoolIfExists": {"kms:GrantIsForAWSResource": "false"}},
                ),
                _deny(
                    "LeaveRegion",
                    # iam: denied above; it answers from one region for all.
                    not_actions=("iam:*", *_COPIES, *of_aws),
                    conditions={"StringNotEquals": {"aws:RequestedRegion": sorted(set(regions))}},
                ),
                _deny(
                    # ecr: AWS publishes its containers from accounts of its own. ec2: subnets may belong to a
                    # network account, which shares them by RAM.
                    "LeaveAccount",
                    not_actions=(*PULL_IMAGE, "ec2:*", *_COPIES, *of_aws),
                    conditions={
                        "StringNotEquals": {"aws:ResourceAccount": cdk.Stack.of(scope).account},
                        "Null": {"aws:ResourceAccount": "false"},
                    },
                ),
                _deny("NoTenant", conditions={"Null": {"aws:PrincipalTag/tenant": "true"}}),
                _deny(
                    # An untagged resource, and a service that does not report the tag, are left to the role's
                    # policies.
                    "OtherTenant",
                    conditions={
                        "StringNotEquals": {"aws:ResourceTag/tenant": [caller_tenant, SHARED]},
                        "Null": {"aws:ResourceTag/tenant": "false"},
                    },
                ),
                _deny(
                    "TagAsOtherTenant",
                    conditions={
                        "StringNotEquals": {"aws:RequestTag/tenant": caller_tenant},
                        "Null": {"aws:RequestTag/tenant": "false"},
                    },
                ),
                _deny(
                    "TakeTenantTagAway",
                    conditions={
                        "ForAnyValue:StringEquals": {"aws:TagKeys": ["tenant"]},
                        "Null": {"aws:RequestTag/tenant": "true"},
                    },
                ),
            ],
        )


def _deny(
    sid: str,
    *,
    actions: Sequence[str] = ("*",),
    not_actions: Sequence[str] = (),
    conditions: dict[str, dict[str, str | list[str]]] | None = None,
) -> iam.PolicyStatement:
    """Return a statement that denies the actions; with ``not_actions``, all but these."""
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        actions=None if not_actions else list(actions),
        not_actions=list(not_actions) or None,
        resources=["*"],
        conditions=conditions,
    )


EXCEPTIONS = (
    *TRAIL_EXCEPTIONS,
    *exceptions(
        "Account/Boundaries",
        (
            *(nag(f"IAM5[Action::{action}]") for action in SERVICES if "*" in action),
            *wildcard("*"),
            hipaa("IAMPolicyNoStatementsWithFullAccess"),
            "checkov::CKV_AWS_109",
            "checkov::CKV_AWS_111",
        ),
        "A boundary grants nothing: a role may do what its own policies and the boundary both allow. It "
        "lists the services that tenants' roles need, and denies what none of them may do there.",
        decision="0022-what-an-account-shares-and-who-watches",
    ),
)


_SERVICE_ROLES: Mapping[str, tuple[str, str, str]] = {
    "search_service_role": ("SearchServiceRole", "opensearchservice", "Lets search domains stand in a VPC"),
    "ecs_service_role": ("EcsServiceRole", "ecs", "Lets ECS attach tasks to networks and load balancers"),
    "ecs_scaling_role": (
        "EcsScalingRole",
        "ecs.application-autoscaling",
        "Lets Application Auto Scaling count tasks of ECS services",
    ),
    "sagemaker_scaling_role": (
        "SageMakerScalingRole",
        "sagemaker.application-autoscaling",
        "Lets Application Auto Scaling count instances of SageMaker endpoints",
    ),
}
"""Key of the account file = construct id, service and description of a service-linked role.

IAM creates one per service in an account, and refuses a second. A service creates its own at its first use,
but in another request than the one that needs it: the first cluster of an account failed by that race."""
_ONCE_PER_ACCOUNT = (*_SERVICE_ROLES, "boundary", "trail")
"""Keys of the account file. IAM has no regions, and the trail covers all: what one region of an account
creates exists in the others, whose files say ``existing``."""
_UNTAGGED_DAYS = 14
"""Age at which an image of a failed push expires. Tagged images stay: a deployment pins digests, and may roll
back."""


Place = tuple[str, str]
"""An account and a region."""


class AccountStage(cdk.Stage):
    """The stage of one account and region; ``tenants`` are those of all.

    ``AccountStage.for_places(app, tenants, folder=Path("accounts"))`` makes all stages:
    ``Account-222233334444-eu-central-1``, ….
    """

    def __init__(
        self, scope: Construct, at: Place, *, tenants: Sequence[DeployedTenant], config: AccountConfig
    ) -> None:
        of_account = [tenant for tenant in tenants if tenant.place.account == at[0]]
        tenants = [tenant for tenant in of_account if tenant.place.region == at[1]]
        place = tenants[0].place
        super().__init__(
            scope,
            f"Account-{place.account}-{place.region}",
            env=cdk.Environment(account=place.account, region=place.region),
            stage_name="assistant-account",
        )
        stack = AccountStack(self, "Account", tenants=tenants, config=config)
        if config.trail == "create":
            AccountTrail(stack, tenants=of_account, others=config.regions)
        for resource in stack.node.find_all():
            if isinstance(resource, cdk.CfnResource):
                resource.apply_removal_policy(OUTLIVES)
        add_relay(self, place)
        tags = {**place.required_tags, "tenant": SHARED, "cost-center": config.cost_center}
        for key, value in {**tags, "data-class": "internal"}.items():
            cdk.Tags.of(self).add(key, value)
        acknowledge(self, EXCEPTIONS)

    @classmethod
    def for_places(
        cls, scope: Construct, tenants: Sequence[DeployedTenant], *, folder: Path
    ) -> list[AccountStage]:
        """Create one stage for each account and region of the tenants; ``folder`` contains the account files.

        Raises ConfigurationError naming file and key.
        """
        places = sorted({(tenant.place.account, tenant.place.region) for tenant in tenants})
        configs = {place: load_account(folder, account=place[0], region=place[1]) for place in places}
        _refuse_twice_per_account(configs, folder=folder)
        return [cls(scope, place, tenants=tenants, config=config) for place, config in configs.items()]


class AccountStack(cdk.Stack):
    """What the account file says ``create`` of. Tenants share the stack, so they must agree on the images:
    raises ConfigurationError where they differ. Of their bootstraps it takes that of a tenant whose
    deliveries are reviewed (``hipaa``), where there is one."""

    def __init__(
        self, scope: Construct, construct_id: str, *, tenants: Sequence[DeployedTenant], config: AccountConfig
    ) -> None:
        deployer = min(tenants, key=lambda tenant: (tenant.place.profile != "hipaa", tenant.name))
        super().__init__(
            scope,
            construct_id,
            description="Private care assistant: what all tenants of an account and region share",
            termination_protection=True,
            synthesizer=cdk.DefaultStackSynthesizer(qualifier=deployer.place.bootstrap_qualifier),
        )
        prefixes = sorted({tenant.place.name_prefix for tenant in tenants})
        self._add_service_roles(config)
        if config.log_policy == "create":
            self._add_log_policy()
        if config.boundary == "create":
            self._add_boundaries(tenants, regions=config.regions)
        has_topics = config.budget_topic == "create" and has_budgets(tenants[0])  # all have one region
        if has_topics or config.repositories == "create":
            key = self._key()
            if config.repositories == "create":
                self._add_repositories(_common(tenants, lambda t: t.images, "images"), key=key)
            if has_topics:
                self._add_budget_topics(prefixes, key=key, email=config.budget_email)
        cdk.CfnOutput(self, ACCOUNT_VERSION_OUTPUT, value=str(ACCOUNT_VERSION))

    def _add_service_roles(self, config: AccountConfig) -> None:
        for item, (role_id, service, description) in _SERVICE_ROLES.items():
            if getattr(config, item) == "create":
                name = f"{service}.amazonaws.com"
                iam.CfnServiceLinkedRole(self, role_id, aws_service_name=name, description=description)

    def _add_log_policy(self) -> None:
        """Let all search domains, and the rules of all tenants' audit logs, write logs. A region takes ten
        such policies; CDK would create one per domain.

        It names no tenant's prefix, so that tenants of any prefix share it. The generated name of a log group
        has that of its stack, which ends in ``-Data``, and its logical id, which begins with ``Search``.
        EventBridge names its rule when it writes, not when it creates a stream:
        https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
        """
        conditions = {
            "StringEquals": {"aws:SourceAccount": self.account},
            "ArnLike": {"aws:SourceArn": resource_arn(self, "es", "domain", "*")},
        }
        writes, groups = ("logs:CreateLogStream", "logs:PutLogEvents"), log_group_arn(self, "*-Data-Search*")
        rules = {"ArnLikeIfExists": {"aws:SourceArn": resource_arn(self, "events", "rule", "*")}}
        audits = log_group_arn(self, "*-Observability-AuditEvents*")
        of_search = allow_service("es", writes, groups, conditions=conditions)
        of_rules = allow_service("events", writes, audits, conditions=rules)
        policy = iam.PolicyDocument(statements=[of_search, of_rules])
        logs.CfnResourcePolicy(
            self,
            "SearchLogPolicy",
            policy_name="assistant-search-logs",
            policy_document=self.to_json_string(policy.to_json()),
        )

    def _add_boundaries(self, tenants: Sequence[DeployedTenant], *, regions: Sequence[str]) -> None:
        """Create one boundary for each ``name_prefix``, with the actions that any of its tenants needs.
        Tenants that the company bounds with its own policy have none."""
        scope = Construct(self, "Boundaries")
        bounded = [tenant for tenant in tenants if tenant.place.permissions_boundary is None]
        for prefix in sorted({tenant.place.name_prefix for tenant in bounded}):
            actions = {
                action
                for tenant in bounded
                if tenant.place.name_prefix == prefix
                for option in option_stacks()
                for action in option.actions(tenant)
            }
            TenantBoundary(
                scope,
                pascal_case(prefix),
                name_prefix=prefix,
                regions=[self.region, *regions],
                of_aws=sorted(actions),
            )

    def _key(self) -> kms.IKey:
        """Create the key that encrypts what tenants share: images and budget notifications. No patients'
        data."""
        key = kms.Key(
            self,
            "AccountKey",
            description="Images of the assistant and word of its budgets",
            enable_key_rotation=True,
            pending_window=cdk.Duration.days(30),
        )
        return cast("kms.IKey", key)

    def _add_repositories(self, images: ImageLock, *, key: kms.IKey) -> None:
        """Create a repository for each own image of ``images.lock.toml``: scanned on push, with immutable
        tags."""
        scope = Construct(self, "Images")
        for name, image in images.images.items():
            if image.is_own:
                repository = ecr.Repository(
                    scope,
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
                if name == LEARNING_IMAGE:
                    repository.add_to_resource_policy(self._let_functions_pull())
                if name == CORPUS_IMAGE:
                    repository.add_to_resource_policy(self._let_applications_pull())

    def _let_functions_pull(self) -> iam.PolicyStatement:
        """Let Lambda pull an image for functions of this account. Otherwise it would change the repository's
        policy itself, with the rights of who deploys.

        https://docs.aws.amazon.com/lambda/latest/dg/images-create.html, "Amazon ECR permissions"
        """
        functions = {"ArnLike": {"aws:SourceArn": resource_arn(self, "lambda", "function", "*", colon=True)}}
        pull = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
        return allow_service("lambda", pull, sid="FunctionsPull", conditions=functions)

    def _let_applications_pull(self) -> iam.PolicyStatement:
        """Let EMR Serverless pull an image for applications of this account.

        https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/application-custom-image.html#access-repo
        """
        arns = f"arn:{self.partition}:emr-serverless:{self.region}:{self.account}:/applications/*"
        applications = {"ArnLike": {"aws:SourceArn": arns}}
        pull = ("ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer")
        return allow_service("emr-serverless", pull, sid="ApplicationsPull", conditions=applications)

    def _add_budget_topics(self, prefixes: Sequence[str], *, key: kms.IKey, email: str | None) -> None:
        """Create the topics of the tenants' budgets; tenants refer to them by name,
        ``<name_prefix>-budget``."""
        key.add_to_resource_policy(self._allow_budgets(["kms:Decrypt", "kms:GenerateDataKey*"], "*"))
        scope = Construct(self, "BudgetTopics")
        for prefix in prefixes:
            topic = sns.Topic(
                scope,
                pascal_case(prefix),
                topic_name=f"{prefix}-budget",
                display_name="Budgets of the assistant's tenants",
                master_key=key,
                enforce_ssl=True,
            )
            topic.add_to_resource_policy(self._allow_budgets(["sns:Publish"], topic.topic_arn))
            if email is not None:
                sns.CfnSubscription(
                    topic, "Email", topic_arn=topic.topic_arn, protocol="email", endpoint=email
                )

    def _allow_budgets(self, actions: list[str], resource: str) -> iam.PolicyStatement:
        """Admit AWS Budgets of this account to a topic or its key (in a key's policy ``*`` is the key).

        https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-sns-policy.html
        """
        budgets = self.format_arn(
            service="budgets", region="", resource="*", arn_format=cdk.ArnFormat.NO_RESOURCE_NAME
        )
        conditions = {
            "StringEquals": {"aws:SourceAccount": self.account},
            "ArnLike": {"aws:SourceArn": budgets},
        }
        return allow_service("budgets", actions, resource, sid="BudgetsTell", conditions=conditions)


def _refuse_twice_per_account(configs: Mapping[Place, AccountConfig], *, folder: Path) -> None:
    """Raise ConfigurationError where two regions of an account would create what exists once in it.

    ``configs``: the account file of each account and region.
    """
    for item in _ONCE_PER_ACCOUNT:
        creators: dict[str, str] = {}
        """Account = the region that creates it."""
        for (account, region), config in configs.items():
            if getattr(config, item) != "create":
                continue
            if account in creators:
                raise ConfigurationError(
                    f'{folder}/{account}-{region}.toml: {item} must be "existing": {creators[account]} of '
                    "the same account creates it, for all regions."
                )
            creators[account] = region


_T = TypeVar("_T")


def _common(tenants: Sequence[DeployedTenant], read: Callable[[DeployedTenant], _T], what: str) -> _T:
    """Return the value that all tenants of an account and region share. Raises ConfigurationError where they
    differ, which names ``what``: the key or file."""
    first = read(tenants[0])
    for tenant in tenants[1:]:
        if read(tenant) != first:
            raise ConfigurationError(
                f"{tenant.name} and {tenants[0].name} share one account and region and differ in {what}; "
                "make them equal."
            )
    return first
