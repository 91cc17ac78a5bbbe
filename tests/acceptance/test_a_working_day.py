"""One working day as a story; the tests do the arithmetic themselves.

The day has four stages. Each is a fixture that continues the one before and records the results:
the morning (tasks by hand), the shuffle, the work, the evening (close and mail).
"""

from collections import Counter

import pytest

from tests.acceptance.answers import day_figures, day_of, parts_of, payouts_of, pick, receiver_of, shows_dollars
from tests.acceptance.working_day import ASSIGNABLE, Closed, Day, Shuffled, Worked, statements_of
from tests.support.installed_company import Company, Json, email_of

EVERYBODY = ("ada", "asya", "gosha", "kesha", "mira")
ROUNDS = 30
LASTING = (
    "task_id", "number", "title", "jira_id", "status", "creator", "fee_cents", "reward_cents", "created_at",
    "completed_at",
)  # fmt: skip

BY_HAND = (
    ("mira", "Feed the cage"),
    ("kesha", "[POPUG-7] Sweep the floor"),
    ("asya", "POPUG-8 — Count the seeds"),
    ("ada", "Polish the perch"),
    ("gosha", "Mend the swing"),
)
IMPORTED = (
    "Wash the bowl",
    "Change the water",
    "Oil the hinge",
    "Sort the nuts",
    "Air the aviary",
    "Trim the rope",
)


# --- the morning --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def morning(staff: Company) -> Day:
    """Each of the five users creates one task."""
    day = Day(staff, staff.today())
    day.created = [staff.add_task(who, title) for who, title in BY_HAND]
    day.charged = [(task["assignee"], task["number"]) for task in day.created]
    day.look()
    return day


def test_tasks_are_numbered_from_one_with_their_creator(morning: Day) -> None:
    assert [task["number"] for task in morning.created] == [1, 2, 3, 4, 5]
    assert [task["creator"] for task in morning.created] == ["mira", "kesha", "asya", "ada", "gosha"]
    assert [task["status"] for task in morning.created] == ["open"] * 5
    assert [task["completed_at"] for task in morning.created] == [None] * 5
    assert len({task["task_id"] for task in morning.created}) == 5


def test_jira_id_typed_before_the_title_is_split_from_it(morning: Day) -> None:
    assert [(task["jira_id"], task["title"]) for task in morning.created] == [
        (None, "Feed the cage"),
        ("POPUG-7", "Sweep the floor"),
        ("POPUG-8", "Count the seeds"),
        (None, "Polish the perch"),
        (None, "Mend the swing"),
    ]


def test_neither_managers_nor_admins_are_assigned_anything(morning: Day) -> None:
    assert {task["assignee"] for task in morning.created} <= set(ASSIGNABLE)


def test_prices_are_whole_dollars_within_their_bounds(morning: Day) -> None:
    assert len(morning.created) == 5
    for task in morning.created:
        assert task["fee_cents"] in range(1000, 2001, 100)
        assert task["reward_cents"] in range(2000, 4001, 100)


# --- the shuffle --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shuffled(morning: Day) -> Shuffled:
    """Shuffle until a task has another assignee; the former assignee tries to complete it."""
    company = morning.company
    for _ in range(ROUNDS):
        before = morning.look()
        answer = company.ask("mira", "tasks", "shuffle", "--yes")
        after = morning.look()
        morning.charged += [(task["assignee"], task["number"]) for task in after]
        pairs = zip(before, after, strict=True)
        moved = [(old["assignee"], new) for old, new in pairs if old["assignee"] != new["assignee"]]
        if moved:
            break
    loser, taken = moved[0]
    refusal = company.run("task", "complete", str(taken["number"]), as_user=loser)
    verified = company.ask("gosha", "tasks", "verify", answer["shuffle_id"])
    return Shuffled(before, answer, after, verified, taken, loser, refusal, morning.look())


def test_shuffle_assigns_every_open_task_to_assignable_people(shuffled: Shuffled) -> None:
    assert (shuffled.answer["task_count"], shuffled.answer["candidates_count"]) == (5, 3)
    assert {task["assignee"] for task in shuffled.after} <= set(ASSIGNABLE)


def test_shuffle_changes_nothing_of_a_task_but_its_assignee(shuffled: Shuffled) -> None:
    lasting = [pick(task, *LASTING) for task in shuffled.before]
    assert [pick(task, *LASTING) for task in shuffled.after] == lasting


def test_draws_of_a_shuffle_can_be_verified_by_a_worker(shuffled: Shuffled) -> None:
    assert shuffled.verified["shuffle_id"] == shuffled.answer["shuffle_id"]
    assert (shuffled.verified["checked"], shuffled.verified["different"]) == (5, [])


def test_task_taken_by_a_shuffle_cannot_be_completed(shuffled: Shuffled) -> None:
    error = shuffled.refusal.refused(6, "task_reassigned")
    said = f"{error['message']} {error['details']}"
    assert shuffled.answer["shuffle_id"] in said
    assert shuffled.taken["assignee"] in said


def test_lost_race_changes_nothing(shuffled: Shuffled) -> None:
    assert shuffled.afterwards == shuffled.after


# --- the work -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worked(morning: Day, shuffled: Shuffled) -> Worked:
    """Add tasks; Kesha and Asya complete theirs, Gosha none, until one user has earned and he has a debt."""
    company = morning.company
    company.import_tasks("mira", IMPORTED)
    morning.charged += [(task["assignee"], task["number"]) for task in morning.look()[5:]]
    answers = _complete_all_but_goshas(morning)
    for _ in range(ROUNDS):
        if "gosha" in morning.expect_in_red() and morning.expect_paid():
            break
        task = company.add_task("mira", "Whistle a tune")
        morning.charged.append((task["assignee"], task["number"]))
        morning.look()
        answers += _complete_all_but_goshas(morning)
    by, number = morning.completed[0]
    twice = company.run("task", "complete", str(number), as_user=by)
    own = company.ask_all((name, ("balance",)) for name in ASSIGNABLE)
    income, analytics, doctor = company.ask_all([("asya", ["income"]), ("ada", ["analytics"]), (None, ["doctor"])])
    balances = dict(zip(ASSIGNABLE, own, strict=True))
    statements = statements_of(company, EVERYBODY)
    return Worked(answers, twice, by, statements, balances, income, analytics, doctor)


def _complete_all_but_goshas(day: Day) -> list[Json]:
    """Complete each open task except Gosha's as its assignee. Return the answers."""
    todo = [task for task in day.look() if task["status"] == "open" and task["assignee"] != "gosha"]
    answers = day.company.ask_all((task["assignee"], ("task", "complete", str(task["number"]))) for task in todo)
    day.completed += [(task["assignee"], task["number"]) for task in todo]
    day.look()
    return answers


def test_completed_task_says_so_and_keeps_its_price(morning: Day, worked: Worked) -> None:
    assert len(worked.answers) == len(morning.completed) > 0
    assert {task["status"] for task in worked.answers} == {"completed"}
    assert all(task["completed_at"] for task in worked.answers)
    by_number = {task["number"]: pick(task, *LASTING, "assignee") for task in morning.tasks}
    for task in worked.answers:
        assert pick(task, *LASTING, "assignee") == by_number[task["number"]]


def test_task_is_not_completed_twice(worked: Worked) -> None:
    error = worked.twice.refused(6, "task_completed")
    assert worked.twice_by in f"{error['message']} {error['details']}"


def test_each_assignment_charged_and_completion_rewarded_once(morning: Day, worked: Worked) -> None:
    for name in EVERYBODY:
        entries = worked.statements[name]["entries"]
        lines = Counter((entry["kind"], entry["task"]["number"], entry["amount_cents"]) for entry in entries)
        assert lines == morning.expect_lines(name), name


def test_fee_lowers_and_reward_raises_the_running_balance(morning: Day, worked: Worked) -> None:
    for name in ASSIGNABLE:
        statement = worked.statements[name]
        assert statement["opening_balance_cents"] == 0
        running = 0
        for entry in statement["entries"]:
            sign = {"fee": -1, "reward": 1}[entry["kind"]]
            assert entry["signed_cents"] == sign * entry["amount_cents"]
            running += entry["signed_cents"]
            assert entry["balance_cents"] == running
            assert entry["business_date"] == morning.today
        assert statement["closing_balance_cents"] == running == morning.expect_balance(name)


def test_each_entry_names_its_event_and_its_task(morning: Day, worked: Worked) -> None:
    titles = {task["number"]: task["title"] for task in morning.tasks}
    entries = [entry for name in ASSIGNABLE for entry in worked.statements[name]["entries"]]
    assert len(entries) == len(morning.charged) + len(morning.completed)
    assert len({entry["entry_id"] for entry in entries}) == len(entries)
    assert len({entry["event_id"] for entry in entries}) == len(entries)
    assert all(entry["task"]["title"] == titles[entry["task"]["number"]] for entry in entries)


def test_balance_shows_own_sum_and_earned_today(morning: Day, worked: Worked) -> None:
    for name in ASSIGNABLE:
        lines = morning.expect_lines(name).elements()
        assert worked.balances[name]["username"] == name
        assert worked.balances[name]["balance_cents"] == morning.expect_balance(name)
        assert worked.balances[name]["earned_today_cents"] == sum(c for kind, _, c in lines if kind == "reward")
        assert worked.balances[name]["business_date"] == morning.today


def test_income_is_fees_less_rewards(morning: Day, worked: Worked) -> None:
    day = day_of(worked.income, morning.today)
    fees, rewards = morning.expect_fees(), morning.expect_rewards()
    assert (day["fees_cents"], day["rewards_cents"], day["income_cents"]) == (fees, rewards, fees - rewards)
    assert worked.income["total_income_cents"] == fees - rewards
    assert (day["closed"], day["payouts_cents"], day["paid_count"]) == (False, 0, 0)
    assert day["in_red_count"] == len(morning.expect_in_red())


def test_analytics_shows_income_in_red_and_most_expensive(morning: Day, worked: Worked) -> None:
    analytics = worked.analytics
    assert analytics["business_date"] == morning.today
    assert analytics["income_cents"] == morning.expect_fees() - morning.expect_rewards()
    assert analytics["in_red_count"] == len(morning.expect_in_red())
    done = [task for task in morning.tasks if task["status"] == "completed"]
    dearest = min(done, key=lambda task: (-task["reward_cents"], task["completed_at"]))
    for period in ("day", "week", "month"):
        found = analytics["most_expensive"][period]
        assert pick(found["task"], "number", "title") == pick(dearest, "number", "title"), period
        assert found["reward_cents"] == dearest["reward_cents"]
        assert found["from"] <= morning.today <= found["to"]
    today = analytics["most_expensive"]["day"]
    assert (today["from"], today["to"]) == (morning.today, morning.today)
    assert analytics["most_expensive"]["by_day"][0] == today


def test_doctor_finds_nothing_wrong_before_the_close(worked: Worked) -> None:
    assert worked.doctor["ok"] is True
    assert worked.doctor["checks"]
    assert [check["name"] for check in worked.doctor["checks"] if not check["ok"]] == []


# --- the evening --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(morning: Day, worked: Worked) -> Closed:
    """Asya closes the day twice."""
    company = morning.company
    looks = [("asya", ["income"]), ("ada", ["analytics"]), (None, ["doctor"])]
    answer = company.ask("asya", "close-day")
    statements = statements_of(company, ASSIGNABLE)
    income, analytics, doctor = company.ask_all(looks)
    mails = company.mails()
    again = company.ask("asya", "close-day")
    statements_again = statements_of(company, ASSIGNABLE)
    income_again = company.ask("asya", "income")
    return Closed(
        answer,
        statements,
        income,
        analytics,
        mails,
        again,
        statements_again,
        income_again,
        company.mails(),
        doctor,
    )


def test_close_pays_every_positive_balance_and_no_other(morning: Day, closed: Closed) -> None:
    (day,) = closed.answer["days"]
    assert payouts_of(day) == sorted(morning.expect_paid().items()) != []
    assert day["business_date"] == morning.today
    assert (day["closed"], day["already_closed"]) == (True, False)
    assert closed.answer["set_aside"] == []


def test_close_records_the_figures_of_the_day(morning: Day, closed: Closed) -> None:
    (day,) = closed.answer["days"]
    fees, rewards, paid = morning.expect_fees(), morning.expect_rewards(), morning.expect_paid()
    assert (day["fees_cents"], day["rewards_cents"], day["income_cents"]) == (fees, rewards, fees - rewards)
    assert (day["payouts_cents"], day["paid_count"]) == (sum(paid.values()), len(paid))
    assert day["in_red_count"] == len(morning.expect_in_red())
    assert day_of(closed.income, morning.today) == day_figures(day)


def test_payout_leaves_exactly_zero_and_a_debt_is_carried_over(morning: Day, closed: Closed) -> None:
    assert "gosha" in morning.expect_in_red()
    for name in ASSIGNABLE:
        statement = closed.statements[name]
        expected = 0 if name in morning.expect_paid() else morning.expect_balance(name)
        assert statement["closing_balance_cents"] == expected, name


def test_payout_is_an_entry_of_its_own_after_the_others(morning: Day, worked: Worked, closed: Closed) -> None:
    for name in ASSIGNABLE:
        entries, before = closed.statements[name]["entries"], worked.statements[name]["entries"]
        assert entries[: len(before)] == before, name
        payouts = [
            (
                e["kind"],
                e["amount_cents"],
                e["signed_cents"],
                e["balance_cents"],
                e["task"],
                e["business_date"],
            )
            for e in entries[len(before) :]
        ]
        amount = morning.expect_paid().get(name)
        assert payouts == ([("payout", amount, -amount, 0, None, morning.today)] if amount else []), name


def test_all_accounts_together_are_zero(morning: Day, closed: Closed) -> None:
    employees = sum(closed.statements[name]["closing_balance_cents"] for name in ASSIGNABLE)
    (day,) = closed.answer["days"]
    assert employees + day["income_cents"] + day["payouts_cents"] == 0


def test_payouts_are_not_part_of_the_income(worked: Worked, closed: Closed) -> None:
    assert closed.income["total_income_cents"] == worked.income["total_income_cents"]
    seen = ("business_date", "income_cents", "in_red_count", "most_expensive")
    assert pick(closed.analytics, *seen) == pick(worked.analytics, *seen)


def test_each_payout_is_mailed_once_to_its_receiver(morning: Day, closed: Closed) -> None:
    receivers = sorted(receiver_of(mail) for mail in closed.mails)
    assert receivers == sorted(email_of(name) for name in morning.expect_paid())
    assert closed.answer["mail"]["sent"] == len(closed.mails)
    assert len({mail["Message-ID"] for mail in closed.mails}) == len(closed.mails)


def test_payslip_mail_shows_sum_and_lines_in_text_and_html(morning: Day, closed: Closed) -> None:
    paid = {email_of(name): (name, cents) for name, cents in morning.expect_paid().items()}
    titles = {task["number"]: task["title"] for task in morning.tasks}
    assert closed.mails
    for mail in closed.mails:
        name, cents = paid[receiver_of(mail)]
        assert mail.get_content_type() == "multipart/alternative"
        for part in parts_of(mail):
            assert shows_dollars(part, cents)
            for _, number, amount in morning.expect_lines(name):
                assert titles[number] in part
                assert f"#{number}" in part
                assert f"${amount // 100}" in part


def test_second_close_reports_the_same_figures(morning: Day, closed: Closed) -> None:
    (first,), (second,) = closed.answer["days"], closed.again["days"]
    assert second["already_closed"] is True
    assert day_figures(second) == day_figures(first)
    assert closed.statements_again == closed.statements
    assert closed.income_again == closed.income
    assert [m["Message-ID"] for m in closed.mails_again] == [m["Message-ID"] for m in closed.mails]
    assert closed.again["mail"]["sent"] == 0


def test_doctor_finds_nothing_wrong_after_the_close(closed: Closed) -> None:
    assert closed.doctor["ok"] is True
    assert [check["name"] for check in closed.doctor["checks"] if not check["ok"]] == []
