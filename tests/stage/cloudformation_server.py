"""An AWS account that the real ``cdk bootstrap`` and ``cdk deploy`` work on: moto, with what its
CloudFormation lacks. ``python -m tests.stage.cloudformation_server ACCOUNT KEY_ID FILE`` prints its URL, and
writes the calls by that access key into a file.

What is added, and no more: weak references between stacks; types that it does not know (they answer any
attribute by a made-up value, and nothing can be asked of them afterwards); names and kinds of load balancers
and endpoints that it ignores; the probe's answer; updates that change conditions, and what they keep;
instance types newer than its list; what Bedrock says of models; training jobs, and updates of endpoints;
lists in events. It proves that templates fit together, not that AWS would take every property: properties are
asserted on the templates.
"""
# pyright: basic, reportPrivateImportUsage=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast


def patch_moto() -> None:
    """Change moto in this process. Call it before the first request."""
    from moto.cloudformation import parsing

    parsing.clean_json = _with_weak_references(parsing.clean_json)
    parsing.resource_class_from_type = _with_unknown_types(parsing.resource_class_from_type)
    _let_load_balancers_have_a_kind()
    _let_endpoints_have_a_name()
    _let_bucket_denies_be()
    _make_keys_of_templates_whole()
    _let_parameters_have_tags()
    _let_updates_heed_conditions()
    _let_deletion_policies_hold()
    _let_stacks_be_deleted()
    _let_buckets_without_a_name_be_updated()
    _let_functions_with_layers_be_updated()
    _let_roles_with_policies_be_deleted()
    _keep_names_of_configurations_short()
    _answer_for_probe()
    _let_rules_read_lists()


def _with_weak_references(clean_json: Any) -> Any:
    from moto.cloudformation.models import cloudformation_backends

    def clean(value: Any, resources: Any) -> Any:
        match value:
            case {"Fn::GetStackOutput": {"StackName": name, "OutputName": output, **place}}:
                backend = cloudformation_backends[resources["AWS::AccountId"]][
                    place.get("Region") or resources["AWS::Region"]
                ]
                (stack,) = [each for each in backend.stacks.values() if each.name == name]
                return stack.output_map[output].value
            case _:
                return clean_json(value, resources)

    return clean


def _with_unknown_types(class_of: Any) -> Any:
    def class_for(resource_type: str) -> Any:
        custom = (
            resource_type.startswith("Custom::") or resource_type == "AWS::CloudFormation::CustomResource"
        )
        found = None if custom else class_of(resource_type)
        if found is None and resource_type in _WITH_IDS:
            return _WITH_IDS[resource_type]
        return UnknownType if found is None else _with_all_attributes(found)

    return class_for


class UnknownType:
    """A resource of a type that moto does not know, or that a function would make: it exists, is updated by
    nothing, and has whatever attribute is asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *given: Any, **named: Any) -> UnknownType:
        del given, named
        return cls(resource_name)

    @classmethod
    def update_from_cloudformation_json(cls, *, original_resource: Any, **named: Any) -> Any:
        del named
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, *given: Any) -> None:
        del given

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        del attr
        return True

    def get_cfn_attribute(self, attribute_name: str) -> str | list[str]:
        return _made_up(self, attribute_name)


class UnknownSecret(UnknownType):
    """A secret, which a reference names by its ARN."""

    @property
    def physical_resource_id(self) -> str:
        return f"arn:aws:secretsmanager:us-east-1:{os.environ['MOTO_ACCOUNT_ID']}:secret:{self.name}"


class UnknownEndpointService(UnknownType):
    """An endpoint service, whose id is part of its name."""

    @property
    def physical_resource_id(self) -> str:
        return f"vpce-svc-{hashlib.sha256(self.name.encode()).hexdigest()[:17]}"


class MadeTrail(UnknownType):
    """A trail of CloudTrail, which moto knows, but not from a template."""

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, template: Any, account_id: str, region_name: str, **named: Any
    ) -> MadeTrail:
        from moto.cloudtrail.models import cloudtrail_backends

        del named
        given, backend = template["Properties"], cloudtrail_backends[account_id][region_name]
        name = given.get("TrailName", resource_name)
        backend.create_trail(
            name=name,
            bucket_name=given["S3BucketName"],
            s3_key_prefix=given.get("S3KeyPrefix", ""),
            sns_topic_name="",
            is_global=given["IncludeGlobalServiceEvents"],
            is_multi_region=given["IsMultiRegionTrail"],
            log_validation=given["EnableLogFileValidation"],
            is_org_trail=False,
            cw_log_group_arn=given.get("CloudWatchLogsLogGroupArn", ""),
            cw_role_arn=given.get("CloudWatchLogsRoleArn", ""),
            kms_key_id=given["KMSKeyId"],
            tags_list=given.get("Tags", []),
        )
        backend.put_event_selectors(name, [], given["AdvancedEventSelectors"])
        return cls(name)


_WITH_IDS: dict[str, type[UnknownType]] = {
    "AWS::CloudTrail::Trail": MadeTrail,
    "AWS::SecretsManager::Secret": UnknownSecret,
    "AWS::EC2::VPCEndpointService": UnknownEndpointService,
}


def _made_up(resource: Any, attribute: str) -> str | list[str]:
    name = getattr(resource, "physical_resource_id", None) or getattr(resource, "name", "thing")
    if attribute == "Id":
        return name
    if attribute == "DnsEntries":  # of an endpoint: zone and name
        return [f"Z0123456789:{name}.vpce.example"]
    if attribute.endswith("Arn") or attribute == "ServiceArn":
        kind = type(resource).__name__.lower()
        return f"arn:aws:{kind}:us-east-1:{os.environ['MOTO_ACCOUNT_ID']}:{name}/{attribute}"
    return f"{name}-{attribute}".lower()


def _with_all_attributes(found: Any) -> Any:
    """moto's own class, with a made-up value where it has none for an attribute, and as it was after an
    update that moto cannot make."""
    if getattr(found, "answers_all_attributes", False):
        return found
    if hasattr(found.update_from_cloudformation_json, "__isabstractmethod__"):
        found.update_from_cloudformation_json = UnknownType.update_from_cloudformation_json
    ask = getattr(found, "get_cfn_attribute", _made_up)

    def get_cfn_attribute(self: Any, attribute: str) -> Any:
        from moto.cloudformation.exceptions import UnformattedGetAttTemplateException

        try:
            return ask(self, attribute)
        except (NotImplementedError, UnformattedGetAttTemplateException):
            return _made_up(self, attribute)

    found.get_cfn_attribute = get_cfn_attribute
    found.has_cfn_attr = classmethod(lambda cls, attr: True)
    found.answers_all_attributes = True
    return found


def _let_load_balancers_have_a_kind() -> None:
    from moto.elbv2 import models as elbv2

    create = elbv2.ELBv2Backend.create_load_balancer
    kinds: list[str] = []

    def create_load_balancer(self: Any, name: str, *given: Any, **named: Any) -> Any:
        if kinds:
            named["loadbalancer_type"] = kinds.pop()
        return create(self, name, *given, **named)

    make = elbv2.FakeLoadBalancer.create_from_cloudformation_json.__func__

    def from_template(cls: Any, name: str, template: Any, *given: Any, **named: Any) -> Any:
        kinds.append(template["Properties"].get("Type", "application"))
        return make(cls, name, template, *given, **named)

    elbv2.ELBv2Backend.create_load_balancer = create_load_balancer
    # The tenant file's certificate: its ARN cannot be chosen when one is imported.
    elbv2.register_certificate = lambda **named: None
    elbv2.FakeLoadBalancer.create_from_cloudformation_json = classmethod(from_template)


def _let_endpoints_have_a_name() -> None:
    from moto.sagemaker import models as sagemaker

    make = sagemaker.FakeEndpoint.create_from_cloudformation_json.__func__

    def from_template(cls: Any, name: str, template: Any, *given: Any, **named: Any) -> Any:
        return make(cls, template["Properties"].get("EndpointName", name), template, *given, **named)

    sagemaker.FakeEndpoint.create_from_cloudformation_json = classmethod(from_template)
    sagemaker.FakeEndpointConfig.validate_instance_type = lambda self, instance_type: None


def _let_bucket_denies_be() -> None:
    """moto enforces a bucket policy's Deny without its condition: every later call would fail."""
    from moto.iam.access_control import PermissionResult
    from moto.s3.models import FakeBucket

    FakeBucket.get_permission = lambda self, action, resource: PermissionResult.NEUTRAL


def _make_keys_of_templates_whole() -> None:
    """moto reads neither a key's tags nor its specification from a template, and keeps no policy as JSON."""
    from moto.kms.models import Key
    from moto.kms.utils import generate_private_key

    make = Key.create_from_cloudformation_json.__func__

    def from_template(cls: Any, name: str, template: Any, *given: Any, **named: Any) -> Any:
        properties = template["Properties"]
        tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in properties.get("Tags", [])]
        key = make(cls, name, {**template, "Properties": {**properties, "Tags": tags}}, *given, **named)
        if isinstance(key.policy, dict):
            key.policy = json.dumps(key.policy)
        if spec := properties.get("KeySpec"):
            key.key_spec, key.key_usage = spec, properties["KeyUsage"]
            key.private_key = generate_private_key(spec)
        return key

    Key.create_from_cloudformation_json = classmethod(from_template)


def _let_parameters_have_tags() -> None:
    """A parameter's tags are a mapping in a template, and a list nowhere else."""
    from moto.ssm.models import Parameter

    make = Parameter.create_from_cloudformation_json.__func__

    def from_template(cls: Any, name: str, template: Any, *given: Any, **named: Any) -> Any:
        properties = template["Properties"]
        tags = [{"Key": key, "Value": value} for key, value in properties.get("Tags", {}).items()]
        return make(cls, name, {**template, "Properties": {**properties, "Tags": tags}}, *given, **named)

    Parameter.create_from_cloudformation_json = classmethod(from_template)


def _let_updates_heed_conditions() -> None:
    """An update with the previous template and parameters makes and takes what its conditions now say."""
    from moto.cloudformation import models, parsing

    def resolve(self: Any, instance: Any, incoming_params: Any) -> dict[str, Any]:
        del self
        asked = {each["ParameterKey"] for each in incoming_params if each.get("UsePreviousValue")}
        kept = {key: value for key, value in instance.parameters.items() if key in asked}  # else the default
        given = {each["ParameterKey"]: each.get("ParameterValue") for each in incoming_params}
        return kept | {key: value for key, value in given.items() if value is not None}

    update = parsing.ResourceMap.update

    def update_by_conditions(self: Any, template: Any, parameters: Any = None) -> None:
        known = template.get("Parameters", {})  # one that the template has no longer is forgotten
        self.input_parameters = {key: value for key, value in self.input_parameters.items() if key in known}
        update(self, template, parameters)
        resources = template["Resources"]
        conditional = [name for name in resources if "Condition" in resources[name]]
        wanted = {name for name in conditional if self.lazy_condition_map[resources[name]["Condition"]]}
        standing = [name for name in conditional if self._parsed_resources.get(name) is not None]
        for name in reversed(standing):
            if name not in wanted:
                self._delete_resource(self._parsed_resources.pop(name), resources[name])
        for name in conditional:
            if name in wanted and name not in standing:
                self._parsed_resources.pop(name, None)
                _ = self[name]

    models.CloudFormationBackend._resolve_update_parameters = resolve
    parsing.ResourceMap.update = update_by_conditions


def _let_deletion_policies_hold() -> None:
    """What leaves its stack by an update stays in the account where its policy says so."""
    from moto.cloudformation import parsing

    delete = parsing.ResourceMap._delete_resource

    def delete_resource(self: Any, parsed_resource: Any, resource_json: Any) -> None:
        if resource_json.get("DeletionPolicy") not in ("Retain", "RetainExceptOnCreate"):
            delete(self, parsed_resource, resource_json)

    parsing.ResourceMap._delete_resource = delete_resource


def _let_stacks_be_deleted() -> None:
    """What moto cannot delete is forgotten with its stack. What resists: ``tests/stacks/test_destroy.py``.

    The record of a deleted stack keeps its resources: moto makes them anew when they are listed.
    """
    from moto.cloudformation import parsing

    delete = parsing.ResourceMap.delete

    def delete_all(self: Any) -> None:
        recorded = dict(self._parsed_resources)
        with suppress(Exception):
            delete(self)
        self._parsed_resources |= recorded

    parsing.ResourceMap.delete = delete_all


def _let_buckets_without_a_name_be_updated() -> None:
    """moto looks for the bucket by the name in the template, which ours do not have."""
    from moto.s3.models import FakeBucket

    update = FakeBucket.update_from_cloudformation_json.__func__

    def update_bucket(cls: Any, *, original_resource: Any, cloudformation_json: Any, **named: Any) -> Any:
        properties = {"BucketName": original_resource.name} | cloudformation_json["Properties"]
        template = cloudformation_json | {"Properties": properties}
        return update(cls, original_resource=original_resource, cloudformation_json=template, **named)

    FakeBucket.update_from_cloudformation_json = classmethod(update_bucket)


def _let_functions_with_layers_be_updated() -> None:
    """moto resolves a reference to a layer for a new function alone."""
    from moto.awslambda.models import LambdaFunction

    find = LambdaFunction._get_layers_data

    def layers_of(self: Any, layers: Any) -> Any:
        return find(self, [getattr(layer, "arn", layer) for layer in layers])

    LambdaFunction._get_layers_data = layers_of


def _let_roles_with_policies_be_deleted() -> None:
    """CloudFormation detaches a role's managed policies before it deletes the role."""
    from moto.iam.models import Role, iam_backends

    delete = Role.delete_from_cloudformation_json.__func__

    def delete_role(cls: Any, name: str, template: Any, account_id: str, region: str) -> None:
        role = iam_backends[account_id]["aws"].get_role(name)
        for policy in list(role.managed_policies.values()):
            policy.detach_from(role)
        delete(cls, name, template, account_id, region)

    Role.delete_from_cloudformation_json = classmethod(delete_role)


def _keep_names_of_configurations_short() -> None:
    """SageMaker takes 63 characters (``EndpointConfigName``); CloudFormation makes no longer name."""
    from moto.cloudformation import parsing

    make = parsing.generate_resource_name

    def generate(resource_type: str, stack_name: str, logical_id: str) -> str:
        name = make(resource_type, stack_name, logical_id)
        return name[-63:].lstrip("-") if resource_type == "AWS::SageMaker::EndpointConfig" else name

    parsing.generate_resource_name = generate


def _answer_for_probe() -> None:
    """No function runs, and a deployment asks the probe of a care side in the same account."""
    from moto.awslambda.models import LambdaFunction

    invoke = LambdaFunction._invoke_lambda

    def invoke_or_answer(self: Any, event: Any = None) -> Any:
        if "ProbeAsk" in self.function_name:
            return json.dumps({"outcome": "working"}), False, ""
        return invoke(self, event)

    LambdaFunction._invoke_lambda = invoke_or_answer


def _let_rules_read_lists() -> None:
    """moto compares no field of a list's elements (``detail.resources.ARN``)."""
    from moto.events.models import EventPattern

    from tests.stage.cloudformation_server import takes

    EventPattern.matches_event = lambda self, event: takes(self._pattern, event)


def _endpoint_connections() -> dict[str, Any]:
    """Return the two operations by which the owner of an endpoint service accepts an endpoint and sees it,
    and the one that tells of such a service: it is offered in each zone."""
    accepted: dict[str, str] = {}

    def accept(given: Any) -> Any:
        accepted.update(dict.fromkeys(given["VpcEndpointIds"], given["ServiceId"]))
        return {"Unsuccessful": []}

    def describe(given: Any) -> Any:
        states = [
            {"VpcEndpointId": endpoint, "ServiceId": service, "VpcEndpointState": "available"}
            for endpoint, service in accepted.items()
        ]
        return {"VpcEndpointConnections": states}

    def offered(given: Any) -> Any:
        (service, *_) = given.get("ServiceNames", [""])
        zones = [f"us-east-1{letter}" for letter in "abcdef"]
        details = {"ServiceName": service, "AvailabilityZones": zones}
        return {"ServiceDetails": [details]} if "vpce-svc-" in service else None

    return {
        "AcceptVpcEndpointConnections": accept,
        "DescribeVpcEndpointConnections": describe,
        "DescribeVpcEndpointServices": offered,
    }


class BedrockModels:
    """What Bedrock says of any model of Amazon: it is active, streams on demand, and needs no agreement."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        from werkzeug.wrappers import Response

        if "/bedrock/aws4_request" not in environ.get("HTTP_AUTHORIZATION", ""):
            return self._application(environ, start_response)
        kind, _, model = environ["PATH_INFO"].lstrip("/").partition("/")
        details = {
            "modelArn": model,
            "modelId": model,
            "modelName": model,
            "modelLifecycle": {"status": "ACTIVE"},
        }
        details |= {"responseStreamingSupported": True, "inferenceTypesSupported": ["ON_DEMAND"]}
        available = {"modelId": model, "agreementAvailability": {"status": "AVAILABLE"}}
        available |= dict.fromkeys(("entitlementAvailability", "regionAvailability"), "AVAILABLE")
        available["authorizationStatus"] = "AUTHORIZED"
        answers = {
            "foundation-models": {"modelDetails": details},
            "foundation-model-availability": available,
            "logging": {},
            "data-retention": {"mode": "none"},
        }
        return Response(json.dumps(answers[kind]), content_type="application/json")(environ, start_response)


class DeployedSageMaker:
    """Training jobs, and quotas that a test sets; endpoints are those of stacks."""

    def __init__(self, application: Any) -> None:
        from tests.stage.sagemaker_control import SageMakerControl

        self._application, self._control = application, SageMakerControl()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if not self._control.handles(environ) or not self._is_ours(service, operation):
            return self._application(environ, start_response)
        return self._control(environ, start_response)

    def _is_ours(self, service: str, operation: str) -> bool:
        if service == "SageMaker":
            return "TrainingJob" in operation
        return operation != "ListServiceQuotas" or self._control.has_quotas


def _be_of(account: str) -> None:
    """Let STS answer this account too. Before anything else of moto is imported."""
    from moto import core
    from moto.core import models

    core.DEFAULT_ACCOUNT_ID = models.DEFAULT_ACCOUNT_ID = account


def _serve(*, key_id: str, calls: str) -> None:
    import threading

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    from tests.stage.aws_calls import AnsweredCalls, KeptCalls

    patch_moto()
    by_moto = DomainDispatcherApplication(create_backend_app)
    answered = AnsweredCalls(by_moto, "ec2", _endpoint_connections())
    application = BedrockModels(DeployedSageMaker(answered))
    application = KeptCalls(application, key_id=key_id, file=Path(calls))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends when the process that started us has ended


if __name__ == "__main__":
    os.environ["MOTO_ACCOUNT_ID"] = sys.argv[1]
    _be_of(sys.argv[1])
    _serve(key_id=sys.argv[2], calls=sys.argv[3])


# --- event patterns ---------------------------------------------------------------------------------------
_ABSENT = object()


def takes(pattern: Mapping[str, Any], event: Any) -> bool:
    """Return whether a rule with this pattern gets an event. Raises ValueError for an unknown operator.

    Of a list in an event one element is enough, and a pattern asks that element all that it asks below it:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html,
    https://github.com/aws/event-ruler, "Array consistency".
    """
    if isinstance(event, list):
        return any(takes(pattern, each) for each in cast("list[Any]", event))
    return isinstance(event, dict) and all(
        any(takes(each, event) for each in wanted)
        if key == "$or"
        else _meets(wanted, cast("dict[str, Any]", event).get(key, _ABSENT))
        for key, wanted in pattern.items()
    )


def _meets(wanted: Mapping[str, Any] | Sequence[Any], value: Any) -> bool:
    if isinstance(wanted, Mapping):
        return takes(wanted, value)
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    return any(_equals(rule, each) for rule in wanted for each in values)


def _equals(rule: Any, value: Any) -> bool:
    if not isinstance(rule, Mapping):
        return type(rule) is type(value) and rule == value
    ((operator, operand),) = cast("Mapping[str, Any]", rule).items()
    if operator == "exists":
        return (value is not _ABSENT) is operand
    if operator == "anything-but":
        return value is not _ABSENT and value != operand
    if operator == "suffix":
        return isinstance(value, str) and value.endswith(operand)
    if operator == "prefix":
        return isinstance(value, str) and value.startswith(operand)
    if operator == "equals-ignore-case":
        return isinstance(value, str) and value.lower() == operand.lower()
    raise ValueError(f"unknown operator: {operator}")
