"""The acceptance tests that do not run on a cluster (``--place=cluster``), each with the reason; the run prints them.

Those of ``sqlite_only.py`` do not run there either, because they are about the file in a home.
"""

from tests.acceptance.sqlite_only import SQLITE_ONLY

ONE_LOG = "positions are those of one log; test_gateway_composed.py has the rules of a cluster"
DOCTOR = "the check needs the tables of two modules, which `popug cluster doctor` compares"
OTHER_PROCESS = "another service fails, which the command does not know"
OPERATOR = "it is about an operator's command on the home, which answers `moved` after `popug cluster init`"
HOME = "it is about the files of the home"

NOT_ON_A_CLUSTER = {
    "test_bad_input.py": {"test_login_refused_with_a_damaged_or_missing_key": HOME},
    "test_ended_days.py": {"test_doctor_finds_the_ended_days_in_order": DOCTOR},
    "test_events.py": {
        "test_5_a_failing_consumer_never_fails_the_command": OTHER_PROCESS,
        "test_cloudevents_package_reads_events_show": ONE_LOG,
        "test_events_can_be_filtered_and_paged": ONE_LOG,
        "test_hole_in_the_log_and_a_cursor_beyond_it_are_named": ONE_LOG,
    },
    "test_events_follow.py": {
        "test_follow_begins_with_the_next_event": ONE_LOG,
        "test_follow_begins_with_the_last_events_on_request": ONE_LOG,
    },
    "test_people_and_sessions.py": {"test_second_init_is_refused_and_adds_no_user": OPERATOR},
    "test_ledger.py": {"test_verify_finds_an_edited_entry_and_an_unknown_head": OPERATOR},
}


def reason(file: str, test: str) -> str | None:
    """Return why a test of a file does not run on a cluster, or None if it does."""
    listed = SQLITE_ONLY.get(file, {}) | NOT_ON_A_CLUSTER.get(file, {})
    return listed.get(test) or listed.get(test.partition("[")[0])


def lines() -> list[str]:
    """Return a line for each test that does not run on a cluster."""
    return [
        f"{file}::{name}: {why}"
        for listed in (SQLITE_ONLY, NOT_ON_A_CLUSTER)
        for file, names in listed.items()
        for name, why in names.items()
    ]
