from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from template_checks import InvalidInputError
from template_checks.policies import Statement, covers, spellings, statements
from template_checks.templates import Resource, Target, Templates, Unknown, text

Stack = dict[str, Any]


def assembly(folder: Path, stacks: dict[str, Stack]) -> Path:
    artifacts = {
        name: {
            "type": "aws:cloudformation:stack",
            "environment": "aws://111122223333/eu-west-1",
            "properties": {"templateFile": f"{name}.template.json", "stackName": f"it-{name}"},
        }
        for name in stacks
    }
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"artifacts": artifacts}), encoding="utf-8")
    for name, resources in stacks.items():
        (folder / f"{name}.template.json").write_text(json.dumps(resources), encoding="utf-8")
    return folder


def read(folder: Path, **stacks: Stack) -> Templates:
    return Templates.read([assembly(folder / "cdk.out", stacks)])


def resource(templates: Templates, logical_id: str) -> Resource:
    (found,) = (resource for resource in templates.of() if resource.logical_id == logical_id)
    return found


def holding(value: Any, **parameters: Stack) -> Stack:
    """Return a stack with one resource that has a value."""
    return {
        "Parameters": parameters,
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
            "It": {"Type": "AWS::X::Y", "Properties": {"Value": value}},
        },
    }


def value_of(folder: Path, value: Any, **parameters: Stack) -> Any:
    return resource(read(folder, Data=holding(value, **parameters)), "It").properties.get("Value")


NAME = {"Type": "String"}


def test_references_within_a_template_resolve_to_values_and_targets(tmp_path: Path) -> None:
    templates = read(tmp_path, Data=holding([{"Ref": "Vpc"}, {"Fn::GetAtt": ["Vpc", "Id"]}]))
    vpc = resource(templates, "Vpc")
    assert resource(templates, "It").properties["Value"] == [Target(vpc), Target(vpc, "Id")]
    assert vpc in templates.dependencies(resource(templates, "It"))


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ({"Ref": "Cidr"}, "10.1.0.0/16"),
        ({"Fn::Join": ["-", ["a", {"Ref": "AWS::Region"}]]}, "a-eu-west-1"),
        ({"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}, "b"),
        ({"Fn::Sub": "${AWS::AccountId}/${AWS::StackName}"}, "111122223333/it-Data"),
        ({"Ref": "AWS::NoValue"}, None),
    ],
)
def test_functions_of_known_values_resolve(tmp_path: Path, value: Stack, resolved: str | None) -> None:
    assert value_of(tmp_path, value, Cidr=NAME | {"Default": "10.1.0.0/16"}) == resolved


def test_text_keeps_what_is_known_around_what_is_not(tmp_path: Path) -> None:
    value = {"Fn::Sub": ["s3://${Bucket}/${Prefix}/${!literal}", {"Prefix": "llm"}]}
    assert text(value_of(tmp_path, value, Bucket=NAME)) == "s3://${it-Data.Bucket}/llm/${literal}"


def test_a_joined_text_splits_around_its_unknown_parts(tmp_path: Path) -> None:
    value = {"Fn::Select": [1, {"Fn::Split": ["/", {"Fn::Sub": "app/${Name}/id"}]}]}
    assert value_of(tmp_path, value, Name=NAME) == Unknown("it-Data.Name")


@pytest.mark.parametrize("value", [{"Fn::ImportValue": "x"}, {"Fn::FindInMap": ["a", "b", "c"]}])
def test_a_function_that_is_not_read_is_unknown(tmp_path: Path, value: Stack) -> None:
    assert isinstance(value_of(tmp_path, value), Unknown)


def test_the_value_of_an_ssm_parameter_is_unknown(tmp_path: Path) -> None:
    power = {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/power"}
    assert value_of(tmp_path, {"Ref": "Power"}, Power=power) == Unknown("it-Data.Power")


def test_a_weak_reference_resolves_to_the_other_stack(tmp_path: Path) -> None:
    weak = {"Fn::GetStackOutput": {"StackName": "it-Keys", "Region": "eu-west-1", "OutputName": "Arn"}}
    keys = {
        "Resources": {"Key": {"Type": "AWS::KMS::Key"}},
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Key", "Arn"]}}},
    }
    data = {"Resources": {"It": {"Type": "AWS::X::Y", "Properties": {"Key": weak}}}}
    templates = read(tmp_path, Keys=keys, Data=data)
    key = resource(templates, "Key")
    assert resource(templates, "It").properties["Key"] == Target(key, "Arn")
    assert templates.dependencies(resource(templates, "It")) == {key}
    assert (key.template.name, key.template.account, key.template.region) == (
        "it-Keys",
        "111122223333",
        "eu-west-1",
    )


def switched(condition: Stack) -> Stack:
    return {
        "Parameters": {"Power": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/power"}},
        "Conditions": {"IsOn": condition},
        "Resources": {
            "Endpoint": {"Type": "AWS::X::Endpoint", "Condition": "IsOn"},
            "It": {"Type": "AWS::X::Y", "Properties": {"Value": {"Fn::If": ["IsOn", 1, 2]}}},
        },
    }


def is_power(value: str) -> Stack:
    return {"Fn::Equals": [{"Ref": "Power"}, value]}


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        (is_power("paused"), [2, 1]),
        ({"Fn::Not": [is_power("paused")]}, [1, 2]),
        ({"Fn::Or": [is_power("paused"), is_power("pausing")]}, [2, 1, 1]),
        ({"Fn::And": [is_power("paused"), is_power("pausing")]}, [2, 2, 2]),
    ],
)
def test_every_outcome_of_conditions_is_a_world(tmp_path: Path, condition: Stack, values: list[int]) -> None:
    worlds = read(tmp_path, Data=switched(condition)).worlds()
    assert [resource(world, "It").properties["Value"] for world in worlds] == values
    assert [len(world.of("AWS::X::Endpoint")) for world in worlds] == [int(one == 1) for one in values]


def test_one_parameter_has_one_value_in_all_stacks(tmp_path: Path) -> None:
    worlds = read(tmp_path, One=switched(is_power("on")), Two=switched(is_power("on"))).worlds()
    assert [len(world.of("AWS::X::Endpoint")) for world in worlds] == [0, 2]


def test_a_condition_that_compares_no_parameter_is_refused(tmp_path: Path) -> None:
    unread = switched({"Fn::Equals": [{"Fn::ImportValue": "x"}, "y"]})
    with pytest.raises(InvalidInputError, match=r"Data\.template\.json: a condition compares"):
        read(tmp_path, Data=unread).worlds()


def test_dependencies_go_over_several_steps(tmp_path: Path) -> None:
    stack = holding({"Ref": "Vpc"})
    stack["Resources"]["Last"] = {"Type": "AWS::X::Z", "DependsOn": "It"}
    templates = read(tmp_path, Data=stack)
    assert resource(templates, "Vpc") in templates.dependencies(resource(templates, "Last"))


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"manifest\.json: cannot be read"):
        Templates.read([tmp_path])


def test_a_template_that_is_not_json_is_named(tmp_path: Path) -> None:
    folder = assembly(tmp_path / "cdk.out", {"Data": holding(1)})
    (folder / "Data.template.json").write_text("Resources:", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"Data\.template\.json: not valid JSON"):
        Templates.read([folder])


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
