"""What the option for live systems brings to the core: facts of internal systems, such as the state of an
order, are read while an answer is written.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    joins={
        "beside an answer": "examples:LiveExamples",
        "keys of ReachEntry": "section:LiveReach",
        "keys of SecretsSection": "section:LiveSecrets",
        "keys of TenantConfig": "section:LiveTenant",
        "contradictions of a deployment": "section:contradictions",
        "warnings on a tenant": "commands:confusable_of",
        "tenant file of a container": "stack:fill_in",
        "alarms of a tenant": "stack:alarms",
        "live data of a tenant": "opened:open_live",
        "parts of a tenant": "opened:open_reads",
        "contexts of questions": "contexts:open_contexts",
        "heads to fit": "commands_fit:HEAD",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
    },
    commands={"live": ("commands", "Try connectors of live systems; switch systems.")},
)
