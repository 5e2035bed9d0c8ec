"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    joins={
        "beside an answer": "examples:LiveExamples",
        "live data of a tenant": "opened:open_live",
        "parts of a tenant": "opened:open_reads",
        "contexts of questions": "contexts:open_contexts",
        "routes": "routes:router",
        "bodies of routes": "routes:READ",
    },
    commands={"live": ("commands", "Try connectors of live systems; switch systems.")},
)
