"""Find the lines of an import that are new, and those whose id another imported task has taken."""

from collections.abc import Iterable, Mapping, Sequence
from unicodedata import normalize

from popug_cli.bus.context import Context
from popug_cli.messages.tasks import TakenId
from popug_cli.tasks.rules import ImportLine, fold

SELECT_IMPORTED = (
    "SELECT imported.identity, imported.number, task.title, coalesce(creator.username, task.creator_id) AS creator"
    " FROM tasks_imported AS imported JOIN tasks_tasks AS task ON task.number = imported.number"
    " LEFT JOIN tasks_people AS creator ON creator.user_id = task.creator_id WHERE imported.identity IN"
)


def not_imported(lines: Iterable[ImportLine], context: Context) -> dict[str, ImportLine]:
    """Return the lines that were not imported before, in this file or another, by import key."""
    new_lines: dict[str, ImportLine] = {}
    for line in lines:
        new_lines.setdefault(line.import_key, line)
    stored_keys = {_decomposed(key): key for key in new_lines} | {key: key for key in new_lines}
    statement = "SELECT identity FROM tasks_imported WHERE identity IN"
    for (stored_key,) in context.connection.select_in(statement, [*stored_keys]):
        new_lines.pop(stored_keys[stored_key], None)
    return new_lines


def record(numbers_by_key: Mapping[str, int], context: Context) -> None:
    """Record the tasks that were created from lines, by import key; sorted, because that fills the table's pages."""
    statement = "INSERT INTO tasks_imported (identity, number) VALUES (?, ?)"
    context.connection.insert_many(statement, sorted(numbers_by_key.items()))


def find_taken(lines: Sequence[ImportLine], context: Context) -> list[TakenId]:
    """Return the lines whose jira id or task id belongs to an imported task with another title."""
    keys = {line.import_key for line in lines if line.given_id is not None}
    tasks = {row[0]: row[1:] for row in context.connection.select_in(SELECT_IMPORTED, [*keys])}
    taken = []
    for line in lines:
        if line.given_id is not None and line.import_key in tasks:
            number, title, creator = tasks[line.import_key]
            if fold(title) != fold(line.parsed_title.title):
                taken.append(TakenId(line.number, line.given_id, line.parsed_title.title, number, title, creator))
    return taken


def _decomposed(import_key: str) -> str:
    """Return the key that older versions stored for a title with decomposed letters, which they did not compose."""
    return normalize("NFD", import_key)
