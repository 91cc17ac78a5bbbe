"""The programs that run Kafka's brokers on this machine: Java, and Kafka's jars from Maven Central.

Maven verifies the checksum of each file that it fetches (``--strict-checksums``). The jars stay in a folder outside the
checkout, so that only the first run on a machine fetches them: ``POPUG_TESTS_CACHE``, else ``~/.cache/popug-tests``.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

KAFKA_VERSION = "4.3.1"
OLDEST_JAVA = 17
FETCH_SECONDS = 600
HOW_TO_INSTALL = "Debian's packages openjdk-17-jre-headless and maven, and the extra `cluster` of popug"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>popug</groupId><artifactId>test-brokers</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def require_driver() -> None:
    """Skip the tests of a module if confluent-kafka is not installed; fail them if ``CI`` is set."""
    _require(what_driver_is_missing())


def require_kafka() -> None:
    """Skip the tests if no broker can be started here; fail them if ``CI`` is set, since all of it can be installed.

    Where Maven Central cannot be reached the tests are skipped in any case: no package brings Kafka.
    """
    _require(what_is_missing())
    if unreached := what_is_not_fetched():
        pytest.skip(unreached, allow_module_level=True)


def require_program(name: str, package: str) -> None:
    """Skip a test if a program is missing; fail it if ``CI`` is set. ``package`` is that of Debian."""
    if shutil.which(name) is None:
        _require(f"{name} is not installed", f"Debian's package {package}")


@cache
def what_is_missing() -> str:
    """Return which program or package is missing, or an empty text."""
    if missing := what_driver_is_missing():
        return missing
    if _java_version() < OLDEST_JAVA:
        return f"Java {OLDEST_JAVA} or newer is not installed"
    if shutil.which("mvn") is None and not jars().exists():
        return "Maven is not installed"
    return ""


def what_driver_is_missing() -> str:
    """Return that confluent-kafka is not installed, or an empty text."""
    return "confluent-kafka is not installed" if find_spec("confluent_kafka") is None else ""


@cache
def what_is_not_fetched() -> str:
    """Fetch Kafka's jars unless they are here; return why that was not possible, or an empty text.

    The first process fetches, and the others wait for it.
    """
    folder = jars()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name("fetch.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return "" if folder.exists() else _fetch(folder)


def jars() -> Path:
    """Return the folder of Kafka's jars, whether it exists or not."""
    cache_folder = os.environ.get("POPUG_TESTS_CACHE") or Path.home() / ".cache" / "popug-tests"
    return Path(cache_folder) / f"kafka-{KAFKA_VERSION}"


def class_path() -> str:
    """Return the class path of Kafka's programs."""
    return f"{jars()}/*"


def _require(missing: str, remedy: str = HOW_TO_INSTALL) -> None:
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing}; install {remedy}", pytrace=False)
    if missing:
        pytest.skip(f"{missing}; install {remedy}", allow_module_level=True)


def _fetch(folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="popug-maven-") as project:
        pom = Path(project) / "pom.xml"
        pom.write_text(POM)
        part = Path(project) / "jars"
        try:
            done = subprocess.run(
                [
                    "mvn", "--batch-mode", "--quiet", "--strict-checksums", f"--file={pom}",
                    "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={part}",
                ],
                capture_output=True, text=True, check=False, timeout=FETCH_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"Maven Central did not send Kafka within {FETCH_SECONDS} s"
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line] or ["no reason"]
            return f"Maven could not fetch Kafka: {lines[0][:300]}"
        shutil.copytree(part, folder.with_name(f"{folder.name}.part"), dirs_exist_ok=True)
        folder.with_name(f"{folder.name}.part").rename(folder)
    return ""


def _java_version() -> int:
    java = shutil.which("java")
    if java is None:
        return 0
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0
