"""The connection to the server is encrypted, and the server proves who it is (``sslmode=verify-full``)."""

import shutil
from pathlib import Path

from tests.support.certificates import self_signed
from tests.support.installed_company import PASSWORD, Company, Result
from tests.support.postgres.programs import account, require_postgres
from tests.support.postgres.server import OWNER, PostgresServer


def serve_with_tls(server: PostgresServer, certificate: Path) -> None:
    """Let a server that is not started use a certificate, and refuse connections without TLS for its databases."""
    for suffix, mode in (("crt", 0o600), ("key", 0o600)):
        file = server.data / f"server.{suffix}"
        shutil.copyfile(certificate, file)
        file.chmod(mode)
        if chosen := account():
            shutil.chown(file, chosen.pw_uid, chosen.pw_gid)
    server.configure({"ssl": "on"})
    access = server.data / "pg_hba.conf"
    access.write_text(access.read_text().replace("host all all", "hostssl all all"))


def test_server_proves_who_it_is(tmp_path: Path) -> None:
    require_postgres()
    authority, other = self_signed(tmp_path / "ca.pem"), self_signed(tmp_path / "other.pem")
    with PostgresServer.create() as server:
        server.stop()
        serve_with_tls(server, authority)
        server.start()
        place = f"localhost:{server.port}/{server.create_database()}"
        company = Company(tmp_path / "company")

        def run(url: str, *words: str, stdin: str | None = None) -> Result:
            return company.run(*words, input=stdin, env={"POPUG_DATABASE": url})

        verified = f"postgresql://{OWNER}@{place}?sslmode=verify-full&sslrootcert="
        run(f"{verified}{authority}", "database", "migrate").ok()
        words = ("init", "--admin", "ada", "--email", "ada@popug.example", "--time-zone", "UTC", "--password-stdin")
        run(f"{verified}{authority}", *words, stdin=PASSWORD).ok()
        assert run(f"{verified}{authority}", "doctor").ok()["ok"]

        for url, reason in (
            (f"{verified}{other}", "certificate verify failed"),
            (f"{verified}{authority}".replace("localhost", "127.0.0.1"), "does not match host name"),
            (f"{verified}{tmp_path / 'missing.pem'}", "does not exist"),
            (f"postgresql://{OWNER}@{place}?sslmode=disable", "no encryption"),
        ):
            error = run(url, "doctor").refused_with_exit(8)
            assert reason in error["message"], error
        company.end()
