"""Start servers of a cluster on this machine, for trials and chaos runs.

python -m tests.cluster brokers     start three Kafka brokers, and print one line of JSON when they are up
python -m tests.cluster missing     print what brokers need and this machine lacks; exit 1 if there is something
python -m tests.cluster up          start a whole cluster, and print one line of JSON when it is up
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.kafka_programs import what_is_missing, what_is_not_fetched
from tests.cluster.shared_brokers import end_by_signal, supervise
from tests.cluster.up import run
from tests.support.postgres.programs import what_is_missing as what_postgres_lacks


def main() -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    brokers = commands.add_parser("brokers", help="start three Kafka brokers, which run until SIGTERM")
    brokers.set_defaults(run=_run_brokers)
    up = commands.add_parser("up", help="start databases, brokers, five services and a gateway, until SIGTERM")
    up.set_defaults(run=_run_cluster)
    missing = commands.add_parser("missing", help="print what brokers need and this machine lacks")
    missing.set_defaults(run=_print_missing)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _print_missing(_: argparse.Namespace) -> None:
    """Print why no brokers can be started because Kafka cannot be fetched, and exit 1; fail if a program is missing."""
    if problem := what_is_missing():
        sys.exit(f"{problem}.")
    if problem := what_is_not_fetched():
        print(problem)  # noqa: T201 - the output of a program
        sys.exit(1)


def _run_brokers(_: argparse.Namespace) -> None:
    """Run brokers until SIGTERM. The line has their addresses, their pids, and the folder for ``RunningBrokers``."""
    if problem := what_is_missing() or what_is_not_fetched():
        sys.exit(f"{problem}.")
    end_by_signal()
    with tempfile.TemporaryDirectory(prefix="popug-brokers-") as folder:
        supervise(Path(folder), _print_document, lambda: False)


def _run_cluster(_: argparse.Namespace) -> None:
    """Run a whole cluster until SIGTERM. The line is that of ``TrialCluster.document``; it is printed again after each
    restart of a process.
    """
    if problem := what_is_missing() or what_is_not_fetched() or what_postgres_lacks():
        sys.exit(f"{problem}.")
    end_by_signal()
    with tempfile.TemporaryDirectory(prefix="popug-up-") as folder:
        run(Path(folder), _print_document)


def _print_document(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201 - the output of a program


if __name__ == "__main__":
    main()
