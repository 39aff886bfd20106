"""The services that a deployment needs: a Postgres server, and a bucket for the compute logs."""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dolly_assets_tests.waiting import wait_until

LOGS_BUCKET = "dolly-logs"


@dataclass(frozen=True)
class Postgres:
    """A server of its own, with an empty database `dagster` whose owner is the user `dagster`."""

    binaries: Path
    host: str

    @property
    def variables(self) -> dict[str, str]:
        """The variables that Dagster and Postgres' own programs read."""
        return {
            "DAGSTER_PG_HOST": self.host,
            "DAGSTER_PG_USERNAME": "dagster",
            "DAGSTER_PG_DB": "dagster",
            "DAGSTER_PG_PASSWORD": "secret",
            "PGPASSWORD": "secret",
        }

    def run(self, program: str, *arguments: str) -> str:
        """Runs one of Postgres' programs as its user would."""
        command = [
            str(self.binaries / program),
            "--host",
            self.host,
            "--username",
            "dagster",
            *arguments,
        ]
        environment = {**os.environ, **self.variables}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _binaries() -> Path:
    """Of the newest server that is installed; Debian keeps them out of PATH."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    found = debian[-1] if debian else shutil.which("postgres")
    if not found:
        pytest.skip("no PostgreSQL server is installed here: apt-get install postgresql")
    return Path(found).parent


def _with_tls(data: Path, address: str) -> list[str]:
    """Admits the network of an address; the options for a certificate, which nobody signed."""
    key, certificate = data / "server.key", data / "server.crt"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=postgres"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    for file in (key, certificate):
        file.chmod(0o600)
        shutil.chown(file, data.owner(), data.group())
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"hostssl all all {address}/16 scram-sha-256\n")
    return ["-c", "ssl=on"]


@contextmanager
def running_postgres(address: str | None = None) -> Iterator[Postgres]:
    """Listens on the usual port, where nothing else does: at an address of the loopback range.

    At another address it listens to its network (/16), with TLS alone.
    """
    binaries, host = (
        _binaries(),
        address
        or f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}",
    )
    # The server refuses to be root; a folder of its own in /tmp is one that another user can get
    # to.
    as_user = (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.getuid() == 0
        else []
    )
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    data, password = folder / "data", folder / "password"
    password.write_text("secret")
    if as_user:
        for path in (folder, password):
            shutil.chown(path, "postgres", "postgres")
    initialize = [
        "--username=dagster",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--no-sync",
        "--no-instructions",
    ]
    subprocess.run(
        [*as_user, binaries / "initdb", "-D", data, *initialize], check=True, capture_output=True
    )
    settings = [
        "-c",
        f"listen_addresses={host}",
        "-c",
        f"unix_socket_directories={folder}",
        "-c",
        "fsync=off",
    ]
    if address:
        settings += _with_tls(data, address)
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        [*as_user, binaries / "postgres", "-D", data, *settings], stdout=log, stderr=log
    )
    try:
        database = Postgres(binaries, host)
        ready = [binaries / "pg_isready", "--host", host]
        wait_until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)
        database.run("createdb", "dagster")
        yield database
    finally:
        server.terminate()
        server.wait(timeout=60)
        shutil.rmtree(folder)
