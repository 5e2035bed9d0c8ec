"""Starts training jobs, compile jobs and trial endpoints by SageMaker's Python SDK.

A process of its own in ``build/sagemaker`` (docs/decisions/0101-jobs-by-the-sdk.md), started by
``assistant models train``, ``compile`` and ``candidates``. It reads one order as JSON from stdin and writes
``{"arn": …}``, or ``{"error": …}`` if refused. An order has ``kind``, ``region`` and ``name``, and the keys
that its function reads:

    {"kind": "training_job", "region": "us-east-1", "name": "tune-1", "shared": {"RoleArn": …},
     "container": {"training_image": …}, "instance": "ml.g6e.2xlarge",
     "has_local_disk": true, "is_spot": false, "hyperparameters": {"task": "answers"},
     "channels": {"training": "s3://bucket/sets/2026-11/"}}

    {"kind": "endpoint", "region": "us-east-1", "name": "try-1", "role_arn": …,
     "container": {"image": …, "environment": {}}, "vpc_config": {"subnets": …, "security_group_ids": …},
     "model_data": "s3://bucket/llm/", "machine": {"instance_type": …},
     "disk_key": {"kms_key_id": …}, "tags": {"tenant": "pharmacy"}}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from sagemaker.core import resources, shapes

Order = Mapping[str, Any]
"""One order, as above. ``place`` of a function is the SDK's session and region."""


def training_job(order: Order, **place: Any) -> str:
    """Start a job and return its ARN.

    The order's ``shared`` is the part of a CreateTrainingJob request that the stack's output has
    (``stacks.processes.shared_job_request``); here it becomes the SDK's fields, which the order completes.
    """
    fields = resources.transform(order["shared"], "CreateTrainingJobRequest")
    machine, limits = fields["resource_config"], fields["stopping_condition"]
    machine["instance_type"] = order["instance"]
    if order["has_local_disk"]:  # SageMaker takes no key for it: the hardware encrypts it
        machine.pop("volume_kms_key_id", None)
    if order["is_spot"]:  # SageMaker asks for the longest wait, which includes the run
        limits["max_wait_time_in_seconds"] = 2 * limits["max_runtime_in_seconds"]
        fields["enable_managed_spot_training"] = True
    if "checkpoint_config" in fields:
        fields["checkpoint_config"]["s3_uri"] += f"{order['name']}/states/"
    job = resources.TrainingJob.create(
        training_job_name=order["name"],
        algorithm_specification=shapes.AlgorithmSpecification(
            training_input_mode="File", **order["container"]
        ),
        hyper_parameters=order["hyperparameters"],
        input_data_config=[_channel(name, uri) for name, uri in order["channels"].items()],
        **fields,
        **place,
    )
    return str(job.training_job_arn)


def _channel(name: str, uri: str) -> shapes.Channel:
    """Return one input: an S3 folder, copied below ``/opt/ml/input/data/<name>``."""
    folder = {"s3_data_type": "S3Prefix", "s3_data_distribution_type": "FullyReplicated", "s3_uri": uri}
    return shapes.Channel(channel_name=name, data_source={"s3_data_source": folder})


def endpoint(order: Order, **place: Any) -> str:
    """Make a model, its configuration and its endpoint, all by one name; return the endpoint's ARN."""
    name = order["name"]
    tags = [shapes.Tag(key=key, value=value) for key, value in order["tags"].items()]
    folder = {"s3_data_type": "S3Prefix", "compression_type": "None", "s3_uri": order["model_data"]}
    data = {"model_data_source": {"s3_data_source": folder}}
    resources.Model.create(
        model_name=name,
        execution_role_arn=order["role_arn"],
        enable_network_isolation=True,
        primary_container=shapes.ContainerDefinition(**data, **order["container"]),
        vpc_config=shapes.VpcConfig(**order["vpc_config"]),
        tags=tags,
        **place,
    )
    variant = shapes.ProductionVariant(
        variant_name="AllTraffic",
        model_name=name,
        initial_instance_count=1,
        model_data_download_timeout_in_seconds=1800,
        container_startup_health_check_timeout_in_seconds=3600,
        **order["machine"],
    )
    config = {"endpoint_config_name": name, "tags": tags, **place}
    resources.EndpointConfig.create(production_variants=[variant], **order["disk_key"], **config)
    return str(resources.Endpoint.create(endpoint_name=name, **config).endpoint_arn)


def main() -> None:
    """Carry out the order on stdin."""
    order = json.load(sys.stdin)
    place = {"session": Session(region_name=order["region"]), "region": order["region"]}
    starters = {"training_job": training_job, "endpoint": endpoint}
    try:
        result = {"arn": starters[order["kind"]](order, **place)}
    except (BotoCoreError, ClientError, ValidationError) as error:
        result = {"error": f"SageMaker's SDK cannot start {order['name']}: {error}"}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
