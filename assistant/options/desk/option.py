"""What the review desk brings to the core: what agents did with answers goes into a store by day, reviewers
correct and approve answers, serving loads what they decide without a restart, and replies that were sent on
words which changed become a work list.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    commands={"desk": ("commands", "Show recorded answers and how they were made; list who saw what.")},
    extras={"learning": "patients"},
    joins={
        "keys of TenantConfig": "section:DeskTenant",
        "commands of learn": "commands_learn:add_to_learn",
        "offers": "approved:OfferApproved",
        "texts of offers": "approved:TextsWithApproved",
        "trials": "trial:TRIALS",
        "parts of a tenant": "opened:open_desk",
        "texts of documents": "opened:KEPT",
        "runs of a tenant": "opened:run_desk",
        "runs of a machine": "opened:open_movers",
        "admission of a verdict": "opened:admit_verdict",
        "patients' data in captured calls": "patients_opened:replace_patients_data",
        "stories of the demo": "commands_demo:tell_desk_story",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
        "lines of routes": "routes:STREAMED_LINES",
        "stacks of a tenant": "stack:add_learning",
        "exceptions of stacks": "stack:EXCEPTIONS",
        "alarms of a tenant": "stack:alarms",
        "tenant file of a container": "stack:fill_in",
        "schemas of docs": "events:SCHEMAS",
    },
)
