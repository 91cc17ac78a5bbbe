"""Commands about users, sessions, tokens and keys."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import msgspec

from popug_cli.bus.context import Context
from popug_cli.identity import devices, keys, login_throttle, passwords, published_keys, rules, token_store, users
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
    PasswordRehashed,
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
    UserWithNewPassword,
)

USERS_PER_CHUNK = 5_000


def register_first_admin(message: RegisterFirstAdmin, context: Context) -> User:
    """Register an admin in a company without users, and create its signing key.

    Raise ``already_initialised`` if the company has users, or an error of ``rules.check_new_user``.
    """
    if users.has_users(context):
        raise Conflict(
            "already_initialised",
            f"The company in {context.home.root} already has users.",
            hint="Run `popug login NAME`; for another company choose another --home.",
            details={"home": str(context.home.root)},
        )
    admin = NewPerson(username=message.username, email=message.email, role=Role.ADMIN)
    user = _register(context, admin, message.password)
    keys.create_first_key(context.home, context.randomness, context.on_rollback)
    published_keys.publish(context)
    return user


def recover_admin(message: RecoverAdmin, context: Context) -> User:
    """Make an existing user an active admin with a new password; also replace an unusable signing key.

    Revoke all tokens of the user. Raise ``user_not_found`` or ``password_too_weak``.
    """
    user = users.get(context, message.username)
    rules.check_password(message.password, user.username, user.email)
    token_store.revoke_user_tokens(context, user, "recovered")
    recovered_user = msgspec.structs.replace(user, role=Role.ADMIN, active=True)
    _update(context, user, recovered_user)
    _set_password(context, user, message.password)
    kid = keys.ensure_signing_key(context.home, context.randomness, context.on_rollback)
    if kid is not None:
        published_keys.publish(context)
        context.events.publish(KeyRotated(kid=kid))
    context.events.publish(AdminRecovered(user_id=user.user_id, username=user.username))
    return recovered_user


def log_in(message: LogIn, context: Context) -> Session | NotAuthenticated:
    """Return a session if the password is correct, else an error.

    The error is returned, not raised, so that the failure count is committed. Raise ``too_many_attempts`` during a
    lockout, ``key_invalid`` or ``insecure_file`` if no token can be signed, ``io_error`` if memory or threads are
    missing. An unknown name gets the same answer after the same amount of work.
    """
    attempt = login_throttle.attempt_of(message, context)
    login_throttle.check_not_locked(context, attempt)
    user = users.find(context, attempt.username)
    password_hash = users.password_hash_of(context, user) if user and user.active else None
    is_correct = passwords.is_password(message.password, password_hash, context)
    if not is_correct or user is None or password_hash is None:
        lockout_seconds = int(login_throttle.record_failure(context, attempt, user).total_seconds())
        return NotAuthenticated(
            "bad_credentials",
            "The name or the password is wrong.",
            hint="Try again, or let an admin set a new password with `popug user passwd NAME`.",
            details={"wait_seconds": lockout_seconds} if lockout_seconds else None,
        )
    login_throttle.reset(context, attempt)
    context.events.set_actor(user.username)
    if passwords.needs_rehash(password_hash, context):
        _rehash_password(context, user, message.password)
    lifetime = timedelta(hours=context.settings.number("identity.session_hours"))
    issued = token_store.issue(context, user, token_store.SESSION, lifetime)
    device_token = devices.issue(context, user, attempt.device_id)
    return Session(user=user, token=issued.token, expires_at=issued.expires_at, device_token=device_token)


def log_out(message: LogOut, context: Context) -> Nothing:
    """Revoke the caller's own token."""
    token_store.revoke(context, context.principal.token_id, "logged_out")
    return Nothing()


def add_user(message: AddUser, context: Context) -> User:
    """Register a user.

    Raise ``invalid_username``, ``invalid_email``, ``invalid_role``, ``password_too_weak``, ``username_taken`` or
    ``email_taken``.
    """
    person = NewPerson(username=message.username, email=message.email, role=message.role)
    return _register(context, person, message.password)


def import_users(message: ImportUsers, context: Context) -> ImportResult:
    """Register many users, all or none. Skip users that exist with the same address and role.

    Raise the error of the first bad line, with its number; a line that is None is empty.
    """
    numbered = ((number, person) for number, person in enumerate(message.people, 1) if person is not None)
    read_count = imported_count = 0
    for numbered_people in batched(numbered, USERS_PER_CHUNK):
        imported_count += _register_new_users(context, numbered_people)
        read_count += len(numbered_people)
        context.progress("Registering people", read_count, len(message.people))
    return ImportResult(imported=imported_count, skipped=read_count - imported_count)


def set_role(message: SetRole, context: Context) -> User:
    """Give a user another role, and revoke all of the user's tokens.

    Raise ``user_not_found``, ``invalid_role``, or ``last_admin`` if no active admin would be left.
    """
    user = users.get(context, message.username)
    return _change_permissions(context, user, rules.parse_role(message.role), active=user.active, reason="role_changed")


def set_email(message: SetEmail, context: Context) -> User:
    """Give a user another e-mail address; raise ``user_not_found``, ``invalid_email`` or ``email_taken``."""
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
    """Deactivate a user, and revoke all of the user's tokens.

    Raise ``user_not_found``, or ``last_admin`` if no active admin would be left.
    """
    user = users.get(context, message.username)
    return _change_permissions(context, user, user.role, active=False, reason="deactivated")


def activate_user(message: ActivateUser, context: Context) -> User:
    """Reactivate a user; raise ``user_not_found``. Revoked tokens stay revoked."""
    user = users.get(context, message.username)
    changed = msgspec.structs.replace(user, active=True)
    _update(context, user, changed)
    return changed


def set_password(message: SetPassword, context: Context) -> UserWithNewPassword:
    """Set the password of a user (by default the caller) and revoke the user's sessions.

    Return the user with the machine tokens, which stay valid. Raise ``user_not_found`` or ``password_too_weak``.
    """
    user = users.get(context, message.username or context.principal.username)
    rules.check_password(message.password, user.username, user.email)
    token_store.revoke_user_sessions(context, user, "password_changed")
    _set_password(context, user, message.password)
    machine_tokens = token_store.valid_machine_tokens(context, user)
    return UserWithNewPassword(**msgspec.structs.asdict(user), machine_tokens=machine_tokens)


def issue_token(message: IssueToken, context: Context) -> IssuedToken:
    """Issue a machine token.

    Raise ``invalid_ttl``, ``user_not_found``, ``forbidden`` for a long-lived token of the sender without a scope,
    ``user_inactive`` if the owner is not active, or ``key_invalid`` or ``insecure_file`` if no token can be signed.
    """
    lifetime = rules.check_lifetime(message.ttl_seconds)
    user = users.get(context, message.username)
    if user.username == context.principal.username and message.scope is None:
        rules.check_own_lifetime(lifetime)
    if not user.active:
        raise Conflict(
            "user_inactive",
            f"{user.username} is not active, so a token would not be valid.",
            hint=f"Run `popug user activate {user.username}` first.",
            details={"username": user.username},
        )
    return token_store.issue(context, user, token_store.MACHINE, lifetime, message.scope)


def revoke_token(message: RevokeToken, context: Context) -> Nothing:
    """Revoke one token; raise ``token_not_found``."""
    if token_store.find(context, message.token_id) is None:
        raise NotFound(
            "token_not_found",
            f"There is no token {message.token_id!r}.",
            hint="Run `popug token list` to see all tokens.",
            details={"token_id": message.token_id},
        )
    token_store.revoke(context, message.token_id, "revoked")
    return Nothing()


def rotate_key(message: RotateKey, context: Context) -> RotatedKey:
    """Create a key that signs from now on. The older keys stay, so that tokens signed with them stay valid."""
    kid = keys.make_signing_key(context.home, context.randomness, context.on_rollback)
    published_keys.publish(context)
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


def _has_same_email_and_role(existing: User, imported: User) -> bool:
    return (rules.email_key(existing.email), existing.role) == (rules.email_key(imported.email), imported.role)


def _register_new_users(context: Context, numbered_people: Sequence[tuple[int, NewPerson]]) -> int:
    """Register the users that do not exist yet and return their number; raise the error of the first bad line."""
    by_username, by_email_key = users.existing_for(context, [person for _, person in numbered_people])
    new_users = []
    for number, person in numbered_people:
        with _with_line_number(number):
            user = _new_user(context, person)
            existing = by_username.get(user.username)
            if existing is not None and _has_same_email_and_role(existing, user):
                continue
            users.check_username_free(user.username, [existing] if existing else [])
            key = rules.email_key(user.email)
            users.check_email_free(user.email, [by_email_key[key]] if key in by_email_key else [])
            by_username[user.username] = by_email_key[key] = user
            new_users.append(user)
    users.register(context, new_users)
    return len(new_users)


@contextmanager
def _with_line_number(number: int) -> Iterator[None]:
    """Add the line number to a `PopugError` raised in the block."""
    try:
        yield
    except PopugError as error:
        details = error.details | {"line": number}
        raise type(error)(error.code, f"Line {number}: {error.message}", hint=error.hint, details=details) from error


def _change_permissions(context: Context, user: User, role: Role, *, active: bool, reason: str) -> User:
    """Change a user's role or activity and revoke all of the user's tokens, if it changes; raise ``last_admin``."""
    changed = msgspec.structs.replace(user, role=role, active=active)
    if changed == user:
        return user
    if users.is_last_admin(context, user):
        raise Conflict(
            "last_admin",
            f"{user.username} is the last active admin.",
            hint="Make another user an admin first: `popug user set-role NAME admin`.",
            details={"username": user.username},
        )
    token_store.revoke_user_tokens(context, user, reason)
    _update(context, user, changed)
    return changed


def _update(context: Context, old: User, new: User) -> None:
    """Store the changed fields of a user and publish an event for each."""
    if old == new:
        return
    users.update(context, new)
    user_id = new.user_id
    if old.role != new.role:
        context.events.publish(UserRoleChanged(user_id=user_id, old_role=old.role, new_role=new.role))
    if old.email != new.email:
        context.events.publish(UserEmailChanged(user_id=user_id, email=new.email))
    if old.active != new.active:
        context.events.publish((UserReactivated if new.active else UserDeactivated)(user_id=user_id))


def _rehash_password(context: Context, user: User, password: str) -> None:
    """Hash a password again with the parameters of the settings."""
    password_hash = passwords.hash_password(password, context)
    users.set_password_hash(context, user, password_hash)
    context.events.publish(PasswordRehashed(user_id=user.user_id), password_digest=rules.password_digest(password_hash))


def _set_password(context: Context, user: User, password: str) -> None:
    password_hash = passwords.hash_password(password, context)
    users.set_password_hash(context, user, password_hash)
    login_throttle.reset_all(context, user.username)
    context.events.publish(PasswordChanged(user_id=user.user_id), password_digest=rules.password_digest(password_hash))
