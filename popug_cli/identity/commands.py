"""What may be done about people, sessions, tokens and keys."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import msgspec

from popug_cli.bus.context import Context
from popug_cli.identity import keys, login_throttle, passwords, rules, token_store, users
from popug_cli.kernel.batches import batched
from popug_cli.kernel.errors import Conflict, NotAuthenticated, NotFound, PopugError
from popug_cli.messages.base import ImportResult, Nothing, Role
from popug_cli.messages.identity import (
    ActivateUser,
    AddUser,
    AdminRecovered,
    DeactivateUser,
    ImportUsers,
    IssuedToken,
    IssueToken,
    KeyRotated,
    LogIn,
    LogOut,
    NewPerson,
    PasswordChanged,
    RecoverAdmin,
    RegisterFirstAdmin,
    RevokeToken,
    RotatedKey,
    RotateKey,
    Session,
    SetEmail,
    SetPassword,
    SetRole,
    User,
    UserDeactivated,
    UserEmailChanged,
    UserReactivated,
    UserRoleChanged,
)

PEOPLE_AT_ONCE = 5_000


def register_first_admin(message: RegisterFirstAdmin, context: Context) -> User:
    """Register an admin while there is nobody; raises ``already_initialised`` otherwise."""
    if users.has_users(context):
        raise Conflict(
            "already_initialised",
            f"The company in {context.home.root} has its people already.",
            hint="Run `popug login NAME`; for another company choose another --home.",
            details={"home": str(context.home.root)},
        )
    admin = NewPerson(username=message.username, email=message.email, role=Role.ADMIN)
    user = _register(context, admin, message.password)
    keys.create_first_key(context.home, context.randomness, context.on_rollback)
    return user


def recover_admin(message: RecoverAdmin, context: Context) -> User:
    """Make somebody an active admin with a new password, whatever they were; also mends a lost key."""
    user = users.get(context, message.username)
    rules.check_password(message.password, user.username, user.email)
    token_store.revoke_all(context, user, "recovered")
    recovered = msgspec.structs.replace(user, role=Role.ADMIN, active=True)
    _update(context, user, recovered)
    _set_password(context, user, message.password)
    kid = keys.ensure_signing_key(context.home, context.randomness, context.on_rollback)
    if kid is not None:
        context.events.publish(KeyRotated(kid=kid))
    context.events.publish(AdminRecovered(user_id=user.user_id, username=user.username))
    return recovered


def log_in(message: LogIn, context: Context) -> Session | NotAuthenticated:
    """A session for who knows the password; a refusal is returned, so that its count is kept.

    Raises ``too_many_attempts``. An unknown name is answered with the same words after the same work.
    """
    username = rules.lower_username(message.username)
    login_throttle.check_not_locked(context, username)
    user = users.find(context, username)
    password_hash = users.password_hash_of(context, user) if user and user.active else None
    is_correct = passwords.is_password(message.password, password_hash, context)
    if not is_correct or user is None or password_hash is None:
        login_throttle.record_failure(context, username)
        return NotAuthenticated(
            "bad_credentials",
            "The name or the password is wrong.",
            hint="Try again, or let an admin set a new password with `popug user passwd NAME`.",
        )
    login_throttle.reset(context, username)
    if passwords.needs_rehash(password_hash, context):
        users.set_password_hash(context, user, passwords.hash_password(message.password, context))
    context.events.set_actor(user.username)
    lifetime = timedelta(hours=context.settings.number("identity.session_hours"))
    issued = token_store.issue(context, user, token_store.SESSION, lifetime)
    return Session(user=user, token=issued.token, expires_at=issued.expires_at)


def log_out(message: LogOut, context: Context) -> Nothing:
    """End one's own token."""
    token_store.revoke(context, context.principal.token_id, "logged_out")
    return Nothing()


def add_user(message: AddUser, context: Context) -> User:
    """Register a person; raises what is wrong with name, address, role or password, or that one of them is taken."""
    person = NewPerson(username=message.username, email=message.email, role=message.role)
    return _register(context, person, message.password)


def import_users(message: ImportUsers, context: Context) -> ImportResult:
    """Register many people, all or none; who is there with the same address and role is skipped."""
    numbered = ((number, person) for number, person in enumerate(message.people, 1) if person is not None)
    read = imported = 0
    for lines in batched(numbered, PEOPLE_AT_ONCE):
        imported += _register_lines(context, lines)
        read += len(lines)
        context.progress("Registering people", read, len(message.people))
    return ImportResult(imported=imported, skipped=read - imported)


def set_role(message: SetRole, context: Context) -> User:
    """Give a person another role; raises ``last_admin``."""
    user = users.get(context, message.username)
    return _change_permissions(context, user, rules.parse_role(message.role), active=user.active, reason="role_changed")


def set_email(message: SetEmail, context: Context) -> User:
    """Give a person another address; raises ``email_taken``."""
    user = users.get(context, message.username)
    email = rules.parse_email(message.email)
    others = [
        holder for holder in users.with_name_or_email(context, user.username, email) if holder.user_id != user.user_id
    ]
    users.check_email_free(email, others)
    changed = msgspec.structs.replace(user, email=email)
    _update(context, user, changed)
    return changed


def deactivate_user(message: DeactivateUser, context: Context) -> User:
    """Take a person out of the game; raises ``last_admin``."""
    user = users.get(context, message.username)
    return _change_permissions(context, user, user.role, active=False, reason="deactivated")


def activate_user(message: ActivateUser, context: Context) -> User:
    """Take a person back into the game."""
    user = users.get(context, message.username)
    changed = msgspec.structs.replace(user, active=True)
    _update(context, user, changed)
    return changed


def set_password(message: SetPassword, context: Context) -> User:
    """Set a password, one's own where nobody is named; ends that person's sessions."""
    user = users.get(context, message.username or context.principal.username)
    rules.check_password(message.password, user.username, user.email)
    token_store.revoke_sessions(context, user, "password_changed")
    _set_password(context, user, message.password)
    return user


def issue_token(message: IssueToken, context: Context) -> IssuedToken:
    """Make a token for a machine; raises ``invalid_ttl``, or ``user_inactive`` for who is out of the game."""
    lifetime = rules.check_lifetime(message.ttl_seconds)
    user = users.get(context, message.username)
    if not user.active:
        raise Conflict(
            "user_inactive",
            f"{user.username} is not active, so no token would be good.",
            hint=f"Run `popug user activate {user.username}` first.",
            details={"username": user.username},
        )
    return token_store.issue(context, user, token_store.MACHINE, lifetime, message.scope)


def revoke_token(message: RevokeToken, context: Context) -> Nothing:
    """End one token; raises ``token_not_found``."""
    if token_store.find(context, message.token_id) is None:
        raise NotFound(
            "token_not_found",
            f"There is no token {message.token_id!r}.",
            hint="Run `popug token list` for all of them.",
            details={"token_id": message.token_id},
        )
    token_store.revoke(context, message.token_id, "revoked")
    return Nothing()


def rotate_key(message: RotateKey, context: Context) -> RotatedKey:
    """Sign with a new key from now on; what the old ones signed stays good."""
    kid = keys.make_signing_key(context.home, context.randomness, context.on_rollback)
    context.events.publish(KeyRotated(kid=kid))
    return RotatedKey(kid)


def _register(context: Context, person: NewPerson, password: str | None) -> User:
    rules.check_new_user(person.username, person.email, person.role, password)
    user = _new_user(context, person)
    taken = users.with_name_or_email(context, user.username, user.email)
    users.check_username_free(user.username, taken)
    users.check_email_free(user.email, taken)
    password_hash = None if password is None else passwords.hash_password(password, context)
    users.register(context, [user], password_hash)
    return user


def _new_user(context: Context, person: NewPerson) -> User:
    return User(
        user_id=context.events.new_id(),
        username=rules.parse_username(person.username),
        email=rules.parse_email(person.email),
        role=rules.parse_role(person.role),
        active=True,
    )


def _is_same(existing: User, line: User) -> bool:
    return (rules.email_key(existing.email), existing.role) == (rules.email_key(line.email), line.role)


def _register_lines(context: Context, lines: Sequence[tuple[int, NewPerson]]) -> int:
    """Register who is not there yet; how many they are comes back. Raises what is wrong with the first bad line."""
    known, holders = users.existing_for(context, [person for _, person in lines])
    fresh = []
    for number, person in lines:
        with _with_line_number(number):
            user = _new_user(context, person)
            existing = known.get(user.username)
            if existing is not None and _is_same(existing, user):
                continue
            users.check_username_free(user.username, [existing] if existing else [])
            key = rules.email_key(user.email)
            users.check_email_free(user.email, [holders[key]] if key in holders else [])
            known[user.username] = holders[key] = user
            fresh.append(user)
    users.register(context, fresh)
    return len(fresh)


@contextmanager
def _with_line_number(number: int) -> Iterator[None]:
    """Let a refusal say which line of the file it is about."""
    try:
        yield
    except PopugError as error:
        details = error.details | {"line": number}
        raise type(error)(error.code, f"Line {number}: {error.message}", hint=error.hint, details=details) from error


def _change_permissions(context: Context, user: User, role: Role, *, active: bool, reason: str) -> User:
    """Change what a person may do; no token outlives it."""
    changed = msgspec.structs.replace(user, role=role, active=active)
    if changed == user:
        return user
    if users.is_last_admin(context, user):
        raise Conflict(
            "last_admin",
            f"{user.username} is the last active admin.",
            hint="Make somebody else an admin first: `popug user set-role NAME admin`.",
            details={"username": user.username},
        )
    token_store.revoke_all(context, user, reason)
    _update(context, user, changed)
    return changed


def _update(context: Context, before: User, after: User) -> None:
    """Write down what has changed of a person, and tell of it."""
    if before == after:
        return
    users.update(context, after)
    user_id = after.user_id
    if before.role != after.role:
        context.events.publish(UserRoleChanged(user_id=user_id, old_role=before.role, new_role=after.role))
    if before.email != after.email:
        context.events.publish(UserEmailChanged(user_id=user_id, email=after.email))
    if before.active != after.active:
        context.events.publish((UserReactivated if after.active else UserDeactivated)(user_id=user_id))


def _set_password(context: Context, user: User, password: str) -> None:
    users.set_password_hash(context, user, passwords.hash_password(password, context))
    login_throttle.reset(context, user.username)
    context.events.publish(PasswordChanged(user_id=user.user_id))
