"""Starts training jobs, compile jobs and trial endpoints by SageMaker's Python SDK.

A process of its own in ``build/sagemaker`` (docs/decisions/0101-jobs-by-the-sdk.md). It reads one order as
JSON from stdin and writes ``{"arn": …}``, or ``{"error": …}`` if refused.
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


def training_job(order: Order, **place: Any) -> str:
    """Start a job and return its ARN. ``shared``: what the stack's output says of every job."""
    fields = resources.transform(order["shared"], "CreateTrainingJobRequest")
    machine, limits = fields["resource_config"], fields["stopping_condition"]
    machine["instance_type"] = order["instance"]
    if order["has_local_disk"]:  # SageMaker takes no key for it: the hardware encrypts it
        machine.pop("volume_kms_key_id", None)
    if order["is_spot"]:
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
    kinds = {"training_job": training_job, "endpoint": endpoint}
    try:
        told = {"arn": kinds[order["kind"]](order, **place)}
    except (BotoCoreError, ClientError, ValidationError) as error:
        told = {"error": f"SageMaker's SDK cannot start {order['name']}: {error}"}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
