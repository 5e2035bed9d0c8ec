from __future__ import annotations

from pathlib import Path

import pytest

from template_checks.policies import Statement, covers, spellings, statements
from tests.unit.template_checks.test_templates import read


@pytest.mark.parametrize(
    ("pattern", "wanted", "verdict"),
    [
        ("*", "arn:aws:s3:::a/b", True),
        ("arn:aws:s3:::a/*", "arn:aws:s3:::a/b", True),
        ("arn:aws:s3:::a", "arn:aws:s3:::a/b", False),
        ("arn:aws:s3:::<Data.A>/*", "arn:aws:s3:::<Data.A>/b", True),
        ("arn:aws:s3:::<Data.A>/*", "arn:aws:s3:::<Data.B>/b", False),
        # A generated name may begin so; what follows a literal name cannot be it.
        ("arn:aws:s3:::acme-*", "arn:aws:s3:::<Data.B>/b", None),
        ("arn:aws:s3:::acme/*", "arn:aws:s3:::<Data.B>/b", False),
        ("arn:aws:s3:::${x.Bucket}/*", "arn:aws:s3:::${x.Bucket}/b", True),
        ("arn:aws:s3:::${x.Bucket}/*", "arn:aws:s3:::a/b", None),
        ("arn:aws:s3:::docs/*", "arn:aws:s3:::prod-${AWS::Region}-layers/*", False),
        ("arn:aws:s3:::prod-us-*", "arn:aws:s3:::prod-${AWS::Region}-layers/*", None),
        ("arn:aws:s3:::a?c", "arn:aws:s3:::abc", True),
        ("arn:aws:s3:::a?c", "arn:aws:s3:::ac", False),
    ],
)
def test_a_pattern_matches_a_resource_or_not(pattern: str, wanted: str, verdict: bool | None) -> None:
    assert covers(pattern, wanted) is verdict


def one(**fields: object) -> Statement:
    (statement,) = statements({"Statement": {"Effect": "Allow", "Resource": "*", **fields}})  # type: ignore[dict-item]
    return statement


@pytest.mark.parametrize(
    ("action", "named"), [("s3:GetObject", True), ("s3:getobject", True), ("s3:PutObject", False)]
)
def test_an_action_matches_in_any_case(action: str, named: bool) -> None:
    assert one(Action="s3:Get*").names_action(action) is named


def test_not_action_names_all_others() -> None:
    statement = one(NotAction=["iam:*"])
    assert statement.names_action("s3:GetObject")
    assert not statement.names_action("iam:PassRole")


def test_a_document_may_be_json_text() -> None:
    (statement,) = statements('{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*"}]}')
    assert (statement.effect, statement.principals) == ("Deny", {"*": ("*",)})


@pytest.mark.parametrize(
    ("stack", "pattern", "verdict"),
    [
        ("Data", "it-Data-*", True),
        ("Data", "it-Data-Role-*", None),
        ("Data", "it-Dataset-*", False),
        # Of a longer name CloudFormation keeps 25 characters at least.
        ("a-long-name-of-a-stack-of-many", "it-a-long-name-of-a-stack-of-many-*", None),
        ("a-long-name-of-a-stack-of-many", "it-a-long-name-of-a-stacy*", False),
        ("a-long-name-of-a-stack-of-many", "it-a-long-name-of-a-stack*", True),
    ],
)
def test_a_role_without_a_name_has_one_that_begins_with_its_stack_s(
    tmp_path: Path, stack: str, pattern: str, verdict: bool | None
) -> None:
    templates = read(tmp_path, **{stack: {"Resources": {"Role": {"Type": "AWS::IAM::Role"}}}})
    (role,) = templates.of("AWS::IAM::Role")
    reference, arn = spellings(role)
    assert reference == f"<it-{stack}.Role>"
    assert covers(f"arn:aws:iam::111122223333:role/{pattern}", arn) is verdict
