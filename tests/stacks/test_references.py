"""Settings, alarms and logs name the resource, metric and unit that they mean, in every tenant's templates.

A wrong name synthesizes, deploys and stays silent: an alarm without data, a message in the wrong queue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from assistant.tenant import deployed_names
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import metrics_of, resources_of

DIMENSIONS = {
    "AWS/ApplicationELB": {"LoadBalancer", "TargetGroup"},
    "AWS/Backup": {"BackupVaultName"},
    "AWS/CertificateManager": {"CertificateArn"},
    "AWS/DynamoDB": {"TableName"},
    "AWS/ES": {"ClientId", "DomainName"},
    "AWS/Lambda": {"FunctionName"},
    "AWS/Logs": {"LogGroupName"},
    "AWS/SQS": {"QueueName"},
    "AWS/SageMaker": {"EndpointName", "VariantName"},
    "AWS/States": {"StateMachineArn"},
    "/aws/sagemaker/Endpoints": {"EndpointName", "VariantName"},
}
"""By AWS's documentation of each service, of what alarms read. CloudWatch accepts any other, and the alarm
then never has data. The names of metrics: ``test_first_week``."""
NAMED_OTHERWISE = {
    "ingestion_queue": "DocumentsQueue",
    "bulk_queue": "DocumentsBulkDocumentsQueue",
    "withdrawals_queue": "DocumentsWithdrawalsQueue",
    "texts_bucket": "FeedbackBucket",
}
STORE = re.compile(r"_(?P<store>[A-Z]+_(?:QUEUE|BUCKET|TABLE))(?:_URL)?$")


class Templates:
    """A tenant's templates as one."""

    def __init__(self, assembly: Path, tenant: str) -> None:
        self.tenant = tenant
        stacks = templates_in(assembly_folder(assembly, tenant)).values()
        self.resources = {name: body for stack in stacks for name, body in stack["Resources"].items()}

    def of(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Return the properties of the resources of a type, by logical id."""
        resources = resources_of({"Resources": self.resources}, kind)
        return {name: body["Properties"] for name, body in resources.items()}

    def alarms(self) -> dict[str, Mapping[str, Any]]:
        return self.of("AWS::CloudWatch::Alarm")

    def watched(self, metric: str, *, named: str = "") -> set[str]:
        """Return the resources whose metric an alarm reads."""
        return {
            referred(dimension["Value"], self.resources)
            for name, alarm in self.alarms().items()
            if name.startswith(f"Alarms{named}")
            for read in metrics_of(alarm)
            if read["MetricName"] == metric
            for dimension in read["Dimensions"]
        }

    def settings(self) -> Iterator[tuple[str, Any]]:
        for function in self.of("AWS::Lambda::Function").values():
            yield from function.get("Environment", {}).get("Variables", {}).items()
        for task in self.of("AWS::ECS::TaskDefinition").values():
            for container in task["ContainerDefinitions"]:
                yield from ((each["Name"], each["Value"]) for each in container.get("Environment", ()))


def referred(value: Any, resources: Mapping[str, Any]) -> str:
    """Return the logical id that a value refers to, in its own stack or by another stack's output."""
    text = json.dumps(value)
    found = [name for name in resources if re.search(rf'(?:"|Ref|FnGetAtt){name}', text)]
    return max(found, key=len, default="")


@pytest.fixture(scope="module", params=["pharmacy", "clinic", "sandbox"])
def templates(request: pytest.FixtureRequest, assembly: Path) -> Templates:
    return Templates(assembly, request.param)


def test_every_alarm_reads_a_metric_of_its_service_by_its_dimensions(templates: Templates) -> None:
    for name, alarm in templates.alarms().items():
        for read in metrics_of(alarm):
            if not read["Namespace"].startswith(deployed_names.NAMESPACE):
                dimensions = {each["Name"] for each in read["Dimensions"]}
                assert dimensions == DIMENSIONS[read["Namespace"]], name


def test_every_metric_of_the_service_is_read_as_it_is_published(templates: Templates) -> None:
    """The service and the functions publish under one dimension, and of a live system under two."""
    full_name = f"assistant-{templates.tenant}"
    for alarm in templates.alarms().values():
        for read in metrics_of(alarm):
            if read["Namespace"] == deployed_names.NAMESPACE:
                dimensions = {each["Name"]: each["Value"] for each in read["Dimensions"]}
                assert dimensions.pop(deployed_names.DIMENSION) == full_name
                assert set(dimensions) <= {deployed_names.SYSTEM_DIMENSION}


def test_every_function_s_errors_and_throttles_are_watched(templates: Templates) -> None:
    functions = {name for name in templates.of("AWS::Lambda::Function") if not name.startswith("Custom")}
    assert functions

    parsers = {name for name in functions if name.startswith("DocumentsParse")}
    assert len(parsers) == 1  # a file that ends it fails alone, and is no fault of the tenant
    failing = templates.watched("Errors", named="FunctionsFailing")
    assert failing >= functions - parsers
    assert not failing & parsers
    assert templates.watched("Throttles", named="FunctionsFailing") >= functions


def test_every_queue_of_dead_letters_is_watched_for_what_lies_in_it(templates: Templates) -> None:
    queues = templates.of("AWS::SQS::Queue")
    dead = {
        referred(queue["RedrivePolicy"]["deadLetterTargetArn"], templates.resources)
        for queue in queues.values()
        if "RedrivePolicy" in queue
    }

    assert dead <= set(queues)
    assert templates.watched("ApproximateNumberOfMessagesVisible", named="DeadLetters") == dead
    assert templates.watched("ApproximateAgeOfOldestMessage") & dead == set()


def test_every_table_s_throttled_calls_are_watched(templates: Templates) -> None:
    tables = set(templates.of("AWS::DynamoDB::Table"))

    assert templates.watched("ReadThrottleEvents") == templates.watched("WriteThrottleEvents") == tables


def test_a_setting_of_a_store_names_that_store(templates: Templates) -> None:
    checked = 0
    for name, value in templates.settings():
        if not (match := STORE.search(name)):
            continue
        store = match["store"].lower()
        kind = "".join(word.capitalize() for word in store.split("_"))
        refers_to = referred(value, templates.resources)
        assert re.fullmatch(rf"{NAMED_OTHERWISE.get(store, kind)}([0-9A-F]{{8}})?", refers_to), name
        checked += 1
    assert checked


def test_flow_logs_hold_accepted_and_refused_connections(templates: Templates) -> None:
    logs = templates.of("AWS::EC2::FlowLog").values()

    assert logs
    assert all(log["TrafficType"] == "ALL" for log in logs)
