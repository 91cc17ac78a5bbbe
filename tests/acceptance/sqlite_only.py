"""The acceptance tests that do not run on PostgreSQL (``--place=postgres``), because they are about the file itself.

They have the marker ``sqlite_file``, and the run prints them. `popug backup` and `popug restore` are for the file;
PostgreSQL has its own tools.
"""

DAMAGE = "it damages popug.db, or finds it damaged"
ENVELOPE = "it appends a row that is only an envelope, whose other columns SQLite computes"
BACKUP = "backup and restore are for popug.db"
OWN_KEY = "the database is the home's own; a home of a shared database gets a key of its own"
IMPORTS = "it lists the modules that a command on popug.db imports"

SQLITE_ONLY = {
    "test_bad_input.py": {
        "test_damaged_database_is_reported_and_left_alone": DAMAGE,
        "test_doctor_does_not_pass_a_damaged_database": DAMAGE,
        "test_login_refused_with_a_damaged_or_missing_key[unlink]": OWN_KEY,
    },
    "test_events.py": {
        "test_event_is_dropped_for_a_reason_that_is_kept": ENVELOPE,
        "test_7_event_of_an_old_version_is_consumed": ENVELOPE,
        "test_event_of_unknown_type_is_skipped_and_counted": ENVELOPE,
    },
    "test_ledger.py": {
        "test_changed_users_and_triggers_fail_doctor_and_restore": BACKUP,
        "test_company_is_backed_up_and_restored": BACKUP,
        "test_copied_files_are_restored_with_their_log": BACKUP,
        "test_restore_names_settings_and_keeps_those_of_mail": BACKUP,
    },
    "test_newer_versions.py": dict.fromkeys(
        (
            "test_consumer_stops_and_counts_no_attempt",
            "test_status_doctor_and_today_name_it",
            "test_commands_that_need_it_answer_behind",
            "test_tasks_answer_behind_if_their_own_event_is_newer",
            "test_mail_is_not_sent_past_a_newer_payout",
            "test_scheduler_closes_nothing_past_it",
            "test_type_that_is_no_version_stops_nothing",
        ),
        ENVELOPE,
    ),
    "test_start_up.py": {
        "test_everyday_command_imports_only_what_it_needs": IMPORTS,
        "test_quick_answers_load_only_what_is_named[number of a task]": IMPORTS,
        "test_task_add_loads_no_database_while_company_is_served": IMPORTS,
    },
    "test_text_from_elsewhere.py": {"test_deleted_directory_is_named_where_it_matters": BACKUP},
}


def reason(file: str, test: str) -> str | None:
    """Return why a test of a file does not run on PostgreSQL, or None if it does."""
    listed = SQLITE_ONLY.get(file, {})
    return listed.get(test) or listed.get(test.partition("[")[0])


def lines() -> list[str]:
    """Return a line for each test that does not run on PostgreSQL."""
    return [f"{file}::{name}: {why}" for file, names in SQLITE_ONLY.items() for name, why in names.items()]
