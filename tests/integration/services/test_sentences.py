"""Each refusal about a service says what happened and what to do."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from popug_cli.bus.context import Context
from popug_cli.bus.cursors import UnknownVersion
from popug_cli.bus.service import restore
from popug_cli.bus.service.history import history_of, subscribe
from popug_cli.bus.service.restore import Received
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.principal import OPERATOR
from tests.integration.services.linked_pair import Link, make_link
from tests.integration.services.test_restore import NEW_IDS, NEW_LOG

NAME = "popug.identity.user_deactivated"


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return make_link(tmp_path)


def refusal(change: Callable[[Context], object], link: Link) -> tuple[str, str, str, dict[str, object]]:
    """Return the code, the sentence, the hint and the details of the error that a change of identity raises."""
    with pytest.raises(PopugError) as refused, link.identity.runtime.writing(OPERATOR) as context:
        change(context)
    error = refused.value
    return error.code, error.message, error.hint, error.details


def test_receiver_with_another_event_is_named(link: Link) -> None:
    (row,) = link.identity.rows("SELECT id FROM bus_log WHERE sequence = 1")
    hint = "Restore all services from one backup, or all to one point in time."
    details = {"receiver": "mail", "position": 1}
    assert refusal(lambda context: restore.require_received(context, {"mail": Received(1, "x")}), link) == (
        "received_unknown",
        f"mail has received the event x at 1 of this service, but its log has {row['id']} there.",
        hint,
        details,
    )
    sentence = "mail has received the event none at 9 of this service, but its log has no event of its own there."
    assert refusal(lambda context: restore.require_received(context, {"mail": Received(9, "")}), link) == (
        "received_unknown",
        sentence,
        hint,
        {"receiver": "mail", "position": 9},
    )


def test_position_that_was_not_sent_is_named(link: Link) -> None:
    assert refusal(lambda context: restore.republish(context, 3), link) == (
        "not_sent_yet",
        "identity has sent its events from 1 to 2; 3 is not among them.",
        "Name a position from 1 to 2.",
        {"from": 3, "sent": 2},
    )
    link.identity.execute("UPDATE bus_relay SET position = 0")
    assert refusal(lambda context: restore.republish(context, 1), link)[2] == "Wait until it has sent some."


def test_copied_database_is_named(link: Link) -> None:
    link.identity.execute("UPDATE bus_relay SET database_id = 'sqlite:1'")
    assert refusal(restore.require_own_database, link) == (
        "copied_database",
        "This database is a copy of that of the service identity, so it must not publish as that service.",
        "Start the service on its own database; after a restore, all services need new log ids.",
        {"service": "identity"},
    )


def test_home_without_a_log_id_is_named(link: Link) -> None:
    link.identity.execute("DELETE FROM bus_relay")
    code, sentence, _, _ = refusal(lambda context: restore.begin_new_life(context, NEW_IDS, {}), link)
    assert (code, sentence) == (
        "not_a_service",
        "This database is not that of a service in a cluster: it has no log id.",
    )


def test_history_that_does_not_fit_is_named(link: Link) -> None:
    with link.identity.runtime.reading(OPERATOR) as context:
        history = history_of(context, NAME, 2)
    link.identity = link.tasks
    moved = msgspec.structs.replace(history, up_to=1)
    assert refusal(lambda context: subscribe(context, "identity", moved), link) == (
        "stream_moved",
        f"The stream of identity is at 2, but the history of {NAME} ends at 1.",
        "Ask for the history again.",
        {},
    )
    other = msgspec.structs.replace(history, log_id=NEW_LOG)
    assert refusal(lambda context: subscribe(context, "identity", other), link) == (
        "history_differs",
        f"The history of {NAME} up to 2 is not that of the stream of identity.",
        "Run `popug events status` for the state of the streams.",
        {},
    )


def test_unknown_version_is_named() -> None:
    error = UnknownVersion("billing", 17, "popug.tasks.task_completed.v9")
    assert (error.code, error.exit_status, error.message, error.hint, error.details) == (
        "behind",
        8,
        "billing stops at event 17: this program does not know the version popug.tasks.task_completed.v9.",
        "Upgrade popug; billing then continues with this event.",
        {"consumer": "billing", "sequence": 17, "type": "popug.tasks.task_completed.v9"},
    )
