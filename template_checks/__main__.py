"""``template-checks check|reach|upgrades``, also as ``python -m template_checks``.

Exit statuses: 0 nothing wrong; 1 something refused, not proven or lost, or a file that cannot be used;
2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from template_checks import InvalidInputError
from template_checks.facts import Facts, IntendedPaths, load_facts, load_intended_paths
from template_checks.findings import Status
from template_checks.mistakes import check
from template_checks.reachability import finding_as_text, prove
from template_checks.templates import Templates
from template_checks.upgrades import losses, read_pins, templates_by_stack_name, unpinned


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "upgrades":
            return _upgrades(given.folder, pins_file=given.pins)
        facts = load_facts(given.facts) if given.facts else Facts()
        if given.command == "check":
            return _check(given.templates, facts)
        return _reach(given.templates, facts, intended_file=given.intended)
    except InvalidInputError as error:
        sys.stderr.write(f"template-checks: {error.message}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="template-checks", description="Checks CloudFormation templates.")
    commands = parser.add_subparsers(dest="command", required=True)
    check_command = commands.add_parser("check", help="Check for twenty-three mistakes.")
    reach_command = commands.add_parser("reach", help="Show what can be reached on which port.")
    for command in (check_command, reach_command):
        command.add_argument("templates", nargs="+", type=Path, help="files or folders, also a cdk.out")
        command.add_argument("--facts", type=Path, help="what no template contains (TOML)")
    reach_command.add_argument("--intended", type=Path, help="the paths that should exist (TOML)")
    upgrades_command = commands.add_parser("upgrades", help="List what would be replaced or deleted.")
    upgrades_command.add_argument("folder", type=Path, help="an assembly of cdk.out, with its manifest")
    upgrades_command.add_argument("--pins", type=Path, required=True, help="the pinned resources (JSON)")
    return parser


def _check(templates: Sequence[Path], facts: Facts) -> int:
    report = check(templates, facts=facts)
    for verdict in report.verdicts:
        sys.stdout.write(f"{verdict.mistake.code} {verdict.status}: {verdict.mistake.title}\n")
        for finding in verdict.findings:
            sys.stdout.write(f"{finding_as_text(finding)}\n")
    counts = ", ".join(f"{report.count(status)} {status}" for status in Status)
    sys.stdout.write(f"{len(report.templates)} templates, {report.resources} resources: {counts}\n")
    return 0 if report.is_clean else 1


def _reach(paths: Sequence[Path], facts: Facts, *, intended_file: Path | None) -> int:
    intended = load_intended_paths(intended_file) if intended_file else IntendedPaths()
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    report = prove(templates, facts=facts, intended=intended)
    sys.stdout.write(report.as_text())
    return 0 if report.status is Status.PASSED else 1


def _upgrades(folder: Path, *, pins_file: Path) -> int:
    pins, stacks = read_pins(pins_file), templates_by_stack_name(folder)
    lines = [str(loss) for loss in losses(pins, stacks)]
    lines += [f"{name} is stateful and not pinned" for name in unpinned(pins, stacks)]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
