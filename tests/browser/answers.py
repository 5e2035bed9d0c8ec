"""Questions that the pharmacy's procedures answer or do not, and text for a scripted model to write."""

QUESTION = "A claim came back with reject 79, refill too soon. When can a 30-day supply be filled again?"
UNANSWERABLE = "How do I change the oil of a diesel engine?"

SUPPORTED = "The plan returned NCPDP reject code 79, or our own system stopped an early refill."
WRONG_NUMBER = (
    "The plan returned NCPDP reject code 79, or our own system stopped an early refill after 512 days."
)
UNSUPPORTED = "Penguins migrate across frozen oceans every winter."
"""No passage of the pharmacy says anything like it."""

CITED_TITLE = "Reject 79: refill too soon, including dose changes"
CITED_PASSAGE = "The plan returned NCPDP reject code 79"
