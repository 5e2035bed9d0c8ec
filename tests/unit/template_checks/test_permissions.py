"""Requests on small templates, decided by IAM's documented rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from template_checks.conditions import Context, conditions_hold
from template_checks.permissions import Permissions, Request, policy_of_bucket, policy_of_key, service_may
from template_checks.policies import Policies, statements
from template_checks.template_files import Template
from template_checks.templates import Resource, Templates

ALLOW = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::docs/*"}
DENY = ALLOW | {"Effect": "Deny"}


def templates(**resources: dict[str, Any]) -> Templates:
    made = Template(
        name="app-Data",
        path=Path("it.json"),
        document={"Resources": resources},
        is_named=True,
        account="111122223333",
        region="eu-west-1",
    )
    return Templates([made])


def role(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    policies = [{"PolicyName": "p", "PolicyDocument": {"Statement": list(entries)}}]
    return {"Type": "AWS::IAM::Role", "Properties": {"Policies": policies, **more}}


def found(set_: Templates, name: str) -> Resource:
    (one,) = (resource for resource in set_.of() if resource.logical_id == name)
    return one


def put(path: str = "docs/a", **known: str) -> Request:
    context = Context(known={key.replace("__", ":"): (value,) for key, value in known.items()})
    return Request(action="s3:PutObject", resources=(f"arn:aws:s3:::{path}",), context=context)


def may(*entries: dict[str, Any], request: Request | None = None, **more: Any) -> bool | None:
    set_ = templates(Role=role(*entries, **more))
    return Permissions(policies=Policies(set_)).role_may(found(set_, "Role"), request or put())


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([ALLOW], True),
        ([], False),
        ([ALLOW, DENY], False),
        ([ALLOW, DENY | {"Resource": "arn:aws:s3:::other/*"}], True),
        ([ALLOW, DENY | {"Action": "s3:*", "Resource": "*"}], False),
        ([ALLOW | {"Action": ["s3:Get*", "S3:PUT*"]}], True),
        ([ALLOW | {"Action": "s3:GetObject"}], False),
        ([ALLOW | {"Resource": "arn:aws:s3:::Docs/*"}], False),  # names are not read without their case
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], True),
        ([{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}], False),
        ([{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::docs/*"}], False),
        ([{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::logs/*"}], True),
        ([ALLOW, {"Effect": "Deny", "NotAction": "s3:PutObject", "Resource": "*"}], True),
        ([ALLOW, {"Effect": "Deny", "NotAction": "s3:Get*", "Resource": "*"}], False),
        ([ALLOW | {"Resource": {"Ref": "Unknown"}}], None),
        ([ALLOW, DENY | {"Resource": {"Ref": "Unknown"}}], None),
        ([ALLOW | {"Resource": {"Fn::Sub": "arn:aws:s3:::${Unknown}-x/*"}}], False),
    ],
)
def test_a_deny_overrides_an_allow_and_without_either_a_request_is_refused(
    entries: list[dict[str, Any]], expected: bool | None
) -> None:
    assert may(*entries) is expected


TENANT = [{"Key": "tenant", "Value": "pharmacy"}]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"StringEquals": {"aws:PrincipalTag/tenant": "pharmacy"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/tenant": ["clinic", "pharmacy"]}}, True),
        ({"StringEquals": {"aws:PrincipalTag/tenant": "clinic"}}, False),
        ({"StringEquals": {"aws:principaltag/TENANT": "pharmacy"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/tenant": "Pharmacy"}}, False),
        ({"StringEqualsIgnoreCase": {"aws:PrincipalTag/tenant": "Pharmacy"}}, True),
        ({"StringNotEquals": {"aws:PrincipalTag/tenant": "clinic"}}, True),
        ({"StringNotEquals": {"aws:PrincipalTag/tenant": ["clinic", "pharmacy"]}}, False),
        ({"StringLike": {"aws:PrincipalTag/tenant": "ph*"}}, True),
        ({"StringNotLike": {"aws:PrincipalTag/tenant": "ph*"}}, False),
        ({"StringEquals": {"aws:PrincipalTag/duty": "writer"}}, False),
        ({"StringNotEquals": {"aws:PrincipalTag/duty": "writer"}}, True),
        ({"StringEqualsIfExists": {"aws:PrincipalTag/duty": "writer"}}, True),
        ({"Null": {"aws:PrincipalTag/duty": "true"}}, True),
        ({"Null": {"aws:PrincipalTag/duty": "false"}}, False),
        ({"Null": {"aws:PrincipalTag/tenant": "false"}}, True),
        ({"ForAllValues:StringEquals": {"aws:PrincipalTag/duty": "writer"}}, True),
        ({"ForAnyValue:StringEquals": {"aws:PrincipalTag/duty": "writer"}}, False),
        ({"ForAnyValue:StringEquals": {"aws:PrincipalTag/tenant": "pharmacy"}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, True),
        ({"Bool": {"aws:SecureTransport": False}}, False),
        ({"NumericLessThan": {"s3:TlsVersion": 1.2}}, False),
        ({"NumericGreaterThanEquals": {"s3:TlsVersion": "1.2"}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": "111122223333"}}, True),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["Role", "Arn"]}}}, True),
        ({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/deploy/*"}}, True),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}}, None),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1", "aws:PrincipalTag/tenant": "clinic"}}, False),
        ({"NoSuchOperator": {"aws:PrincipalTag/tenant": "pharmacy"}}, None),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, None),
        (
            {
                "StringEquals": {"aws:PrincipalTag/tenant": "pharmacy"},
                "Bool": {"aws:SecureTransport": "false"},
            },
            False,
        ),
    ],
)
def test_a_condition_is_compared_with_the_role_in_the_template(
    condition: dict[str, Any], expected: bool | None
) -> None:
    assert may(ALLOW | {"Condition": condition}, Tags=TENANT) is expected


def test_a_policy_variable_is_filled_in_from_the_role() -> None:
    own = ALLOW | {"Resource": "arn:aws:s3:::docs/${aws:PrincipalTag/tenant}/*"}
    assert may(own, request=put("docs/pharmacy/a"), Tags=TENANT) is True
    assert may(own, request=put("docs/clinic/a"), Tags=TENANT) is False
    assert may(own, request=put("docs/pharmacy/a")) is False  # the role has no such tag


def test_an_allow_must_match_every_resource_and_a_deny_of_some_is_undecided() -> None:
    everything = put("docs/*")
    assert may(ALLOW, request=everything) is True
    assert may(ALLOW | {"Resource": "arn:aws:s3:::docs/a/*"}, request=everything) is False
    assert may(ALLOW, DENY | {"Resource": "arn:aws:s3:::docs/a/*"}, request=everything) is None


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:iam::aws:policy/AmazonS3FullAccess", True),
        ("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess", False),
        ("arn:aws:iam::aws:policy/PowerUserAccess", True),
        ("arn:aws:iam::aws:policy/SomethingNew", None),
        ("arn:aws:iam::111122223333:policy/ours", None),
    ],
)
def test_a_known_managed_policy_counts_and_an_unknown_one_is_undecided(
    arn: str, expected: bool | None
) -> None:
    assert may(ManagedPolicyArns=[arn]) is expected
    assert may(DENY, ManagedPolicyArns=[arn]) is False


def test_a_boundary_in_the_templates_applies_and_one_outside_is_not_read() -> None:
    boundary = {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {"PolicyDocument": {"Statement": [ALLOW | {"Action": "s3:GetObject"}]}},
    }
    set_ = templates(Role=role(ALLOW, PermissionsBoundary={"Ref": "Limit"}), Limit=boundary)
    assert Permissions(policies=Policies(set_)).role_may(found(set_, "Role"), put()) is False
    assert may(ALLOW, PermissionsBoundary="arn:aws:iam::111122223333:policy/limit") is True


def bucket_with(*entries: dict[str, Any]) -> dict[str, dict[str, Any]]:
    policy = {"Bucket": {"Ref": "Docs"}, "PolicyDocument": {"Statement": list(entries)}}
    return {
        "Docs": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "docs"}},
        "Policy": {"Type": "AWS::S3::BucketPolicy", "Properties": policy},
    }


ROLE_ARN = {"Fn::GetAtt": ["Role", "Arn"]}
ROOT = "arn:aws:iam::111122223333:root"


@pytest.mark.parametrize(
    ("own", "entry", "expected"),
    [
        ([], ALLOW | {"Principal": {"AWS": ROLE_ARN}}, True),
        ([], ALLOW | {"Principal": {"AWS": ROOT}}, False),  # the account still decides by its own policies
        ([ALLOW], ALLOW | {"Principal": {"AWS": ROOT}}, True),
        ([], ALLOW | {"Principal": "*"}, True),
        ([], ALLOW | {"Principal": {"AWS": "arn:aws:iam::111122223333:role/other"}}, False),
        ([ALLOW], DENY | {"Principal": "*"}, False),
        ([ALLOW], DENY | {"Principal": {"AWS": ["*"]}}, False),
        ([ALLOW], DENY | {"Principal": {"AWS": ROOT}}, False),
        ([ALLOW], DENY | {"Principal": {"AWS": ROLE_ARN}}, False),
        ([ALLOW], DENY | {"NotPrincipal": {"AWS": ROLE_ARN}}, True),
        ([ALLOW], DENY | {"NotPrincipal": {"AWS": "arn:aws:iam::1:role/x"}}, False),
        ([ALLOW], DENY | {"Principal": {"Service": "logs.amazonaws.com"}}, True),
        (
            [ALLOW],
            DENY
            | {"Principal": "*", "Condition": {"StringNotEquals": {"aws:PrincipalTag/tenant": "clinic"}}},
            False,
        ),
    ],
)
def test_a_buckets_policy_may_allow_or_deny(
    own: list[dict[str, Any]], entry: dict[str, Any], expected: bool | None
) -> None:
    set_ = templates(Role=role(*own, Tags=TENANT), **bucket_with(entry))
    permissions, policy = Permissions(policies=Policies(set_)), policy_of_bucket(set_, found(set_, "Docs"))
    assert permissions.role_may(found(set_, "Role"), put(), resource_policy=policy) is expected


USE = {"Effect": "Allow", "Action": "kms:GenerateDataKey*", "Resource": "*"}


@pytest.mark.parametrize(
    ("own", "entry", "expected"),
    [
        ([USE], USE | {"Principal": {"AWS": ROOT}}, True),
        ([], USE | {"Principal": {"AWS": ROOT}}, False),
        ([USE], USE | {"Principal": {"AWS": "arn:aws:iam::999999999999:root"}}, False),
        ([], USE | {"Principal": {"AWS": ROLE_ARN}}, True),
        ([USE], USE | {"Principal": {"AWS": ROOT}, "Action": "kms:Decrypt"}, False),
        ([USE], USE | {"Principal": {"AWS": "111122223333"}}, True),
    ],
)
def test_a_key_is_used_only_if_its_policy_allows_it(
    own: list[dict[str, Any]], entry: dict[str, Any], expected: bool | None
) -> None:
    key = {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Statement": [entry]}}}
    set_ = templates(Role=role(*own), Key=key)
    request = Request(action="kms:GenerateDataKey", resources=("<app-Data.Key>",))
    verdict = Permissions(policies=Policies(set_)).role_may(
        found(set_, "Role"), request, resource_policy=policy_of_key(found(set_, "Key")), needs_both=True
    )
    assert verdict is expected


@pytest.mark.parametrize(
    ("principal", "condition", "expected"),
    [
        ({"Service": "logging.s3.amazonaws.com"}, {}, True),
        ({"Service": ["x.amazonaws.com", "logging.s3.amazonaws.com"]}, {}, True),
        ({"Service": "logs.amazonaws.com"}, {}, False),
        ({"AWS": ROOT}, {}, False),
        ("*", {}, True),
        (
            {"Service": "logging.s3.amazonaws.com"},
            {"StringEquals": {"aws:SourceAccount": "111122223333"}},
            True,
        ),
        (
            {"Service": "logging.s3.amazonaws.com"},
            {"StringEquals": {"aws:SourceAccount": "999999999999"}},
            False,
        ),
        ({"Service": "logging.s3.amazonaws.com"}, {"StringEquals": {"aws:PrincipalTag/x": "y"}}, False),
    ],
)
def test_a_service_is_allowed_by_its_principal_and_its_source(
    principal: Any, condition: dict[str, Any], expected: bool | None
) -> None:
    entry = ALLOW | {"Principal": principal, "Condition": condition}
    request = put(aws__sourceaccount="111122223333")
    policy = statements({"Statement": [entry]})  # type: ignore[dict-item]
    assert service_may(("logging.s3.amazonaws.com",), request, resource_policy=policy) is expected


def test_addresses_are_compared_with_blocks() -> None:
    context = Context(known={"aws:sourceip": ("203.0.113.7",)})
    for operator, block, expected in (
        ("IpAddress", "203.0.113.0/24", True),
        ("IpAddress", "10.0.0.0/8", False),
        ("NotIpAddress", "10.0.0.0/8", True),
        ("IpAddress", "2001:db8::/32", False),
        ("IpAddress", "${Block}", None),
    ):
        assert conditions_hold({operator: {"aws:SourceIp": (block,)}}, context) is expected
