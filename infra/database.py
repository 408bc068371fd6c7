"""The service's own records in SQL: SQLite by default, Postgres to grow. Datasets, versions, jobs, batches and so on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from longtail.errors import Conflict, NotFound, NotReady
from longtail.jobs import FINAL_STATES, TENANT

Row = dict[str, Any]
CHECKING, READY = "checking", "ready"
"""A version's state: its images are still being read, or it may be used."""
META = sa.MetaData()


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table whose every row has an id, a tenant and a time of creation."""
    return sa.Table(
        name,
        META,
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False, index=True),
        sa.Column("created", sa.String, nullable=False, index=True),
        *columns,
    )


def _text(name: str, *, index: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String, index=index)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON)


def _int(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer)


DATASETS = _table(
    "datasets", _text("uri"), _text("format"), _text("task"), _json("classes"), _json("meta"), _text("table_uri"),
    _int("latest"), _int("serving"), _int("numbered"),
)
GENERATORS = _table(
    "generators", _text("dataset", index=True), _int("version"), _text("uri"), _text("run"), _json("classes"), _json("gates"), _json("recipe"),
    _text("source"), _text("job"), _int("dataset_version"), _text("withdrawn"),
)
VERSIONS = _table(
    "versions", _text("dataset", index=True), _int("number"), _int("parent"), _int("lance_version"), _json("batches"), _text("removed"),
    _json("tally"), _json("health"),
    _text("state"), _text("proof"), sa.Column("accepted_unproven", sa.Boolean, default=False), _text("note"), _text("withdrawn"),
)
VERSIONS.append_constraint(sa.UniqueConstraint("tenant", "dataset", "number"))
JOBS = _table(
    "jobs", _text("kind"), _text("state", index=True), sa.Column("progress", sa.Float, default=0.0), _text("message"), _json("request"),
    _json("result"), _json("problem"), sa.Column("cancel", sa.Boolean, default=False), _text("finished"),
)
BATCHES = _table("batches", _text("dataset", index=True), _text("state"), _json("request"), _json("summary"), _text("job"))
SAMPLES = _table(
    "samples", _text("batch", index=True), _int("position"), _text("state"), _text("uri"), _text("etag"), _int("size_bytes"),
    _int("width"), _int("height"), _json("annotations"), _json("provenance"), _json("verdict"),
)
EXPANSIONS = _table("expansions", _text("dataset"), _json("request"), _text("cron"), sa.Column("active", sa.Boolean, default=True))
RUNS = _table("expansion_runs", _text("expansion", index=True), _text("trigger"), _json("outcome"))
PROMOTIONS = _table(
    "promotions", _text("model", index=True), _text("alias"), _int("before"), _int("after"), _text("who"), _text("why"), _text("outcome"),
)
MOVES = _table(
    "moves", _text("dataset", index=True), _int("before"), _int("version"), _text("who"), _text("why"), _text("proof"),
    sa.Column("accepted_unproven", sa.Boolean, default=False),
)  # of `latest`
EVALUATIONS = _table("evaluations", _text("dataset", index=True), _json("request"), _json("result"))
INSPECTIONS = _table("inspections", _text("dataset", index=True), _int("version"), _json("result"))
WITHDRAWALS = _table(
    "withdrawals", _text("dataset", index=True), _text("reason"), _text("who"), _json("paths"), _json("samples"), _json("outcome"), _text("lifted"),
)
ANSWERS = _table("answers", _text("fingerprint"), _int("status"), _json("body"), _json("headers"))
EVENTS = sa.Table(
    "events", META, sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True), sa.Column("tenant", sa.String, default=TENANT),
    sa.Column("job", sa.String, index=True),
    sa.Column("kind", sa.String), sa.Column("data", sa.JSON), sa.Column("at", sa.String),
)

NOUNS = {
    "datasets": "dataset", "versions": "version", "jobs": "job", "batches": "batch", "samples": "sample", "expansions": "expansion",
    "generators": "generator", "withdrawals": "withdrawal", "evaluations": "evaluation",
    "inspections": "inspection",
}  # fmt: skip


class Overtaken(Exception):
    """Another publication moved `latest` first."""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Database:
    """Rows by table and id. Every method is one transaction."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {"connect_args": {"timeout": 30}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        self.engine = sa.create_engine(url, **options)
        if url.startswith("sqlite"):
            sa.event.listen(self.engine, "connect", _tune_sqlite)

    def create_tables(self) -> None:
        for attempt in range(3):
            try:
                META.create_all(self.engine)
                self._add_missing_columns()
                return
            except sa.exc.DBAPIError:  # two processes of a new stack may create them at the same time
                if attempt == 2:
                    raise

    def _add_missing_columns(self) -> None:
        """An older stack's tables get the columns that came since; all of those may be null."""
        found = sa.inspect(self.engine)
        for table in META.sorted_tables:
            there = {c["name"] for c in found.get_columns(table.name)}
            for column in (c for c in table.columns if c.name not in there):
                kind = column.type.compile(self.engine.dialect)
                with self.transaction() as connection:
                    connection.execute(sa.text(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {kind}'))

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            yield connection

    def insert(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """True if the row is new, False if its id (or another unique key) is there already."""
        try:
            with self.transaction() as connection:
                connection.execute(table.insert().values(**{"tenant": TENANT, "created": now()} | dict(row)))
        except IntegrityError:
            return False
        return True

    def insert_all(self, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds those rows whose ids are not there yet, in one transaction."""
        if not rows:
            return
        with self.transaction() as connection:
            ids = [r["id"] for r in rows]
            there = set(connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars())
            fresh = [{"tenant": TENANT, "created": now()} | dict(r) for r in rows if r["id"] not in there]
            if fresh:
                connection.execute(table.insert(), fresh)

    def find(self, table: sa.Table, key: str) -> Row | None:
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == key)).mappings().first()
        return dict(row) if row else None

    def get(self, table: sa.Table, key: str) -> Row:
        row = self.find(table, key)
        if row is None:
            raise NotFound(f"no {NOUNS.get(table.name, table.name)} {key!r}")
        return row

    def select(
        self, table: sa.Table, *, limit: int = 1000, after: tuple[str, str] | None = None, newest: bool = False, **where: Any
    ) -> list[Row]:
        """Rows that equal `where`, oldest or newest first, beginning after the given (created, id)."""
        columns = (table.c.created, table.c.id)
        query = sa.select(table).order_by(*((c.desc() for c in columns) if newest else columns)).limit(limit)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        if after is not None:
            here, there = sa.tuple_(*columns), sa.tuple_(sa.literal(after[0]), sa.literal(after[1]))
            query = query.where(here < there if newest else here > there)
        with self.engine.connect() as connection:
            return [dict(r) for r in connection.execute(query).mappings()]

    def every(self, table: sa.Table, **where: Any) -> Iterator[Row]:
        """All rows that equal `where`, oldest first, a thousand at a time."""
        after: tuple[str, str] | None = None
        while rows := self.select(table, after=after, **where):
            yield from rows
            after = rows[-1]["created"], rows[-1]["id"]

    def count(self, table: sa.Table, *, before: str | None = None, **where: Any) -> int:
        """How many rows equal `where`, made before a time if one is given."""
        query = sa.select(sa.func.count()).select_from(table)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        if before is not None:
            query = query.where(table.c.created < before)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def update(self, table: sa.Table, key: str, **values: Any) -> None:
        with self.transaction() as connection:
            connection.execute(table.update().where(table.c.id == key).values(**values))

    def move(self, table: sa.Table, key: str, *, column: str, allowed: Sequence[str], to: str) -> None:
        """Changes a state, in one step, if it is one of those allowed; raises Conflict if not."""
        with self.transaction() as connection:
            changed = connection.execute(
                table.update().where(table.c.id == key, table.c[column].in_([*allowed, to])).values({column: to})
            ).rowcount
        if not changed:
            found = self.get(table, key)[column]
            raise Conflict(f"{table.name} {key!r} is {found!r}; it can become {to!r} only from {', '.join(allowed)}")

    def decide(self, sample: str, state: str) -> bool:
        """Sets a sample's state while its batch is ready, in one step; False if it is not."""
        ready = sa.select(BATCHES.c.id).where(BATCHES.c.id == SAMPLES.c.batch, BATCHES.c.state == "ready").exists()
        with self.transaction() as connection:
            return bool(connection.execute(SAMPLES.update().where(SAMPLES.c.id == sample, ready).values(state=state)).rowcount)

    # generators

    def serving(self, dataset: str) -> Row:
        """The generator that serves a dataset. Raises NotReady where none does, or where it was withdrawn."""
        version = self.get(DATASETS, dataset)["serving"]
        if version is None:
            raise NotReady(f"dataset {dataset!r} has no generator in service yet; move `champion` to one, or use mode 'copy_paste'")
        found = self.get(GENERATORS, f"{dataset}:{version}")
        if found["withdrawn"]:
            raise NotReady(f"generator {version} of {dataset!r} learned from images that were withdrawn; fine-tune again, or promote another")
        return found

    def serve(self, dataset: str, version: int) -> bool:
        """Makes a generator the one that serves unless it was withdrawn, in one step: False if it was.

        Its row is held meanwhile, so that a withdrawal either comes first and is heeded, or finds this generator serving.
        """
        mine = (GENERATORS.c.id == f"{dataset}:{version}") & GENERATORS.c.withdrawn.is_(None)
        with self.transaction() as connection:
            if not connection.execute(GENERATORS.update().where(mine).values(withdrawn=None)).rowcount:
                return False
            connection.execute(DATASETS.update().where(DATASETS.c.id == dataset).values(serving=version))
        return True

    # jobs

    def report(self, job: str, *, progress: float | None = None, message: str | None = None, data: Mapping[str, Any] | None = None) -> bool:
        """Records progress, which never goes back, and an event; returns True if the job's owner has asked to cancel it."""
        values: Row = {k: v for k, v in (("progress", progress), ("message", message)) if v is not None}
        with self.transaction() as connection:
            if values:
                forward = {} if progress is None else {"progress": sa.case((JOBS.c.progress > progress, JOBS.c.progress), else_=progress)}
                connection.execute(JOBS.update().where(JOBS.c.id == job).values(**{**values, **forward}))
            connection.execute(EVENTS.insert().values(job=job, kind="progress", data={**values, **(data or {})}, at=now()))
            return bool(connection.execute(sa.select(JOBS.c.cancel).where(JOBS.c.id == job)).scalar())

    def set_state(self, job: str, state: str, **values: Any) -> None:
        """Moves a job on. A final state is never left again."""
        if state in FINAL_STATES:
            values["finished"] = now()
        with self.transaction() as connection:
            changed = connection.execute(
                JOBS.update().where(JOBS.c.id == job, JOBS.c.state.not_in(FINAL_STATES)).values(state=state, **values)
            ).rowcount
            if changed:
                connection.execute(EVENTS.insert().values(job=job, kind="state", data={"state": state, **_plain(values)}, at=now()))

    def events(self, job: str, *, after: int = 0, limit: int = 500) -> list[Row]:
        query = sa.select(EVENTS).where(EVENTS.c.job == job, EVENTS.c.seq > after).order_by(EVENTS.c.seq).limit(limit)
        with self.engine.connect() as connection:
            return [dict(r) for r in connection.execute(query).mappings()]

    # datasets

    def version(self, dataset: str, number: int | None = None, *, to_see: bool = False, or_latest: bool = False) -> Row:
        """The numbered version, or the latest.

        One that is still `checking`, or that holds withdrawn images, is refused: it may be seen, not used. With `or_latest`
        the latest stands in for one that holds withdrawn images.
        """
        wanted = number if number is not None else self.get(DATASETS, dataset)["latest"]
        if wanted is None:
            raise Conflict(f"dataset {dataset!r} is being registered; wait for its job")
        found = self.find_version(dataset, wanted)
        if found is None:
            raise NotFound(f"dataset {dataset!r} has no version {wanted}")
        if found["state"] == CHECKING and not to_see:
            raise Conflict(f"version {wanted} of dataset {dataset!r} is being checked; wait for its job")
        if found["withdrawn"] and not to_see:
            latest = self.get(DATASETS, dataset)["latest"]
            if or_latest and latest != wanted:
                return self.version(dataset, latest)
            raise Conflict(f"version {wanted} of dataset {dataset!r} holds images that were withdrawn; use version {latest}")
        return found

    def find_version(self, dataset: str, number: int) -> Row | None:
        """The numbered version in whatever state, None where it was dropped."""
        return next(iter(self.select(VERSIONS, dataset=dataset, number=number, limit=1)), None)

    def last_number(self, dataset: str) -> int:
        """The highest version number that was ever given, 0 where there is none: what is said of a number is said of one version."""
        query = sa.select(sa.func.max(VERSIONS.c.number)).where(VERSIONS.c.tenant == TENANT, VERSIONS.c.dataset == dataset)
        dropped = sa.select(DATASETS.c.numbered).where(DATASETS.c.id == dataset)
        with self.engine.connect() as connection:
            return max(int(connection.execute(q).scalar() or 0) for q in (query, dropped))

    def add_version(self, row: Mapping[str, Any], *, make_latest: bool, instead_of: int | None, who: str) -> bool:
        """Enters a version and moves `latest` to it, both or neither.

        False where another has taken its number, or where `latest` is not `instead_of` (if that is given) any more.
        """
        try:
            with self.transaction() as connection:
                connection.execute(VERSIONS.insert().values(**{"tenant": TENANT, "created": now()} | dict(row)))
                self._published(connection, row, make_latest=make_latest, instead_of=instead_of, who=who)
        except (IntegrityError, Overtaken):
            return False
        return True

    def finish_version(self, row: Mapping[str, Any], values: Mapping[str, Any], *, make_latest: bool, who: str) -> None:
        """Fills in a version that was entered before, and moves `latest` to it, both or neither."""
        with self.transaction() as connection:
            connection.execute(VERSIONS.update().where(VERSIONS.c.id == row["id"]).values(**values))
            self._published(connection, {**row, **values}, make_latest=make_latest, instead_of=None, who=who)

    def move_latest(self, version: Mapping[str, Any], *, key: str, who: str, why: str, instead_of: int | None = None) -> bool:
        """Moves `latest` to a version and logs it, both or neither; told again with the same key, it has been done.

        False where `latest` is not `instead_of` (if that is given) any more.
        """
        if self.find(MOVES, key) is not None:
            return True
        try:
            with self.transaction() as connection:
                self._move(connection, version, instead_of=instead_of, key=key, who=who, why=why)
        except Overtaken:
            return False
        return True

    def _published(self, connection: sa.Connection, row: Mapping[str, Any], *, make_latest: bool, instead_of: int | None, who: str) -> None:
        if make_latest:
            self._move(connection, row, instead_of=instead_of, key=row["id"], who=who, why=row["note"])
        elif instead_of is not None:
            still = sa.select(DATASETS.c.latest).where(DATASETS.c.id == row["dataset"])
            if connection.execute(still).scalar() != instead_of:
                raise Overtaken

    @staticmethod
    def _move(connection: sa.Connection, version: Mapping[str, Any], *, instead_of: int | None, key: str, who: str, why: str) -> None:
        mine = DATASETS.c.id == version["dataset"]
        before = connection.execute(sa.select(DATASETS.c.latest).where(mine)).scalar()
        still = mine if instead_of is None else mine & (DATASETS.c.latest == instead_of)
        if not connection.execute(DATASETS.update().where(still).values(latest=version["number"])).rowcount:
            raise Overtaken
        told = {"dataset": version["dataset"], "before": before, "version": version["number"], "who": who, "why": why}
        said = {"proof": version["proof"], "accepted_unproven": bool(version["accepted_unproven"])}
        connection.execute(MOVES.insert().values(id=key, tenant=TENANT, created=now(), **told, **said))

    def delete(self, table: sa.Table, **where: Any) -> int:
        """Removes the rows that equal `where`; returns how many."""
        query = table.delete()
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        with self.transaction() as connection:
            return connection.execute(query).rowcount


def _plain(values: Mapping[str, Any]) -> Row:
    return {k: v for k, v in values.items() if k in ("message", "problem", "result", "finished")}


def _tune_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=30000")
