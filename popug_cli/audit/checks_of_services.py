"""Which checks a service of a cluster can run: those that need the tables and the events of its module only.

All other checks compare modules with each other. They hold for a whole company, and not within one service, whose log
lacks events that it does not receive.
"""

from collections.abc import Mapping

CHECKED_BY: Mapping[str, tuple[str, ...]] = {
    "tasks": (
        "tasks_match_events",
        "completed_once_by_assignee",
        "assignees_match_events",
        "draws_reproducible",
    ),
    "billing": (
        "entries_match_events",
        "entry_causes_exist",
        "accounts_belong_to_users",
        "entries_are_double_entry",
        "accounts_sum_to_zero",
        "balances_equal_entries",
        "balances_by_day_equal_entries",
        "segments_equal_entries",
        "one_price_per_task",
        "one_fee_per_assignment",
        "one_reward_per_completion",
        "reversals_match_originals",
        "payouts_leave_zero",
        "positive_balances_were_paid",
        "closed_days_never_change",
        "closed_days_match_events",
        "closed_days_without_gaps",
        "overdue_days",
        "scheduler",
    ),
    "analytics": ("read_models_match_replay",),
    "mail": ("sent_mail_has_event", "failed_mail", "unsent_mail"),
}
COMPARES_MODULES = frozenset(
    {
        "task_prices_match_billing",
        "user_copies_agree",
        "task_copies_agree",
        "completion_times_match_events",
        "ended_days_match_events",
        "closed_days_have_ended",
        "income_sources_agree",
        "one_payslip_per_payout",
        "business_dates_follow_ends",
    }
)
_SERVICE_OF_CHECK = {name: service for service, names in CHECKED_BY.items() for name in names}


def is_run_by(service: str, check: str) -> bool:
    """Return whether the doctor runs a check in the database of a service; it runs all in that of a whole company."""
    return not service or (check not in COMPARES_MODULES and _SERVICE_OF_CHECK.get(check, service) == service)
