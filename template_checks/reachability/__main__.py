"""``python -m template_checks.reachability cdk.out/assembly-Pharmacy [--facts FILE]``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from template_checks.facts import Facts, load_facts
from template_checks.findings import Status
from template_checks.reachability import Report, prove
from template_checks.reachability.tables import as_text
from template_checks.templates import Templates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m template_checks.reachability")
    parser.add_argument("templates", nargs="+", type=Path, help="templates or folders, of one tenant")
    parser.add_argument("--facts", type=Path, help="what no template holds")
    arguments = parser.parse_args()
    try:
        report = _prove(arguments.templates, arguments.facts)
    except ConfigurationError as error:
        sys.exit(error.message)
    sys.stdout.write(as_text(report))
    sys.exit(0 if report.status is Status.PASSED else 1)


def _prove(paths: list[Path], facts_file: Path | None) -> Report:
    facts = load_facts(facts_file) if facts_file else Facts()
    templates = Templates.read(paths, parameters=facts.parameters, account=facts.account, region=facts.region)
    return prove(templates, facts=facts)


if __name__ == "__main__":
    main()
