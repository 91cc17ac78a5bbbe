"""The sample day of a demo, from the first user to the close, in the program's own commands."""

from popug_cli.cli.commands.start.demo_stage import ADMIN, Stage
from popug_cli.messages.mail import ListMails

MANAGER, ACCOUNTANT = "mango", "pepper"
WORKERS = ("aria", "basil", "coco", "dusty", "ember", "figaro", "gigi", "hugo", "iris")
CHORES = (
    "Change the water",
    "Sweep the perches",
    "Count the sunflower seeds",
    "Oil the cage door",
    "Teach the parrot to say invoice",
    "Untangle the bells",
    "Polish the mirror",
    "Air the nest boxes",
    "Order more millet",
    "Read the meters",
    "Label the feeders",
)
# With so many, one day in 50,000 is without a payout; with four and three, one in 170 is.
COMPLETED_IN_THE_MORNING = 6
COMPLETED_IN_THE_AFTERNOON = 3


def register_people(stage: Stage) -> None:
    """Let the admin register all other users."""
    stage.announce("The admin registers a manager, an accountant and nine workers")
    stage.run(ADMIN, f"user add {MANAGER} --email {MANAGER}@popug.example --role manager")
    people = [(ACCOUNTANT, "accountant"), *((name, "worker") for name in WORKERS)]
    lines = [{"username": name, "email": f"{name}@popug.example", "role": role} for name, role in people]
    stage.run(ADMIN, f"user import {stage.write_json_lines('people.jsonl', lines)}")
    stage.issue_tokens(MANAGER, ACCOUNTANT, *WORKERS)


def play_morning(stage: Stage) -> None:
    """Create tasks and complete some of them."""
    stage.announce("Tasks are created; chance assigns each of them, and the assignee pays a fee")
    stage.run(MANAGER, "task add '[POPUG-7] Feed the cage'")
    chores = stage.write_json_lines("chores.jsonl", [{"title": title} for title in CHORES])
    stage.run(MANAGER, f"tasks import {chores}")
    stage.run(MANAGER, "tasks list --all")
    stage.announce("The assignee who completes a task earns its reward")
    for task in stage.tasks()[:COMPLETED_IN_THE_MORNING]:
        stage.run(task.assignee, f"task complete {task.number}")


def play_afternoon(stage: Stage) -> int | None:
    """Shuffle and complete other tasks; return the number of the task that a worker lost by the shuffle, if any."""
    assignees_before = {task.number: task.assignee for task in stage.tasks()}
    stage.announce("The manager shuffles: every open task is drawn again, and charged again")
    stage.run(MANAGER, "tasks shuffle --yes")
    tasks = stage.tasks()
    lost = next((task for task in tasks if assignees_before[task.number] != task.assignee), None)
    if lost:
        stage.announce("A worker loses the race: the shuffle has reassigned the task before its completion")
        stage.run(assignees_before[lost.number], f"task complete {lost.number}")
        tasks = [lost, *(task for task in tasks if task.number != lost.number)]
    stage.announce("The new assignee and other workers continue")
    for task in tasks[:COMPLETED_IN_THE_AFTERNOON]:
        stage.run(task.assignee, f"task complete {task.number}")
    worker = stage.tasks()[0].assignee
    stage.announce("A worker looks at the balance and the entries of today")
    stage.run(worker, "balance")
    stage.run(worker, "statement")
    return lost.number if lost else None


def play_evening(stage: Stage) -> None:
    """Close the day, and show its mails and figures."""
    stage.announce("The day is closed: positive balances are paid out and announced by mail, debts are carried over")
    stage.run(ACCOUNTANT, "close-day --dry-run")
    stage.run(ACCOUNTANT, "close-day --yes")
    stage.run(ACCOUNTANT, "mail list")
    for mail in stage.backend.perform(ListMails(), stage.tokens[ACCOUNTANT]).mails[:1]:
        stage.run(ACCOUNTANT, f"mail show {mail.mail_id}")
    stage.announce("Management sees its income")
    stage.run(ACCOUNTANT, "income")
    stage.run(ADMIN, "analytics")
