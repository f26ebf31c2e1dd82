"""Rows in an SQL database through SQLAlchemy: PostgreSQL, or a file of SQLite.

The tables are Perkeep's (pkg/sorted/README.md, "SQL"); `migrations` holds the steps to them.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeVar

import sqlalchemy as sa

from ..errors import ConfigError, Corrupt, ReadOnly, StoreError, Unavailable, Unsupported
from . import migrations, sqlstate
from .folders import make_folder, sync_folder
from .kv import Batch, KeyValue
from .options import Options
from .sqlite import ERRORS as SQLITE_ERRORS
from .sqlite import FAILED_SYNCS
from .texts import text_from, text_or_none

_PAGE: Final = 500  # rows that are asked for, or fetched, in one go

_ATTEMPTS: Final = 5
"""Of a transaction that met another one, or a connection that was lost."""

_WAIT_S: Final = 10
"""For a connection, an answer of the network, or SQLite's lock."""

_CONNECTIONS: Final = 32  # open at the same time; each running find has one

_KEY: Final = sa.column("k", sa.String)
_VALUE: Final = sa.column("v", sa.String)
_ROWS: Final = sa.table("rows", _KEY, _VALUE)
_META: Final = sa.table("meta", sa.column("metakey", sa.String), sa.column("value", sa.String))
_SELECT: Final = sa.select(_KEY, _VALUE)
_GET: Final = sa.select(_VALUE).where(_ROWS.c.k == sa.bindparam("key"))
_DELETE: Final = sa.delete(_ROWS).where(_ROWS.c.k == sa.bindparam("key"))
_REPLACE: Final = sa.insert(_ROWS).prefix_with("OR REPLACE")

# Arrays: five times as quick as a statement for each row.
_SET_ARRAYS: Final = sa.text(
    "INSERT INTO rows SELECT * FROM unnest(CAST(:keys AS TEXT[]), CAST(:values AS TEXT[]))"
    " ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v"
)
_DELETE_ARRAY: Final = sa.text("DELETE FROM rows WHERE k = ANY(CAST(:keys AS TEXT[]))")

_Result = TypeVar("_Result")


class SQLKeyValue(KeyValue):
    """Two tables of an SQL database. Several processes may have it open.

    Commits are transactions of the database; they are tried again when they meet another one, or
    find that the connection was lost before. When it is lost while a commit is under way, that
    is Unavailable: nobody knows whether it took effect. The next call connects anew.

    is_new: the tables were made by opening this.
    """

    def __init__(self, dialect: "Dialect") -> None:
        """Open or create. Raises ConfigError, Corrupt, Forbidden, Unavailable, Unsupported."""
        self._dialect = dialect
        self._failure = ""
        self._is_closed = self.is_new = False
        with self._translated("open"):
            dialect.create()
            self._engine = dialect.connect()
            try:
                self._prepare()
            except BaseException:
                self._engine.dispose()
                raise

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("sql", args) as options:
            text = options.string("url")
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):  # whose texts would show the password
            raise ConfigError("configure", "sql, url", "is no URL of a database") from None
        if url.drivername in ("sqlite", "sqlite+pysqlite"):
            return cls(SQLite(url))
        if url.drivername in ("postgresql", "postgresql+psycopg"):
            return cls(PostgreSQL(url.set(drivername="postgresql+psycopg")))
        raise ConfigError("configure", "sql, url", "must begin with postgresql:// or sqlite://")

    @property
    def engine(self) -> sa.Engine:
        """Of the database, for tables of others beside ours; until this is closed."""
        return self._engine

    def get(self, key: bytes) -> bytes | None:
        text = text_or_none(key)
        if text is None:
            return None

        def read() -> str | None:
            with self._connected(self._dialect.read_options) as connection:
                return connection.execute(_GET, {"key": text}).scalar()

        with self._translated("read"):
            value = _retried(read)
        return None if value is None else value.encode()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        texts = [text for text in map(text_or_none, keys) if text is not None]
        pages = [texts[at : at + _PAGE] for at in range(0, len(texts), _PAGE)]

        def read() -> dict[bytes, bytes]:
            found = {}
            with self._connected(self._dialect.read_options) as connection:
                for page in pages:
                    statement = _SELECT.where(_ROWS.c.k.in_(page))
                    for key, value in connection.execute(statement):
                        found[key.encode()] = value.encode()
            return found

        with self._translated("read"):
            return _retried(read)

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        first, last = text_from(start), text_from(end)
        if first is None:
            return
        statement = _SELECT.where(_ROWS.c.k >= first).order_by(_ROWS.c.k)
        if end and last is not None:
            statement = statement.where(_ROWS.c.k < last)

        def begin() -> "sa.CursorResult[str, str]":
            stack.close()  # of an attempt before
            options = {"stream_results": True, "yield_per": _PAGE}
            return stack.enter_context(
                stack.enter_context(self._connected(options)).execute(statement)
            )

        # A cursor of the server (of SQLite: an open statement) is the snapshot.
        with self._translated("read"), ExitStack() as stack:
            for page in _retried(begin).partitions():
                for key, value in page:
                    yield key.encode(), value.encode()

    def commit(self, batch: Batch, durable: bool = True) -> None:
        # By key: two commits that take rows in the same order never wait for each other in turn.
        changes = sorted(dict(batch.operations).items())
        rows = [(key.decode(), value.decode()) for key, value in changes if value is not None]
        texts = (text_or_none(key) for key, value in changes if value is None)
        gone = [text for text in texts if text is not None]

        def write(connection: sa.Connection) -> None:
            if rows:
                self._dialect.set(connection, rows)
            if gone:
                self._dialect.delete(connection, gone)

        self._write("write", write, durable)

    def wipe(self) -> None:
        # Not TRUNCATE, which would wait for every open find.
        self._write("wipe", lambda connection: connection.execute(sa.delete(_ROWS)), durable=True)

    def close(self) -> None:
        self._is_closed = True
        self._engine.dispose()

    # -- the schema -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            if self._schema_of(connection) == migrations.NEWEST:
                return
            self.is_new = not sa.inspect(connection).has_table("rows")
        with self._engine.connect() as connection:
            self._dialect.begin_migration(connection)
            migrations.upgrade(connection)
            connection.commit()

    def _schema_of(self, connection: sa.Connection) -> str:
        """The step at which the tables are; "" when they are Perkeep's, or not there."""
        self._dialect.check(connection)
        tables = set(sa.inspect(connection).get_table_names())
        if "meta" in tables:
            statement = sa.select(_META.c.value).where(_META.c.metakey == "version")
            version = connection.execute(statement).scalar()
            if version != self._dialect.version:
                reason = f"schema version is {version or 'none'}, not {self._dialect.version}"
                raise Unsupported("open", self._dialect.name, reason)
        elif "rows" in tables:
            raise Unsupported("open", self._dialect.name, "its table rows is of another program")
        if "alembic_version" not in tables:
            return ""
        step = str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar())
        if not step.isdecimal() or int(step) > int(migrations.NEWEST):
            raise Unsupported("open", self._dialect.name, f"made by a newer version (step {step})")
        return step

    # -- connections ----------------------------------------------------------------------------

    @contextmanager
    def _connected(self, options: Mapping[str, Any]) -> Iterator[sa.Connection]:
        if self._is_closed:
            raise Unavailable("read", self._dialect.name, "the store is closed")
        with self._engine.connect() as connection:
            try:
                yield connection.execution_options(**options)
            finally:
                if self._is_closed and not connection.invalidated:
                    connection.detach()  # from the pool: it is closed, not kept

    def _write(
        self, operation: str, work: Callable[[sa.Connection], object], durable: bool
    ) -> None:
        def write() -> None:
            with self._connected({}) as connection:
                self._dialect.begin(connection, durable)
                work(connection)
                # Translated here, and so not tried again: it may have taken effect.
                with self._translated(operation):
                    connection.commit()

        with self._translated(operation), self._dialect.write_lock:
            if self._failure:
                raise ReadOnly(operation, self._dialect.name, self._failure)
            _retried(write)

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ImportError as error:  # of the driver, which SQLAlchemy imports late
            raise Unsupported(operation, self._dialect.name, str(error)) from error
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) in FAILED_SYNCS:
                self._failure = "a sync failed; restart to write again"
            reason = "; ".join(str(error.orig).split("\n"))
            raise self._dialect.kind_of(error)(operation, self._dialect.name, reason) from error
        except sa.exc.SQLAlchemyError as error:
            raise Unavailable(operation, self._dialect.name, str(error)) from error
        except UnicodeDecodeError as error:
            raise Corrupt(operation, self._dialect.name, str(error)) from error
        except OSError as error:
            raise Unavailable(operation, self._dialect.name, error.strerror or "") from error


class PostgresKeyValue(SQLKeyValue):
    """PostgreSQL by the arguments that Perkeep's configuration has for it."""

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("postgres", args) as options:
            host, port = _host_and_port(options.string("host", "localhost"))
            url = sa.URL.create(
                "postgresql+psycopg",
                username=options.string("user"),
                password=options.string("password", "") or None,
                host=host,
                port=port,
                database=options.string("database"),
                query={"sslmode": options.string("sslmode", "require")},
            )
        return cls(PostgreSQL(url))


class Dialect(ABC):
    """What the two engines do each in its way.

    name: of the database, for errors; without a password. version: that Perkeep notes in `meta`.
    read_options: of a connection that only gets. write_lock: held throughout a commit.
    """

    name: str
    version: str
    read_options: ClassVar[Mapping[str, Any]]
    write_lock: AbstractContextManager[object]

    @abstractmethod
    def create(self) -> None:
        """Make the database where there is none."""

    @abstractmethod
    def connect(self) -> sa.Engine:
        """Return an engine; it connects when asked to."""

    @abstractmethod
    def check(self, connection: sa.Connection) -> None:
        """Raise Unsupported for a database that can't hold our rows."""

    @abstractmethod
    def begin(self, connection: sa.Connection, durable: bool) -> None:
        """Begin a transaction that writes."""

    @abstractmethod
    def set(self, connection: sa.Connection, rows: list[tuple[str, str]]) -> None:
        """Insert the rows; where a key is there, replace its value."""

    @abstractmethod
    def delete(self, connection: sa.Connection, keys: list[str]) -> None:
        """Delete the rows that are there."""

    def begin_migration(self, connection: sa.Connection) -> None:
        """Begin a transaction that no other migration runs beside."""
        self.begin(connection, durable=True)

    @abstractmethod
    def kind_of(self, error: sa.exc.DBAPIError) -> type[StoreError]:
        """The class of our errors that says what this one says."""


class PostgreSQL(Dialect):
    """PostgreSQL 12 or newer, through psycopg."""

    version = "2"
    read_options: ClassVar = {"isolation_level": "AUTOCOMMIT"}  # a get is one statement

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.name = f"PostgreSQL database {url.database!r} at {url.host}"
        self.write_lock = nullcontext()

    def create(self) -> None:
        try:
            self._once(self._url, lambda _: None)
        except sa.exc.OperationalError:
            # What refused us has no code, only a text in the server's language: so ask it.
            if not self._is_missing():
                raise
            self._create()

    def connect(self) -> sa.Engine:
        engine = sa.create_engine(
            self._url,
            hide_parameters=True,
            pool_size=4,
            max_overflow=_CONNECTIONS - 4,
            pool_timeout=_WAIT_S,
            connect_args={
                "connect_timeout": _WAIT_S,
                "keepalives_idle": _WAIT_S,
                "keepalives_interval": _WAIT_S,
                "keepalives_count": 3,
                "tcp_user_timeout": 3000 * _WAIT_S,
            },
        )

        @sa.event.listens_for(engine, "connect")
        def set_up(connection: Any, _: object) -> None:
            # A server may be set up to acknowledge before it syncs. Stricter than "on" stays.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
            connection.commit()

        return engine

    def check(self, connection: sa.Connection) -> None:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise Unsupported("open", self.name, f"its encoding is {encoding}, not UTF8")

    def begin(self, connection: sa.Connection, durable: bool) -> None:
        if not durable:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    def set(self, connection: sa.Connection, rows: list[tuple[str, str]]) -> None:
        keys, values = zip(*rows, strict=True)
        connection.execute(_SET_ARRAYS, {"keys": list(keys), "values": list(values)})

    def delete(self, connection: sa.Connection, keys: list[str]) -> None:
        connection.execute(_DELETE_ARRAY, {"keys": keys})

    def begin_migration(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")

    def kind_of(self, error: sa.exc.DBAPIError) -> type[StoreError]:
        return sqlstate.ERRORS.get(getattr(error.orig, "sqlstate", None) or "", Unavailable)

    def _is_missing(self) -> bool:
        statement = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        try:
            return not self._once(
                self._url.set(database="postgres"),
                lambda connection: connection.execute(
                    statement, {"name": self._url.database}
                ).scalar(),
            )
        except sa.exc.OperationalError:
            return False

    def _create(self) -> None:
        name = str(self._url.database).replace('"', '""').replace("%", "%%")
        statement = (
            f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'"
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        try:
            self._once(
                self._url.set(database="postgres"),
                lambda connection: connection.exec_driver_sql(statement),
            )
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in sqlstate.MADE_MEANWHILE:
                raise

    def _once(self, url: sa.URL, work: Callable[[sa.Connection], _Result]) -> _Result:
        engine = sa.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
            connect_args={"connect_timeout": _WAIT_S},
        )
        with engine.connect() as connection:
            return work(connection)


class SQLite(Dialect):
    """A file of SQLite, the same as that of `sorted/sqlite.py`, which is the quicker way to it."""

    version = "1"
    read_options: ClassVar = {}

    def __init__(self, url: sa.URL) -> None:
        """Raises ConfigError for a URL without a file."""
        if not url.database or url.database == ":memory:":
            raise ConfigError("configure", "sql, url", "must name a file: sqlite:////folder/file")
        self._url = url
        self._file = Path(url.database)
        self.name = str(self._file)
        self.write_lock = threading.Lock()

    def create(self) -> None:
        if not self._file.exists():
            make_folder(self._file.parent)
            self._file.touch(mode=0o600)
            sync_folder(self._file.parent)

    def connect(self) -> sa.Engine:
        engine = sa.create_engine(
            self._url,
            hide_parameters=True,
            pool_size=4,
            max_overflow=_CONNECTIONS - 4,
            pool_timeout=_WAIT_S,
            connect_args={"timeout": _WAIT_S},
        )

        @sa.event.listens_for(engine, "connect")
        def set_up(connection: Any, _: object) -> None:
            connection.isolation_level = None  # transactions begin where we say so
            connection.execute("PRAGMA journal_mode = WAL")

        return engine

    def check(self, connection: sa.Connection) -> None:
        """Whatever its encoding, SQLite compares text byte by byte in UTF-8 or not at all."""

    def begin(self, connection: sa.Connection, durable: bool) -> None:
        connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def set(self, connection: sa.Connection, rows: list[tuple[str, str]]) -> None:
        connection.execute(_REPLACE, [{"k": key, "v": value} for key, value in rows])

    def delete(self, connection: sa.Connection, keys: list[str]) -> None:
        connection.execute(_DELETE, [{"key": key} for key in keys])

    def kind_of(self, error: sa.exc.DBAPIError) -> type[StoreError]:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return SQLITE_ERRORS.get(code, Unavailable)


def _retried(work: Callable[[], _Result]) -> _Result:
    """Do it again when the connection had been lost, or another transaction was in the way."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except sa.exc.DBAPIError as error:
            if (
                not error.connection_invalidated
                and getattr(error.orig, "sqlstate", None) not in sqlstate.MET_ANOTHER
            ):
                raise
    return work()


def _host_and_port(text: str) -> tuple[str, int | None]:
    """Take apart `host`, `host:port`, `[address]:port`, or the folder of a socket."""
    host, colon, port = text.rpartition(":")
    if not colon or text.startswith("/") or (":" in host and not host.endswith("]")):
        return text.strip("[]"), None
    if not port.isdecimal():
        raise ConfigError("configure", "postgres, host", "its port is no number")
    return host.strip("[]"), int(port)


_MIGRATION_LOCK: Final = int.from_bytes(b"peatkeep")
"""Of PostgreSQL's advisory locks, which have numbers and no names."""
