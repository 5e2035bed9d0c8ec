"""The key of document links: a custom resource of CloudFormation."""

from assistant.functions import FunctionEntry
from assistant.functions.setting_up import create_link_secret
from assistant.settings.functions import LinkSecretSettings
from assistant.wiring.services import open_link_secret

handle = FunctionEntry(LinkSecretSettings, open_link_secret, create_link_secret)
