"""The rate of payout mail against a bare smtplib loop on one connection.

``python -m tests.benchmarks.smtp [MAILS] [ROUNDS]``, 1,000 mails in 5 rounds if left out.
Both hand the same bytes to the same aiosmtpd, which runs in its own process; the rounds alternate.
"""

import gc
import multiprocessing
import multiprocessing.synchronize
import os
import smtplib
import statistics
import sys
import tempfile
import time
from pathlib import Path

from popug_cli.mail import payslip
from tests.benchmarks.figures import machine
from tests.support.mail_company import MailCompany, payout, registered
from tests.support.smtp_server import free_port

GOAL = 0.8
LONGEST_SECONDS = 600


class Sink:
    """A handler that accepts every mail and keeps none."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802 - aiosmtpd's
        """Accept the mail."""
        return "250 taken"


def serve(port: int, ready: "multiprocessing.synchronize.Event") -> None:
    """An SMTP server that runs until it is ended."""
    from aiosmtpd.controller import Controller

    Controller(Sink(), hostname="127.0.0.1", port=port).start()
    ready.set()
    time.sleep(LONGEST_SECONDS)


def bare(port: int, mails: list[tuple[str, bytes]]) -> float:
    """Return the mails per second of a plain loop."""
    since = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as client:
        for receiver, content in mails:
            client.sendmail("popug@localhost", [receiver], content)
    return len(mails) / (time.perf_counter() - since)


def ours(room: MailCompany) -> float:
    """Return the mails per second of ``popug mail send``, without the process start."""
    since = time.perf_counter()
    run = room.send()
    assert run.queued == run.failed == 0
    return run.sent / (time.perf_counter() - since)


def prepared(folder: Path, count: int) -> tuple[MailCompany, list[tuple[str, bytes]]]:
    """Return a company with that many payouts queued, and the same mails as bytes."""
    room = MailCompany(folder)
    names = [f"p{n:05}" for n in range(count)]
    room.publish(*(registered(name) for name in names))
    room.pay(*names)
    mails = []
    for name in names:
        content = payslip.message_of(
            payout(name),
            username=name,
            to=f"{name}@example.com",
            sender="popug@localhost",
            message_id=f"<{name}@popug.invalid>",
            queued_at=room.clock.now(),
            calendar=room.backend.runtime.calendar,
        )
        mails.append((f"{name}@example.com", content.content))
    return room, mails


def main(count: int, rounds: int) -> None:
    """Print the table."""
    port, ready = free_port(), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(port, ready), daemon=True)
    server.start()
    assert ready.wait(20)
    os.environ |= {
        "POPUG_MAIL_TRANSPORT": "smtp",
        "POPUG_MAIL_SMTP_HOST": "127.0.0.1",
        "POPUG_MAIL_SMTP_PORT": str(port),
    }
    rates: list[tuple[float, float]] = []
    gc.disable()  # as the command itself does
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            room, mails = prepared(Path(folder) / "home", count)
            pair = (bare(port, mails), ours(room)) if number % 2 else (ours(room), bare(port, mails))[::-1]
            rates.append(pair)
    server.terminate()
    floor, rate = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(ours_ / bare_ for bare_, ours_ in rates)
    sys.stdout.write(
        f"{machine()}\n"
        f"{count} mails, medians of {rounds} rounds, each way in turn\n\n"
        f"bare smtplib loop   {floor:8.0f} mails/s\npopug               {rate:8.0f} mails/s\n"
        f"ratio               {ratio:8.2f}  (goal: at least {GOAL})\n"
        f"each round          {' '.join(f'{ours_ / bare_:.2f}' for bare_, ours_ in rates)}\n"
    )


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [1000, 5][len(given) :]))
