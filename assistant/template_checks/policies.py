"""Policies as far as a template mistake asks: does this policy name this action on this resource?

Conditions are read only where a check says so; whether one tenant's rights touch another's is decided
elsewhere, with all conditions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from assistant.template_checks.templates import Resource, Templates
from assistant.template_checks.values import Joined, Target, Unknown, Value, is_known, items, mapping, text

BUCKET = "AWS::S3::Bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; resources as ``plain`` writes them."""

    effect: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    principals: Mapping[str, tuple[str, ...]]
    """By kind (``AWS``, ``Service``); the kind ``*`` is everybody."""
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]
    """By operator and key."""

    @property
    def allows(self) -> bool:
        return self.effect == "Allow"

    def names_action(self, action: str) -> bool:
        """Return whether the statement is about an action."""
        if self.not_actions:
            return not any(_like(pattern, action) for pattern in self.not_actions)
        return any(_like(pattern, action) for pattern in self.actions)

    def names_resource(self, resource: str) -> bool | None:
        """Return whether the statement is about a resource; None where names that are not known decide."""
        if self.not_resources:
            inside = _any(covers(pattern, resource) for pattern in self.not_resources)
            return None if inside is None else not inside
        return _any(covers(pattern, resource) for pattern in self.resources or ("*",))


def statements(document: Value) -> list[Statement]:
    """Return the statements of a policy document, written as an object or as JSON text."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError:
            return []
    return [_statement(mapping(entry)) for entry in items(mapping(document).get("Statement"))]


def _statement(entry: Mapping[str, Value]) -> Statement:
    def texts(name: str) -> tuple[str, ...]:
        return tuple(plain(item) for item in items(entry.get(name)))

    principal = entry.get("Principal")
    kinds = mapping(principal) or ({"*": "*"} if principal is not None else {})
    return Statement(
        effect=text(entry.get("Effect")),
        actions=texts("Action"),
        not_actions=texts("NotAction"),
        resources=texts("Resource"),
        not_resources=texts("NotResource"),
        principals={kind: tuple(map(plain, items(names))) for kind, names in kinds.items()},
        conditions={
            operator: {key: tuple(map(plain, items(values))) for key, values in mapping(keys).items()}
            for operator, keys in mapping(entry.get("Condition")).items()
        },
    )


class Policies:
    """Who may do what, by the policies in the templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._roles = templates.of("AWS::IAM::Role")
        self._statements: dict[Resource, list[Statement]] = {}

    def role(self, value: Value) -> Resource | None:
        """Return the role that a value names, by reference, ARN or name."""
        if isinstance(value, Target):
            return value.resource if value.resource in self._roles else None
        name = text(value).rpartition("/")[2]
        return next((role for role in self._roles if name and _named(role, "RoleName", name)), None)

    def of_role(self, role: Resource) -> list[Statement]:
        """Return the statements of every policy of a role that the templates hold."""
        if role not in self._statements:
            self._statements[role] = self._read(role)
        return self._statements[role]

    def _read(self, role: Resource) -> list[Statement]:
        documents = [mapping(entry).get("PolicyDocument") for entry in items(role.properties.get("Policies"))]
        for policy in self._attached(role):
            documents.append(policy.properties.get("PolicyDocument"))
        return [statement for document in documents for statement in statements(document)]

    def managed(self, role: Resource) -> list[str]:
        """Return the ARNs of managed policies that the templates do not hold."""
        return [
            plain(arn)
            for arn in items(role.properties.get("ManagedPolicyArns"))
            if not isinstance(arn, Target)
        ]

    def _attached(self, role: Resource) -> Iterator[Resource]:
        for policy in self._templates.of(
            "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"
        ):
            holders = items(policy.properties.get("Roles")) or items(policy.properties.get("RoleName"))
            if any(self.role(holder) is role for holder in holders):
                yield policy
        for arn in items(role.properties.get("ManagedPolicyArns")):
            if isinstance(arn, Target):
                yield arn.resource

    def grants(self, role: Resource, action: str, resource: str) -> bool | None:
        """Return whether a role's policies allow an action on a resource; None where unknown names decide."""
        found = [one for one in self.of_role(role) if one.names_action(action)]
        verdict = _any(one.names_resource(resource) for one in found if one.allows)
        if any(one.names_resource(resource) for one in found if one.effect == "Deny" and not one.conditions):
            return False
        managed = self.managed(role)
        if verdict is not True and any(_managed_grants(arn, action, resource) for arn in managed):
            return True
        if verdict is False and any(":aws:policy/" not in arn for arn in managed):
            return None  # a policy of the account's own, which is not among the templates
        return verdict


def _managed_grants(arn: str, action: str, resource: str) -> bool:
    """Return whether one of AWS's own policies grants an action, for the few that matter here."""
    name = arn.rpartition("/")[2] if ":aws:policy/" in arn else ""
    if name in ("AdministratorAccess", "PowerUserAccess"):
        return True
    if name == "AmazonSageMakerFullAccess":  # objects of buckets named after the service
        return action in ("s3:GetObject", "s3:PutObject") and "sagemaker" in resource.lower()
    return name == "AmazonS3FullAccess" and action.startswith("s3:")


def _named(resource: Resource, property_: str, name: str) -> bool:
    own = resource.properties.get(property_)
    return own is not None and is_known(own) and text(own) == name


def plain(value: Value) -> str:
    """Return a value as text in which one bucket has one name however it is referred to.

    A resource's generated name stands as ``<stack.logical id>``, what is unknown as ``${…}``.
    """
    if isinstance(value, Joined):
        return "".join(map(plain, value.parts))
    if isinstance(value, Target):
        return _plain_target(value)
    return text(value)


def _plain_target(target: Target) -> str:
    resource = target.resource
    label = f"<{resource.template.name}.{resource.logical_id}>"
    if resource.type != BUCKET:
        return label if target.attribute in ("Ref", "Arn") else f"{label}.{target.attribute}"
    name = resource.properties.get("BucketName")
    own = plain(name) if name is not None else label
    return f"arn:aws:s3:::{own}" if target.attribute == "Arn" else own


def covers(pattern: str, wanted: str) -> bool | None:
    """Return whether a resource pattern holds a resource; None where names that are not known decide."""
    if _like(pattern, wanted):
        return True
    if "${" in pattern or "${" in wanted:
        return None if _may_overlap(pattern, wanted) else False
    head = pattern.partition("/")[0]
    return None if "<" in wanted and "*" in head and "<" not in head else False


def _like(pattern: str, subject: str) -> bool:
    return _expression(pattern).fullmatch(subject) is not None


@lru_cache(maxsize=4096)
def _may_overlap(one: str, other: str) -> bool:
    """Return whether two patterns can hold the same text, when what is unknown in them may be anything."""
    left, right = (re.findall(r"\$\{[^}]*\}|.", text_, re.DOTALL) for text_ in (one.lower(), other.lower()))
    # reachable[j]: what was read of `left` fits the first j signs of `right`.
    reachable = _skipping(right, [True, *([False] * len(right))])
    for sign in left:
        following = [False] * (len(right) + 1)
        for j, fits in enumerate(reachable):
            if fits and _is_any(sign):
                following[j:] = [True] * (len(right) + 1 - j)
                break
            if fits and j < len(right) and _is_any(right[j]):
                following[j] = True
            elif fits and j < len(right) and (right[j] == sign or "?" in (sign, right[j])):
                following[j + 1] = True
        reachable = _skipping(right, following)
    return reachable[-1]


def _skipping(signs: list[str], reachable: list[bool]) -> list[bool]:
    """Let what may be anything be nothing."""
    for j, sign in enumerate(signs):
        reachable[j + 1] |= reachable[j] and _is_any(sign)
    return reachable


def _is_any(sign: str) -> bool:
    return sign == "*" or sign.startswith("${")


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.compile(expression, re.IGNORECASE | re.DOTALL)


def _any(verdicts: Iterator[bool | None]) -> bool | None:
    found = list(verdicts)
    if True in found:
        return True
    return None if None in found else False


def bucket_and_key(uri: Value) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key`` (or an HTTPS address of S3), as ``plain`` writes them."""
    address = plain(uri).removeprefix("s3://")
    if address.startswith("https://"):
        host, _, path = address.removeprefix("https://").partition("/")
        address = path if host.startswith("s3") else f"{host.split('.s3')[0]}/{path}"
    bucket, _, key = address.partition("/")
    return bucket, key


def is_unknown(value: Value) -> bool:
    """Return whether a whole value is something that no template tells."""
    return isinstance(value, Unknown)
