"""Whether IAM lets a request pass, by the policies in templates. True, False, or None: not decided by them.

The order is IAM's ("Policy evaluation logic"): a Deny that applies ends it; else an Allow is needed, of the
role's own policies or of the resource's, and of its permissions boundary where the templates hold that.
Policies outside the templates (of the organization, a boundary, sessions) are not seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from template_checks.conditions import (
    Context,
    all_of,
    any_of,
    conditions_hold,
    covers_spelt,
    negated,
    overlaps,
)
from template_checks.policies import BUCKET, Policies, Statement, plain, spellings, statements
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, items, text

_ABSENT_FOR_ROLES = (
    "aws:principaltag/",
    "aws:principalservicename",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceorgid",
    "aws:calledvia",
    "aws:multifactorauth",
    "aws:federatedprovider",
)
"""Keys that a role's own request does not have, unless the caller says so."""
_ABSENT_FOR_SERVICES = ("aws:principaltag/", "aws:principalarn", "aws:principalaccount", "aws:userid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An action on one resource, which policies may name by any of ``resources``. ``*`` in it: on each one.

    ``context`` are the request's own keys; those of its principal are added.
    """

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: a role (or root) by its spellings in an account, or AWS services by any of these names."""

    roles: tuple[str, ...] = ()
    account: str = ""
    services: tuple[str, ...] = ()


class Permissions:
    """What roles may do, by the policies in the templates."""

    def __init__(self, *, policies: Policies) -> None:
        self._policies = policies

    def role_may(
        self,
        role: Resource,
        request: Request,
        *,
        resource_policy: Sequence[Statement] = (),
        needs_both: bool = False,
    ) -> bool | None:
        """Return whether a role may do this.

        ``needs_both``: the resource's policy has to let the account or the role in, as a KMS key's has.
        """
        principal = _of_role(role)
        asked = _with_principal(request, role)
        own = self._policies.of_role(role)
        denied = any_of(
            [
                *(_applies(one, asked) for one in own if one.effect == "Deny"),
                *(_applies_to(one, asked, principal) for one in resource_policy if one.effect == "Deny"),
            ]
        )
        identity = any_of(_applies(one, asked) for one in own if one.allows)
        if identity is not True:
            identity = any_of([identity, *self._managed(role, asked)])
        allowing = [one for one in resource_policy if one.allows]
        direct = any_of(all_of([_names_role(one, principal), _applies(one, asked)]) for one in allowing)
        of_account = any_of(
            all_of([_names_account(one, principal), _applies(one, asked)]) for one in allowing
        )
        allowed = any_of([direct, all_of([identity, of_account]) if needs_both else identity])
        return all_of([negated(denied), allowed, self._within_boundary(role, asked)])

    def _managed(self, role: Resource, request: Request) -> Iterable[bool | None]:
        """Yield what managed policies outside the templates come to; None for one that is not known here."""
        for arn in self._policies.managed(role):
            found = statements_of_managed(arn)
            if found is None:
                yield None
            else:
                yield any_of(_applies(one, request) for one in found)

    def _within_boundary(self, role: Resource, request: Request) -> bool | None:
        boundary = role.properties.get("PermissionsBoundary")
        if isinstance(boundary, Target):
            found = statements(boundary.resource.properties.get("PolicyDocument"))
        elif AWS_OWN in text(boundary):
            known = statements_of_managed(text(boundary))
            if known is None:
                return None
            found = known
        else:
            return True  # none, or one outside the templates, which is not looked into
        denied = any_of(_applies(one, request) for one in found if one.effect == "Deny")
        return all_of([negated(denied), any_of(_applies(one, request) for one in found if one.allows)])


def service_may(
    services: tuple[str, ...], request: Request, *, resource_policy: Sequence[Statement]
) -> bool | None:
    """Return whether an AWS service, by any of its names, may do this by a resource's policy."""
    return _resource_policy_lets(
        resource_policy, request, principal=Principal(services=services), is_service=True
    )


def account_may(account: str, request: Request, *, resource_policy: Sequence[Statement]) -> bool | None:
    """Return whether another account (as its root) may do this by a resource's policy."""
    principal = Principal(roles=(f"arn:aws:iam::{account}:root", account))
    return _resource_policy_lets(resource_policy, request, principal=principal, is_service=False)


def _resource_policy_lets(
    policy: Sequence[Statement], request: Request, *, principal: Principal, is_service: bool
) -> bool | None:
    known: dict[str, tuple[str, ...]] = {
        "aws:principalisawsservice": (str(is_service).lower(),),
        "aws:securetransport": ("true",),
        "s3:tlsversion": ("1.2",),
    }
    if not is_service:
        known["aws:principalarn"] = principal.roles[:1]
        known["aws:principalaccount"] = principal.roles[1:]
    context = Context(
        known={**known, **request.context.known}, absent=(*_ABSENT_FOR_SERVICES, *request.context.absent)
    )
    asked = Request(action=request.action, resources=request.resources, context=context)
    denied = any_of(_applies_to(one, asked, principal) for one in policy if one.effect == "Deny")
    allowed = any_of(_applies_to(one, asked, principal) for one in policy if one.allows)
    return all_of([negated(denied), allowed])


def endpoint_lets(policy: Sequence[Statement], request: Request, *, role: Resource | None) -> bool | None:
    """Return whether an endpoint's policy lets a request of a role through; None as role: AWS's own."""
    principal = _of_role(role) if role is not None else Principal()
    asked = _with_principal(request, role) if role is not None else request
    denied = any_of(_applies_to(one, asked, principal) for one in policy if one.effect == "Deny")
    allowed = any_of(_applies_to(one, asked, principal) for one in policy if one.allows)
    return all_of([negated(denied), allowed])


def bucket_named(templates: Templates, name: str) -> Resource | None:
    """Return the bucket of a name as ``plain`` writes it; None where it is not in the templates."""
    for bucket in templates.of(BUCKET):
        if name == plain(Target(bucket, "Ref")):
            return bucket
    return None


def _of_role(role: Resource) -> Principal:
    return Principal(roles=spellings(role), account=role.account)


def _with_principal(request: Request, role: Resource) -> Request:
    known: dict[str, tuple[str, ...]] = {
        "aws:principalarn": spellings(role),
        "aws:principalaccount": (role.account,),
        "aws:principalisawsservice": ("false",),
        "aws:principaltype": ("AssumedRole",),
        "aws:requestedregion": (role.region,),
        "aws:securetransport": ("true",),
        "aws:viaawsservice": ("false",),
        "s3:tlsversion": ("1.2",),
    }
    for tag in items(role.properties.get("Tags")):
        known[f"aws:principaltag/{text(at(tag, 'Key'))}".lower()] = (plain(at(tag, "Value")),)
    return Request(
        action=request.action,
        resources=request.resources,
        context=Context(
            known={**known, **request.context.known}, absent=(*_ABSENT_FOR_ROLES, *request.context.absent)
        ),
    )


def _applies(statement: Statement, request: Request) -> bool | None:
    """Return whether a statement is about a request, whoever makes it."""
    return all_of(
        [
            statement.may_name_action(request.action),
            _names_resource(statement, request),
            conditions_hold(statement.conditions, request.context),
        ]
    )


def _names_resource(statement: Statement, request: Request) -> bool | None:
    def named(patterns: Iterable[str]) -> bool | None:
        found = [request.context.filled_in(pattern) for pattern in patterns]
        present = [pattern for pattern in found if pattern is not None]
        verdict = any_of(covers_spelt(pattern, request.resources) for pattern in present)
        # A statement on some of many resources: an Allow is not enough, a Deny may be in the way.
        if (
            verdict is False
            and not statement.allows
            and any(
                "*" in name and overlaps(pattern, name) for pattern in present for name in request.resources
            )
        ):
            return None
        return verdict

    if statement.not_resources:
        return negated(named(statement.not_resources))
    return named(statement.resources or ("*",))


def _applies_to(statement: Statement, request: Request, principal: Principal) -> bool | None:
    """Return whether a statement of a resource's policy is about a request of a principal."""
    named = any_of([_names_role(statement, principal), _names_account(statement, principal)])
    return all_of([named, _applies(statement, request)])


def _names_role(statement: Statement, principal: Principal) -> bool | None:
    """Return whether a statement names the principal itself, or everybody."""
    if statement.not_principals:
        return negated(_is_among(statement.not_principals, principal))
    if not statement.principals:
        return True  # only an endpoint's policy may be without
    return _is_among(statement.principals, principal)


def _is_among(kinds: Mapping[str, tuple[str, ...]], principal: Principal) -> bool | None:
    verdicts: list[bool | None] = []
    for kind, names in kinds.items():
        for name in names:
            if kind == "*" or (kind == "AWS" and name == "*"):
                verdicts.append(True)
            elif kind == "AWS":
                verdicts.append(covers_spelt(name, principal.roles))
            elif kind == "Service":
                verdicts.append(covers_spelt(name, principal.services))
    return any_of(verdicts)


def _names_account(statement: Statement, principal: Principal) -> bool | None:
    """Return whether a statement names the principal's account, which then decides by its own policies."""
    if not principal.account:
        return False
    whole = (principal.account, f"arn:aws:iam::{principal.account}:root")
    return any_of(covers_spelt(name, whole) for name in statement.principals.get("AWS", ()))


def policy_of_key(key: Resource) -> list[Statement]:
    """Return the statements of a KMS key's policy."""
    return statements(key.properties.get("KeyPolicy"))


def policy_of_bucket(templates: Templates, bucket: Resource) -> list[Statement]:
    """Return the statements of every policy that the templates put on a bucket."""
    return [
        statement
        for policy in templates.of("AWS::S3::BucketPolicy")
        if _is_of(policy.properties.get("Bucket"), bucket)
        for statement in statements(policy.properties.get("PolicyDocument"))
    ]


def _is_of(value: Value, bucket: Resource) -> bool:
    if isinstance(value, Target):
        return value.resource is bucket
    name = bucket.properties.get("BucketName")
    return name is not None and plain(value) == plain(name)


# AWS's own policies that matter to the checks, as far as they do ("AWS managed policies" reference).


AWS_OWN = ":aws:policy/"
_PULL = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
)
_WRITE_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_SESSION = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_SAGEMAKER_BUCKETS = ("arn:aws:s3:::*SageMaker*", "arn:aws:s3:::*Sagemaker*", "arn:aws:s3:::*sagemaker*")
_ON_EVERYTHING: Mapping[str, tuple[str, ...]] = {
    "AdministratorAccess": ("*",),
    "AmazonDynamoDBFullAccess": ("dynamodb:*",),
    "AmazonEC2ContainerRegistryFullAccess": ("ecr:*",),
    "AmazonEC2ContainerRegistryPowerUser": (*_PULL, "ecr:PutImage"),
    "AmazonEC2ContainerRegistryPullOnly": _PULL,
    "AmazonEC2ContainerRegistryReadOnly": _PULL,
    "AmazonECSTaskExecutionRolePolicy": (*_PULL, "logs:CreateLogStream", "logs:PutLogEvents"),
    "AmazonS3FullAccess": ("s3:*",),
    "AmazonS3ReadOnlyAccess": ("s3:Get*", "s3:List*"),
    "AmazonSNSFullAccess": ("sns:*",),
    "AmazonSQSFullAccess": ("sqs:*",),
    "AmazonSSMManagedInstanceCore": _SESSION,
    "AmazonSSMReadOnlyAccess": ("ssm:Describe*", "ssm:Get*", "ssm:List*"),
    "AWSLambdaBasicExecutionRole": _WRITE_LOGS,
    "AWSLambdaVPCAccessExecutionRole": _WRITE_LOGS,
    "AWSXRayDaemonWriteAccess": ("xray:*",),
    "AWSXrayWriteOnlyAccess": ("xray:*",),
    "CloudWatchAgentServerPolicy": _WRITE_LOGS,
    "CloudWatchLogsFullAccess": ("logs:*",),
    "SecretsManagerReadWrite": ("secretsmanager:*",),
}


def statements_of_managed(arn: str) -> list[Statement] | None:
    """Return what one of AWS's own policies allows; None where it is not known here, or is not AWS's."""
    name = arn.rpartition("/")[2] if AWS_OWN in arn else ""
    if name == "PowerUserAccess":
        return _statements({"Effect": "Allow", "NotAction": ["iam:*", "organizations:*", "account:*"]})
    if name == "AmazonSageMakerFullAccess":
        return _statements(
            {"Effect": "Allow", "Action": [*_PULL, *_WRITE_LOGS, "cloudwatch:*"], "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
                "Resource": [*_SAGEMAKER_BUCKETS],
            },
        )
    if name not in _ON_EVERYTHING:
        return None
    return _statements({"Effect": "Allow", "Action": [*_ON_EVERYTHING[name]], "Resource": "*"})


def _statements(*entries: dict[str, str | list[str]]) -> list[Statement]:
    return statements(cast("Value", {"Statement": [*entries]}))
