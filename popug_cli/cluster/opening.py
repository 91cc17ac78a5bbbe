"""Open the databases of a cluster's services in one process, for the operator's commands."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager

from popug_cli.app.local_backend import LocalBackend
from popug_cli.cluster.places import Places
from popug_cli.kernel.errors import Conflict, NotFound
from popug_cli.kernel.progress import Progress, no_progress
from popug_cli.messages.services import SERVICES

NAME_THE_PLACES = "Name the directory of the homes with --homes DIR, or the databases with --database and --prefix."
Services = Mapping[str, LocalBackend]


def service_backend(
    places: Places,
    service: str,
    warn: Callable[[str], None] = lambda sentence: None,
    progress: Progress = no_progress,
) -> LocalBackend:
    """Return a backend for the database of a service; it is opened when it is first used."""
    url = places.database_of(service)
    return LocalBackend(places.home_of(service), warn=warn, progress=progress, from_file=not url, database_url=url)


@contextmanager
def open_services(
    places: Places, warn: Callable[[str], None] = lambda sentence: None, progress: Progress = no_progress
) -> Iterator[Services]:
    """Yield a backend for each service of a cluster, by its name.

    Raise ``other_service`` or ``not_a_service`` if a database is not that of its service, or the errors of
    ``bootstrap.open_runtime``.
    """
    with ExitStack() as stack:
        services = {}
        for service in SERVICES:
            backend = stack.enter_context(closing(service_backend(places, service, warn, progress)))
            require_service(backend, service)
            services[service] = backend
        yield services


def require_service(backend: LocalBackend, service: str) -> None:
    """Raise ``not_a_service`` or ``other_service`` if the database of a backend is not that of ``service``."""
    try:
        runtime = backend.runtime
    except NotFound as error:
        error.hint = f"{NAME_THE_PLACES} `popug cluster init` makes a cluster of a company."
        raise
    if runtime.service != service:
        raise wrong_service(
            runtime.service,
            service,
            runtime.database.address or str(backend.home.root),
            company_hint="Make a cluster of it: `popug cluster init --from HOME`, or name the places of a cluster.",
            service_hint=NAME_THE_PLACES,
        )


def wrong_service(found: str, wanted: str, place: str, *, company_hint: str, service_hint: str) -> Conflict:
    """Return the error for a database of the service ``found``, or of a whole company if that is empty."""
    if not found:
        sentence = f"{place} has a whole company, not the service {wanted} of a cluster."
        return Conflict("not_a_service", sentence, hint=company_hint)
    return Conflict(
        "other_service",
        f"{place} belongs to the service {found}, not to {wanted}.",
        hint=service_hint,
        details={"service": found},
    )
