"""Policies in templates: their statements, the roles that have them, and the names of resources in them.

Patterns and conditions are evaluated as IAM does, where a template contains only parts of the request. Texts
are written so:

- ``${…}``: an unknown part, which may be anything (``arn:aws:s3:::${BucketName}/*``);
- ``<stack.logical id>``: a name or ARN that CloudFormation generates (``<assistant-pharmacy-Data.Models>``);
- ``!…``: something of a stranger, to which nothing in a template refers (``!AWS``).

    covers("arn:aws:s3:::docs/*", "arn:aws:s3:::docs/a.txt")  # True
    covers("arn:aws:s3:::${Bucket}/*", "arn:aws:s3:::docs/a.txt")  # None: the parameter decides

In this module, in this order: verdicts, names of resources, patterns, conditions, statements, roles, what an
endpoint's policy allows, and through which endpoints an action goes.

Source: "IAM JSON policy elements: Condition operators" and "Multivalued context keys" in the IAM User Guide.
``endpoint_allows`` follows "Policy evaluation logic" there: a Deny that applies decides; otherwise an Allow
is needed. What roles may do is proven by another evaluator, in tests/stacks/rights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

from template_checks.templates import (
    Joined,
    Resource,
    Target,
    Templates,
    Value,
    at,
    is_known,
    items,
    mapping,
    text,
)

Verdict: TypeAlias = "bool | None"
"""Whether something holds; None if something outside the templates decides."""


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Return whether all hold."""
    results = list(verdicts)
    if False in results:
        return False
    return None if None in results else True


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Return whether any holds."""
    results = list(verdicts)
    if True in results:
        return True
    return None if None in results else False


def negated(verdict: Verdict) -> Verdict:
    """Return the opposite; the opposite of unknown is unknown."""
    return None if verdict is None else not verdict


# --- names of resources -----------------------------------------------------------------------------------
STRANGER = "!"
"""Beginning of a text about something of a stranger."""
BUCKET = "AWS::S3::Bucket"
_STACK_NAME_KEPT = 25
"""Characters of a stack's name that CloudFormation keeps at least in the generated name of a role or bucket:
half, rounded up, of what a limit of 64 or 63 leaves beside two hyphens and 12 random characters. AWS does not
document it; read off names in an account: https://github.com/KensioSoftware/yulin/issues/1113."""


def generated_prefix(name: str) -> str:
    """Return how the generated names of roles and buckets begin, by the stack's name or the beginning of it:
    "assistant-pharmacy-" for "assistant-pharmacy"."""
    return f"{name}-"[:_STACK_NAME_KEPT]


def plain(value: Value) -> str:
    """Return a value as text in which one resource has one name, however it is referred to.

    A resource's generated name is written ``<stack.logical id>``, an unknown part ``${…}``.
    """
    if isinstance(value, Joined):
        return "".join(map(plain, value.parts))
    if not isinstance(value, Target):
        return text(value)
    resource = value.resource
    label = f"<{resource.template.name}.{resource.logical_id}>"
    if resource.type != BUCKET:
        return label if value.attribute in ("Ref", "Arn") else f"{label}.{value.attribute}"
    name = resource.properties.get("BucketName")
    bucket = plain(name) if name is not None else label
    return f"arn:{resource.partition}:s3:::{bucket}" if value.attribute == "Arn" else bucket


def spellings(role: Resource) -> tuple[str, str]:
    """Return both ways in which policies may name a role: as a reference, and by its ARN:
    ``("<assistant-pharmacy-Data.SchemaRole>", "arn:aws:iam::…:role/assistant/pharmacy/…${rest of
    …}")``."""
    path = plain(role.properties.get("Path")) or "/"
    name = plain(role.properties.get("RoleName"))
    name = name or f"{generated_prefix(role.template.name)}${{rest of {role.logical_id}}}"
    return plain(Target(role, "Arn")), f"arn:{role.partition}:iam::{role.account}:role{path}{name}"


def by_spelling(compare: Callable[[str, str], Verdict], named: str, spellings: Sequence[str]) -> Verdict:
    """Return whether what a policy names is a resource (or a value of a request) that has these spellings:
    its ARN, and ``<stack.logical id>``.

    ``compare`` is ``covers`` or another comparison. Where there is an ARN, it alone judges patterns and
    unknown parts, and the other spelling must be the same text.
    """
    has_arn = any(spelling.startswith("arn:") for spelling in spellings)
    return any_of(
        named == spelling if has_arn and spelling.startswith("<") else compare(named, spelling)
        for spelling in spellings
    )


# --- patterns ---------------------------------------------------------------------------------------------
_PARTS_OF_ARN = 6
"""``arn:partition:service:region:account:resource``."""
_UNKNOWN = r"\$\{[^}]*\}"
"""Regular expression of an unknown part."""


def matches(pattern: str, subject: str) -> bool:
    """Return whether a pattern with ``*`` and ``?`` surely matches a text."""
    return _expression(pattern).fullmatch(subject) is not None


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern with ``*`` and ``?`` as a regular expression."""
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.compile(expression, re.DOTALL)


def covers(pattern: str, wanted: str) -> Verdict:
    """Return whether a pattern with ``*`` and ``?`` matches a text. Where it does not match the text as it is
    written, it may match what the text stands for:

    | wanted (the first that is so)  | None if the pattern…                                    |
    | ------------------------------ | ------------------------------------------------------- |
    | ``!AWS``                       | never                                                   |
    | ``<Data.Role>``                | has ``*`` or ``${…}``, and does not begin with ``<``    |
    | anything else, ``${…}`` in one | can match the same text, if ``${…}`` may be anything    |
    | ``arn:aws:s3:::<Data.Docs>/a`` | has ``*`` in its bucket's name: ``arn:aws:s3:::acme-*`` |
    | any other text                 | never                                                   |
    """
    if matches(pattern, wanted):
        return True
    if wanted.startswith(STRANGER):
        return False
    if wanted.startswith("<") and not pattern.startswith("<"):
        may_match = "${" in pattern or "*" in pattern
    elif "${" in pattern or "${" in wanted:
        may_match = _may_cover(pattern, wanted)
    else:
        bucket = pattern.partition("/")[0]
        may_match = ":s3:::<" in wanted and "*" in bucket and "<" not in bucket
    return None if may_match else False


def equals(first: str, second: str) -> Verdict:
    """Return whether two texts are the same."""
    if first == second:
        return True
    if first.startswith(STRANGER) or second.startswith(STRANGER) or not ("${" in first or "${" in second):
        return False
    return None if _may_meet(_signs(first, wildcards=False), _signs(second, wildcards=False)) else False


def _may_cover(pattern: str, wanted: str) -> bool:
    """Return whether both can match the same text. In ARNs each of the six parts is compared for itself,
    because an unknown value (an account, a region) contains no colon."""
    left, right = _parts(pattern), _parts(wanted)
    if len(left) == len(right) == _PARTS_OF_ARN:
        return all(overlaps(*parts) for parts in zip(left, right, strict=True))
    return overlaps(pattern, wanted)


@lru_cache(maxsize=4096)
def _parts(arn: str) -> list[str]:
    """Return the parts of an ARN, the last with the rest; the text alone if it is no ARN."""
    if not arn.startswith("arn:"):
        return [arn]
    masked = re.sub(_UNKNOWN, lambda match: match[0].replace(":", "\0"), arn)  # its colons separate nothing
    return [part.replace("\0", ":") for part in masked.split(":", _PARTS_OF_ARN - 1)]


@lru_cache(maxsize=4096)
def overlaps(first: str, second: str) -> bool:
    """Return whether two patterns can match the same text, if unknown parts may be anything."""
    return _may_meet(_signs(first, wildcards=True), _signs(second, wildcards=True))


_ANY, _ONE = "\0any", "\0one"
"""Signs of a pattern beside characters: any text, one character."""


def _signs(text: str, *, wildcards: bool) -> list[str]:
    """Return a text as signs: ``a${X}*`` is ``["a", _ANY, _ANY]``; without ``wildcards`` ``*`` is a
    character."""
    special = {"*": _ANY, "?": _ONE} if wildcards else {}
    signs: list[str] = re.findall(f"{_UNKNOWN}|.", text, re.DOTALL)
    return [_ANY if sign.startswith("${") else special.get(sign, sign) for sign in signs]


def _may_meet(left: Sequence[str], right: Sequence[str]) -> bool:
    """Return whether some text fits both sequences of signs, by reading ``left`` sign by sign."""
    # Each number j of this set: some text fits both what was read of `left` and the first j signs of `right`.
    lengths = _past_any(right, {0})
    for sign in left:
        if sign == _ANY:
            following = set(range(min(lengths, default=len(right) + 1), len(right) + 1))
        else:
            unread = [(j, right[j]) for j in lengths if j < len(right)]
            # An _ANY of `right` takes the sign, and is not over.
            following = {j for j, other in unread if other == _ANY}
            following |= {
                j + 1 for j, other in unread if other == sign or (other != _ANY and _ONE in (sign, other))
            }
        lengths = _past_any(right, following)
    return len(right) in lengths


def _past_any(signs: Sequence[str], lengths: set[int]) -> set[int]:
    """Return these lengths, and those with each ``_ANY`` that follows directly, since it may be empty."""
    extended = set(lengths)
    for j, sign in enumerate(signs):
        if sign == _ANY and j in extended:
            extended.add(j + 1)
    return extended


# --- conditions -------------------------------------------------------------------------------------------
_VARIABLE = re.compile(r"\$\{([a-z0-9-]+:[^}:,]+)(?:,\s*'[^']*')?\}", re.I)
"""``${aws:PrincipalTag/tenant}``: a policy variable, filled in from the request. An unknown value has two
colons (``${AWS::Region}``) or a dot (``${Network.Vpc}``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The condition keys of a request, in lower case: ``{"aws:principaltag/tenant": ("pharmacy",)}``.

    ``known`` has each key's values, or every spelling of one value (its ARN, ``<stack.logical id>``). A key
    that is not known and begins with one of ``absent`` is not in the request. Any other key is unknown.
    """

    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    absent: tuple[str, ...] = ()

    def values(self, key: str) -> tuple[str, ...] | None:
        """Return a key's values: empty if the request surely lacks it, None if they are unknown."""
        key = key.lower()
        if key in self.known:
            return self.known[key]
        return () if key.startswith(self.absent) and self.absent else None

    def filled_in(self, texts: Iterable[str]) -> list[str]:
        """Return a policy's texts with their variables filled in, but for unknown ones. A text with a
        variable that the request lacks matches nothing, and is left out."""
        return [
            _VARIABLE.sub(self._value_of, text)
            for text in texts
            if all(self.values(name) != () for name in _VARIABLE.findall(text))
        ]

    def _value_of(self, variable: re.Match[str]) -> str:
        """Return a variable's value, or the variable itself unless it is known and one."""
        values = self.values(variable[1])
        return values[0] if values is not None and len(values) == 1 else variable[0]


def conditions_hold(conditions: Mapping[str, Mapping[str, tuple[str, ...]]], context: Context) -> Verdict:
    """Return whether every operator holds for each of its keys."""
    return all_of(
        _holds(operator, context.filled_in(values), context.values(key))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _holds(operator: str, wanted: Sequence[str], asked: tuple[str, ...] | None) -> Verdict:
    """Return whether one operator (``ForAnyValue:StringNotLikeIfExists``) holds for one key.

    ``wanted``: the condition's values. ``asked``: the request's, as ``Context.values`` returns them. Several
    of them are treated like several spellings; for keys with one value that is the same.
    """
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        is_absent = None if asked is None else not asked
        return any_of(is_absent if value.lower() == "true" else negated(is_absent) for value in wanted)
    comparison = name.removesuffix("IfExists")
    is_negated = "Not" in comparison
    compare = _COMPARISONS.get(comparison.replace("Not", "", 1))
    if asked is None or compare is None:
        return None
    if not asked:  # the request lacks the key
        if name.endswith("IfExists") or quantifier == "ForAllValues":
            return True
        return is_negated and quantifier != "ForAnyValue"
    is_among = any_of(by_spelling(compare, value, asked) for value in wanted)
    return negated(is_among) if is_negated else is_among


def _equals_ignoring_case(wanted: str, asked: str) -> Verdict:
    return equals(wanted.lower(), asked.lower())


_COMPARISONS: Mapping[str, Callable[[str, str], Verdict]] = {
    "StringEquals": equals,
    "StringEqualsIgnoreCase": _equals_ignoring_case,
    "StringLike": covers,
    "ArnEquals": covers,
    "ArnLike": covers,
    "BinaryEquals": equals,
    "Bool": _equals_ignoring_case,
}
"""How the condition's value and the request's are compared, by operator without ``Not`` and ``IfExists``. A
condition with another operator is undecided. ``Not`` negates the comparison, and holds if the key is
absent."""


# --- statements -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy; resources as ``plain`` writes them."""

    effect: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    principals: Mapping[str, tuple[str, ...]]
    """By kind (``AWS``, ``Service``); the kind ``*`` is everybody."""
    not_principals: Mapping[str, tuple[str, ...]]
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]
    """By operator and key."""

    @property
    def allows(self) -> bool:
        return self.effect == "Allow"

    def may_name_action(self, action: str) -> Verdict:
        """Return whether the statement is about an action (also one not in ``NotAction``)."""
        patterns = self.not_actions or self.actions
        is_listed = any_of(covers(pattern.lower(), action.lower()) for pattern in patterns)
        return negated(is_listed) if self.not_actions else is_listed

    def names_action(self, action: str) -> bool:
        """Return whether the statement surely is about an action."""
        return self.may_name_action(action) is True


def statements(document: Value) -> list[Statement]:
    """Return the statements of a policy document, written as an object or as JSON text."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError:
            return []
    return [_statement(mapping(entry)) for entry in items(mapping(document).get("Statement"))]


def _statement(entry: Mapping[str, Value]) -> Statement:
    def principals(name: str) -> dict[str, tuple[str, ...]]:
        principal = entry.get(name)
        by_kind = mapping(principal) or ({"*": principal} if principal is not None else {})
        return {kind: _texts(names) for kind, names in by_kind.items()}

    return Statement(
        effect=text(entry.get("Effect")),
        actions=_texts(entry.get("Action")),
        not_actions=_texts(entry.get("NotAction")),
        resources=_texts(entry.get("Resource")),
        not_resources=_texts(entry.get("NotResource")),
        principals=principals("Principal"),
        not_principals=principals("NotPrincipal"),
        conditions={
            operator: {key: _texts(values) for key, values in mapping(keys).items()}
            for operator, keys in mapping(entry.get("Condition")).items()
        },
    )


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(map(plain, items(value)))


# --- roles ------------------------------------------------------------------------------------------------
class Policies:
    """The roles in the templates, with their inline and attached policies."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._roles = templates.of("AWS::IAM::Role")
        self._statements: dict[Resource, list[Statement]] = {}
        """By role, as far as ``of_role`` was asked."""

    def role(self, value: Value) -> Resource | None:
        """Return the role that a value names (reference, ARN or name); None if not in the templates."""
        if isinstance(value, Target):
            return value.resource if value.resource in self._roles else None
        name = text(value).rpartition("/")[2]
        return next((role for role in self._roles if name and _has_name(role, name)), None)

    def of_role(self, role: Resource) -> list[Statement]:
        """Return the statements of every policy of a role that the templates contain."""
        if role not in self._statements:
            documents = [at(entry, "PolicyDocument") for entry in items(role.properties.get("Policies"))]
            documents += [policy.properties.get("PolicyDocument") for policy in self._attached(role)]
            self._statements[role] = [
                statement for document in documents for statement in statements(document)
            ]
        return self._statements[role]

    def managed(self, role: Resource) -> list[str]:
        """Return the ARNs of a role's managed policies that are not in the templates."""
        arns = items(role.properties.get("ManagedPolicyArns"))
        return [plain(arn) for arn in arns if not isinstance(arn, Target)]

    def _attached(self, role: Resource) -> Iterator[Resource]:
        """Yield the policies in the templates that name the role, or that the role names."""
        for policy in self._templates.of(
            "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"
        ):
            holders = items(policy.properties.get("Roles")) or items(policy.properties.get("RoleName"))
            if any(self.role(holder) is role for holder in holders):
                yield policy
        for arn in items(role.properties.get("ManagedPolicyArns")):
            if isinstance(arn, Target):
                yield arn.resource


def _has_name(role: Resource, name: str) -> bool:
    """Return whether the template itself gives the role this name."""
    role_name = role.properties.get("RoleName")
    return role_name is not None and is_known(role_name) and text(role_name) == name


def trusted_services(role: Resource) -> list[str]:
    """Return the services that may use a role."""
    trust = role.properties.get("AssumeRolePolicyDocument")
    return [
        text(service)
        for statement in items(at(trust, "Statement"))
        for service in items(at(statement, "Principal", "Service"))
    ]


# --- what an endpoint's policy allows ---------------------------------------------------------------------
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
"""Keys that a direct request of a role lacks, unless its context has them (such as a tag of the role)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An action on one resource, which policies may name by any of ``resources`` (its spellings). A ``*`` in
    a spelling stands for many resources, on each of which the action is asked.

    ``context``: the request's own keys; ``endpoint_allows`` adds those of its role.
    """

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes a request: the spellings of a role, and those of its account (``…:root``, the number). Both
    are empty for AWS itself."""

    roles: tuple[str, ...] = ()
    account: tuple[str, ...] = ()


def endpoint_allows(policy: Sequence[Statement], request: Request, *, role: Resource | None) -> Verdict:
    """Return whether an endpoint's policy allows a request of a role; of AWS itself if ``role`` is None."""
    principal = Principal()
    if role is not None:
        account = (role.account, f"arn:{role.partition}:iam::{role.account}:root")
        principal = Principal(roles=spellings(role), account=account)
        request = replace(request, context=_with_keys_of(role, request.context))
    denies = (_applies(statement, request, principal) for statement in policy if statement.effect == "Deny")
    allows = (_applies(statement, request, principal) for statement in policy if statement.allows)
    return all_of([negated(any_of(denies)), any_of(allows)])


def _with_keys_of(role: Resource, given: Context) -> Context:
    """Return a request's own keys, and those that each request of the role has."""
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
    return Context(known={**known, **given.known}, absent=(*_ABSENT_FOR_ROLES, *given.absent))


def _applies(statement: Statement, request: Request, principal: Principal) -> Verdict:
    """Return whether a statement is about a request, and names its principal or the principal's account (an
    account stands for all principals whose own policies allow the action)."""
    names = statement.principals.get("AWS", ())
    by_account = any_of(by_spelling(covers, name, principal.account) for name in names)
    return all_of(
        [
            statement.may_name_action(request.action),
            _names_resource(statement, request),
            conditions_hold(statement.conditions, request.context),
            any_of([_names_role(statement, principal), by_account]),
        ]
    )


def _names_resource(statement: Statement, request: Request) -> Verdict:
    """Return whether a statement is about the request's resource; one without resources is about all."""
    if statement.not_resources:
        return negated(_is_named(statement.not_resources, statement, request))
    return _is_named(statement.resources or ("*",), statement, request)


def _is_named(patterns: Iterable[str], statement: Statement, request: Request) -> Verdict:
    """Return whether one of the statement's patterns covers the request's resource."""
    present = request.context.filled_in(patterns)
    verdict = any_of(by_spelling(covers, pattern, request.resources) for pattern in present)
    if verdict is not False or statement.allows:
        return verdict
    # A Deny of some resources may apply to a request on many (with *): undecided.
    with_wildcard = [name for name in request.resources if "*" in name]
    return None if any(overlaps(pattern, name) for pattern in present for name in with_wildcard) else False


def _names_role(statement: Statement, principal: Principal) -> Verdict:
    """Return whether a statement names the principal itself, or everybody."""
    if statement.not_principals:
        return negated(_is_among(statement.not_principals, principal))
    # Only an endpoint's policy may be without principals.
    return _is_among(statement.principals, principal) if statement.principals else True


def _is_among(kinds: Mapping[str, tuple[str, ...]], principal: Principal) -> Verdict:
    """Return whether principals by kind (``Statement.principals``) have this one among them."""
    names = kinds.get("AWS", ())
    if kinds.get("*") or "*" in names:
        return True
    return any_of(by_spelling(covers, name, principal.roles) for name in names)


# --- through which endpoints an action goes ---------------------------------------------------------------
_ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "cloudwatch": ("monitoring",),
    "ecr": ("ecr.api", "ecr.dkr"),
    "firehose": ("kinesis-firehose",),
    "kinesis": ("kinesis-streams",),
}
"""Services of the endpoints by the prefix of an action, where they differ ("AWS services that integrate with
AWS PrivateLink")."""
_SAME_NAME = frozenset(
    {
        *("dynamodb", "s3", "sns", "sqs", "events", "scheduler", "states"),
        *("kms", "secretsmanager", "ssm", "ssmmessages", "sts", "cognito-idp"),
        *("ecs", "lambda", "logs", "xray", "execute-api", "athena", "glue"),
        *("comprehend", "polly", "textract", "transcribe", "translate"),
    }
)
"""Prefixes of actions whose endpoint's service has the same name."""


def services_of(action: str) -> tuple[str, ...]:
    """Return the services whose endpoints an action goes through; none for an unknown prefix."""
    prefix, _, name = action.lower().partition(":")
    if prefix == "sagemaker":
        return ("sagemaker.runtime",) if name.startswith(("invokeendpoint", "*")) else ("sagemaker.api",)
    if prefix == "bedrock":
        return ("bedrock-runtime",) if name.startswith(("invoke", "converse")) else ("bedrock",)
    return (prefix,) if prefix in _SAME_NAME else _ENDPOINTS.get(prefix, ())


def is_for_kms_through_service(statement: Statement, action: str) -> bool:
    """Return whether a statement is for calls on KMS that another service makes for the role
    (``kms:ViaService``): these come from that service's network and need no endpoint."""
    keys = {key.lower() for keys in statement.conditions.values() for key in keys}
    return action.lower().startswith("kms:") and "kms:viaservice" in keys
