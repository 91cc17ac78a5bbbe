"""A service that has had no news of identity for a minute refuses all but what a worker may do."""

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.identity import RotateKey
from tests.integration.cluster.token_services import ABOVE_WORKER, TokenServices, machine


def test_forbidden_role_is_refused_as_such_in_silence(services: TokenServices) -> None:
    services.advance(seconds=61)
    assert services.refusal(services.people.log_in().token, ABOVE_WORKER) == "forbidden"


def test_silence_of_identity_stops_what_needs_a_higher_role(services: TokenServices) -> None:
    worker, manager = services.people.log_in().token, machine(services, "mira")
    services.advance(seconds=59.9)
    assert services.refusal(manager, ABOVE_WORKER) == ""
    services.advance(seconds=0.1)
    assert services.refusal(manager, ABOVE_WORKER) == "behind"
    assert [services.refusal(worker), services.refusal(manager)] == ["", ""]
    services.sync()
    assert services.refusal(manager, ABOVE_WORKER) == ""


def test_behind_names_service_and_exits_with_8(services: TokenServices) -> None:
    manager = machine(services, "mira")
    services.advance(minutes=2)
    with pytest.raises(PopugError) as refused:
        services.tasks.perform(ABOVE_WORKER, manager)
    assert (refused.value.code, refused.value.exit_status) == ("behind", 8)
    assert "2026-03-02 10:00:00" in refused.value.message
    assert refused.value.details == {"service": "tasks"}


def test_watermark_counts_only_when_consumed(services: TokenServices) -> None:
    manager = machine(services, "mira")
    services.sync()
    services.advance(seconds=61)
    services.people.log_in()
    services.send()
    services.take()
    assert services.refusal_on_snapshot(manager, ABOVE_WORKER) == "behind"
    services.consume()
    assert services.refusal_on_snapshot(manager, ABOVE_WORKER) == ""


def test_consumed_watermark_stays_while_new_events_wait(services: TokenServices) -> None:
    manager = machine(services, "mira")
    services.sync()
    services.advance(seconds=30)
    services.people.log_in()
    services.send()
    services.take()
    assert services.refusal_on_snapshot(manager, ABOVE_WORKER) == ""


def test_late_relay_does_not_make_the_service_fresh(services: TokenServices) -> None:
    """A relay that claimed an hour ago sends its old watermark now; the stamp is new, the position is not."""
    manager = machine(services, "mira")
    services.send()
    old = services.topic.records[-1]
    services.people.clock.advance(seconds=1)
    services.people.act("boss", RotateKey())
    services.sync()
    services.advance(hours=1)
    services.topic.produce([old])
    services.receive()
    assert services.refusal(manager, ABOVE_WORKER) == "behind"


@pytest.mark.parametrize(("seconds", "code"), [(59, ""), (60, "behind"), (-59, ""), (-60, "behind"), (7200, "behind")])
def test_clock_of_the_broker_may_differ_a_little(services: TokenServices, seconds: int, code: str) -> None:
    manager = machine(services, "mira")
    services.sync()
    services.advance(hours=1)
    services.broker_clock.advance(seconds=seconds)
    services.sync()
    assert services.refusal(manager, ABOVE_WORKER) == code


def test_broker_whose_clock_was_ahead_is_believed_again(services: TokenServices) -> None:
    manager = machine(services, "mira")
    services.broker_clock.advance(hours=2)
    services.sync()
    assert services.refusal(manager, ABOVE_WORKER) == "behind"
    services.broker_clock.advance(hours=-2)
    services.sync()
    assert services.refusal(manager, ABOVE_WORKER) == ""


def test_unstamped_records_never_make_the_service_fresh(services: TokenServices) -> None:
    manager = machine(services, "mira")
    services.advance(hours=1)
    services.send()
    services.topic.records = [record._replace(timestamp_ms=-1) for record in services.topic.records]
    services.receive()
    assert services.refusal(manager, ABOVE_WORKER) == "behind"
