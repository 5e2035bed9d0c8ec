"""Files that restrict or withdraw a document in wrong or rare spellings."""

from __future__ import annotations

from collections.abc import Mapping

BODY = "\nThe salary of a pharmacist is 61 thousand.\n"


def _page(front: str) -> bytes:
    return f"---\ntitle: Pay\n{front}\n---\n{BODY}".encode()


SPELLINGS: Mapping[str, tuple[str, bytes]] = {
    "a country that YAML reads as false": ("pay.md", _page("labels: [NO]")),
    "a truth": ("pay.md", _page("labels: [yes]")),
    "a mapping": ("pay.md", _page("labels: {hr: true}")),
    "a mapping on lines": ("pay.md", _page("labels:\n  hr:")),
    "a date": ("pay.md", _page("labels: 2026-01-01")),
    "a nested list": ("pay.md", _page("labels: [[hr]]")),
    "a set": ("pay.md", _page("labels: !!set {hr}")),
    "a capital": ("pay.md", _page("Labels: [hr]")),
    "a singular": ("pay.md", _page("label: hr")),
    "an indented key": ("pay.md", _page("  labels: [hr]")),
    "nothing": ("pay.md", _page("labels:")),
    "an empty text": ("pay.md", _page('labels: ""')),
    "a list with an empty item": ("pay.md", _page("labels: [hr, ]\n labels: []")),
    "an alias": ("pay.md", _page("owner: &x [hr]\nlabels: *x")),
    "a merge": ("pay.md", _page("<<: {labels: [hr]}")),
    "a label in capitals": ("pay.md", _page("labels: [HR]")),
    "a label with a typing error": ("pay.md", _page("labels: [hrr]")),
    "twice": ("pay.md", _page("labels: [hr]\nlabels: []")),
    "a space after the fence": ("pay.md", b"--- \ntitle: Pay\nlabels: [hr]\n--- \n" + BODY.encode()),
    "a tab after the fence": ("pay.md", b"---\t\ntitle: Pay\nlabels: [hr]\n---\n" + BODY.encode()),
    "a blank line first": ("pay.md", b"\n" + _page("labels: [hr]")),
    "a byte order mark": ("pay.md", b"\xef\xbb\xbf" + _page("labels: [hr]")),
    "line ends of Windows": ("pay.md", _page("labels: [hr]").replace(b"\n", b"\r\n")),
    "line ends of an old Mac": ("pay.md", _page("labels: [hr]").replace(b"\n", b"\r")),
    "no closing fence": ("pay.md", b"---\ntitle: Pay\nlabels: [hr]\n" + BODY.encode()),
    "no fence": ("pay.md", b"title: Pay\nlabels: [hr]\n\n# Pay\n" + BODY.encode()),
    "an HTML head in Markdown": ("pay.md", b'<meta name="labels" content="hr">\n\n# Pay\n' + BODY.encode()),
    "JSON at the top": ("pay.md", b'{"title": "Pay"}\n{"labels": ["hr"]}\n\n# Pay\n' + BODY.encode()),
    "JSON in one line": ("pay.md", b'{"labels": ["hr"]}\n# Pay\n' + BODY.encode()),
    "JSON between fences with a name": (
        "pay.md",
        b'---json\n{"labels": ["hr"]}\n---\n# Pay\n' + BODY.encode(),
    ),
    "JSON between semicolons": ("pay.md", b';;;\n"labels": ["hr"]\n;;;\n# Pay\n' + BODY.encode()),
    "TOML": ("pay.md", b'+++\nlabels = ["hr"]\n+++\n# Pay\n' + BODY.encode()),
    "a comment": ("pay.md", b"<!-- labels: hr -->\n# Pay\n" + BODY.encode()),
    "a second front matter": ("pay.md", b"---\ntitle: Pay\n---\n\n---\nlabels: [hr]\n---\n" + BODY.encode()),
    "Windows-1252": ("pay.md", _page("labels: [hr]\nowner: Ren\xe9").decode().encode("latin-1")),
    "a form feed": ("pay.md", b"---\x0c\ntitle: Pay\nlabels: [hr]\n---\n" + BODY.encode()),
    "a mapping in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": {"hr": true}}',
    ),
    "a truth in JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": true}'),
    "a capital in JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "Labels": ["hr"]}'),
    "a nested list in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": [["hr"]]}',
    ),
    "null in JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": null}'),
    "twice in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "labels": ["hr"], "question": "Pay?", "answer": "A", "labels": []}',
    ),
    "twice in JSON, escaped": (
        "pay.jsonl",
        b'{"id": "pay", "l\\u0061bels": ["hr"], "question": "Pay?", "answer": "A", "labels": []}',
    ),
    "inside of another key in JSON": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "metadata": {"labels": ["hr"]}}',
    ),
    "half a line of JSON": ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "labels": ["hr"'),
    "a line of JSON without its id": ("pay.jsonl", b'{"question": "Pay?", "labels": ["hr"]}'),
    "a property": ("pay.html", b'<title>Pay</title><meta property="labels" content="hr"><p>Salary.'),
    "a value": ("pay.html", b'<title>Pay</title><meta name="labels" value="hr"><p>Salary.'),
    "a singular in HTML": ("pay.html", b'<title>Pay</title><meta name="label" content="hr"><p>Salary.'),
    "the key of a catalogue's item in HTML": (
        "pay.html",
        b'<title>Pay</title><meta name="labels" content=""><meta name="item" content="hr"><p>Salary.',
    ),
    "twice in HTML": (
        "pay.html",
        b'<title>Pay</title><meta name="labels" content=""><meta name="Labels" content="hr"><p>Salary.',
    ),
    "front matter in HTML": ("pay.html", b"---\nlabels: [hr]\n---\n<title>Pay</title><p>Salary."),
    "withdrawn by yes": ("pay.md", _page("withdrawn: yes")),
    "withdraw": ("pay.md", _page("withdraw: true")),
    "withdrawn in capitals": ("pay.md", _page("Withdrawn: true")),
    "withdrawn in JSON by a text": (
        "pay.jsonl",
        b'{"id": "pay", "question": "Pay?", "answer": "A", "withdrawn": "yes"}',
    ),
    "withdrawn in HTML": ("pay.html", b'<title>Pay</title><meta name="withdraw" content="true"><p>Salary.'),
}
"""By mistake: name and content of a file that must not become a public document where labels are declared."""

PUBLIC: Mapping[str, bytes] = {
    "pay.md": f"---\ntitle: Pay\nlabels: []\n---\n{BODY}".encode(),
    "pay.jsonl": b'{"id": "pay", "question": "Pay?", "answer": "The salary is 61 thousand.", "labels": []}',
    "pay.html": b'<title>Pay</title><meta name="labels" content=""><p>The salary is 61 thousand.',
}
"""The same files before the restriction."""

_KEYS = (
    *("Label", "LABEL", "lables", "label ", "access", "access_labels", "acl", "audience", "group", "groups"),
    *("permissions", "restricted_to", "visibility", "readers", "department", "for", "Zugriff", "étiquettes"),
    *("标签", "l\u0430bels"),  # the last with a Cyrillic letter
)
_WITH_A_KEY: Mapping[str, tuple[str, str]] = {
    "YAML": ("md", "---\ntitle: Pay\n'{key}': [{label}]\n---\nThe salary."),
    "nested YAML": ("md", "---\ntitle: Pay\nmeta:\n  '{key}':\n    - {label}\n---\nThe salary."),
    "TOML": ("md", '+++\ntitle = "Pay"\n"{key}" = "{label}"\n+++\nThe salary.'),
    "head": ("html", '<title>Pay</title><meta name="{key}" content="{label}"><p>The salary.'),
    "property": ("html", '<title>Pay</title><meta property="{key}" content="{label}, x"><p>The salary.'),
    "line": ("jsonl", '{{"id": "{id}", "question": "Pay?", "answer": "A.", "{key}": ["{label}"]}}'),
    "metadata": (
        "jsonl",
        '{{"id": "{id}", "question": "?", "answer": "A.", "metadata": {{"{key}": "{label}"}}}}',
    ),
}
_WITHOUT_A_KEY: Mapping[str, tuple[str, str]] = {
    "comment": ("md", "<!-- {key}: {label} -->\n# Pay\n\nThe salary."),
    "no fence": ("md", "{key}: {label}\n\n# Pay\n\nThe salary."),
    "below": ("md", "# Pay\n\n---\n{key}: [{label}]\n---\n\nThe salary."),
}


def inventions(*, with_a_key: bool) -> Mapping[str, bytes]:
    """Return files, by name, whose author meant to restrict them to ``hr`` and wrote it somewhere else: 140
    under a key that is not read, or 60 elsewhere in the text."""
    forms = _WITH_A_KEY if with_a_key else _WITHOUT_A_KEY
    made: dict[str, bytes] = {}
    for form, (suffix, text) in forms.items():
        for number, key in enumerate(_KEYS):
            name = f"{form.replace(' ', '-')}-{number}"
            label = ("hr", "HR", "\uff48\uff52", " hr")[number % 4]
            made[f"{name}.{suffix}"] = text.format(key=key, label=label, id=name).encode()
    return made
