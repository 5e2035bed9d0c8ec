"""Exceptions of the data stack."""

from __future__ import annotations

from stacks.policy import ANY_RESOURCE, LAMBDA_PLATFORM, NO_REPLICATION, exceptions, hipaa, nag, wildcard

EXCEPTIONS = (
    *exceptions(
        "Data/Buckets",
        NO_REPLICATION,
        "A copy in a second region is a second place to withdraw a document from, and not every company may "
        "store patients' data there. Versions undo mistakes; after the loss of a region the knowledge is "
        "ingested again from its sources.",
    ),
    *exceptions(
        "Data/Buckets/LogsBucket",
        hipaa("S3DefaultEncryptionKMS"),
        "Load balancers and S3's own access logs can write to SSE-S3 only (Elastic Load Balancing and "
        "Amazon S3 user guides, access logs). They hold addresses and paths, never a question.",
    ),
    *exceptions(
        "Data/Buckets/LogsBucket",
        "checkov::CKV_AWS_18",
        "It receives the access logs: its own would log the delivery of logs, without end.",
    ),
    *exceptions(
        "Data/Tables",
        hipaa("DynamoDBInBackupPlan"),
        "Point-in-time recovery covers every second of 35 days. A backup plan would keep withdrawn "
        "documents longer than the receipt of a withdrawal states.",
    ),
    *exceptions(
        "Data/Tables/EventsTable",
        (nag("DDB3"), "checkov::CKV_AWS_28", hipaa("DynamoDBPITREnabled")),
        "It holds events of running answers, which expire after 15 minutes: with recovery their text would "
        "stay for 35 days more.",
        decision="0009-three-dynamodb-tables",
    ),
    *exceptions(
        "Data/SystemSecrets",
        (nag("SMG4"), hipaa("SecretsManagerRotationEnabled")),
        "The credential is another system's: only its owner can make a new one. An alarm tells when it is 90 "
        "days old.",
    ),
    *exceptions("Data/SchemaPlatform", ANY_RESOURCE, LAMBDA_PLATFORM),
    *exceptions(
        "Data/SchemaPlatform",
        wildcard("arn:aws:logs:{region}:{account}:log-group:{stage}-*:*"),
        "The function and its log group belong to the ingestion stack, which is deployed later: the "
        "tenant's own groups, and only the permission to write lines.",
    ),
    *exceptions(
        "Data/SetUp",
        (nag("IAM5[Action::es:ESHttp*]"), *wildcard("<Search.Arn>/*")),
        "The master of one domain: all HTTP methods on all its paths. One function's code uses it, and no "
        "other identity has this role.",
    ),
    *exceptions(
        "Data/ArtifactPublisher",
        wildcard(
            *(f"<ModelsBucket.Arn>/{folder}/*" for folder in ("llm", "embedding", "callers", "evaluation"))
        ),
        "An artifact's folder is its hash, which is not known before it is built: the folders of artifacts "
        "and of questions, in which the role adds and reads and deletes nothing.",
    ),
    *exceptions(
        "Data/Search/Domain",
        nag("OS3"),
        "The security group restricts addresses: the domain is in the VPC, where only the groups of "
        "searchers and writers reach it. Its policy admits one role.",
    ),
    *exceptions(
        "Data/Search/Domain",
        (nag("OS4"), nag("OS7")),
        "A sandbox has one small node, by its profile: its content can be ingested again, and nobody waits "
        "for it. standard and hipaa have several zones and three dedicated masters.",
    ),
)
