"""Commands for machine tokens and signing keys."""

import re
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output import relative_time
from popug_cli.cli.output.blocks import Column, Hint, Table
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.identity import (
    IssuedToken,
    IssueToken,
    ListTokens,
    RevokeToken,
    RotateKey,
    Scope,
    ShowKeys,
    TokenLine,
)

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
COLUMNS = (
    Column("token"),
    Column("user", shrinks=True),
    Column("kind", drop_priority=2),
    Column("scope", drop_priority=1),
    Column("issued", drop_priority=4),
    Column("ends"),
    Column("last used", drop_priority=3),
)

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")

token = typer.Typer(help="Tokens for machines, and the keys that sign all tokens.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(token, name="token")


@command(token, "issue")
def issue(
    context: CommandContext,
    name: Annotated[str, typer.Argument(help="The user as whom the machine acts.")],
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long the token is valid: 12h, 30d; at most 366d.")
    ],
    scope: Annotated[
        Scope | None,
        typer.Option("--scope", help="Limit the token to one scope; by default it may do all that the user may."),
    ] = None,
) -> None:
    """Issue a token for a machine. The token is shown only once.

    A machine token can neither set a password nor issue a token. One for yourself without a scope lives up to 31 days.
    """
    issued = context.backends.perform(IssueToken(username=name, ttl_seconds=parse_ttl(ttl), scope=scope))
    context.screen.show(issued, lambda: [issued.token, Hint(_usage_hint(context, issued))])


@command(token, "list")
def list_(context: CommandContext) -> None:
    """List the tokens that have not expired, including sessions and revoked tokens."""
    tokens = context.backends.perform(ListTokens()).tokens
    rows = [_row(context, token) for token in tokens]
    context.screen.show({"tokens": tokens}, lambda: [Table(COLUMNS, rows, empty="There are no unexpired tokens.")])


@command(token, "revoke")
def revoke(
    context: CommandContext, token_id: Annotated[str, typer.Argument(help="The token's id, from `popug token list`.")]
) -> None:
    """Revoke a token immediately."""
    answer = context.backends.perform(RevokeToken(token_id=token_id))
    context.screen.show(answer, lambda: [f"Token {token_id} is revoked."])


@command(token, "keys")
def keys(context: CommandContext) -> None:
    """Show the public keys, the signing key first; with --json as a JWK set."""
    key_set = context.backends.perform(ShowKeys())
    rows = [(key["kid"], key["crv"], key["x"]) for key in key_set.keys]
    columns = (Column("key id"), Column("curve", drop_priority=1), Column("public key", drop_priority=2))
    context.screen.show(key_set, lambda: [Table(columns, rows), Hint("The first key signs. Use --json for a JWK set.")])


@command(token, "rotate")
def rotate(context: CommandContext) -> None:
    """Create a new signing key; tokens signed with the old key stay valid until they expire."""
    rotated = context.backends.perform(RotateKey())
    context.screen.show(rotated, lambda: [f"New tokens are signed with key {rotated.kid}."])


def parse_ttl(text: str) -> int:
    """Return the seconds of a duration such as ``12h`` or ``30d``; raise ``invalid_ttl``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInput(
            "invalid_ttl",
            f"{text!r} is not a valid lifetime.",
            hint="Give a number with a unit: 90m, 12h, 30d, 4w.",
            details={"ttl": text},
        )
    return int(match[1]) * UNIT_SECONDS[match[2]]


def _usage_hint(context: CommandContext, issued: IssuedToken) -> str:
    limits = f"for {issued.scope} only" if issued.scope else "for everything that this user may do"
    expires = context.screen.local_time(issued.expires_at)
    return (
        f"Valid {limits}, until {expires}. It is not shown again: store it where only the"
        f" machine can read it, and set POPUG_TOKEN. To revoke it: `popug token revoke {issued.token_id}`."
    )


def _row(context: CommandContext, token: TokenLine) -> tuple[str, ...]:
    last_used = context.screen.when(token.last_used_at) if token.last_used_at else ""
    ends = "revoked" if token.revoked_at else relative_time.until(token.expires_at, context.backends.active.now())
    scope = token.scope or "everything"
    return token.token_id, token.username, token.kind, scope, context.screen.when(token.issued_at), ends, last_used
