"""Dependencies: no version with a known hole is permitted, the lock files fit, and CI runs pinned code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = {
    "requirements.txt": ("server", "tui", "postgres"),
    "requirements-all.txt": ("server", "tui", "postgres", "test"),
}
# The newest version of each with a published hole (November 2026), and the first without.
KNOWN_HOLES = {
    "pyjwt": ("2.12.1", "2.13.0"),  # CVE-2026-48526
    "jinja2": ("3.1.5", "3.1.6"),  # CVE-2025-27516
    "cryptography": ("49.0.0", "50.0.0"),  # CVE-2026-69247
    "h11": ("0.15.0", "0.16.0"),  # CVE-2025-43859
    "idna": ("3.14", "3.15"),  # CVE-2026-45409
    "joserfc": ("1.7.1", "1.7.2"),  # GHSA-5jhw-7jv7-qcqq
    "pytest": ("9.0.2", "9.0.3"),  # CVE-2025-71176
}
RENEW = "Run `bash .ci/lock`."


def requirements(*extras: str) -> list[Requirement]:
    """Return the requirements of popug with some extras."""
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Return the version and the number of hashes of each package in a lock file."""
    blocks = re.split(r"\n(?=\S)", (ROOT / ".github" / name).read_text(encoding="utf-8"))
    packages: dict[str, tuple[str, int]] = {}
    for block in blocks:
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", block):
            packages[canonicalize_name(match[1])] = (match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
    return packages


@pytest.mark.parametrize("name", KNOWN_HOLES)
def test_versions_with_known_holes_are_not_permitted(name: str) -> None:
    bad, good = KNOWN_HOLES[name]
    (requirement,) = [each for each in requirements("server", "tui", "test") if canonicalize_name(each.name) == name]
    assert not requirement.specifier.contains(bad)
    assert requirement.specifier.contains(good)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_file_fits_the_project(name: str) -> None:
    packages = locked(name)
    for requirement in requirements(*LOCKS[name]):
        assert canonicalize_name(requirement.name) in packages, RENEW
        version, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}, but {version} in {name}. {RENEW}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    packages = locked(name)
    assert len(packages) > 30
    assert [package for package, (_, hashes) in packages.items() if not hashes] == []


def test_both_lock_files_agree() -> None:
    every, operators = locked("requirements-all.txt"), locked("requirements.txt")
    assert {name: every.get(name) for name in operators} == operators


def test_actions_are_pinned_by_commit() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
    used = [line for file in workflows for line in re.findall(r"uses:.*", file.read_text(encoding="utf-8"))]
    assert used
    assert [line for line in used if not re.fullmatch(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_security_policy_says_where_to_report() -> None:
    assert "Report a vulnerability" in (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
