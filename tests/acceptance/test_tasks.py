"""Tasks through the command line: lists and filters, imports and exports, draws, and permission to complete."""

import json
import re
from dataclasses import dataclass

import pytest

from tests.acceptance.answers import pick
from tests.support.installed_company import Company, Json

TITLES = [
    "Feed the cage",
    "Clean 100% of the mirrors",
    "Clean 1000 mirrors",
    "Sort seeds_and_nuts",
    "Sort seedsXandXnuts",
    "Feed the cage",  # again: the same title is another task
    "Натереть жёрдочку",
    "Oil the hinge",
]
NOWHERE = "01890000-0000-7000-8000-000000000000"


def numbers(answer: Json) -> list[int]:
    """Return the numbers of the listed tasks, in their order."""
    return [task["number"] for task in answer["tasks"]]


@dataclass
class Board:
    """A company with eight tasks, the first two completed, and its list of all tasks."""

    company: Company
    tasks: list[Json]

    def wanted(self, status: str | None = None, assignee: str | None = None) -> list[int]:
        """Return the numbers of the tasks that a filter must find."""
        return [
            task["number"]
            for task in self.tasks
            if status in (None, task["status"]) and assignee in (None, task["assignee"])
        ]

    def found(self, as_user: str, *filters: str) -> list[int]:
        """Return the numbers that the program finds; check that their count is the total."""
        answer = self.company.ask(as_user, "tasks", "list", *filters)
        assert answer["total"] == len(answer["tasks"])
        return numbers(answer)


@pytest.fixture(scope="module")
def board(staff: Company) -> Board:
    """Import eight tasks and complete the first and the second as their assignees."""
    staff.import_tasks("mira", TITLES)
    staff.ask_all((task["assignee"], ("task", "complete", str(task["number"]))) for task in staff.tasks()[:2])
    return Board(staff, staff.tasks())


# --- lists --------------------------------------------------------------------------------------


def test_list_of_all_has_every_task_by_number(board: Board) -> None:
    assert [(task["number"], task["title"]) for task in board.tasks] == list(enumerate(TITLES, start=1))
    assert [task["status"] for task in board.tasks] == ["completed"] * 2 + ["open"] * 6


def test_tasks_list_shows_own_open_tasks_by_default(board: Board) -> None:
    for name in ("asya", "gosha", "kesha"):
        assert board.found(name) == board.found(name, "--mine") == board.wanted("open", name)


def test_tasks_are_filtered_by_status(board: Board) -> None:
    assert board.found("kesha", "--all", "--status", "open") == [3, 4, 5, 6, 7, 8]
    assert board.found("kesha", "--all", "--status", "completed") == [1, 2]
    assert board.found("kesha", "--all", "--status", "all") == [1, 2, 3, 4, 5, 6, 7, 8]


def test_tasks_are_filtered_by_assignee(board: Board) -> None:
    for name in ("gosha", "mira"):
        assert board.found("kesha", "--assignee", name, "--status", "all") == board.wanted(assignee=name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Feed", [1, 6]), ("100%", [2]), ("seeds_and", [4]), ("жёрд", [7])],
)
def test_tasks_are_searched_by_the_very_text(board: Board, text: str, expected: list[int]) -> None:
    assert board.found("kesha", "--all", "--search", text) == expected


def test_page_of_the_list_has_the_total_of_the_whole(board: Board) -> None:
    pages = [("3", "0", [1, 2, 3]), ("3", "6", [7, 8]), ("5", "50", [])]
    list_all = ("tasks", "list", "--all")
    answers = board.company.ask_all(
        ("kesha", (*list_all, "--limit", limit, "--offset", offset)) for limit, offset, _ in pages
    )
    assert [(numbers(answer), answer["total"]) for answer in answers] == [(page[2], 8) for page in pages]


def test_money_of_others_is_not_shown_with_a_task(board: Board) -> None:
    done = board.tasks[0]
    stranger = "gosha" if done["assignee"] == "kesha" else "kesha"
    show = ("task", "show", "1")
    by_stranger, by_owner, by_admin = board.company.ask_all([(stranger, show), (done["assignee"], show), ("ada", show)])
    assert by_stranger["task"] == by_owner["task"] == by_admin["task"]
    assert by_stranger["entries"] == []
    assert [entry["kind"] for entry in by_owner["entries"]] == ["fee", "reward"]
    assert [entry["kind"] for entry in by_admin["entries"]] == ["fee", "reward"]


def test_task_history_has_actors_in_order(board: Board) -> None:
    shown = board.company.ask("gosha", "task", "show", "1")
    assert pick(shown["task"], "number", "title", "status") == {
        "number": 1, "title": "Feed the cage", "status": "completed",
    }  # fmt: skip
    history = shown["history"]
    assert [line["at"] for line in history] == sorted(line["at"] for line in history)
    assert history[0]["actor"] == "mira"
    assert board.tasks[0]["assignee"] in [line["actor"] for line in history]
    assert all(line["event"] for line in history)


def test_list_for_people_shows_a_table_and_no_json(board: Board) -> None:
    result = board.company.run("tasks", "list", "--all", as_user="kesha", as_json=False, env={"COLUMNS": "200"})
    assert (result.code, result.stderr) == (0, "")
    assert "Clean 100% of the mirrors" in result.stdout
    assert f"${board.tasks[0]['reward_cents'] // 100}" in result.stdout
    assert "\x1b" not in result.stdout


# --- creating -----------------------------------------------------------------------------------


def test_text_answer_mentions_the_split_title(lone: Company) -> None:
    result = lone.run("task", "add", "[popug-7] Feed the cage", as_user="kesha", as_json=False)
    assert result.code == 0, result
    assert "POPUG-7" in result.stdout
    assert "[popug-7]" not in result.stdout
    assert pick(lone.tasks()[0], "jira_id", "title") == {"jira_id": "POPUG-7", "title": "Feed the cage"}


def test_title_is_trimmed_and_may_have_two_hundred_characters(lone: Company) -> None:
    longest = "ж" * 200
    assert lone.add_task("kesha", f"  {longest}  ")["title"] == longest


def test_jira_id_may_be_given_as_an_option(lone: Company) -> None:
    task = lone.ask("kesha", "task", "add", "Feed the cage", "--jira", "popug-12")
    assert (task["jira_id"], task["title"]) == ("POPUG-12", "Feed the cage")


def test_title_with_markup_is_shown_as_it_was_written(lone: Company) -> None:
    title = "Wipe <b>bold</b> :smile: *stars* & $HOME %s {x}"
    assert lone.add_task("kesha", title)["title"] == title
    result = lone.run("tasks", "list", as_user="kesha", as_json=False, env={"COLUMNS": "250"})
    assert title in result.stdout


def test_task_add_refused_without_assignable_users(lone: Company) -> None:
    lone.ask("ada", "user", "deactivate", "kesha")
    lone.run("task", "add", "Feed the cage", as_user="ada").refused(6, "nobody_assignable")
    file = str(lone.write_lines([{"title": "Feed the cage"}], "one.jsonl"))
    lone.run("tasks", "import", file, as_user="ada").refused(6, "nobody_assignable")
    assert lone.tasks() == []


def test_number_is_not_used_up_by_a_refused_task(lone: Company) -> None:
    lone.run("task", "add", "", as_user="kesha").refused(2, "invalid_title")
    assert lone.add_task("kesha", "Feed the cage")["number"] == 1


# --- completing and shuffling -------------------------------------------------------------------


def test_complete_refused_for_unknown_task_and_for_other_user(lone: Company) -> None:
    lone.add_task("kesha", "Feed the cage")
    lone.run("task", "complete", "2", as_user="kesha").refused(3, "task_not_found")
    lone.run("task", "complete", "1", as_user="ada").refused(5, "not_your_task")
    assert [task["status"] for task in lone.tasks()] == ["open"]


def test_shuffle_with_no_open_task_does_nothing(company: Company) -> None:
    assert company.ask("mira", "tasks", "shuffle", "--yes")["task_count"] == 0


def test_shuffle_skips_completed_tasks_and_charges_again(lone: Company) -> None:
    lone.import_tasks("kesha", ["Feed the cage", "Mend the swing"])
    lone.complete("kesha", 1)
    answer = lone.ask("ada", "tasks", "shuffle", "--yes")
    assert (answer["task_count"], answer["candidates_count"]) == (1, 1)
    entries = lone.statement("kesha", "kesha")["entries"]
    assert [(entry["kind"], entry["task"]["number"]) for entry in entries] == [
        ("fee", 1), ("fee", 2), ("reward", 1), ("fee", 2),
    ]  # fmt: skip
    assert entries[1]["amount_cents"] == entries[3]["amount_cents"]
    verified = lone.ask("kesha", "tasks", "verify", answer["shuffle_id"])
    assert (verified["checked"], verified["different"]) == (1, [])


def test_unknown_shuffle_is_not_verified(staff: Company) -> None:
    staff.run("tasks", "verify", NOWHERE, as_user="kesha").refused(3, "shuffle_not_found")


def test_concurrent_completions_and_shuffle_have_one_winner(company: Company) -> None:
    company.import_tasks("mira", ["One", "Two", "Three", "Four"])
    before = company.tasks()
    complete = [(task["assignee"], ("task", "complete", str(task["number"]))) for task in before]
    shuffle = ("mira", ("tasks", "shuffle", "--yes"))
    results = company.run_all([*complete[:2], shuffle, *complete[2:]])
    shuffled = results.pop(2).ok()
    won = []
    for task, result in zip(before, results, strict=True):
        if result.code == 0:
            won.append(task["number"])
        else:
            result.refused(6, "task_reassigned")
    after = company.tasks()
    assert [task["number"] for task in after if task["status"] == "completed"] == won
    statements = company.ask_all(("ada", ("statement", name)) for name in ("asya", "gosha", "kesha"))
    entries = [entry for statement in statements for entry in statement["entries"]]
    assert sorted(entry["task"]["number"] for entry in entries if entry["kind"] == "reward") == won
    assert len([entry for entry in entries if entry["kind"] == "fee"]) == 4 + shuffled["task_count"]


def test_one_of_two_concurrent_completions_is_rewarded(lone: Company) -> None:
    lone.add_task("kesha", "Feed the cage")
    results = lone.run_all([("kesha", ("task", "complete", "1"))] * 2)
    winner, loser = sorted(results, key=lambda result: result.code)
    winner.ok()
    loser.refused(6, "task_completed")
    kinds = [entry["kind"] for entry in lone.statement("kesha", "kesha")["entries"]]
    assert kinds == ["fee", "reward"]


# --- import and export --------------------------------------------------------------------------


def test_importing_a_file_twice_adds_nothing_the_second_time(lone: Company) -> None:
    lines: list[Json | str] = [
        {"title": "Feed the cage"},
        {"title": "Feed the cage"},
        {"title": "Mend the swing", "jira_id": "POPUG-9"},
        {"title": "Oil the hinge", "task_id": NOWHERE},
    ]
    file = str(lone.write_lines(lines, "twice.jsonl"))
    counts = [pick(lone.ask("kesha", "tasks", "import", file), "imported", "skipped") for _ in range(2)]
    assert counts == [{"imported": 4, "skipped": 0}, {"imported": 0, "skipped": 4}]
    tasks = lone.tasks()
    assert [(task["number"], task["title"], task["jira_id"]) for task in tasks] == [
        (1, "Feed the cage", None),
        (2, "Feed the cage", None),
        (3, "Mend the swing", "POPUG-9"),
        (4, "Oil the hinge", None),
    ]
    assert {(task["creator"], task["assignee"]) for task in tasks} == {("kesha", "kesha")}
    assert len(lone.statement("kesha", "kesha")["entries"]) == 4


def test_import_is_not_compared_with_added_tasks(lone: Company) -> None:
    lone.add_task("kesha", "Feed the cage")
    assert lone.import_tasks("kesha", ["Feed the cage"])["imported"] == 1
    assert [task["title"] for task in lone.tasks()] == ["Feed the cage", "Feed the cage"]


def test_longer_file_adds_only_new_lines(lone: Company) -> None:
    lone.import_tasks("kesha", ["Feed the cage", "Mend the swing"])
    answer = lone.import_tasks("kesha", ["Mend the swing", "Feed the cage", "Feed the cage"])
    assert pick(answer, "imported", "skipped") == {"imported": 1, "skipped": 2}
    assert [task["title"] for task in lone.tasks()] == ["Feed the cage", "Mend the swing", "Feed the cage"]


BAD_LINES: dict[str, Json | str] = {
    "not-json": '{"title": "Feed',
    "no-object": '["Feed the cage"]',
    "no-title": {"jira_id": "POPUG-1"},
    "number": {"title": 7},
    "jira": {"title": "Feed the cage", "jira_id": "7-POPUG!"},
}


def test_import_with_bad_line_names_it_and_imports_nothing(lone: Company) -> None:
    files = {
        name: str(lone.write_lines([*({"title": f"Good {n}"} for n in "abcdefghijklmnop"), bad], f"{name}.jsonl"))
        for name, bad in BAD_LINES.items()
    }
    results = lone.run_all(("kesha", ("tasks", "import", file)) for file in files.values())
    for file, result in zip(files.values(), results, strict=True):
        error = result.refused_with_exit(2)
        assert re.search(r"\b17\b", f"{error['message']} {error['details']}".replace(file, "")), result
    assert lone.tasks() == []


def test_file_that_is_not_there_or_not_text_is_refused(lone: Company) -> None:
    noise = lone.folder / "noise.jsonl"
    noise.write_bytes(b"\xff\xfe\x00{")
    for file in (lone.folder / "missing.jsonl", noise):
        result = lone.run("tasks", "import", str(file), as_user="kesha")
        assert result.code in {2, 3}, result
        assert "Traceback" not in result.stderr
    assert lone.tasks() == []


def test_export_has_a_json_line_for_each_task(board: Board) -> None:
    result = board.company.run("tasks", "export", as_user="gosha", as_json=False)
    assert (result.code, result.stderr) == (0, "")
    assert [json.loads(line) for line in result.stdout.splitlines()] == board.tasks


def test_export_is_written_to_a_file_on_request(board: Board) -> None:
    file = board.company.folder / "export.jsonl"
    assert board.company.run("tasks", "export", "--out", str(file), as_user="gosha", as_json=False).code == 0
    assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == board.tasks


def test_export_can_be_imported_by_another_company(board: Board, lone: Company) -> None:
    exported = board.company.run("tasks", "export", as_user="gosha", as_json=False).stdout
    tasks = [json.loads(line) for line in exported.splitlines()]
    wanted = ("title", "jira_id", "task_id")
    lines: list[Json | str] = [
        {key: task[key] for key in wanted if task[key] is not None} for task in tasks if task["status"] == "open"
    ]
    answer = lone.ask("kesha", "tasks", "import", str(lone.write_lines(lines, "moved.jsonl")))
    assert pick(answer, "imported", "skipped") == {"imported": 6, "skipped": 0}
    assert [task["title"] for task in lone.tasks()] == TITLES[2:]
