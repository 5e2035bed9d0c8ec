"""Which operation goes on from which answer, as links of the OpenAPI file: stateful tests walk along them."""

from __future__ import annotations

from typing import Any

_OF_AN_ANSWER = ("read_answer", "follow_answer", "give_verdict", "keep_sent", "cancel_answer")
_OF_A_DOCUMENT = ("document_status", "read_document", "withdraw_document")


def link_operations(document: dict[str, Any]) -> None:
    """Add the links to the operations that make something."""
    paths = document["paths"]
    _add(paths["/v1/answers"]["post"], "200", _answer_links("answer_id", "conversation_id"))
    chat = _answer_links("id", "answer/conversation_id")
    _add(paths["/v1/chat/completions"]["post"], "200", chat)
    made = {name: _link(name, document_id="document_id") for name in _OF_A_DOCUMENT}
    _add(paths["/v1/documents"]["post"], "202", made)


def _answer_links(answer_id: str, conversation_id: str) -> dict[str, Any]:
    links = {name: _link(name, answer_id=answer_id) for name in _OF_AN_ANSWER}
    return links | {"read_conversation": _link("read_conversation", conversation_id=conversation_id)}


def _link(operation_id: str, **parameters: str) -> dict[str, Any]:
    """Return a link; each parameter is a place in the response's body."""
    found = {name: f"$response.body#/{place}" for name, place in parameters.items()}
    return {"operationId": operation_id, "parameters": found}


def _add(operation: dict[str, Any], status: str, links: dict[str, Any]) -> None:
    operation["responses"][status]["links"] = links
