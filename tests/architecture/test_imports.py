"""Allowed imports: the contracts of pyproject.toml hold, and cover every face."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FACES = {"cli", "server", "dashboard", "daemon"}
LINT_IMPORTS = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]


def test_import_contracts_hold() -> None:
    done = subprocess.run(LINT_IMPORTS, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_face_is_bound_by_the_contract_of_faces() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (bound,) = (contract["source_modules"] for contract in contracts if contract["id"] == "interfaces")
    there = {path.stem for path in (ROOT / "popug_cli").iterdir()} & FACES
    assert {f"popug_cli.{face}" for face in there} <= set(bound)


def test_application_is_kept_out_of_every_module() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    by_id = {contract["id"]: contract for contract in contracts}
    (modules,) = (layer.split(" | ") for layer in by_id["house"]["layers"] if layer.startswith("identity | "))
    assert by_id["asking"]["forbidden_modules"] == [f"popug_cli.{module}" for module in modules]
    assert all(ignored.startswith("popug_cli.app.") for ignored in by_id["asking"]["ignore_imports"])
