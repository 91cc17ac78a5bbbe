"""Check the services of a cluster: each by itself, and all against each other."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from popug_cli.app.local_backend import LocalBackend
from popug_cli.audit.across_services import SNAPSHOT_ORDER, examine_across, stream_ends
from popug_cli.audit.shared_database import snapshot_as_file
from popug_cli.cluster.opening import Services, require_service
from popug_cli.kernel.errors import IntegrityViolation, InvalidInput, NotFound
from popug_cli.kernel.home import Home
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.messages.cluster import ClusterCheck, ClusterHealth
from popug_cli.messages.company import CheckHealth, Health
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.storage import foreign_database, migrate
from popug_cli.storage.backup_file import DATABASE, SETTINGS
from popug_cli.storage.errors import translate_errors

ONLY_OF_LIVE_SERVICES = frozenset({"news_of_identity"})


def examine(services: Services, *, is_backup: bool = False) -> ClusterHealth:
    """Run the consumers of each service, then all checks.

    With ``is_backup``, leave out the checks that apply to running services only. Raise ``InvalidStoredValue`` or the
    errors of the databases.
    """
    ends = []
    for backend in services.values():
        with backend.runtime.reading(OPERATOR) as context:
            ends += stream_ends(context)
    reports = {service: backend.perform(CheckHealth()) for service, backend in services.items()}
    with ExitStack() as stack:
        contexts = {}
        for service in SNAPSHOT_ORDER:
            runtime = services[service].runtime
            context = stack.enter_context(runtime.reading(OPERATOR))
            if runtime.database.is_shared:  # this session is idle while the other databases are copied
                context.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            copy = stack.enter_context(snapshot_as_file(runtime, context))
            contexts[service] = replace(copy, service=service)
        across = examine_across(contexts, ends, services["mail"].consumers)
    checks = [
        *(check for service, report in reports.items() for check in _of_service(service, report, is_backup=is_backup)),
        *(ClusterCheck(check.name, check.ok, check.detail, check.attention) for check in across),
    ]
    return ClusterHealth(
        ok=all(check.ok for check in checks),
        attention=any(check.attention for check in checks),
        checks=checks,
        heads={service: report.head for service, report in reports.items()},
    )


def examine_backup(directory: Path, warn: Callable[[str], None], progress: Progress = no_progress) -> ClusterHealth:
    """Check temporary copies of the databases in a backup; raise as ``open_backup`` does. The backup is not changed."""
    with open_backup(directory, warn, progress) as services:
        return examine(services, is_backup=True)


@contextmanager
def open_backup(
    directory: Path, warn: Callable[[str], None], progress: Progress = no_progress
) -> Iterator[dict[str, LocalBackend]]:
    """Yield backends for temporary copies of the databases in a backup.

    Raise ``not_a_backup`` if a database is missing or is not one of popug, ``not_a_service`` or ``other_service``.
    """
    require_backup(directory)
    with TemporaryDirectory(prefix="popug-") as folder, ExitStack() as stack:
        services = {}
        for service in SERVICES:
            home = copy_from_backup(directory, service, Home(Path(folder) / service))
            backend = LocalBackend(home, warn=warn, progress=progress, from_file=True)
            stack.enter_context(closing(backend))
            require_service(backend, service)
            services[service] = backend
        yield services


def require_sound(health: ClusterHealth, sentence: str, hint: str) -> None:
    """Raise ``integrity`` with a sentence and the first check that failed, if one did."""
    failed = next((check for check in health.checks if not check.ok), None)
    if failed is not None:
        name = f"{failed.service}: {failed.name}" if failed.service else failed.name
        raise IntegrityViolation(
            "integrity",
            f"{sentence}: {name}: {failed.detail}",
            hint=hint,
            details={"check": failed.name, "service": failed.service},
        )


def require_backup(directory: Path) -> None:
    """Raise ``not_a_backup`` unless a directory has a database for each service."""
    if not directory.is_dir():
        raise NotFound(
            "not_a_backup",
            f"There is no backup in {directory}.",
            hint="Name a directory that `popug cluster backup DIR` wrote.",
        )
    missing = [service for service in SERVICES if not (directory / service / DATABASE).is_file()]
    if missing:
        raise not_a_backup(directory, f"it has no {missing[0]}/{DATABASE}")
    if any(Home(directory / service).keys.exists() for service in SERVICES):
        raise not_a_backup(directory, "it has homes with keys, which services may be using")


def copy_from_backup(directory: Path, service: str, home: Home) -> Home:
    """Copy the files of a service from a backup into a home, and check that the database is one of popug."""
    source = directory / service
    with translate_errors(home.database):
        home.root.mkdir(mode=0o700, exist_ok=True)
        for name in (DATABASE, f"{DATABASE}-wal", SETTINGS):
            if (source / name).is_file():
                shutil.copyfile(source / name, home.root / name)
                (home.root / name).chmod(0o600)
        if fault := foreign_database.find_fault(home.database):
            raise not_a_backup(directory, f"{service}: {fault}")
        if (migrate.version_of(home.database) or "") < migrate.NEWEST:
            migrate.migrate(home.database)
    return home


def not_a_backup(directory: Path, reason: str) -> InvalidInput:
    """Return the error for a directory that `cluster backup` did not write, or that is damaged."""
    return InvalidInput(
        "not_a_backup",
        f"{directory} is not a backup of a cluster: {reason}.",
        hint="Nothing was changed. Name a directory that `popug cluster backup DIR` wrote.",
    )


def _of_service(service: str, report: Health, *, is_backup: bool) -> Iterator[ClusterCheck]:
    for check in report.checks:
        if not (is_backup and check.name in ONLY_OF_LIVE_SERVICES):
            yield ClusterCheck(check.name, check.ok, check.detail, check.attention, service)
