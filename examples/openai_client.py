"""The service through OpenAI's client: ``python examples/openai_client.py QUESTION``.

Needs ``pip install openai``, ASSISTANT_URL and ASSISTANT_TOKEN (examples/README.md). Citations are
annotations of the message; their offsets count characters of its content.
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI, OpenAIError


def ask(question: str) -> None:
    url, token = os.environ["ASSISTANT_URL"], os.environ["ASSISTANT_TOKEN"]
    with OpenAI(base_url=f"{url}/v1", api_key=token) as client:
        completion = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": question}]
        )
    message = completion.choices[0].message
    content = message.content or ""
    print(content)
    for annotation in message.annotations or ():
        cited = annotation.url_citation
        print(f"-- {cited.title}: {content[cited.start_index : cited.end_index]!r}")


if __name__ == "__main__":
    try:
        ask(" ".join(sys.argv[1:]))
    except OpenAIError as error:
        sys.exit(f"The service refused: {error}")
