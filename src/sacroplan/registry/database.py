"""Opening a registry: SQLite file or PostgreSQL, right version, one writer at a time, clear refusals."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
)

from sacroplan.registry.errors import RegistryError

DEFAULT_URL = "registry.sqlite"
WAIT_SECONDS = 30.0
"""How long a writer waits for another one before it gives up with a sentence."""

_LOCK = 0x5AC2
"""Number of PostgreSQL's advisory lock under which writers queue; SQLite has one writer anyway."""


@dataclass(frozen=True, eq=False)
class Registry:
    """An opened registry; ``who`` is written into the audit of every change."""

    engine: Engine
    who: str

    @property
    def dialect(self) -> str:
        """``"sqlite"`` or ``"postgresql"``."""
        return self.engine.dialect.name

    @property
    def shown(self) -> str:
        """Its file or database, without host, user or password."""
        return str(self.engine.url.database)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view of the registry."""
        with translated(self.shown), self.engine.connect() as connection:
            if self.dialect == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: everything in the block is stored, or nothing.

        Writers come one after the other: what the block read is still true when it writes.

        Raises
        ------
        RegistryError : the registry is locked, full, read-only or forbids the change.
        """
        engine = self.engine.execution_options(sacroplan_write=True)
        with translated(self.shown), engine.connect() as connection, connection.begin():
            if self.dialect == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                connection.execute(
                    sa.text("SELECT set_config('sacroplan.who', :who, true)"), {"who": self.who}
                )
                yield connection
                return
            name = sa.text("UPDATE actor SET who = :who WHERE id = 1")
            connection.execute(name, {"who": self.who})
            yield connection
            connection.execute(name, {"who": None})


def current_user() -> str:
    """Who is at work: ``SACROPLAN_WHO`` or the login name."""
    return (os.environ.get("SACROPLAN_WHO") or getpass.getuser())[:80]


def url_of(text: str | None) -> URL:
    """The database meant by a path or URL; ``SACROPLAN_REGISTRY`` or ./registry.sqlite by default."""
    told = text or os.environ.get("SACROPLAN_REGISTRY") or DEFAULT_URL
    if "://" not in told:
        return URL.create("sqlite", database=str(Path(told)))
    try:
        url = make_url(told)
        if url.get_backend_name() == "postgresql":
            return url.set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise RegistryError(f"{told.partition('@')[2] or told} is no database URL.") from error
    if url.get_backend_name() != "sqlite" or not url.database:
        raise RegistryError(
            f"The registry is kept in SQLite or PostgreSQL, not {url.drivername}; give a file name "
            "or postgresql://user@host/database."
        )
    return url


def create(url: str | None = None, who: str | None = None) -> Registry:
    """Make a new registry, or bring an older one to the present version.

    A new SQLite file is built beside its place and moved there whole.
    """
    target = url_of(url)
    if target.get_backend_name() == "sqlite" and not Path(str(target.database)).exists():
        path = Path(str(target.database))
        building = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with translated(str(path)):
                _upgrade(_engine(target.set(database=str(building))))
            building.replace(path)
        except OSError as error:
            raise RegistryError(f"{path} could not be made: {error.strerror}.") from error
        finally:
            for leftover in building.parent.glob(f"{building.name}*"):
                leftover.unlink()
    else:
        engine = _engine(target)
        where = str(target.database)
        with translated(where):
            found = _version(engine)
            if found is None and sa.inspect(engine).get_table_names():
                raise RegistryError(
                    f"{where} holds tables of something else; give an empty database or a new file."
                )
            _check_known(found, where)
            _upgrade(engine)
    return open_registry(url, who)


def open_registry(url: str | None = None, who: str | None = None) -> Registry:
    """Open an existing registry.

    Raises
    ------
    RegistryError : it is missing, is something else, or has another version of the schema.
    """
    target = url_of(url)
    where = str(target.database)
    if target.get_backend_name() == "sqlite" and not Path(where).is_file():
        raise RegistryError(
            f"There is no registry at {where}; make one with sacroplan registry new --db {where}."
        )
    engine = _engine(target)
    with translated(where):
        found = _version(engine)
    if found is None:
        raise RegistryError(
            f"{where} is no sacroplan registry: it has no schema version. "
            f"Make one with sacroplan registry new --db PATH."
        )
    _check_known(found, where)
    if found != head():
        raise RegistryError(
            f"{where} has schema version {found}, this sacroplan expects {head()}. "
            "Back it up, then run sacroplan registry new on it to bring it up to date."
        )
    return Registry(engine, who or current_user())


def _check_known(found: str | None, where: str) -> None:
    if found is not None and found not in _known():
        raise RegistryError(
            f"{where} has schema version {found}, which this sacroplan does not know (it knows up to "
            f"{head()}): it was made by a later one. Update sacroplan."
        )


def _engine(url: URL) -> Engine:
    wait = float(os.environ.get("SACROPLAN_REGISTRY_WAIT", WAIT_SECONDS))
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": wait})
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begins)
        return engine
    options = f"-c lock_timeout={int(1000 * wait)}"
    try:
        return sa.create_engine(url, connect_args={"options": options, "connect_timeout": 10})
    except NoSuchModuleError as error:
        raise RegistryError(f"No driver for {url.drivername} is installed.") from error


def _sqlite_connected(raw: Any, _record: Any) -> None:
    # The driver's own transactions start too late for a consistent read and hide DDL.
    raw.isolation_level = None
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("PRAGMA cache_size = -65536")


def _sqlite_begins(connection: Connection) -> None:
    write = connection.get_execution_options().get("sacroplan_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _scripts() -> Any:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config, ScriptDirectory.from_config(config)


def head() -> str:
    """The schema version of this sacroplan."""
    return str(_scripts()[1].get_current_head())


def _known() -> set[str]:
    return {s.revision for s in _scripts()[1].walk_revisions()}


def _version(engine: Engine) -> str | None:
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _upgrade(engine: Engine) -> None:
    from alembic import command

    config, _ = _scripts()
    with (
        engine.execution_options(sacroplan_write=True).connect() as connection,
        connection.begin(),
    ):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


_SENTENCES = (
    ("database is locked", "is being written by another program; try again when that has ended"),
    ("lock timeout", "is being written by another program; try again when that has ended"),
    ("disk is full", "could not be written: the disk is full; nothing was changed"),
    ("no space left", "could not be written: the disk is full; nothing was changed"),
    ("could not extend file", "could not be written: the disk is full; nothing was changed"),
    ("disk i/o error", "could not be written (disk full or failing); nothing was changed"),
    ("readonly database", "is read-only; nothing was changed"),
    ("read-only transaction", "is read-only; nothing was changed"),
    ("unable to open database file", "could not be opened: its folder is missing or not writable"),
    ("file is not a database", "is not a SQLite database"),
    ("malformed", "is a damaged database; restore it from a backup"),
    ("append-only", "refuses: the audit can only be added to"),
    ("never removed", "refuses: rows are marked as deleted, never removed"),
    ("authentication failed", "refuses the user or password"),
    ("connection refused", "cannot be reached; is the server running?"),
    ("connection failed", "cannot be reached; is the server running?"),
    ("could not translate host", "cannot be reached: the host's name is unknown"),
)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Errors of the database as one sentence each; values of a row are never repeated."""
    try:
        yield
    except IntegrityError as error:
        raise RegistryError(f"{where} refuses the change: {_constraint(error)}.") from error
    except DBAPIError as error:
        text = str(error.orig).strip()
        for mark, sentence in _SENTENCES:
            if mark in text.lower():
                raise RegistryError(f"{where} {sentence}.") from error
        first = text.splitlines()[0] if text else type(error.orig).__name__
        raise RegistryError(f"{where} failed: {first}. Nothing was changed.") from error


def _constraint(error: IntegrityError) -> str:
    """Which rule was broken: its name, or the columns of a row that exists already."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return f"rule {diagnosis.constraint_name or diagnosis.column_name} is broken"
    return str(error.orig).splitlines()[0].replace("constraint failed", "rule is broken")
