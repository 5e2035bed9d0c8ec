"""Harmless changes, which must not be refused: other ways to write the same template."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from template_checks.templates import at, targets, text
from tests.stacks.mistakes.planted import DOMAIN, LISTENER, TARGET_GROUP
from tests.stacks.mistakes.planted_in_models import CONFIG
from tests.stacks.mistakes.planted_in_policies import execution_role, statements_of
from tests.stacks.mistakes.scene import Raw, Scene
from tests.stacks.mutations.in_the_network import balancers

Change = Callable[[Scene], None]
HARMLESS: dict[str, Change] = {}


def harmless(change: Change) -> Change:
    HARMLESS[change.__name__.replace("_", " ")] = change
    return change


def _documents(scene: Scene) -> list[Raw]:
    return [template.document for template in scene.templates]  # type: ignore[misc]


def _resources(scene: Scene) -> list[Raw]:
    return [resource for document in _documents(scene) for resource in document["Resources"].values()]


def _policies(scene: Scene) -> list[Raw]:
    """Return every policy document of every resource."""
    found: list[Raw] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("Statement"), list):
                found.append(value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(_documents(scene))
    return found


def _allowing(scene: Scene) -> list[Raw]:
    return [one for policy in _policies(scene) for one in policy["Statement"] if one.get("Effect") == "Allow"]


def _condition(document: Raw) -> None:
    document.setdefault("Parameters", {})["HarmlessSwitch"] = {
        "Type": "String",
        "Default": "one",
        "AllowedValues": ["one", "two"],
    }
    document.setdefault("Conditions", {})["HarmlessIsOne"] = {
        "Fn::Equals": [{"Ref": "HarmlessSwitch"}, "one"]
    }


# --- how a template is written ----------------------------------------------------------------------------
@harmless
def rename_logical_ids(scene: Scene) -> None:
    for document in _documents(scene):
        renamed = {name: f"Renamed{index}X" for index, name in enumerate(document["Resources"])}
        document["Resources"] = {renamed[name]: resource for name, resource in document["Resources"].items()}
        for section in ("Resources", "Outputs"):
            if section in document:
                document[section] = _renamed(document[section], renamed)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    made: Raw = {}
    for key, item in value.items():
        if key == "Ref":
            made[key] = names.get(item, item)
        elif key == "Fn::GetAtt" and isinstance(item, list):
            made[key] = [names.get(item[0], item[0]), *item[1:]]
        elif key == "Fn::GetAtt":
            head, _, tail = item.partition(".")
            made[key] = f"{names.get(head, head)}.{tail}"
        elif key == "DependsOn":
            made[key] = [
                names.get(one, one) if isinstance(one, str) else one
                for one in (item if isinstance(item, list) else [item])
            ]
        elif key == "Fn::Sub":
            made[key] = _renamed_sub(item, names)
        else:
            made[key] = _renamed(item, names)
    return made


def _renamed_sub(value: Any, names: dict[str, str]) -> Any:
    own = value[1] if isinstance(value, list) else {}

    def replaced(match: re.Match[str]) -> str:
        head, dot, tail = match[1].partition(".")
        return "${" + (head if head in own else names.get(head, head)) + dot + tail + "}"

    pattern = re.sub(r"\$\{([^}!]+)\}", replaced, value[0] if isinstance(value, list) else value)
    return [pattern, _renamed(own, names)] if isinstance(value, list) else pattern


@harmless
def reverse_the_resources(scene: Scene) -> None:
    for document in _documents(scene):
        document["Resources"] = dict(reversed(document["Resources"].items()))


@harmless
def reverse_the_templates(scene: Scene) -> None:
    scene.templates.reverse()


@harmless
def write_join_as_sub(scene: Scene) -> None:
    for document in _documents(scene):
        for section in ("Resources", "Outputs"):
            if section in document:
                document[section] = _as_sub(document[section])


def _as_sub(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_sub(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::Join"} and value["Fn::Join"][0] == "" and isinstance(value["Fn::Join"][1], list):
        names: Raw = {}
        pattern = ""
        for index, part in enumerate(value["Fn::Join"][1]):
            if isinstance(part, str):
                pattern += part.replace("${", "${!")
            else:
                names[f"P{index}"] = _as_sub(part)
                pattern += f"${{P{index}}}"
        return {"Fn::Sub": [pattern, names]} if names else pattern
    return {key: _as_sub(item) for key, item in value.items()}


@harmless
def write_getatt_as_text(scene: Scene) -> None:
    for document in _documents(scene):
        document["Resources"] = _with_texts(document["Resources"])


def _with_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_texts(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::GetAtt"} and isinstance(value["Fn::GetAtt"], list):
        return {"Fn::GetAtt": ".".join(value["Fn::GetAtt"])}
    return {key: _with_texts(item) for key, item in value.items()}


@harmless
def write_booleans_and_numbers_as_text(scene: Scene) -> None:
    for resource in _resources(scene):
        resource["Properties"] = _texts(resource.get("Properties", {}))


def _texts(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if isinstance(value, dict):
        is_function = any(key.startswith("Fn::") for key in value)
        return value if is_function else {key: _texts(item) for key, item in value.items()}
    return value


@harmless
def write_depends_on_as_one_text(scene: Scene) -> None:
    for resource in _resources(scene):
        declared = resource.get("DependsOn")
        if isinstance(declared, list) and len(declared) == 1:
            resource["DependsOn"] = declared[0]


@harmless
def say_no_value_for_what_is_absent(scene: Scene) -> None:
    for resource in _resources(scene):
        resource.setdefault("Properties", {})["HarmlessNothing"] = {"Ref": "AWS::NoValue"}


@harmless
def add_tags(scene: Scene) -> None:
    for resource in _resources(scene):
        tags = resource.setdefault("Properties", {}).get("Tags")
        if isinstance(tags, list):
            tags.insert(0, {"Key": "team", "Value": "care"})


@harmless
def add_metadata(scene: Scene) -> None:
    for document in _documents(scene):
        document["Metadata"] = {"Note": "http://example.com"}
        for resource in document["Resources"].values():
            resource.setdefault("Metadata", {})["Note"] = "see http://example.com"


@harmless
def add_resources_that_have_nothing_to_do_with_it(scene: Scene) -> None:
    for document in _documents(scene):
        document["Resources"] |= {
            "HarmlessTopic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "http-alerts"}},
            "HarmlessQueue": {"Type": "AWS::SQS::Queue"},
            "HarmlessRule": {
                "Type": "AWS::Events::Rule",
                "Properties": {"ScheduleExpression": "rate(1 day)"},
            },
            "HarmlessKey": {
                "Type": "AWS::KMS::Key",
                "Properties": {
                    "KeyPolicy": {"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "kms:*"}]}
                },
            },
            "HarmlessRole": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "AssumeRolePolicyDocument": {"Statement": []},
                    "Policies": [
                        {
                            "PolicyName": "x",
                            "PolicyDocument": {
                                "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]
                            },
                        }
                    ],
                },
            },
        }


@harmless
def both_branches_good(scene: Scene) -> None:
    for document in _documents(scene):
        _condition(document)
        for resource in document["Resources"].values():
            properties = resource.get("Properties", {})
            for name, value in list(properties.items()):
                if isinstance(value, str | int | bool):
                    properties[name] = {"Fn::If": ["HarmlessIsOne", value, copy.deepcopy(value)]}


@harmless
def a_resource_under_a_condition_that_holds_both_ways(scene: Scene) -> None:
    for document in _documents(scene):
        _condition(document)
        document["Conditions"]["HarmlessAlways"] = {
            "Fn::Or": [{"Condition": "HarmlessIsOne"}, {"Fn::Not": [{"Condition": "HarmlessIsOne"}]}]
        }
        for resource in document["Resources"].values():
            resource.setdefault("Condition", "HarmlessAlways")


@harmless
def numbers_by_parameters_with_defaults(scene: Scene) -> None:
    for document in _documents(scene):
        for index, resource in enumerate(document["Resources"].values()):
            properties = resource.get("Properties", {})
            for name, value in list(properties.items()):
                if isinstance(value, int) and not isinstance(value, bool):
                    parameter = f"Harmless{index}{name}"
                    document.setdefault("Parameters", {})[parameter] = {"Type": "Number", "Default": value}
                    properties[name] = {"Ref": parameter}


@harmless
def reverse_statements(scene: Scene) -> None:
    for policy in _policies(scene):
        policy["Statement"].reverse()


@harmless
def reverse_actions_and_resources(scene: Scene) -> None:
    for policy in _policies(scene):
        for statement in policy["Statement"]:
            for name in ("Action", "Resource"):
                if isinstance(statement.get(name), list):
                    statement[name].reverse()


@harmless
def one_action_as_a_list(scene: Scene) -> None:
    for policy in _policies(scene):
        for statement in policy["Statement"]:
            for name in ("Action", "Resource"):
                if name in statement and not isinstance(statement[name], list):
                    statement[name] = [statement[name]]


@harmless
def a_list_of_one_as_text(scene: Scene) -> None:
    for policy in _policies(scene):
        for statement in policy["Statement"]:
            for name in ("Action", "Resource"):
                if isinstance(statement.get(name), list) and len(statement[name]) == 1:
                    statement[name] = statement[name][0]


@harmless
def one_statement_for_each_action(scene: Scene) -> None:
    for policy in _policies(scene):
        split: list[Raw] = []
        for statement in policy["Statement"]:
            actions = statement.get("Action")
            if isinstance(actions, list):
                split += [
                    {**copy.deepcopy(statement), "Action": action, "Sid": f"S{n}"}
                    for n, action in enumerate(actions)
                ]
            else:
                split.append(statement)
        policy["Statement"] = split


@harmless
def actions_in_other_letters(scene: Scene) -> None:
    for statement in _allowing(scene):
        actions = statement.get("Action")
        if isinstance(actions, str):
            statement["Action"] = actions.upper() if "*" not in actions else actions
        elif actions:
            statement["Action"] = [action.lower() for action in actions]


@harmless
def principal_everybody_as_text(scene: Scene) -> None:
    for policy in _policies(scene):
        for statement in policy["Statement"]:
            if statement.get("Principal") == {"AWS": "*"}:
                statement["Principal"] = "*"


@harmless
def a_deny_of_what_nobody_does(scene: Scene) -> None:
    for policy in _policies(scene):
        if any("Principal" in statement for statement in policy["Statement"]):
            continue
        policy["Statement"].append(
            {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::nobodys-bucket/*"}
        )


@harmless
def a_deny_of_plaintext(scene: Scene) -> None:
    for policy in _policies(scene):
        entry: Raw = {
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        if any("Principal" in statement for statement in policy["Statement"]):
            entry["Principal"] = "*"
        policy["Statement"].append(entry)


@harmless
def inline_policies_as_managed_ones(scene: Scene) -> None:
    for document in _documents(scene):
        added: Raw = {}
        for name, resource in document["Resources"].items():
            if resource["Type"] == "AWS::IAM::Role":
                for index, policy in enumerate(resource["Properties"].pop("Policies", [])):
                    added[f"{name}Managed{index}"] = {
                        "Type": "AWS::IAM::ManagedPolicy",
                        "Properties": {"PolicyDocument": policy["PolicyDocument"], "Roles": [{"Ref": name}]},
                    }
        document["Resources"] |= added


@harmless
def managed_policies_as_inline_ones(scene: Scene) -> None:
    for document in _documents(scene):
        for resource in document["Resources"].values():
            if resource["Type"] == "AWS::IAM::ManagedPolicy" and "Roles" in resource["Properties"]:
                resource["Type"] = "AWS::IAM::Policy"
                resource["Properties"]["PolicyName"] = "inline"


@harmless
def role_names_in_full(scene: Scene) -> None:
    for index, role in enumerate(scene.all("AWS::IAM::Role")):
        role.raw["Properties"].setdefault("RoleName", f"care-role-{index}")  # type: ignore[index]


@harmless
def source_arn_beside_source_account(scene: Scene) -> None:
    for statement in _allowing(scene):
        principal = statement.get("Principal")
        if isinstance(principal, dict) and "logging.s3.amazonaws.com" in str(principal):
            statement["Condition"] = {
                "ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"},
                "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
            }


@harmless
def pulling_by_the_managed_policy_of_aws(scene: Scene) -> None:
    role = execution_role(scene)
    name = "AmazonECSTaskExecutionRolePolicy"
    arns: list[Any] = role.raw["Properties"].setdefault("ManagedPolicyArns", [])
    if not any(name in str(arn) for arn in arns):
        arns.append({"Fn::Sub": f"arn:${{AWS::Partition}}:iam::aws:policy/service-role/{name}"})
    for statement in statements_of(scene, role):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        if statement["Effect"] == "Allow" and actions[0].startswith(("ecr:", "logs:")):
            statement["Resource"] = "arn:aws:x:::nothing"


# --- other values that are right --------------------------------------------------------------------------
@harmless
def longer_timeouts(scene: Scene) -> None:
    for alb in balancers(scene, "application"):
        for entry in alb.raw["Properties"].get("LoadBalancerAttributes", []):
            if entry["Key"] == "idle_timeout.timeout_seconds":
                entry["Value"] = "3600"
    for listener in scene.all(LISTENER, Protocol="TCP"):
        attributes = [{"Key": "tcp.idle_timeout.seconds", "Value": "6000"}]
        listener.raw["Properties"]["ListenerAttributes"] = attributes


@harmless
def longer_start_limits(scene: Scene) -> None:
    for config in scene.all(CONFIG):
        for variant in config.raw["Properties"]["ProductionVariants"]:
            variant["ContainerStartupHealthCheckTimeoutInSeconds"] = 3600


@harmless
def timeouts_at_the_answers_time(scene: Scene) -> None:
    seconds = str(int(scene.facts.answer_deadline_s or 0))
    for alb in balancers(scene, "application"):
        for entry in alb.raw["Properties"].get("LoadBalancerAttributes", []):
            if entry["Key"] == "idle_timeout.timeout_seconds":
                entry["Value"] = seconds


@harmless
def more_masters_rules_and_routes(scene: Scene) -> None:
    for group in scene.all("AWS::EC2::SecurityGroup"):
        rules = group.raw["Properties"].get("SecurityGroupIngress")
        if isinstance(rules, list) and rules:
            rules.append({"IpProtocol": "icmp", "FromPort": 8, "ToPort": 0, "CidrIp": "10.0.0.0/8"})


@harmless
def nodes_in_threes(scene: Scene) -> None:
    for domain in scene.all(DOMAIN):
        if at(domain.properties.get("ClusterConfig"), "MultiAZWithStandbyEnabled"):
            domain.raw["Properties"]["ClusterConfig"]["InstanceCount"] = 6


@harmless
def the_whole_account_by_its_root(scene: Scene) -> None:
    for domain in scene.all(DOMAIN):
        root = {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}
        entry = {"Effect": "Allow", "Principal": {"AWS": root}, "Action": "es:*", "Resource": "*"}
        domain.raw["Properties"]["AccessPolicies"] = {"Version": "2012-10-17", "Statement": [entry]}


@harmless
def health_on_a_path_of_its_own(scene: Scene) -> None:
    for group in scene.all(TARGET_GROUP):
        group.raw["Properties"]["HealthCheckPath"] = "/http-health"


@harmless
def an_endpoint_policy_of_everything(scene: Scene) -> None:
    for endpoint in scene.all("AWS::EC2::VPCEndpoint"):
        if text(endpoint.properties.get("ServiceName")).endswith(".s3"):
            entry = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
            endpoint.raw["Properties"]["PolicyDocument"] = {"Version": "2012-10-17", "Statement": [entry]}


@harmless
def rights_on_every_log_group_of_the_account(scene: Scene) -> None:
    for statement in statements_of(scene, execution_role(scene)):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        if statement["Effect"] == "Allow" and actions[0].startswith("logs:"):
            statement["Resource"] = {"Fn::Sub": "arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:*"}


@harmless
def a_key_named_by_an_alias(scene: Scene) -> None:
    for config in scene.all(CONFIG, DataCaptureConfig="KmsKeyId"):
        for target in targets(at(config.properties.get("DataCaptureConfig"), "KmsKeyId")):
            key = target.resource
            scene.add(
                key,
                "HarmlessAlias",
                "AWS::KMS::Alias",
                {"AliasName": "alias/harmless-capture", "TargetKeyId": {"Ref": key.logical_id}},
            )
            config.raw["Properties"]["DataCaptureConfig"]["KmsKeyId"] = "alias/harmless-capture"
