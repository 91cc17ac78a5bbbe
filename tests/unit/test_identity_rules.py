"""Valid names, addresses, passwords and lifetimes, and the lockout after failed logins."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.identity import rules
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import is_hidden
from popug_cli.messages.base import Role
from popug_cli.messages.principal import RESERVED_USERNAMES
from tests.support.error_checks import refused

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def code_of(error: pytest.ExceptionInfo[InvalidInput]) -> str:
    return error.value.code


@pytest.mark.parametrize("name", ["a", "7", "kesha", "k.e_s-ha", "0" * 32])
def test_plain_name_is_a_username(name: str) -> None:
    assert rules.parse_username(name) == name
    assert rules.is_username(name)


def test_username_is_lower_cased() -> None:
    assert rules.parse_username("KeSha.7") == "kesha.7"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".a",
        "-a",
        "_a",
        "a b",
        "a\n",
        "a" * 33,
        "ева",
        "\u212aesha",
        "a\u202eb",
        "a/b",
        "a\x00",
        "operator",
        "Scheduler",
    ],
)
def test_other_text_is_not_a_username(name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        rules.parse_username(name)
    assert code_of(error) == "invalid_username"
    assert not rules.is_username(rules.lower_username(name))


@given(st.text(max_size=40))
def test_username_has_no_character_beyond_its_few(name: str) -> None:
    try:
        parsed = rules.parse_username(name)
    except InvalidInput:
        return
    assert set(parsed) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert rules.parse_username(parsed) == parsed
    assert rules.lower_username(name) == parsed


@pytest.mark.parametrize(
    "address",
    ["a@b", "polly@example.com", "p.o+l'ly@sub-1.example.com", "Polly@Example.COM", "x" * 64 + "@example.com"],
)
def test_one_bare_address_is_taken_as_it_is(address: str) -> None:
    assert rules.parse_email(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "", "a", "@b", "a@", "a@b@c", "a b@c", "a@b c", "a@b\n", "a@b\r\nBcc: x@y", "A <a@b>", "a@b,c@d", "a@b;c@d",
        ".a@b", "a.@b", "a..b@c", '"a b"@c', "a@[127.0.0.1]", "a@-b", "a@b-", "a@b..c", "a@.b", "a@b.", "a@\u202eb",
        "é@b", "a@é.b", "a\x00@b", "a(c)@b", "x" * 65 + "@b", "a@" + "b" * 64, "a@" + ".".join(["b" * 60] * 5),
    ],
)  # fmt: skip
def test_other_text_is_not_an_address(address: str) -> None:
    with pytest.raises(InvalidInput) as error:
        rules.parse_email(address)
    assert code_of(error) == "invalid_email"


@given(st.one_of(st.emails(), st.from_regex(r"\A[^@]{0,5}@[^@]{0,5}\Z"), st.text()))
def test_address_can_inject_nothing(address: str) -> None:
    try:
        parsed = rules.parse_email(address)
    except InvalidInput:
        return
    assert parsed.isascii()
    assert parsed.count("@") == 1
    assert len(parsed) <= 254
    assert not any(c in ' \t\r\n<>,;:"()[]\\' or is_hidden(c) for c in parsed)


def test_address_of_254_characters_is_the_longest() -> None:
    domain = ".".join(["b" * 61] * 4)
    assert rules.parse_email("a" * (253 - len(domain)) + "@" + domain)
    with pytest.raises(InvalidInput):
        rules.parse_email("a" * (254 - len(domain)) + "@" + domain)


def test_addresses_are_the_same_without_regard_to_case() -> None:
    assert rules.email_key("Polly@Example.com") == rules.email_key("pOLLY@eXAMPLE.COM")


def test_role_is_one_of_four() -> None:
    assert [rules.parse_role(role) for role in ("admin", "manager", "accountant", "worker")] == list(Role)
    for other in ("", "Admin", "king", "admin "):
        with pytest.raises(InvalidInput) as error:
            rules.parse_role(other)
        assert code_of(error) == "invalid_role"


@pytest.mark.parametrize("password", ["x" * 12, "x" * 1024, "four words will do", "пароль из слов"])
def test_twelve_characters_are_enough_for_a_password(password: str) -> None:
    rules.check_password(password, "kesha", "kesha@example.com")


@pytest.mark.parametrize(
    "password",
    ["", "x" * 11, "x" * 1025, "my name is Kesha", "kesha-kesha-kesha", "KESHA@example.com 1", "e\u0301" * 11],
)
def test_short_long_or_owner_revealing_password_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput) as error:
        rules.check_password(password, "kesha", "kesha@example.com")
    assert code_of(error) == "password_too_weak"
    assert password not in error.value.message or not password


def test_password_with_own_mail_address_is_refused() -> None:
    with pytest.raises(InvalidInput):
        rules.check_password("it is polly@b.example", "kesha", "Polly@b.example")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("eve", "seven-cages-under-9-moons"),
        ("anna", "hosannah in the cage"),
        ("ab", "a cab for ab and ab"),
        ("ada", "x" * 12),
    ],
)
def test_short_name_within_a_word_is_allowed(name: str, password: str) -> None:
    rules.check_password(password, name, "x@y.example")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("eve", "eve and the seven cages"), ("eve", "seven cages for eve"), ("ada", "ada-likes-birds"),
        ("ada", "1234_Ada_567890"), ("ada", "adaadaadaada1234"), ("kesha", "mrkeshawordsandwords"),
        ("a.b", "words of a.b in it"),
    ],
)  # fmt: skip
def test_password_with_the_name_as_a_word_is_refused(name: str, password: str) -> None:
    with pytest.raises(InvalidInput):
        rules.check_password(password, name, "x@y.example")


def test_password_is_equal_in_every_unicode_spelling() -> None:
    assert rules.normalize_password("cafe\u0301") == rules.normalize_password("caf\u00e9")


@pytest.mark.parametrize(
    ("person", "code"),
    [
        (("a b", "a@b", "worker", None), "invalid_username"),
        (("ab", "ab", "worker", None), "invalid_email"),
        (("ab", "a@b", "king", None), "invalid_role"),
        (("ab", "a@b", "worker", "short"), "password_too_weak"),
    ],
)
def test_every_field_of_a_new_user_is_checked(person: tuple[str, str, str, str | None], code: str) -> None:
    with pytest.raises(InvalidInput) as error:
        rules.check_new_user(*person)
    assert code_of(error) == code


def test_new_user_needs_no_password() -> None:
    rules.check_new_user("ab", "a@b", "worker", None)
    rules.check_new_user("AB", "a@b", "admin", "long enough a word")


@pytest.mark.parametrize("seconds", [1, 3600, 366 * 86400])
def test_machines_token_lives_for_366_days_at_most(seconds: int) -> None:
    assert rules.check_lifetime(seconds) == timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [-1, 0, 366 * 86400 + 1, 10**30])
def test_no_other_lifetime_is_allowed(seconds: int) -> None:
    with refused("invalid_ttl", 2, {"ttl_seconds": seconds}):
        rules.check_lifetime(seconds)


def test_lockout_doubles_after_five_failures_up_to_15_minutes() -> None:
    waits = [rules.lockout_after(failures).total_seconds() for failures in range(18)]
    assert waits == [0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert rules.lockout_after(10**9) == timedelta(minutes=15)


def test_lock_holds_until_its_end_and_no_longer() -> None:
    assert rules.is_locked(NOW + timedelta(seconds=1), NOW)
    assert rules.is_locked(NOW + timedelta(minutes=15), NOW)
    assert not rules.is_locked(NOW, NOW)
    assert not rules.is_locked(NOW - timedelta(seconds=1), NOW)


def test_lock_is_void_after_clock_set_back() -> None:
    assert not rules.is_locked(NOW + timedelta(minutes=15, microseconds=1), NOW)


def test_failures_are_forgotten_after_a_day() -> None:
    assert rules.forget_lockouts_before(NOW) == "2026-03-01T09:00:00.000000Z"


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({Role.ADMIN}, "an admin"),
        ({Role.ADMIN, Role.ACCOUNTANT}, "an accountant or an admin"),
        (set(Role), "a worker, an accountant, a manager or an admin"),
        (set(), ""),
    ],
)
def test_roles_are_named_in_a_sentence(roles: set[Role], words: str) -> None:
    assert rules.name_roles(roles) == words


def test_invalid_role_is_refused_with_the_valid_ones() -> None:
    with refused("invalid_role", 2, {"role": "boss"}) as error:
        rules.parse_role("boss")
    assert error.value.hint.endswith("The roles are admin, manager, accountant, worker.")


def test_short_name_allowed_if_enough_characters_remain() -> None:
    assert not rules._contains_owner("sevenabcdefghij", "eve")
    assert rules._contains_owner("sevenabcdefghi", "eve")


@pytest.mark.parametrize("name", sorted(RESERVED_USERNAMES))
def test_reserved_name_is_refused_with_a_hint(name: str) -> None:
    with refused("invalid_username", 2, {"username": name.upper()}) as error:
        rules.parse_username(name.upper())
    assert error.value.message == f"The username {name} is reserved."
    assert error.value.hint == "Choose another."
