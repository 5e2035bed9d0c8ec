from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from template_checks import InvalidInputError
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Unknown, text

NETWORK = """
    Parameters:
      Cidr: {Type: String, Default: 10.0.0.0/16}
      Zones: {Type: CommaDelimitedList, Default: "eu-west-1a, eu-west-1b"}
    Mappings:
      Ports: {eu-west-1: {tasks: 8443}}
    Resources:
      Vpc:
        Type: AWS::EC2::VPC
        Properties: {CidrBlock: !Ref Cidr}
      Subnet:
        Type: AWS::EC2::Subnet
        Properties:
          VpcId: !Ref Vpc
          AvailabilityZone: !Select [1, !Ref Zones]
          CidrBlock: !Select [1, !Cidr [!Ref Cidr, 2, 8]]
          Tags: [{Key: port, Value: !FindInMap [Ports, !Ref AWS::Region, tasks]}]
    Outputs:
      VpcId: {Value: !Ref Vpc, Export: {Name: !Sub "${AWS::StackName}-VpcId"}}
"""


def read(folder: Path, **templates: str) -> Templates:
    for name, template in templates.items():
        (folder / f"{name}.yaml").write_text(dedent(template), encoding="utf-8")
    return Templates.read([folder], region="eu-west-1")


def resource(templates: Templates, logical_id: str) -> Resource:
    (found,) = (resource for resource in templates.of() if resource.logical_id == logical_id)
    return found


def one(value: str, **parameters: str) -> str:
    lines = [f"  {name}: {kind}" for name, kind in parameters.items()] or ["  None_: {Type: String}"]
    return "\n".join(
        [
            "Parameters:",
            *lines,
            "Resources:",
            "  It:",
            "    Type: AWS::X::Y",
            f"    Properties: {{Value: {value}}}",
        ]
    )


def test_references_within_a_template_resolve_to_values_and_targets(tmp_path: Path) -> None:
    templates = read(tmp_path, network=NETWORK)
    subnet = resource(templates, "Subnet")
    assert subnet.properties == {
        "VpcId": Target(resource(templates, "Vpc"), "Ref"),
        "AvailabilityZone": "eu-west-1b",
        "CidrBlock": "10.0.1.0/24",
        "Tags": [{"Key": "port", "Value": 8443}],
    }


def test_an_import_resolves_to_the_exporting_template_without_stack_names(tmp_path: Path) -> None:
    templates = read(
        tmp_path,
        network=NETWORK,
        service=one("!ImportValue {'Fn::Sub': '${Network}-VpcId'}", Network="{Type: String}"),
    )
    assert resource(templates, "It").properties["Value"] == Target(resource(templates, "Vpc"))


def test_an_import_that_fits_two_exports_is_not_known(tmp_path: Path) -> None:
    templates = read(
        tmp_path,
        network=NETWORK,
        other=NETWORK,
        service=one("!ImportValue {'Fn::Sub': '${Network}-VpcId'}", Network="{Type: String}"),
    )
    assert isinstance(resource(templates, "It").properties["Value"], Unknown)


def test_text_keeps_what_is_known_around_what_is_not(tmp_path: Path) -> None:
    templates = read(
        tmp_path,
        it=one("!Sub ['s3://${Bucket}/${Prefix}/${!literal}', {Prefix: llm}]", Bucket="{Type: String}"),
    )
    assert text(resource(templates, "It").properties["Value"]) == "s3://${it.Bucket}/llm/${literal}"


def test_a_joined_text_splits_around_its_unknown_parts(tmp_path: Path) -> None:
    value = "!Select [1, !Split ['/', !Sub 'app/${Name}/id']]"
    templates = read(tmp_path, it=one(value, Name="{Type: String}"))
    assert resource(templates, "It").properties["Value"] == Unknown("it.Name")


def test_a_nested_stack_gets_its_parents_parameters_and_gives_its_outputs_back(tmp_path: Path) -> None:
    parent = """
        Resources:
          Network:
            Type: AWS::CloudFormation::Stack
            Properties:
              TemplateURL: !Sub https://files.s3.${AWS::URLSuffix}/network.yaml
              Parameters: {Cidr: 172.16.0.0/12}
          It: {Type: AWS::X::Y, Properties: {Value: !GetAtt Network.Outputs.VpcId}}
    """
    templates = read(tmp_path, parent=parent, network=NETWORK)
    vpc = resource(templates, "Vpc")
    assert vpc.properties["CidrBlock"] == "172.16.0.0/12"
    assert resource(templates, "It").properties["Value"] == Target(vpc)
    assert vpc in templates.dependencies(resource(templates, "It"))


def assembly(folder: Path, stacks: dict[str, dict[str, Any]]) -> Path:
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


def test_a_weak_reference_of_an_assembly_resolves_to_the_other_stack(tmp_path: Path) -> None:
    weak = {"Fn::GetStackOutput": {"StackName": "it-Keys", "Region": "eu-west-1", "OutputName": "Arn"}}
    stacks = {
        "Keys": {
            "Resources": {"Key": {"Type": "AWS::KMS::Key"}},
            "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Key", "Arn"]}}},
        },
        "Data": {"Resources": {"It": {"Type": "AWS::X::Y", "Properties": {"Key": weak}}}},
    }
    templates = Templates.read([assembly(tmp_path / "cdk.out", stacks)])
    key = resource(templates, "Key")
    assert resource(templates, "It").properties["Key"] == Target(key, "Arn")
    assert templates.dependencies(resource(templates, "It")) == {key}
    assert (key.template.name, key.template.account, key.template.region) == (
        "it-Keys",
        "111122223333",
        "eu-west-1",
    )


SWITCHED = """
    Parameters:
      Power: {Type: AWS::SSM::Parameter::Value<String>, Default: /power}
      Size: {Type: String, Default: large}
    Conditions:
      IsOn: !Equals [!Ref Power, "on"]
      IsSmall: !Equals [!Ref Size, small]
    Resources:
      Endpoint: {Type: AWS::X::Endpoint, Condition: IsOn}
      It:
        Type: AWS::X::Y
        Properties:
          Value: !If [IsSmall, 1, 2]
          Other: !If [IsOn, 3, !Ref AWS::NoValue]
"""


def test_every_outcome_of_conditions_is_a_world_the_defaults_first(tmp_path: Path) -> None:
    worlds = read(tmp_path, it=SWITCHED).worlds()
    seen = [(len(world.of("AWS::X::Endpoint")), dict(resource(world, "It").properties)) for world in worlds]
    on, off = {"Value": 2, "Other": 3}, {"Value": 2}
    assert seen == [(1, on), (1, on | {"Value": 1}), (1, on), (0, off), (0, {"Value": 1}), (0, off)]
    assert worlds[1].assumed == "Power is on and Size is small"


def test_a_parameter_has_no_value_but_those_that_are_allowed(tmp_path: Path) -> None:
    allowed = SWITCHED.replace("Default: large}", "Default: large, AllowedValues: [large, small]}")
    assert len(read(tmp_path, it=allowed).worlds()) == 4


def test_a_condition_that_no_parameter_decides_has_both_outcomes(tmp_path: Path) -> None:
    joined = SWITCHED.replace('!Equals [!Ref Power, "on"]', '!Equals [!Sub "${Power}-x", "on-x"]')
    worlds = read(tmp_path, it=joined).worlds()
    assert {len(world.of("AWS::X::Endpoint")) for world in worlds} == {0, 1}


def test_too_many_worlds_are_cut_and_reported(tmp_path: Path) -> None:
    names = [f"P{number}" for number in range(7)]
    many = "\n".join(
        [
            "Parameters:",
            *(f"  {name}: {{Type: String, AllowedValues: [a, b]}}" for name in names),
            "Conditions:",
            *(f"  C{name}: !Equals [!Ref {name}, a]" for name in names),
            "Resources: {It: {Type: AWS::X::Y}}",
        ]
    )
    templates = read(tmp_path, it=many)
    assert len(templates.worlds()) == 64
    assert templates.has_more_worlds


def test_a_given_parameter_overrides_its_default(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(dedent(SWITCHED), encoding="utf-8")
    (world,) = Templates.read([tmp_path], parameters={"Size": "small", "Power": "paused"}).worlds()
    assert dict(resource(world, "It").properties) == {"Value": 1}


def test_a_policys_version_stays_text(tmp_path: Path) -> None:
    templates = read(tmp_path, it=one("{Version: 2012-10-17}"))
    assert resource(templates, "It").properties["Value"] == {"Version": "2012-10-17"}


def test_dependencies_go_over_several_steps_of_every_kind(tmp_path: Path) -> None:
    chain = """
        Resources:
          A: {Type: AWS::X::Y}
          B: {Type: AWS::X::Y, DependsOn: A}
          C: {Type: AWS::X::Y, Properties: {Name: !Sub "x-${B.Name}"}}
          D: {Type: AWS::X::Y, Properties: {List: [{Deep: !GetAtt C.Arn}]}}
    """
    templates = read(tmp_path, it=chain)
    found = templates.dependencies(resource(templates, "D"))
    assert {resource.logical_id for resource in found} == {"A", "B", "C"}


@pytest.mark.parametrize(
    ("content", "said"), [("a: [", "neither JSON nor YAML"), ("a: 1", "has no Resources")]
)
def test_a_file_that_is_no_template_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "it.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=said) as raised:
        Templates.read([path])
    assert str(path) in raised.value.message


def test_a_folder_without_templates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("a: 1", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="no CloudFormation template"):
        Templates.read([tmp_path])


def test_a_loop_is_written_out(tmp_path: Path) -> None:
    loop = """
        Transform: AWS::LanguageExtensions
        Parameters: {Names: {Type: CommaDelimitedList, Default: "A,B"}}
        Resources:
          Fn::ForEach::Buckets:
            - Name
            - !Ref Names
            - Bucket${Name}:
                Type: AWS::S3::Bucket
                Properties: {BucketName: !Sub "x-${Name}", Tag: !Ref Name}
          It: {Type: AWS::X::Y, Properties: {Value: !Ref BucketB}}
    """
    templates = read(tmp_path, it=loop)
    assert dict(resource(templates, "BucketB").properties) == {"BucketName": "x-B", "Tag": "B"}
    assert resource(templates, "It").properties["Value"] == Target(resource(templates, "BucketB"))


def test_a_stack_that_names_a_file_like_its_own_is_not_nested_in_itself(tmp_path: Path) -> None:
    resources = """
        Parameters: {Name: {Type: String, Default: n}}
        Resources:
          Child:
            Type: AWS::CloudFormation::Stack
            Properties: {TemplateURL: ./NAME.yaml, Parameters: {Name: !Ref Name}}
          It: {Type: AWS::X::Y, Properties: {Value: !Ref Name}}
    """
    one, other = (resources.replace("NAME", name) for name in ("one", "two"))
    assert resource(read(tmp_path, one=one), "It").properties["Value"] == "n"
    swapped = read(tmp_path, one=other, two=one)
    assert {text(found.properties["Value"]) for found in swapped.of("AWS::X::Y")} == {"n"}
