"""Refused file systems, by the kernel's table of mounts."""

import io
import os
from pathlib import Path

import pytest

from popug_cli.cli.main import run
from popug_cli.storage import mounts

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:50 / /home rw,relatime shared:2 master:3 - nfs4 server:/home rw,vers=4.2
41 40 0:51 / /home/ada/local rw,relatime - xfs /dev/vdb rw
42 27 0:52 / /mnt/with\040space rw - cifs //server/share rw
43 27 0:53 / /mnt/sshfs rw,nosuid - fuse.sshfs ada@server: rw,user_id=1000
44 27 8:17 / /mnt/stick rw - fuseblk /dev/sdb1 rw
45 27 0:54 / /mnt/layers rw - fuse.fuse-overlayfs fuse-overlayfs rw
46 27 0:55 / /mnt/twice rw - nfs server:/twice rw
47 46 0:56 / /mnt/twice rw - tmpfs tmpfs rw
48 27 0:57 / /mnt/docker rw - overlay overlay rw
49 27 0:58 / /mnt/later/below rw - fuse.bindfs src rw
50 27 0:59 / /mnt/later rw - tmpfs tmpfs rw
51 50 0:60 / /mnt/later/above rw - nfs server:/above rw
not a line of mountinfo
""".lstrip()


def kind_without_locks(path: str, mountinfo: str) -> str | None:
    return mounts.kind_without_locks(path, [*mounts.parse_mounts(mountinfo)])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/popug", None),
        ("/", None),
        ("/home", "nfs4"),
        ("/home/ada/popug", "nfs4"),
        ("/homes/ada", None),
        ("/home/ada/local/popug", None),
        ("/home/ada/localities", "nfs4"),
        ("/mnt/with space/popug", "cifs"),
        ("/mnt/sshfs/popug", "fuse.sshfs"),
        ("/mnt/stick/popug", "fuseblk"),
        ("/mnt/layers/popug", None),
        ("/mnt/twice/popug", None),
        ("/mnt/docker/popug", None),
        ("/mnt/later/below/popug", None),
        ("/mnt/later/above/popug", "nfs"),
    ],
)
def test_file_system_without_locks_is_known_by_its_mount(path: str, kind: str | None) -> None:
    assert kind_without_locks(path, MOUNTS) == kind


@pytest.mark.parametrize(
    "kind",
    [
        *("9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "drvfs", "fakeowner", "hostfs", "smb2", "smb3", "ncpfs"),
        *("fuse.sshfs", "fuse.grpcfuse", "fuse.osxfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse"),
        *("fuse.vmhgfs-fuse", "fuse.portal", "fuse", "fuseblk", "ceph", "lustre", "beegfs", "gpfs", "wekafs"),
        *("davfs", "coda", "afs", "a-network-file-system-of-2031"),
    ],
)
def test_network_and_shared_file_systems_are_refused(kind: str) -> None:
    mount = f"27 1 254:0 / / rw - ext4 /dev/vda rw\n60 27 0:61 / /srv rw,relatime - {kind} source rw\n"
    assert kind_without_locks("/srv/popug", mount) == kind


@pytest.mark.parametrize("kind", ["gfs2", "ocfs2", "fuseblk"])
def test_shared_disk_is_refused_although_it_is_a_device(kind: str) -> None:
    assert kind_without_locks("/srv", f"27 1 8:1 / / rw - {kind} /dev/sda1 rw\n") == kind


@pytest.mark.parametrize(
    ("kind", "device"),
    [
        *((kind, "0:40") for kind in ("btrfs", "zfs", "bcachefs", "tmpfs", "overlay", "ubifs", "ecryptfs", "aufs")),
        *((kind, "0:40") for kind in ("ext4", "xfs", "fuse.fuse-overlayfs", "simfs", "rootfs", "wslfs")),
        *(
            (kind, "259:3")
            for kind in ("ext2", "ext4", "xfs", "f2fs", "vfat", "exfat", "ntfs3", "hfsplus", "a-new-one")
        ),
    ],
)
def test_file_systems_of_this_machine_are_accepted(kind: str, device: str) -> None:
    assert kind_without_locks("/srv", f"27 1 {device} / / rw - {kind} source rw\n") is None


def test_empty_mount_table_refuses_nothing() -> None:
    assert kind_without_locks("/home/ada", "") is None


def test_home_on_such_a_mount_is_refused_before_creation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n50 27 0:60 / {tmp_path} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", table)
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / "session.json"))
    home = tmp_path / "home"
    (tmp_path / "link").symlink_to(home)
    founding = ["init", "--admin", "ada", "--email", "ada@example.com", "--password-stdin", "--json"]
    for place in (home, tmp_path / "link"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"seven-cages-under-9-moons\n")))
        assert run(["--home", str(place), *founding]) == 8
        error = capsys.readouterr().err
        assert '"no_locks"' in error
        assert "(nfs4)" in error
    assert not home.exists()


def test_home_moved_to_such_a_mount_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"50 27 0:60 / {tmp_path} rw - fuse.sshfs ada@server: rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", table)
    (tmp_path / "popug.db").touch()
    assert run(["--home", str(tmp_path), "doctor"]) == 8
    assert "fuse.sshfs" in " ".join(capsys.readouterr().err.split())
    assert os.stat(tmp_path / "popug.db").st_size == 0  # noqa: PTH116 - nothing was written


def test_database_on_such_a_mount_is_not_opened_by_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        f"27 1 254:0 / / rw - ext4 /dev/vda rw\n50 27 0:60 / {tmp_path}/far rw - fuse.sshfs ada@server: rw\n"
    )
    monkeypatch.setattr(mounts, "MOUNTINFO", table)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "popug.db").touch()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "popug.db").symlink_to(tmp_path / "far" / "popug.db")
    assert run(["--home", str(tmp_path / "home"), "doctor", "--json"]) == 8
    assert "no_locks" in capsys.readouterr().err


def test_home_is_accepted_without_a_mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "nowhere")
    mounts.require_lock_support(tmp_path, tmp_path / "popug.db")
