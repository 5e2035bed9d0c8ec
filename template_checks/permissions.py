"""Whether IAM allows a request, by the policies in templates. True, False, or None if they do not decide it.

The order is IAM's ("Policy evaluation logic"): a Deny that applies ends it; otherwise an Allow is needed, of
the role's own policies or of the resource's, and of its permissions boundary if the templates contain that.
Policies outside the templates (of the organization, a boundary, sessions) are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
Policy = Sequence[Statement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An action on one resource, which policies may name by any of ``resources``. ``*`` in it: on each one.

    ``context`` are the request's own keys; those of its principal are added.
    """

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=Context)

    def having(self, known: Mapping[str, tuple[str, ...]], *, absent: tuple[str, ...]) -> Request:
        """Return the request with more keys. Its own win."""
        context = Context(known={**known, **self.context.known}, absent=(*absent, *self.context.absent))
        return replace(self, context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes a request: a role or root by its spellings in an account, or AWS services by their names."""

    roles: tuple[str, ...] = ()
    account: str = ""
    services: tuple[str, ...] = ()


class Permissions:
    """What roles may do, by the policies in the templates."""

    def __init__(self, *, policies: Policies) -> None:
        self._policies = policies

    def role_may(
        self, role: Resource, request: Request, *, resource_policy: Policy = (), needs_both: bool = False
    ) -> bool | None:
        """Return whether a role may do this.

        ``needs_both``: the resource's policy must allow the account or the role, as a KMS key's must.
        """
        principal, asked = _of_role(role), _by_role(request, role)
        own = self._policies.of_role(role)
        denied = any_of([_denied(own, asked), _denied(resource_policy, asked, principal)])
        identity = _allowed(own, asked)
        if identity is not True:
            identity = any_of([identity, *self._by_managed(role, asked)])
        allowing = [one for one in resource_policy if one.allows]
        direct = any_of(all_of([_names_role(one, principal), _applies(one, asked)]) for one in allowing)
        of_account = any_of(
            all_of([_names_account(one, principal), _applies(one, asked)]) for one in allowing
        )
        allowed = any_of([direct, all_of([identity, of_account]) if needs_both else identity])
        return all_of([negated(denied), allowed, self._within_boundary(role, asked)])

    def _by_managed(self, role: Resource, request: Request) -> Iterable[bool | None]:
        """Yield what managed policies outside the templates decide; None for an unknown one."""
        for arn in self._policies.managed(role):
            found = statements_of_managed(arn)
            yield None if found is None else any_of(_applies(one, request) for one in found)

    def _within_boundary(self, role: Resource, request: Request) -> bool | None:
        boundary = role.properties.get("PermissionsBoundary")
        if isinstance(boundary, Target):
            found = statements(boundary.resource.properties.get("PolicyDocument"))
        elif _AWS_OWN in text(boundary):
            known = statements_of_managed(text(boundary))
            if known is None:
                return None
            found = known
        else:
            return True  # none, or one outside the templates, which is not read
        return all_of([negated(_denied(found, request)), _allowed(found, request)])


def service_may(services: tuple[str, ...], request: Request, *, resource_policy: Policy) -> bool | None:
    """Return whether an AWS service, by any of its names, may do this by a resource's policy."""
    return _decide(
        resource_policy,
        _by_outsider(request, {"aws:principalisawsservice": ("true",)}),
        Principal(services=services),
    )


def account_may(account: str, request: Request, *, resource_policy: Policy) -> bool | None:
    """Return whether another account (as its root) may do this by a resource's policy."""
    root = f"arn:aws:iam::{account}:root"
    known = {
        "aws:principalisawsservice": ("false",),
        "aws:principalarn": (root,),
        "aws:principalaccount": (account,),
    }
    return _decide(resource_policy, _by_outsider(request, known), Principal(roles=(root, account)))


def endpoint_allows(policy: Policy, request: Request, *, role: Resource | None) -> bool | None:
    """Return whether an endpoint's policy allows a request of a role; of AWS itself if ``role`` is None."""
    if role is None:
        return _decide(policy, request, Principal())
    return _decide(policy, _by_role(request, role), _of_role(role))


def _decide(policy: Policy, request: Request, principal: Principal) -> bool | None:
    return all_of([negated(_denied(policy, request, principal)), _allowed(policy, request, principal)])


def _denied(policy: Policy, request: Request, principal: Principal | None = None) -> bool | None:
    return any_of(_applies(one, request, principal) for one in policy if one.effect == "Deny")


def _allowed(policy: Policy, request: Request, principal: Principal | None = None) -> bool | None:
    return any_of(_applies(one, request, principal) for one in policy if one.allows)


def _by_outsider(request: Request, known: Mapping[str, tuple[str, ...]]) -> Request:
    return request.having(
        {"aws:securetransport": ("true",), "s3:tlsversion": ("1.2",), **known}, absent=_ABSENT_FOR_SERVICES
    )


def _of_role(role: Resource) -> Principal:
    return Principal(roles=spellings(role), account=role.account)


def _by_role(request: Request, role: Resource) -> Request:
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
    return request.having(known, absent=_ABSENT_FOR_ROLES)


def _applies(statement: Statement, request: Request, principal: Principal | None = None) -> bool | None:
    """Return whether a statement is about a request; with a principal, also whether it names that."""
    verdicts = [
        statement.may_name_action(request.action),
        _names_resource(statement, request),
        conditions_hold(statement.conditions, request.context),
    ]
    if principal is not None:
        verdicts.append(any_of([_names_role(statement, principal), _names_account(statement, principal)]))
    return all_of(verdicts)


def _names_resource(statement: Statement, request: Request) -> bool | None:
    if statement.not_resources:
        return negated(_is_named(statement.not_resources, statement, request))
    return _is_named(statement.resources or ("*",), statement, request)


def _is_named(patterns: Iterable[str], statement: Statement, request: Request) -> bool | None:
    found = [request.context.filled_in(pattern) for pattern in patterns]
    present = [pattern for pattern in found if pattern is not None]
    verdict = any_of(covers_spelt(pattern, request.resources) for pattern in present)
    if verdict is not False or statement.allows:
        return verdict
    # A Deny of some of the resources that the request names with * may apply.
    named = [name for name in request.resources if "*" in name]
    return None if any(overlaps(pattern, name) for pattern in present for name in named) else False


def _names_role(statement: Statement, principal: Principal) -> bool | None:
    """Return whether a statement names the principal itself, or everybody."""
    if statement.not_principals:
        return negated(_is_among(statement.not_principals, principal))
    # Only an endpoint's policy may be without principals.
    return _is_among(statement.principals, principal) if statement.principals else True


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


# --- policies of resources --------------------------------------------------------------------------------
def bucket_named(templates: Templates, name: str) -> Resource | None:
    """Return the bucket with a name as ``plain`` writes it; None if it is not in the templates."""
    return next((one for one in templates.of(BUCKET) if name == plain(Target(one))), None)


def policy_of_key(key: Resource) -> list[Statement]:
    """Return the statements of a KMS key's policy."""
    return statements(key.properties.get("KeyPolicy"))


def policy_of_bucket(templates: Templates, bucket: Resource) -> list[Statement]:
    """Return the statements of every policy that the templates put on a bucket."""
    return [
        statement
        for policy in templates.of("AWS::S3::BucketPolicy")
        if _names_bucket(policy.properties.get("Bucket"), bucket)
        for statement in statements(policy.properties.get("PolicyDocument"))
    ]


def _names_bucket(value: Value, bucket: Resource) -> bool:
    if isinstance(value, Target):
        return value.resource is bucket
    name = bucket.properties.get("BucketName")
    return name is not None and plain(value) == plain(name)


# --- AWS managed policies ---------------------------------------------------------------------------------
_AWS_OWN = ":aws:policy/"
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
    """Return the statements of an AWS managed policy ("AWS managed policies" reference); None if unknown."""
    name = arn.rpartition("/")[2] if _AWS_OWN in arn else ""
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
