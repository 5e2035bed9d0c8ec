"""``assistant``: the commands by name, and their exit statuses. The work is in the other modules.

Exit statuses: 0 done; 1 failed, with one sentence on stderr; 2 wrong usage; 130 ended by Ctrl-C;
143 ended by SIGTERM, 129 by a closed terminal.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup

from assistant.domain.errors import AssistantError
from assistant.option import installed
from assistant.process.heaps import share_heaps
from template_checks import InvalidInputError

_CORE = {
    "ask": ("assistant.cli.ask", "Ask a question and read the answer as it is written."),
    "demo": (
        "assistant.cli.demo",
        "Start all tenants, answer questions, tell the stories of options, then serve until Ctrl-C.",
    ),
    "tenant": (
        "assistant.cli.tenant",
        "Write and check tenant files; serve the tenants on this machine; their tokens.",
    ),
    "knowledge": ("assistant.cli.knowledge", "Add, list, search and withdraw documents."),
    "models": ("assistant.cli.models", "Add your own model; list and choose models."),
    "evaluate": (
        "assistant.cli.evaluate",
        "Ask a tenant's questions that have known answers, and measure the answers.",
    ),
    "learn": ("assistant.cli.learn", "Learn from agents' feedback, and erase a patient from it."),
    "aws": (
        "assistant.cli.aws",
        "Deploy a tenant to AWS; check its templates; publish its images and models.",
    ),
}
COMMANDS = _CORE | {
    option.name: (f"{option.package}.commands", option.help) for option in installed() if option.help
}
"""Command or group = its module, whose ``app`` is imported when it is called, and its help."""
PORT = "Port of the service; the issuer takes N+1; 0 takes free ones. Default 8700."
_WITH_VALUE = ("--tenants", "--state", "--port")
_WITHOUT_VALUE = ("--json",)
"""The global options: those of ``options`` below. ``hoist`` moves them to the front."""


class Commands(TyperGroup):
    """The commands, without the modules of those that are not called: they take a second to import."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as it is called
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as it is called
        """Return the command's name and help alone, for the list of commands."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


def load_command(name: str) -> Any:
    """Return the command or group with all that is in it."""
    module, help_text = COMMANDS[name]
    gc.disable()  # it takes a sixth of the time of imports, and frees nothing: what they make stays
    imported = import_module(module)
    gc.freeze()
    gc.enable()
    command = typer.main.get_command(imported.app)
    command.name, command.help = name, command.help or help_text
    return command


app = typer.Typer(
    cls=Commands,
    name="assistant",
    help=(
        "Answers care agents' questions from their own tenant's knowledge.\n\n"
        "The options below may stand before or after the command. Exit status: 0 done, 1 failed, "
        "2 wrong usage, 130 Ctrl-C."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    context: typer.Context,
    tenants: Annotated[Path, Option(metavar="DIR", help="Folder of the tenant files.")] = Path("tenants"),
    state: Annotated[Path, Option(metavar="DIR", help="Folder of all stored data.")] = Path(".state"),
    port: Annotated[int | None, Option(min=0, max=65533, metavar="N", help=PORT)] = None,
    json: Annotated[bool, Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    import structlog  # not for --help

    from assistant.terminal.terminal import GlobalOptions

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))  # stdout has the results
    context.obj = GlobalOptions(tenants_dir=tenants, state_dir=state, port=port, json=json)


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point: every foreseeable error becomes one sentence on stderr and a status."""
    # numpy reads this when it is imported. The index's matrix product is faster with one BLAS thread than
    # with two, and a second one spins for a while after each.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    share_heaps()
    with ending_in_order():
        try:
            app(args=hoist(sys.argv[1:] if arguments is None else arguments), prog_name="assistant")
        except (AssistantError, InvalidInputError) as error:
            _fail(error.message)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}.")
        sys.exit(0)
    raise AssertionError("unreachable")


def hoist(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the global options first, wherever they were before a ``--``.

    ``["ask", "Where is it?", "--json", "--port=8800"]`` → ``["--json", "--port=8800", "ask", "Where is
    it?"]``
    """
    hoisted: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif argument in _WITH_VALUE:
            hoisted += [argument, *(value for value in [next(rest, None)] if value is not None)]
        elif argument in _WITHOUT_VALUE or argument.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            hoisted.append(argument)
        else:
            others.append(argument)
    return hoisted + others


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalExit(SystemExit):
    """SIGTERM or SIGHUP came; the status is 128 plus the signal's number."""


@contextmanager
def ending_in_order() -> Generator[None]:
    """Let the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal) unwind the block.

    Later ones are ignored: the command is ending, and each of its steps has a time limit. The process then
    ends without joining threads: one that the signal interrupted while it was made never ends by itself.
    """
    for number in _ENDING:
        signal.signal(number, _unwind)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ending:
        if signal.getsignal(signal.SIGINT) is not _ignore:
            raise  # no signal came: the command ended by itself
        sys.stdout.flush()
        sys.stderr.flush()
        code = ending.code if isinstance(ending, SystemExit) else 128 + signal.SIGINT
        os._exit(code if isinstance(code, int) else 1)


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    """The handler of the first signal: ignore later ones, and raise in the main thread."""
    for signal_number in _ENDING:
        signal.signal(signal_number, _ignore)
    raise KeyboardInterrupt if number == signal.SIGINT else SignalExit(128 + number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: started processes would inherit that."""


def _fail(sentence: str) -> NoReturn:
    sys.stderr.write(f"assistant: {sentence}\n")
    sys.exit(1)


if __name__ == "__main__":
    run()
