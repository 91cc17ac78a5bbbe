"""Start servers of a cluster on this machine, for trials and chaos runs.

python -m tests.cluster brokers     start three Kafka brokers, and print one line of JSON when they are up
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.kafka_programs import what_is_missing, what_is_not_fetched
from tests.cluster.shared_brokers import end_by_signal, supervise


def main() -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    brokers = commands.add_parser("brokers", help="start three Kafka brokers, which run until SIGTERM")
    brokers.set_defaults(run=_run_brokers)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _run_brokers(_: argparse.Namespace) -> None:
    """Run brokers until SIGTERM. The line has their addresses, their pids, and the folder for ``RunningBrokers``."""
    if problem := what_is_missing() or what_is_not_fetched():
        sys.exit(f"{problem}.")
    end_by_signal()
    with tempfile.TemporaryDirectory(prefix="popug-brokers-") as folder:
        supervise(Path(folder), _print_document, lambda: False)


def _print_document(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201 - the output of a program


if __name__ == "__main__":
    main()
