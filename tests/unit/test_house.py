"""The code base stays easy to read: no import cycles, commands that exist, plain words."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from assistant.cli.main import COMMANDS, load_command
from assistant.option import installed

ROOT = Path(__file__).parents[2]
ROOMS = ("assistant", "benchmarks", "lambdas", "stacks", "template_checks", "tools")
PHRASES = (
    r"\bcan(not)? be had\b",
    r"\bstands? twice\b",
    r"\bmend(s|ed|ing)?\b",
    r"\b(is|are) told\b",
    r"\b(and|or) the like\b",
    r"\bwhoever asks\b",
    r"\bwhat (nobody|nothing|no one)\b",
    r"\blest\b",
    r"\bis said\b",
    r"\blets? nobody\b",
    r"\bfor want of\b",
)
"""Each is hard to read for somebody in a hurry or whose first language is another."""


@cache
def committed(*suffixes: str) -> tuple[Path, ...]:
    """Return the files under version control, and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    paths = (ROOT / line for line in listed.stdout.splitlines())
    return tuple(path for path in paths if path.suffix in suffixes and path.is_file())


def code() -> tuple[Path, ...]:
    return tuple(path for path in committed(".py") if path.relative_to(ROOT).parts[0] != "tests")


# --- imports ----------------------------------------------------------------------------------------------
def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_at_module_level(tree: ast.Module) -> Iterator[str]:
    """Yield what importing the module imports: not what functions import, nor what only types need."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(sources: dict[str, str]) -> dict[str, set[str]]:
    """Return the modules of ``sources`` that each of them imports."""
    found: dict[str, set[str]] = {}
    for name, text in sources.items():
        wanted = imported_at_module_level(ast.parse(text))
        nearest = ((one if one in sources else one.rpartition(".")[0]) for one in wanted)
        found[name] = {one for one in nearest if one in sources and one != name}
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    sources = {
        module_of(path): path.read_text(encoding="utf-8")
        for path in code()
        if path.relative_to(ROOT).parts[0] in ROOMS
    }
    graph = imports(sources)
    assert sum(map(len, graph.values())) > len(graph), "the imports were not read"
    assert cycle(graph) == []


def test_a_cycle_of_imports_is_found() -> None:
    sources = {"a": "from b import c", "b": "import d", "d": "def f():\n    import b\nfrom a import g"}
    assert set(cycle(imports(sources))) == {"a", "b", "d"}
    assert cycle(imports(sources | {"d": "def f():\n    from a import g"})) == []


def entries_too_early(text: str) -> list[int]:
    """Return the lines of ``if __name__ == …`` that do not end their module."""
    tree = ast.parse(text)
    return [
        node.lineno
        for node in tree.body[:-1]
        if isinstance(node, ast.If)
        and "__name__" in {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
    ]


def test_a_module_that_runs_begins_when_all_of_it_is_defined() -> None:
    early = {
        str(path.relative_to(ROOT)): entries_too_early(path.read_text(encoding="utf-8")) for path in code()
    }
    assert {name: lines for name, lines in early.items() if lines} == {}
    assert entries_too_early("if __name__ == 'x':\n    f()\ndef f(): ...") == [1]


# --- options ----------------------------------------------------------------------------------------------
def naming(option: str) -> list[str]:
    """Return the files of code and settings that name an option's folder, but for its own, its handlers in
    ``lambdas``, its images in ``containers``, and options that declare that they need it."""
    package = f"assistant.options.{option}"
    needing = [other.package for other in installed() if option in other.needs]
    own = [f"{name.replace('.', '/')}/" for name in (package, *needing)]
    named = re.compile(rf"^[^#\n]*\b{package.replace('.', '[./]')}\b", re.MULTILINE)
    files = {path: path.relative_to(ROOT).as_posix() for path in committed(".py", ".toml", ".mjs", "")}
    return [
        name
        for path, name in files.items()
        if not name.startswith(("tests/", "docs/", "lambdas/", "containers/", *own))
        and (path.suffix or path.name == "Makefile")
        and named.search(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("option", [option.name for option in installed()])
def test_few_files_outside_an_options_folder_name_it(option: str) -> None:
    assert len(naming(option)) <= 2, naming(option)


# --- commands ---------------------------------------------------------------------------------------------
def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def commands() -> set[str]:
    """Return ``ask``, ``knowledge``, ``knowledge add``, …: every command and group of the command line."""
    found: set[str] = set()

    def add(prefix: str, group: object) -> None:
        for name, command in getattr(group, "commands", {}).items():
            found.add(f"{prefix}{name}")
            add(f"{prefix}{name} ", command)

    for name in COMMANDS:
        found.add(name)
        add(f"{name} ", load_command(name))
    return found


def quoted_commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield program and first two words of each command in a block of shell or between backticks."""
    command = r"(?:\.venv/bin/)?(make|assistant) ([a-z][a-z-]*(?: [a-z][a-z-]*)?)"
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.DOTALL):
        yield from re.findall(f"^{command}", block, re.MULTILINE)
    yield from re.findall(f"`{command}", text)


def test_every_command_that_is_named_exists() -> None:
    known, groups = commands(), {name.split()[0] for name in commands() if " " in name}
    missing: list[str] = []
    named = 0
    for path in (*committed(".md"), *code()):
        if "decisions" in path.parts or path.name == "CHANGELOG.md":
            continue  # they tell of releases before
        for program, words in quoted_commands(path.read_text(encoding="utf-8")):
            named += 1
            first = words.split()[0]
            exists = first in targets() if program == "make" else first in known
            if program == "assistant" and first in groups and " " in words:
                exists = words in known
            if not exists:
                missing.append(f"{path.relative_to(ROOT)}: {program} {words}")
    assert named > 100
    assert missing == []


# --- words ------------------------------------------------------------------------------------------------
def riddles(text: str) -> list[str]:
    return [found[0] for phrase in PHRASES for found in re.finditer(phrase, text, re.IGNORECASE)]


@pytest.mark.parametrize(
    "text", ["The key cannot be had.", "It is told at once.", "They mended it.", "Where it is said."]
)
def test_a_riddle_is_found(text: str) -> None:
    assert riddles(text)


def test_words_are_plain() -> None:
    skipped = {Path(__file__), ROOT / "CHANGELOG.md"}
    found = {
        str(path.relative_to(ROOT)): riddles(path.read_text(encoding="utf-8"))
        for path in (*committed(".py"), *committed(".md", ".toml", ".ts", ".tsx"))
        if path not in skipped
        and path.relative_to(ROOT).parts[:1] not in (("knowledge",), ("evaluation",))
        # a model reads them, and its answers are recorded by their hash
        and path.parent.parent.name != "prompts"
    }
    assert {name: phrases for name, phrases in found.items() if phrases} == {}
