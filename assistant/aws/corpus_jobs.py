"""Starts a tenant's corpus job on EMR Serverless and follows it to its end.

Calls by https://docs.aws.amazon.com/emr-serverless/latest/APIReference/API_StartJobRun.html; the settings of
Python in an image of one's own by aws-samples/emr-serverless-samples, examples/pyspark/custom_python_version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import orjson

from assistant.aws.clients import aws_call
from assistant.aws.s3 import read_object
from assistant.domain.errors import DependencyError, InvalidRequestError
from assistant.knowledge.corpus import COUNTS, MANIFEST, WANTED, WantedDocument

CORPORA = "corpora/"
"""Folder of the corpora in their bucket; the stack lets the job write there."""
_EMR, _S3 = "EMR Serverless", "The corpus bucket"
_LIMIT_S = 60.0
_POLL_S = 15.0
_DOCUMENTS_A_TASK = 2_000
"""Some 10 s of work: a lost worker costs little, and scheduling a task 0.1 % of it."""
_PYTHON, _PATH = "/usr/bin/python3.11", "/opt/assistant:/opt/assistant/packages"
_SPARK = {
    "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": _PYTHON,
    "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": _PYTHON,
    "spark.executorEnv.PYSPARK_PYTHON": _PYTHON,
    "spark.emr-serverless.driverEnv.PYTHONPATH": _PATH,
    "spark.executorEnv.PYTHONPATH": _PATH,
    # A worker for Java and one for Python share the memory, and each task has a parsing process beside them.
    "spark.executor.memoryOverheadFactor": "0.5",
}
_GOING_ON = frozenset({"SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING"})


@dataclass(frozen=True, slots=True)
class CorpusJobs:
    """``emr`` and ``s3`` are aiobotocore clients. The role of the caller needs emr-serverless:StartJobRun and
    GetJobRun on the application, iam:PassRole on the job's role, s3:PutObject and GetObject on the corpora.

    Raises DependencyError when a service does not answer or refuses.
    """

    emr: Any
    s3: Any
    _: KW_ONLY
    bucket: str
    application_id: str
    role_arn: str

    def folder(self, name: str) -> str:
        return f"s3://{self.bucket}/{CORPORA}{name}"

    async def start(
        self,
        name: str,
        wanted: AsyncIterator[Sequence[WantedDocument]],
        *,
        documents: Mapping[str, str],
        mix: Mapping[str, float],
        limit_minutes: int,
    ) -> str:
        """Write the wanted documents, start the job and return its id. ``documents``: ``bucket`` and ``region``
        of the documents. EMR Serverless cancels the job after the limit."""
        total, part = 0, 0
        async for page in wanted:
            if page:
                lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in page)
                await self._put(f"{name}/{WANTED}/part-{part:06}.jsonl", lines)
                total, part = total + len(page), part + 1
        if not total:
            raise InvalidRequestError("No document answers now, so there is nothing to make a corpus of.")
        arguments = {
            "--folder": self.folder(name),
            "--bucket": documents["bucket"],
            "--region": documents["region"],
            "--mix": orjson.dumps(mix).decode(),
            "--partitions": str(-(-total // _DOCUMENTS_A_TASK)),
        }
        submit = {
            "entryPoint": "local:///opt/assistant/job.py",
            "entryPointArguments": [text for pair in arguments.items() for text in pair],
            "sparkSubmitParameters": " ".join(f"--conf {key}={value}" for key, value in _SPARK.items()),
        }
        async with aws_call(_EMR, limit_s=_LIMIT_S):
            started = await self.emr.start_job_run(
                applicationId=self.application_id,
                clientToken=name,
                executionRoleArn=self.role_arn,
                jobDriver={"sparkSubmit": submit},
                executionTimeoutMinutes=limit_minutes,
                name=name,
            )
        return str(started["jobRunId"])

    async def follow(self, job_id: str, *, tell: Callable[[str], None], limit_s: float) -> dict[str, Any]:
        """Tell each state of the job; return what was billed for it, in vCPU-hours and GB-hours.

        Raises DependencyError when it fails or is cancelled, TimeoutError after ``limit_s``; the job goes on.
        """
        told = ""
        async with asyncio.timeout(limit_s):
            while True:
                async with aws_call(_EMR, limit_s=_LIMIT_S):
                    place = {"applicationId": self.application_id, "jobRunId": job_id}
                    job = (await self.emr.get_job_run(**place))["jobRun"]
                if job["state"] != told:
                    tell(told := str(job["state"]))
                if told == "SUCCESS":
                    return dict(job.get("billedResourceUtilization", {}))
                if told not in _GOING_ON:
                    why = job.get("stateDetails") or "no reason is given"
                    raise DependencyError(
                        f"The corpus job {job_id} ended as {told}: {why}. No corpus was made."
                    )
                await asyncio.sleep(_POLL_S)

    async def counts(self, name: str) -> dict[str, dict[str, int]]:
        """Return what the job told of its corpus. Raises DependencyError where it told nothing."""
        key = f"{CORPORA}{name}/{COUNTS}/part-00000"
        found = await read_object(self.s3, bucket=self.bucket, key=key, what=_S3, limit_s=_LIMIT_S)
        if found is None:
            raise DependencyError(
                f"s3://{self.bucket}/{key} is missing: the corpus is not whole. Make it again."
            )
        return orjson.loads(found[0])

    async def finish(self, name: str, manifest: bytes) -> None:
        """Write the manifest, which makes the corpus whole."""
        await self._put(f"{name}/{MANIFEST}", manifest)

    async def _put(self, key: str, content: bytes) -> None:
        async with aws_call(_S3, limit_s=_LIMIT_S):
            await self.s3.put_object(Bucket=self.bucket, Key=f"{CORPORA}{key}", Body=content)
