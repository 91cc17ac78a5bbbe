"""Connect a served service with the others of its cluster: ask them over HTTP, and link the logs."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from popug_cli.app.asking import AskService
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.app.local_backend import LocalBackend
from popug_cli.cluster.leadership import Lead, Leadership
from popug_cli.cluster.link_threads import LinkThreads
from popug_cli.cluster.links import Topic
from popug_cli.cluster.opening import wrong_service
from popug_cli.cluster.places import Places
from popug_cli.cluster.service_clients import Caller, ServiceClients, addresses_from
from popug_cli.kernel.errors import NotAuthenticated
from popug_cli.kernel.settings import SCHEDULER_TOKEN_FILE
from popug_cli.messages.base import Message
from popug_cli.messages.principal import ANONYMOUS, Principal
from popug_cli.messages.services import SERVICES
from popug_cli.platform.files import exposure_of, read_regular_file
from popug_cli.storage import cluster_state

OpenTopics = Callable[[ServedCompany, Places], Mapping[str, Topic]]


def open_kafka_topics(company: ServedCompany, places: Places) -> Mapping[str, Topic]:
    """Return the topic of the service and those that it reads, by service, after checking their settings.

    No connection of theirs is open yet. Raise ``brokers_unavailable``, or the errors of ``check_topics``.
    """
    from popug_cli.cluster.kafka.connection import connection_from
    from popug_cli.cluster.kafka.topic import KafkaTopic
    from popug_cli.cluster.kafka.topics import check_topics

    service = company.runtime.service
    connection = connection_from(company.runtime.settings, places.brokers)
    names = {origin: places.topic_of(origin) for origin in (service, *SERVICES[service].subscriptions)}
    check_topics(connection, names.values())
    return {origin: KafkaTopic(connection, name) for origin, name in names.items()}


@contextmanager
def joined(
    company: ServedCompany, module: str, places: Places, open_topics: OpenTopics = open_kafka_topics
) -> Iterator[Leadership]:
    """Connect a service with the others during the block; yield its leadership.

    ``open_topics`` opens the topics for one term of the leader. Raise ``not_a_service`` or ``other_service`` if the
    database is not that of the service ``module``.
    """
    _require_module(company, module)
    with company.runtime.reading(ANONYMOUS) as context:
        cluster_state.require_unrecovered(context.connection, company.runtime.database.address)
    clients = ServiceClients(addresses_from(company.runtime.settings, places), are_parts=True)

    def open_asking(token: str | None, backend: LocalBackend) -> AskService:
        def ask_service(service: str, principal: Principal, message: Message[Any]) -> Any:
            own_token = token or scheduler_token(company)
            return clients.ask(service, message, Caller(own_token, backend.reads.positions, backend.warn))

        return ask_service

    company.open_asking = open_asking

    @contextmanager
    def lead(topics: Mapping[str, Topic]) -> Iterator[LinkThreads]:
        threads = LinkThreads(company, topics)
        try:
            threads.start()
            yield threads
        finally:
            threads.stop()

    def prepare() -> Lead:
        return partial(lead, open_topics(company, places))

    runtime = company.runtime
    leadership = Leadership(runtime.service, runtime.database.leader_lock(), runtime.newest, prepare)
    company.is_leader = lambda: leadership.is_leader
    leadership.start()
    try:
        yield leadership
    finally:
        leadership.stop()
        clients.close()


def _require_module(company: ServedCompany, module: str) -> None:
    service = company.runtime.service
    if service != module:
        raise wrong_service(
            service,
            module,
            company.runtime.database.address or str(company.home.root),
            company_hint="Serve it without --module, or make a cluster of it: popug cluster init --from HOME …",
            service_hint=f"Run `popug serve --module {service}`, or name the place of {module}.",
        )


def scheduler_token(company: ServedCompany) -> str | None:
    """Return the token with which the scheduler asks other services, or None if the settings name no file.

    It is a machine token of the scope ``close-day``. Raise ``insecure_file`` if another account can read the file, or
    ``not_logged_in`` if it cannot be read.
    """
    path = company.runtime.settings.text(SCHEDULER_TOKEN_FILE)
    if not path:
        return None
    try:
        content, status = read_regular_file(Path(path).expanduser())
    except OSError as error:
        raise NotAuthenticated(
            "not_logged_in",
            f"The scheduler's token cannot be read from {path}: {error.strerror}.",
            hint=f"Correct {SCHEDULER_TOKEN_FILE}, or write a token of the scope close-day to that file.",
        ) from error
    if exposure := exposure_of(status, os.geteuid()):
        raise NotAuthenticated(
            "insecure_file", f"{exposure} the token in {path}.", hint=f"Run `chmod 600 {path}`, and issue a new token."
        )
    return content.decode("ascii", errors="replace").strip()
