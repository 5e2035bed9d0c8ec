"""The rows of the table of exceptions, by stage."""

from stacks.acknowledgements.account import ROWS as ACCOUNT_EXCEPTIONS
from stacks.acknowledgements.care_app import ROWS as CARE_APP_EXCEPTIONS
from stacks.tenant_stage import EXCEPTIONS as TENANT_EXCEPTIONS

TABLE = {"account": ACCOUNT_EXCEPTIONS, "tenant": TENANT_EXCEPTIONS, "care_app": CARE_APP_EXCEPTIONS}
"""All rows, by stage."""
