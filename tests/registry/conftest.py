"""Both databases: every test that asks for ``db`` runs on SQLite and on a throw-away PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest


def _server_program(name: str) -> str | None:
    """Debian keeps PostgreSQL's own programs out of the path."""
    found = shutil.which(name)
    if found:
        return found
    homes = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(homes[-1]) if homes else None


def _as_server(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root; then it runs as the user that its package made."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """URL of an empty PostgreSQL server in a temporary folder, without a network port."""
    initdb, control = _server_program("initdb"), _server_program("pg_ctl")
    if not initdb or not control:
        pytest.skip("PostgreSQL's server programs are missing: install Debian's postgresql.")
    # A socket's path may have 100 characters; pytest's own folder is closed to other users.
    folder = Path("/tmp") / f"sacroplan-pg-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    quiet = {"check": True, "capture_output": True, "cwd": "/"}
    try:
        subprocess.run(
            _as_server(initdb, "-D", str(data), "-A", "trust", "-U", "sacroplan", "-E", "UTF8",
                       "--locale=C", "--no-sync"), **quiet,
        )  # fmt: skip
        options = f"-c listen_addresses='' -k {folder} -c fsync=off -c shared_buffers=64MB"
        subprocess.run(
            _as_server(control, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options,
                       "start"), **quiet,
        )  # fmt: skip
        try:
            yield f"postgresql://sacroplan@/{{}}?host={folder}"
        finally:
            subprocess.run(_as_server(control, "-D", str(data), "-m", "immediate", "stop"), **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def db_url(request, tmp_path):
    """URL of a database that does not exist yet."""
    if request.param == "sqlite":
        yield str(tmp_path / "registry.sqlite")
        return
    import psycopg

    template = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(template.format("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    yield template.format(name)
    with psycopg.connect(template.format("postgres"), autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def registry(db_url):
    """An empty registry of the tester."""
    from sacroplan.registry.database import create

    made = create(db_url, "tester")
    yield made
    made.engine.dispose()
