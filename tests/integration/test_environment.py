"""Places in which a company cannot go on: each is told by a sentence, changes nothing, and is left behind unharmed."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.tasks import AddTask, ListTasks, StatusFilter
from tests.integration.support import InProcess


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond that; what is written there gets EFBIG, since Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_on_the_size_of_files_is_named_and_when_it_is_lifted_everything_goes_on(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    before = company.act("boss", AddTask(title="Feed the cage"))
    company.place.close()
    size = max(file.stat().st_size for file in company.root.glob("popug.db*"))
    done: list[int] = []
    with files_up_to(size + 8192), pytest.raises(Unavailable) as refused:
        done.extend(company.act("boss", AddTask(title="Polish the perch")).number for _ in range(200))
    assert refused.value.code == "disk_full"
    assert f"may grow beyond {(size + 8192) // 1024:,} KiB" in refused.value.message
    assert "ulimit -f" in refused.value.hint
    company.act("boss", AddTask(title="Fill the trough"))
    listed = company.act("boss", ListTasks(status=StatusFilter.ALL))
    assert listed.total == len(done) + 2
    assert listed.tasks[0].fee_cents == before.fee_cents
    assert company.place.perform(CheckHealth()).ok
