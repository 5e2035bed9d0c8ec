"""What ``model_artifacts/jobs.py`` uses of SageMaker's SDK, by boto3: tests need no 731 MB.

``check-models`` runs the same tests by the real one, and holds the calls of both against each other.
"""
# pyright: basic

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from botocore import xform_name
from botocore.model import ServiceModel
from botocore.session import get_session


@cache
def _api() -> ServiceModel:
    """Return the API's description, parsed once."""
    return get_session().get_service_model("sagemaker")


@cache
def _attribute(name: str) -> str:
    """Return the SDK's name of a field of the API (``pascal_to_snake``)."""
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def _renamed(value: Any, shape: Any, *, to_api: bool) -> Any:
    if shape.type_name == "list":
        return [_renamed(each, shape.member, to_api=to_api) for each in value]
    if shape.type_name != "structure":
        return value
    names = {name: (name, _attribute(name)) for name in shape.members}
    read, written = (1, 0) if to_api else (0, 1)
    unknown = set(value) - {pair[read] for pair in names.values()}
    assert not unknown, f"{shape.name} has no {', '.join(sorted(unknown))}"
    return {
        pair[written]: _renamed(value[pair[read]], shape.members[name], to_api=to_api)
        for name, pair in names.items()
        if pair[read] in value
    }


def transform(data: Mapping[str, Any], shape: str) -> dict[str, Any]:
    return _renamed(data, _api().shape_for(shape), to_api=False)


class _Resource:
    @classmethod
    def create(cls, *, session: Any, region: str, **fields: Any) -> SimpleNamespace:
        """Create it, and read it as the SDK does."""
        client, kind = session.client("sagemaker", region), cls.__name__
        model = _api().operation_model(f"Create{kind}")
        request = _renamed(fields, model.input_shape, to_api=True)
        getattr(client, xform_name(f"Create{kind}"))(**request)
        read = getattr(client, xform_name(f"Describe{kind}"))(**{f"{kind}Name": request[f"{kind}Name"]})
        return SimpleNamespace(**{_attribute(name): value for name, value in read.items()})


class TrainingJob(_Resource): ...


class Model(_Resource): ...


class EndpointConfig(_Resource): ...


class Endpoint(_Resource): ...
