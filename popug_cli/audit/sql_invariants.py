"""The invariants that are single SQL statements: each selects descriptions of its violations.

The statements read the log and the tables of several modules, which only ``audit`` may do. ``processed_by`` restricts
events to those that a consumer has processed: parked events have no effects yet and are not violations. Some read
``SUMMARIES`` under their names.
"""

from typing import NamedTuple

from popug_cli.audit.summaries import SUMMARIES
from popug_cli.billing.rules import FEE_RANGE_CENTS, REWARD_RANGE_CENTS, SEGMENT_ENTRIES
from popug_cli.bus.log import IS_RARE
from popug_cli.storage.id_index import equal_ids, id_end

IS_ASSIGNED = "log.type = 'popug.tasks.task_assigned.v1'"
IS_COMPLETED = "log.type = 'popug.tasks.task_completed.v1'"
IS_PAYOUT_TYPE = "log.type IN ('popug.billing.payout_made.v1', 'popug.billing.payout_made.v2')"
IS_PAYOUT = f"{IS_PAYOUT_TYPE} AND {IS_RARE}"
PAYOUT_LINE_COUNT = "coalesce(json_extract({0}, '$.line_count'), json_array_length({0}, '$.lines'))"


def processed_by(consumer: str) -> str:
    """Return the SQL condition that a range of the consumer's inbox covers an event ``log``."""
    return (
        f"log.sequence <= (SELECT last_sequence FROM bus_inbox WHERE consumer = '{consumer}'"
        " AND first_sequence <= log.sequence ORDER BY first_sequence DESC LIMIT 1)"
    )


class Invariant(NamedTuple):
    """The name of an invariant, its statement in words, and the SQL that selects its violations, one text per row."""

    name: str
    statement: str
    select_violations: str

    @property
    def reads_summaries(self) -> bool:
        """Whether its SQL reads ``SUMMARIES``."""
        return any(name in self.select_violations for name in SUMMARIES)


INVARIANTS = (
    Invariant(
        "event_ids_are_unique",
        "no two events have the same id",
        f"""
        SELECT 'event ' || id FROM bus_log WHERE {id_end("id")} IN (
            SELECT {id_end("id")} FROM bus_log WHERE sequence IN (
                SELECT max(sequence) FROM bus_log GROUP BY {id_end("id")} HAVING count(*) > 1
            )
        ) GROUP BY id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "accounts_belong_to_users",
        "every account is management, payouts or a user's, and its username is that of the registered user",
        f"""
        SELECT 'account ' || account.account_id FROM billing_accounts account
        WHERE (account.kind = 'employee') = (account.account_id IN ('management', 'payouts'))
            OR (account.username IS NOT NULL AND NOT EXISTS (SELECT 1 FROM bus_log event
                WHERE event.subject = account.account_id AND event.type = 'popug.identity.user_registered.v1'
                AND {IS_RARE} AND json_extract(event.envelope, '$.data.username') = account.username))
        """,
    ),
    Invariant(
        "entries_are_double_entry",
        "every entry has two different accounts, one of them its employee's, and a positive amount",
        "SELECT 'entry ' || entry_id FROM billing_entries WHERE debit_account = credit_account OR amount_cents <= 0"
        " OR employee_id NOT IN (debit_account, credit_account)",
    ),
    Invariant(
        "accounts_sum_to_zero",
        "all accounts together sum to zero",
        "SELECT 'the sum is ' || total FROM (SELECT sum(balance_cents) AS total FROM billing_accounts) AS accounts"
        " WHERE total <> 0",
    ),
    Invariant(
        "balances_equal_entries",
        "every account's balance equals the sum of its entries",
        "SELECT 'account ' || account.account_id || ' has ' || account.balance_cents || ', its entries sum to '"
        " || coalesce(sums.total, 0) FROM billing_accounts account LEFT JOIN ("
        " SELECT account_id, sum(cents) AS total FROM ("
        " SELECT credit_account AS account_id, amount_cents AS cents FROM entry_sums AS segment"
        " UNION ALL SELECT debit_account, -amount_cents FROM entry_sums AS segment) AS sides GROUP BY account_id"
        ") AS sums ON sums.account_id = account.account_id WHERE account.balance_cents <> coalesce(sums.total, 0)",
    ),
    Invariant(
        "balances_by_day_equal_entries",
        "every day-end balance and every sum of a day equals that of the entries",
        """
        WITH sums AS (
            SELECT employee_id, business_date, sum(change_cents) AS cents, sum(fees_cents) AS fees,
                sum(rewards_cents) AS rewards, sum(payouts_cents) AS payouts
            FROM entry_sums AS segment_sums GROUP BY employee_id, business_date
        ), running AS (
            SELECT sums.*, sum(cents) OVER (PARTITION BY employee_id ORDER BY business_date) AS balance FROM sums
        )
        SELECT running.employee_id || ' on ' || running.business_date
        FROM running LEFT JOIN billing_account_days stored
            ON stored.employee_id = running.employee_id AND stored.business_date = running.business_date
        WHERE stored.balance_cents IS NOT running.balance OR stored.fees_cents IS NOT running.fees
            OR stored.rewards_cents IS NOT running.rewards OR stored.payouts_cents IS NOT running.payouts
        UNION ALL
        SELECT stored.employee_id || ' on ' || stored.business_date FROM billing_account_days stored
        WHERE NOT EXISTS (SELECT 1 FROM billing_entries entry
            WHERE entry.employee_id = stored.employee_id AND entry.business_date = stored.business_date)
        """,
    ),
    Invariant(
        "segments_equal_entries",
        "the stored sums of every full ledger segment equal those of its entries",
        f"""
        WITH sums AS (
            SELECT employee_id, business_date, segment, sum(change_cents) AS change_cents,
                sum(rewards_cents) AS earned_cents, min(first_recorded_at) AS first_recorded_at,
                max(last_recorded_at) AS last_recorded_at
            FROM entry_sums AS segment_sums
            WHERE segment < (SELECT max(position) / {SEGMENT_ENTRIES} FROM billing_entries)
            GROUP BY employee_id, business_date, segment
        )
        SELECT employee_id || ' in ' || segment
        FROM (SELECT * FROM billing_segments EXCEPT SELECT * FROM sums) AS surplus
        UNION ALL
        SELECT employee_id || ' in ' || segment
        FROM (SELECT * FROM sums EXCEPT SELECT * FROM billing_segments) AS missing
        """,
    ),
    Invariant(
        "one_price_per_task",
        "every task was priced once, within the bounds, and its price never changed",
        f"""
        SELECT 'task ' || task.task_id FROM billing_tasks task
        LEFT JOIN (
            SELECT CAST(task_id AS TEXT) AS task_id, count(*) AS times,
                min(fee_cents) AS fee_cents, min(reward_cents) AS reward_cents
            FROM event_fields AS log WHERE type = 'popug.billing.task_priced.v1' GROUP BY 1
        ) AS priced ON priced.task_id = task.task_id
        WHERE priced.times IS NOT 1 OR priced.fee_cents IS NOT task.fee_cents
            OR priced.reward_cents IS NOT task.reward_cents
            OR task.fee_cents NOT BETWEEN {FEE_RANGE_CENTS[0]} AND {FEE_RANGE_CENTS[-1]}
            OR task.reward_cents NOT BETWEEN {REWARD_RANGE_CENTS[0]} AND {REWARD_RANGE_CENTS[-1]}
        UNION ALL
        SELECT 'the event at ' || sequence FROM event_fields AS log WHERE type = 'popug.billing.task_priced.v1'
            AND task_id NOT IN (SELECT task_id FROM billing_tasks)
        """,
    ),
    Invariant(
        "task_prices_match_billing",
        "the prices in tasks match those in billing",
        f"""
        SELECT 'task #' || task.number FROM tasks_tasks task JOIN billing_tasks priced ON priced.task_id = task.task_id
        WHERE task.fee_cents <> priced.fee_cents OR task.reward_cents <> priced.reward_cents
            OR (task.fee_cents IS NULL AND EXISTS (
                SELECT 1 FROM bus_log log WHERE {equal_ids("log.subject", "task.task_id")}
                AND log.type = 'popug.billing.task_priced.v1' AND {processed_by("tasks")}))
        """,
    ),
    Invariant(
        "one_fee_per_assignment",
        "every assignment has one fee entry, with the task's fee and the assignee",
        f"""
        SELECT 'assignment at ' || log.sequence FROM event_fields log
        LEFT JOIN billing_entries entry ON entry.event_id = log.id AND entry.kind = 'fee'
        LEFT JOIN billing_tasks task ON task.task_id = log.task_id
        WHERE {IS_ASSIGNED} AND {processed_by("billing")}
            AND (entry.entry_id IS NULL OR entry.amount_cents <> task.fee_cents
            OR entry.task_id <> task.task_id
            OR entry.employee_id <> log.assignee_id)
        """,
    ),
    Invariant(
        "one_reward_per_completion",
        "every completion has one reward entry, with the task's reward and the assignee",
        f"""
        SELECT 'completion at ' || log.sequence FROM event_fields log
        LEFT JOIN billing_entries entry ON entry.event_id = log.id AND entry.kind = 'reward'
        LEFT JOIN billing_tasks task ON task.task_id = log.task_id
        WHERE {IS_COMPLETED} AND {processed_by("billing")}
            AND (entry.entry_id IS NULL OR entry.amount_cents <> task.reward_cents
            OR entry.task_id <> task.task_id
            OR entry.employee_id <> log.assignee_id)
        """,
    ),
    Invariant(
        "reversals_match_originals",
        "every reversal matches the entry that it corrects and has an entry_corrected event",
        f"""
        SELECT 'entry ' || entry.entry_id FROM billing_entries entry
        LEFT JOIN billing_entries wrong ON wrong.entry_id = entry.corrects
        LEFT JOIN bus_log cause ON {equal_ids("cause.id", "entry.event_id")}
        LEFT JOIN bus_log event ON event.subject = entry.corrects AND event.type = 'popug.billing.entry_corrected.v1'
            AND event.{IS_RARE}
        WHERE entry.corrects IS NOT NULL AND (wrong.kind || '_reversal' IS NOT entry.kind
            OR wrong.amount_cents IS NOT entry.amount_cents OR wrong.employee_id IS NOT entry.employee_id
            OR wrong.task_id IS NOT entry.task_id
            OR json_extract(cause.envelope, '$.data.entry_id') IS NOT entry.corrects
            OR json_extract(event.envelope, '$.data.entry_id') IS NOT entry.entry_id)
        UNION ALL
        SELECT 'event ' || event.id FROM bus_log event WHERE event.type = 'popug.billing.entry_corrected.v1'
            AND {IS_RARE}
            AND json_extract(event.envelope, '$.data.entry_id') NOT IN (SELECT entry_id FROM billing_entries)
        """,
    ),
    Invariant(
        "completed_once_by_assignee",
        "every completed task has exactly one completion event, by its assignee, and no other task has one",
        f"""
        SELECT 'task #' || task.number FROM tasks_tasks task LEFT JOIN (
            SELECT subject, count(*) AS times, min(assignee_id) AS assignee_id
            FROM event_fields log WHERE {IS_COMPLETED} GROUP BY subject
        ) AS completion ON completion.subject = task.task_id
        WHERE (task.status = 'completed') <> (coalesce(completion.times, 0) = 1)
            OR coalesce(completion.times, 0) > 1 OR completion.assignee_id <> task.assignee_id
        """,
    ),
    Invariant(
        "assignees_match_events",
        "every task has the assignee of its last assignment event",
        f"""
        SELECT 'task #' || task.number FROM tasks_tasks task
        LEFT JOIN (SELECT subject, max(sequence) AS last_sequence FROM event_fields log
            WHERE {IS_ASSIGNED} GROUP BY subject) AS latest
            ON latest.subject = task.task_id
        LEFT JOIN event_fields log ON log.sequence = latest.last_sequence
        WHERE log.assignee_id IS NOT task.assignee_id
        """,
    ),
    Invariant(
        "payouts_leave_zero",
        "every payout left a balance of exactly zero and is the only one of its employee and day",
        """
        SELECT 'payout ' || payout.entry_id FROM billing_entries payout LEFT JOIN billing_account_days day
            ON day.employee_id = payout.employee_id AND day.business_date = payout.business_date
        WHERE payout.kind = 'payout' AND (day.balance_cents IS NOT 0 OR day.payouts_cents IS NOT payout.amount_cents
            OR EXISTS (SELECT 1 FROM billing_entries later WHERE later.employee_id = payout.employee_id
                AND later.business_date = payout.business_date AND later.position > payout.position))
        """,
    ),
    Invariant(
        "positive_balances_were_paid",
        "no employee has a positive balance at the end of a closed day",
        "SELECT day.employee_id || ' on ' || day.business_date FROM billing_account_days day"
        " JOIN billing_days closed ON closed.business_date = day.business_date WHERE day.balance_cents > 0",
    ),
    Invariant(
        "closed_days_never_change",
        "the fees, rewards and payouts of every closed day equal the sums of its entries",
        """
        SELECT 'day ' || day.business_date FROM billing_days day LEFT JOIN (
            SELECT business_date, sum(fees_cents) AS fees, sum(rewards_cents) AS rewards,
                sum(payouts_cents) AS payouts, sum(paid_count) AS paid
            FROM entry_sums AS segment_sums GROUP BY business_date
        ) AS entries ON entries.business_date = day.business_date
        WHERE day.fees_cents <> coalesce(entries.fees, 0) OR day.rewards_cents <> coalesce(entries.rewards, 0)
            OR day.payouts_cents <> coalesce(entries.payouts, 0) OR day.paid_count <> coalesce(entries.paid, 0)
        """,
    ),
    Invariant(
        "closed_days_match_events",
        "every closed day has exactly one day_closed event, with its figures",
        f"""
        SELECT 'day ' || day.business_date FROM billing_days day LEFT JOIN bus_log event
            ON event.subject = day.business_date AND event.type = 'popug.billing.day_closed.v1' AND event.{IS_RARE}
        WHERE json_extract(event.envelope, '$.data.fees_cents') IS NOT day.fees_cents
            OR json_extract(event.envelope, '$.data.rewards_cents') IS NOT day.rewards_cents
            OR json_extract(event.envelope, '$.data.payouts_cents') IS NOT day.payouts_cents
            OR json_extract(event.envelope, '$.data.paid_count') IS NOT day.paid_count
            OR json_extract(event.envelope, '$.data.in_red_count') IS NOT day.in_red_count
            OR json_extract(event.envelope, '$.time') IS NOT day.closed_at
        UNION ALL
        SELECT 'the event at ' || sequence FROM bus_log event WHERE type = 'popug.billing.day_closed.v1' AND {IS_RARE}
            AND NOT EXISTS (SELECT 1 FROM billing_days day WHERE day.business_date = event.subject)
        UNION ALL
        SELECT 'day ' || subject || ' was published twice' FROM bus_log
        WHERE type = 'popug.billing.day_closed.v1' AND {IS_RARE} GROUP BY subject HAVING count(*) > 1
        """,
    ),
    Invariant(
        "one_payslip_per_payout",
        "every payout that mail has processed has one payslip, for the same user, day and amount",
        f"""
        SELECT 'payout ' || log.sequence FROM bus_log log
        LEFT JOIN mail_outbox mail ON mail.kind = 'payslip'
            AND mail.user_id = json_extract(log.envelope, '$.data.user_id')
            AND mail.business_date = json_extract(log.envelope, '$.data.business_date')
        WHERE {IS_PAYOUT} AND {processed_by("mail")} AND (mail.mail_id IS NULL
            OR mail.amount_cents <> json_extract(log.envelope, '$.data.amount_cents')
            OR mail.cause_id <> log.id OR mail.message_id <> '<' || mail.mail_id || '@popug.invalid>'
            OR json_extract(mail.payload, '$.amount_cents') IS NOT mail.amount_cents
            OR json_extract(mail.payload, '$.opening_balance_cents')
                IS NOT json_extract(log.envelope, '$.data.opening_balance_cents')
            OR json_extract(mail.payload, '$.lines') IS NOT json_extract(log.envelope, '$.data.lines')
            OR {PAYOUT_LINE_COUNT.format("mail.payload")}
                IS NOT {PAYOUT_LINE_COUNT.format("json_extract(log.envelope, '$.data')")}
            OR json_extract(mail.payload, '$.log_head') IS NOT json_extract(log.envelope, '$.data.log_head')
            OR mail.status NOT IN ('queued', 'sending', 'sent', 'failed'))
        UNION ALL
        SELECT 'mail ' || mail.mail_id FROM mail_outbox mail LEFT JOIN billing_entries entry
            ON entry.employee_id = mail.user_id AND entry.business_date = mail.business_date AND entry.kind = 'payout'
        WHERE mail.kind = 'payslip' AND entry.amount_cents IS NOT mail.amount_cents
        UNION ALL
        SELECT 'payout entry ' || entry.entry_id FROM billing_entries entry LEFT JOIN bus_log log
            ON {equal_ids("log.id", "entry.event_id")} AND {IS_PAYOUT_TYPE}
        WHERE entry.kind = 'payout' AND json_extract(log.envelope, '$.data.amount_cents') IS NOT entry.amount_cents
        """,
    ),
    Invariant(
        "cursors_within_log",
        "no consumer's cursor is beyond the log, and no consumer has processed an event beyond it",
        """
        SELECT consumer || ' is at ' || position FROM bus_cursors
        WHERE position > (SELECT coalesce(max(sequence), 0) FROM bus_log)
        UNION ALL
        SELECT cursor.consumer || ' has processed ' || done.last_sequence FROM bus_cursors cursor
        JOIN bus_inbox done ON done.consumer = cursor.consumer
            AND done.last_sequence > (SELECT coalesce(max(sequence), 0) FROM bus_log)
        """,
    ),
)
