"""Replies to the patient: written from an answer, checked, and sent once nothing is found in them."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from dataclasses import replace

from assistant.option import Option


class Reply(Option):
    def routes(self):
        from assistant.options.reply import routes
        from assistant.service.app import Routes

        return Routes(routes.router, routes.RAW, read=routes.REQUEST_BODIES, of_an_answer=("keep_sent",))

    async def parts(self, served, stores):  # noqa: ARG002
        from assistant.options.reply.guard import GuardSent
        from assistant.options.reply.write import WriteReply

        replies = WriteReply(served.answering, served.answer_question)
        people = replace(served.two_people, is_needed=True)
        return replies, GuardSent(services=served.answering, replies=replies, people=people)

    def console(self, config, tenants):
        answering = {name: tenant.answering for name, tenant in tenants.items()}
        delivering = [name for name, services in answering.items() if services.live.replies is not None]
        writing = [name for name, services in answering.items() if services.writes_answers]
        added = {
            "delivers": tuple(sorted(delivering)),
            "replies": tuple(sorted(writing)),
            "guards": {name: services.tenant.guard for name, services in answering.items()},
        }
        return config.model_copy(update=added)

    def after_written(self, services, answers):
        from assistant.options.reply.trial import RepliesOfAnswers

        return RepliesOfAnswers(services, answers)


OPTION = Reply()
