"""What the review desk brings to the core: reviewers correct and approve answers, and serving loads what they
decide without a restart.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    needs=("feedback",),
    commands={"desk": ("commands", "Show recorded answers and how they were made; list who saw what.")},
    joins={
        "keys of ReviewSection": "section:DeskReview",
        "offers": "approved:OfferApproved",
        "texts of offers": "approved:TextsWithApproved",
        "trials": "trial:TRIALS",
        "parts of a tenant": "opened:open_desk",
        "intake of feedback": "intake:open_intake",
        "texts of documents": "upkeep:KEPT",
        "runs of a tenant": "opened:run_desk",
        "admission of a verdict": "opened:admit_verdict",
        "stories of the demo": "commands_demo:tell_desk_story",
        "routes": "routes:router",
        "bodies of routes": "routes:REQUEST_BODIES",
        "lines of routes": "routes:STREAMED_LINES",
    },
)
