"""Queries about the bus: status, dead letters and schemas."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from popug_cli.app.asking import CompanySnapshot
from popug_cli.bus.queries import ParkedEvent, document, list_parked_events
from popug_cli.bus.service.status import gap_problems, history_problems, service_status
from popug_cli.bus.status import bus_status
from popug_cli.kernel.settings import CLUSTER_PREFIX, read_settings
from popug_cli.messages.bus import (
    AsyncApiDocument,
    BusStatus,
    DeadLetter,
    DeadLetters,
    DescribeTopics,
    ListDeadLetters,
    Schemas,
    ShowBusStatus,
    ShowSchemas,
)
from popug_cli.messages.internal.billing import GetAmountsAtStake
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def show_bus_status(backend: "LocalBackend", message: ShowBusStatus, principal: Principal) -> BusStatus:
    """Return the end of the log, the state of every consumer, unknown event types, problems, a service's streams."""
    backend.catch_up()
    with backend.querying(principal) as context:
        consumers = sorted(backend.consumers, key=lambda consumer: consumer.name)
        status = bus_status(context, consumers)
        if (service := service_status(context, consumers)) is None:
            return status
        problems = [*status.problems, *gap_problems(context), *history_problems(context)]
        return replace(status, problems=problems, service=service)


def list_dead_letters(backend: "LocalBackend", message: ListDeadLetters, principal: Principal) -> DeadLetters:
    """Return the dead letters and pending retries, each with the events waiting behind it and the money at stake."""
    backend.catch_up()
    with backend.asking(principal) as company:
        parked_events = list_parked_events(company.context)
        amounts = _amounts_at_stake(company, parked_events)
        letters = []
        for first in [parked for parked in parked_events if parked.state != "waiting"]:
            of_subject = [
                event for event in parked_events if (event.consumer, event.subject) == (first.consumer, first.subject)
            ]
            letters.append(
                DeadLetter(
                    dead_id=first.id,
                    consumer=first.consumer,
                    event=document(first.sequence, first.envelope),
                    state=first.state,
                    error=first.error,
                    attempts=first.attempts,
                    waiting=len(of_subject) - 1,
                    amount_cents=sum(amounts.get(parked.id, 0) for parked in of_subject),
                    id=str(first.id),
                )
            )
    return DeadLetters(letters)


def _amounts_at_stake(company: CompanySnapshot, parked_events: Sequence[ParkedEvent]) -> Mapping[int, int]:
    """Return the amounts in cents by the id of the parked event. Only billing parks events with money at stake."""
    if any(parked.consumer == "billing" for parked in parked_events):
        return company.ask(GetAmountsAtStake()).cents
    return {}


def show_schemas(backend: "LocalBackend", message: ShowSchemas, principal: Principal) -> Schemas:
    """Return the JSON Schema of every version of every event."""
    from popug_cli.messages.schema import all_schemas

    return Schemas(all_schemas())


def describe_topics(backend: "LocalBackend", message: DescribeTopics, principal: Principal) -> AsyncApiDocument:
    """Return the AsyncAPI document of the topics whose prefix the home's settings name."""
    from popug_cli import __version__
    from popug_cli.bus.service.asyncapi import document

    return document(__version__, read_settings(backend.home.config).text(CLUSTER_PREFIX).strip())
