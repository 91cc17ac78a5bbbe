"""Titles, jira ids, lines of an import, and the effect of an event on a user."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.base import Role
from popug_cli.messages.envelope import Delivered
from popug_cli.messages.identity import UserDeactivated, UserReactivated, UserRegistered, UserRoleChanged
from popug_cli.messages.tasks import NewTask
from popug_cli.storage.disk_counter import count_on_disk
from popug_cli.tasks.consumers import apply_user_event
from popug_cli.tasks.rules import (
    MAX_SEARCH_CHARACTERS,
    draw_assignee,
    is_storable,
    parse_import_lines,
    parse_jira_id,
    parse_title,
    quoted,
    search_patterns,
)

UUID = "01890000-0000-7000-8000-0000000000AB"


def refused(*arguments: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse_title(*arguments)
    return caught.value


@pytest.mark.parametrize(
    ("typed", "jira_id", "title"),
    [
        ("Feed the cage", None, "Feed the cage"),
        ("  Feed the cage\n", None, "Feed the cage"),
        ("[POPUG-7] Feed the cage", "POPUG-7", "Feed the cage"),
        ("[popug-7]Feed the cage", "POPUG-7", "Feed the cage"),
        ("  [ a1b2-007 ]  Feed ", "A1B2-007", "Feed"),
        ("POPUG-7 — Feed the cage", "POPUG-7", "Feed the cage"),
        ("POPUG-7 \N{EN DASH} Feed — the cage", "POPUG-7", "Feed — the cage"),
        ("POPUG-7 - Feed the cage", None, "POPUG-7 - Feed the cage"),
        ("Rows A-1—A-5", None, "Rows A-1—A-5"),
        ("POPUG-7 Feed", None, "POPUG-7 Feed"),
        ("Feed 👩\N{ZERO WIDTH JOINER}🌾", None, "Feed 👩\N{ZERO WIDTH JOINER}🌾"),
        ("ж" * 200, None, "ж" * 200),
        ("[POPUG-7] " + "ж" * 200, "POPUG-7", "ж" * 200),
    ],
)
def test_title_is_trimmed_and_parted_from_its_jira_id(typed: str, jira_id: str | None, title: str) -> None:
    titled = parse_title(typed)
    assert (titled.jira_id, titled.title) == (jira_id, title)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "no visible character"),
        (" \t\n", "no visible character"),
        ("\N{ZERO WIDTH SPACE}\N{RIGHT-TO-LEFT OVERRIDE}", "no visible character"),
        ("[POPUG-7]", "no visible character"),
        ("POPUG-7 —", "no visible character"),
        ("x" * 201, "201 characters"),
        ("Feed\nthe cage", "line break"),
        ("Feed\u2028the cage", "line break"),
        ("Feed\u0085the cage", "line break"),
        ("Feed\tthe cage", "control"),
        ("\x1b[31mFeed", "control"),
        ("Feed \x00", "control"),
        ("caf\udce9", "UTF-8"),
        ("Feed [red]the[/red] cage", "bracket"),
        ("Feed the cage]", "bracket"),
        ("[urgent] Feed", "bracket"),
        ("[POPUG-] Feed", "bracket"),
        ("[\N{LATIN SMALL LETTER LONG S}-1] Feed", "bracket"),
        ("[POPUG-٣] Feed", "bracket"),
        ("[POPUG-7] [POPUG-8] Feed", "bracket"),
        ("[POPUG-7] POPUG-8 — Feed", "two jira ids"),
    ],
)
def test_invalid_title_is_refused_with_the_reason(typed: str, reason: str) -> None:
    error = refused(typed)
    assert (error.code, error.exit_status) == ("invalid_title", 2)
    assert reason in error.message
    assert reason in error.details["reason"]


def test_long_title_is_quoted_in_short() -> None:
    assert len(refused("x" * 100_000).message) < 200


@pytest.mark.parametrize(
    ("typed", "jira_id"),
    [("POPUG-7", "POPUG-7"), (" popug-12 ", "POPUG-12"), ("a-0", "A-0"), ("A" * 62 + "-1", "A" * 62 + "-1")],
)
def test_jira_id_is_put_in_capitals(typed: str, jira_id: str) -> None:
    assert parse_jira_id(typed) == jira_id


@pytest.mark.parametrize(
    "typed", ["", "7", "POPUG", "POPUG-", "-7", "7A-1", "ß-1", "POPUG-7x", "P-1\n2", "A" * 63 + "-1"]
)
def test_invalid_jira_id_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_jira_id(typed)
    assert (caught.value.code, caught.value.exit_status) == ("invalid_jira_id", 2)


def test_separate_jira_id_accepted_if_equal_and_refused_if_not() -> None:
    assert parse_title("Feed", "popug-1").jira_id == "POPUG-1"
    assert parse_title("[POPUG-1] Feed", "popug-1").jira_id == "POPUG-1"
    assert refused("[POPUG-1] Feed", "POPUG-2").code == "invalid_jira_id"


@given(st.text(max_size=250) | st.text(st.sampled_from("aB7-[] \n\u200b\N{EM DASH}ж"), max_size=30))
def test_accepted_title_is_accepted_again_unchanged(typed: str) -> None:
    try:
        titled = parse_title(typed)
    except InvalidInput:
        return
    assert 1 <= len(titled.title) <= 200
    assert len(titled.title.splitlines()) == 1
    assert not set(titled.title) & {"[", "]"}
    assert titled.title.encode()
    assert parse_title(titled.title, titled.jira_id) == titled


@given(st.from_regex(r"[A-Z][A-Z0-9]{0,5}-[0-9]{1,5}", fullmatch=True), st.sampled_from(["[{}] {}", "{} — {}"]))
def test_both_spellings_of_a_jira_id_before_a_title_are_split(jira_id: str, spelling: str) -> None:
    titled = parse_title(spelling.format(jira_id.lower(), "Feed the cage"))
    assert (titled.jira_id, titled.title) == (jira_id, "Feed the cage")


def test_search_takes_every_character_as_itself_and_folds_case() -> None:
    assert search_patterns("100%_\\ЖЁ")[0] == "%100\\%\\_\\\\жё%"


@pytest.mark.parametrize("text", ["x" * (MAX_SEARCH_CHARACTERS + 1), "caf\udce9"])
def test_search_for_impossible_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        search_patterns(text)
    assert caught.value.code == "invalid_search"


def test_search_may_be_as_long_as_any_title_with_its_jira_id() -> None:
    assert search_patterns("x" * 300) == [f"%{'x' * 300}%"]


def test_search_text_has_title_and_jira_id_in_lower_case() -> None:
    assert parse_title("POPUG-7 — Feed the CAGE").search_text == "popug-7 feed the cage"
    assert parse_title("Straße").search_text == "strasse"


def test_quoted_text_is_visible_and_at_most_60_characters() -> None:
    assert quoted("x" * 60) == f"“{'x' * 60}”"
    assert quoted("x" * 59 + "yz") == f"“{'x' * 59}y…”"
    assert quoted("a\x1bb") == "“a\\x1bb”"


def test_only_surrogates_are_not_storable() -> None:
    assert not any(is_storable(f"a{character}") for character in "\ud800\udfff")
    assert is_storable("\ud7ff\ue000")


@pytest.mark.parametrize(
    ("refuse", "message", "hint", "details"),
    [
        (
            lambda: search_patterns("x" * 301),
            f"“{'x' * 60}…” cannot be searched for.",
            "Search for at most 300 characters of a title or jira id.",
            {},
        ),
        (
            lambda: parse_title("[POPUG-1] Feed", "popug-2"),
            "The title begins with jira id POPUG-1, but jira id POPUG-2 was given.",
            "Give one of them, or the same one twice.",
            {"in_title": "POPUG-1", "jira_id": "POPUG-2"},
        ),
        (
            lambda: parse_title("Feed", "\x1b" + "7" * 200),
            f"“\\x1b{'7' * 59}…” is not a valid jira id.",
            "A jira id is letters and digits, a hyphen and a number, such as POPUG-7, and has at most 64 characters.",
            {"jira_id": f"\\x1b{'7' * 199}"},
        ),
        (
            lambda: parse_title(" Feed\x1b "),
            "“ Feed\\x1b ” is not a valid title: it has a line break or another control character.",
            "A title is one line of 1 to 200 characters; [ and ] may only enclose a jira id in front of it,"
            " as in [POPUG-7] Feed the cage.",
            {"reason": "it has a line break or another control character"},
        ),
        (
            lambda: list(parse_import_lines([None, NewTask(title="Feed", task_id="7" * 201)], len)),
            f"Line 2: “{'7' * 60}…” is not a valid task id.",
            "A task id is a UUID; leave it out if there is none.",
            {"task_id": "7" * 200, "line": 2},
        ),
    ],
)
def test_refusal_has_message_and_hint(
    refuse: Callable[[], object], message: str, hint: str, details: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        refuse()
    assert (caught.value.message, caught.value.hint, caught.value.details) == (message, hint, details)


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("x" * 201, "it has 201 characters, but at most 200 are allowed"),
        (" ", "it has no visible character"),
        ("caf\udce9", "it has bytes that are not valid UTF-8"),
        ("a\nb", "it has a line break or another control character"),
        ("[a", "it has a bracket that does not enclose a jira id in front"),
        ("a]", "it has a bracket that does not enclose a jira id in front"),
        ("[A-1] B-2 — c", "it has two jira ids"),
    ],
)
def test_reason_is_a_whole_sentence(title: str, reason: str) -> None:
    assert refused(title).details == {"reason": reason}


def identities(*lines: NewTask | None) -> list[str]:
    with count_on_disk() as times_seen:
        return [line.import_key for line in parse_import_lines(lines, times_seen)]


def test_line_identity_is_task_id_or_jira_id_or_position() -> None:
    assert identities(
        NewTask(title="Feed", jira_id="popug-1", task_id=UUID),
        None,
        NewTask(title="[popug-2] Feed"),
        NewTask(title=" Feed "),
        NewTask(title="Mend"),
        NewTask(title="Feed"),
    ) == [f"task_id {UUID.lower()}", "jira_id POPUG-2", "title 3 Feed", "title 1 Mend", "title 4 Feed"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (NewTask(title="Feed [the] cage"), "invalid_title"),
        (NewTask(title="Feed", jira_id="seven"), "invalid_jira_id"),
        (NewTask(title="Feed", task_id="seven"), "invalid_task_id"),
    ],
)
def test_bad_line_is_named_by_number_counting_blank_lines(bad: NewTask, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(parse_import_lines([NewTask(title="Feed"), None, None, bad, NewTask(title="")], len))
    assert (caught.value.code, caught.value.details["line"]) == (code, 4)
    assert caught.value.message.startswith("Line 4: ")


def delivered(sequence: int, data: Any) -> Delivered[Any]:
    return Delivered(sequence, f"e{sequence}", data.subject, datetime(2026, 3, 2, tzinfo=UTC), "c", "boss", data)


def registered(role: Role = Role.WORKER) -> Delivered[Any]:
    return delivered(1, UserRegistered(user_id="u", username="kesha", email="k@example.com", role=role))


@pytest.mark.parametrize(
    ("role", "assignable"),
    [(Role.WORKER, True), (Role.ACCOUNTANT, True), (Role.MANAGER, False), (Role.ADMIN, False)],
)
def test_workers_and_accountants_are_assignable(role: Role, assignable: bool) -> None:
    assert apply_user_event(None, registered(role)).assignable is assignable


def test_deactivated_user_is_not_assignable_until_reactivated() -> None:
    person = apply_user_event(None, registered())
    gone = apply_user_event(person, delivered(2, UserDeactivated(user_id="u")))
    back = apply_user_event(gone, delivered(3, UserReactivated(user_id="u")))
    manager = apply_user_event(
        back, delivered(4, UserRoleChanged(user_id="u", old_role=Role.WORKER, new_role=Role.MANAGER))
    )
    assert [state.assignable for state in (person, gone, back, manager)] == [True, False, True, False]


def test_redelivered_event_changes_nothing() -> None:
    person = apply_user_event(apply_user_event(None, registered()), delivered(5, UserDeactivated(user_id="u")))
    for again in (registered(), delivered(3, UserReactivated(user_id="u")), delivered(5, UserReactivated(user_id="u"))):
        assert apply_user_event(person, again) == person


@pytest.mark.parametrize(
    "event",
    [
        UserDeactivated(user_id="u"),
        UserReactivated(user_id="u"),
        UserRoleChanged(user_id="u", old_role=Role.WORKER, new_role=Role.ADMIN),
    ],
)
def test_event_about_an_unknown_user_raises(event: Any) -> None:
    with pytest.raises(LookupError, match="the registration of user u has not been processed"):
        apply_user_event(None, delivered(2, event))


# --- draws --------------------------------------------------------------------------------------


def test_draw_is_deterministic_and_uniform() -> None:
    people = ["a", "b", "c", "d"]
    drawn = Counter(draw_assignee("seed", f"task-{n}", people) for n in range(8000))
    assert draw_assignee("seed", "task-1", people) == draw_assignee("seed", "task-1", people)
    assert all(abs(drawn[person] - 2000) < 5 * (8000 * 0.25 * 0.75) ** 0.5 for person in people)


def test_published_draw_never_changes() -> None:
    assert draw_assignee("00", "task", ["a", "b", "c", "d", "e"]) == "e"
