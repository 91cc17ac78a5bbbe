"""Wait until every service of a healed cluster has received and consumed everything, and mail is sent."""

import time

from popug_cli.app.local_backend import LocalBackend
from popug_cli.bus import stream_store
from popug_cli.bus.cursors import is_current
from popug_cli.bus.service.coverage import received_logs
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.mail import SendMail
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.services import SERVICES
from tests.cluster.chaos.clients import Client
from tests.cluster.chaos.stage import Stage
from tests.simulation.violation import Violation

DRAIN_SECONDS = 150.0
POLL_SECONDS = 0.3
LEASE_SECONDS = 2 * 3600.0  # of a mail that a killed process was sending


def drain(stage: Stage, admin: Client) -> None:
    """Wait until all events are consumed, then send all mail; raise ``Violation`` if it takes too long."""
    stage.clock.advance(LEASE_SECONDS)
    _wait_until_consumed(stage)
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        try:
            result = admin.ask(SendMail())
        except PopugError as error:
            problem = f"{error.code}: {error.message}"
        else:
            problem = f"{result}"
            if not result.queued:
                break
        if time.monotonic() > deadline:
            raise Violation("mail_is_sent", problem)
        time.sleep(1.0)
    _wait_until_consumed(stage)


def _wait_until_consumed(stage: Stage) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    before: list[int] = []
    while True:
        heads, behind = _look(stage)
        if not behind and heads == before:
            return
        if time.monotonic() > deadline:
            raise Violation("drained", "; ".join(behind) or f"the logs go on growing: {before}, {heads}")
        before = heads
        time.sleep(POLL_SECONDS)


def _look(stage: Stage) -> tuple[list[int], list[str]]:
    """Return the ends of the logs, and what has not been consumed."""
    heads: dict[str, int] = {}
    behind = []
    for service in SERVICES:
        with stage.backend(service) as backend, backend.runtime.reading(ANONYMOUS) as context:
            heads[service] = context.connection.scalar("SELECT max(sequence) FROM bus_log")
    for service in SERVICES:
        with stage.backend(service) as backend:
            behind += _behind(service, backend, heads)
    return [*heads.values()], behind


def _behind(service: str, backend: LocalBackend, heads: dict[str, int]) -> list[str]:
    with backend.runtime.reading(ANONYMOUS) as context:
        found = [
            f"{service} has consumed {log.consumed} of {heads[origin]} of {origin}"
            for origin, log in received_logs(context, service, backend.consumers).items()
            if log.consumed < heads[origin]
        ]
        for origin in SERVICES[service].subscriptions:
            if change := stream_store.load(context.connection, origin).state.history_change:
                raise Violation("history_unchanged", f"{service} of {origin}: {change}")
        found += [f"{each.name} of {service} is behind" for each in backend.consumers if not is_current(context, each)]
        waiting = context.connection.scalar("SELECT count(*) FROM bus_set_aside WHERE state IN ('retrying', 'waiting')")
        if waiting:
            found.append(f"{waiting} events of {service} wait")
    return found
