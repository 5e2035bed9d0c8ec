"""One of the models of Amazon Bedrock writes the answers, in place of an LLM endpoint."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from assistant.option import Option


class Bedrock(Option):
    def tables(self):
        from assistant.options.bedrock.section import TABLES

        return TABLES

    def contradictions(self, tenant):
        from assistant.options.bedrock.section import contradictions

        return contradictions(tenant)

    def prices(self, tenant, load):
        from assistant.options.bedrock.models import uses

        return uses(tenant, load)

    def kept_texts(self):
        from assistant.options.bedrock.receipt import KEPT

        return KEPT

    async def writer(self, stores):
        from assistant.options.bedrock.opened import open_writer

        return await open_writer(stores)

    async def deployed_writer(self, tenant, stack):
        from assistant.options.bedrock.opened import deployed_writer

        return await deployed_writer(tenant, stack)

    def account_checks(self, account):
        from assistant.options.bedrock.account import checks

        return checks(account)

    def stacks(self):
        from assistant.options.bedrock.stack import BedrockStacks

        return BedrockStacks()


OPTION = Bedrock()
