"""The history of the database's schema, read downward. Only ever append.

``PRAGMA user_version`` counts the migrations that a database has seen.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID = 0x73676C72
"""Tells our databases from others (file(1) and PRAGMA application_id): "sglr"."""

MIGRATIONS = (
    # 1: the run-log. Texts that come from outside are BLOBs: names, paths and arguments are bytes.
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        token INTEGER,
        names BLOB NOT NULL,            -- separated by NUL
        lock_file BLOB,
        argv BLOB NOT NULL,             -- separated by NUL
        cwd BLOB,
        shared INTEGER NOT NULL,
        state TEXT NOT NULL,
        uid INTEGER NOT NULL,
        host TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        pid_ns INTEGER NOT NULL,
        wrapper_pid INTEGER NOT NULL,
        wrapper_started INTEGER,        -- clock ticks since boot
        command_pid INTEGER,
        command_started INTEGER,
        asked_ns INTEGER NOT NULL,      -- nanoseconds since the epoch
        started_ns INTEGER,
        ended_ns INTEGER,               -- NULL while the run is open
        elapsed_ns INTEGER,             -- by the monotonic clock
        exit_code INTEGER,
        signal INTEGER,
        user_us INTEGER,
        system_us INTEGER,
        max_rss_kb INTEGER,
        parent_id INTEGER,
        conflict_id INTEGER,
        detail TEXT
    );
    CREATE INDEX runs_open ON runs (id) WHERE ended_ns IS NULL;
    CREATE TABLE run_names (
        name BLOB NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        PRIMARY KEY (name, run_id)
    ) WITHOUT ROWID;
    CREATE TABLE names (
        name BLOB PRIMARY KEY,
        token INTEGER NOT NULL          -- that of the latest start
    ) WITHOUT ROWID;
    CREATE TABLE origin (boot_id TEXT NOT NULL);  -- the boot in which this database was begun
    """,
    # 2: several at once.
    """
    ALTER TABLE runs ADD COLUMN slots INTEGER
    """,
    # 3: queues. A job's id is of the same sequence as the runs' ids, so no number means two things.
    """
    ALTER TABLE runs ADD COLUMN job_id INTEGER;
    CREATE TABLE contexts (             -- what jobs that were added together share
        id INTEGER PRIMARY KEY,
        cwd BLOB NOT NULL,
        umask INTEGER NOT NULL,
        env BLOB NOT NULL,              -- NAME=VALUE, separated by NUL
        options TEXT NOT NULL           -- run options, as JSON
    );
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL,
        context_id INTEGER NOT NULL REFERENCES contexts (id),
        argv BLOB NOT NULL,             -- separated by NUL
        state TEXT NOT NULL,
        priority INTEGER NOT NULL,      -- the higher, the earlier
        not_before_ns INTEGER,
        after_id INTEGER,               -- the job that this one follows
        blocked INTEGER NOT NULL,       -- 1 while that has not succeeded
        label TEXT,
        retries INTEGER NOT NULL,
        retry_delay REAL NOT NULL,      -- seconds
        uid INTEGER NOT NULL,
        parent_id INTEGER,              -- the run in which it was added
        added_ns INTEGER NOT NULL,
        position INTEGER NOT NULL DEFAULT 0,    -- less than 0: was moved to the front
        tries INTEGER NOT NULL DEFAULT 0,
        started_ns INTEGER,             -- of the latest try
        ended_ns INTEGER,
        run_id INTEGER,                 -- the latest try
        announced TEXT,                 -- the boot in which it may have started without a sync
        exit_code INTEGER,
        signal INTEGER,
        detail TEXT
    );
    CREATE INDEX jobs_ready ON jobs (name, priority DESC, position, id) WHERE state = 'queued';
    CREATE INDEX jobs_delayed ON jobs (name, not_before_ns) WHERE state = 'delayed';
    CREATE INDEX jobs_following ON jobs (after_id) WHERE blocked;
    CREATE TABLE pauses (
        name BLOB PRIMARY KEY,
        since_ns INTEGER NOT NULL,
        until_ns INTEGER,               -- NULL: until it is taken away
        uid INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    # 4: locks on descriptors of the caller.
    """
    ALTER TABLE runs ADD COLUMN fd INTEGER
    """,
    # 5: runs by state and time. One of more than an hour is rare, and found by itself.
    """
    CREATE INDEX runs_states ON runs (state, asked_ns) WHERE ended_ns NOTNULL;
    CREATE INDEX runs_long ON runs (ended_ns) WHERE ended_ns - asked_ns > 3600000000000
    """,
    # 6: what was paused, when it no longer is.
    """
    CREATE TABLE past_pauses (
        name BLOB NOT NULL,
        since_ns INTEGER NOT NULL,
        until_ns INTEGER NOT NULL,
        uid INTEGER NOT NULL
    );
    CREATE INDEX past_pauses_until ON past_pauses (until_ns)
    """,
    # 7: when a run that failed is tried again; jobs counted, and listed in order, by their indexes.
    """
    ALTER TABLE runs ADD COLUMN not_before_ns INTEGER;
    CREATE INDEX jobs_states ON jobs (state, name);
    DROP INDEX jobs_delayed;
    CREATE INDEX jobs_delayed ON jobs
        (name, blocked, not_before_ns, priority DESC, position, id) WHERE state = 'delayed'
    """,
    # 8: what refers to a job or a context, so that it is kept.
    """
    CREATE INDEX jobs_after ON jobs (after_id) WHERE after_id NOTNULL;
    CREATE INDEX jobs_contexts ON jobs (context_id)
    """,
    # 9: what became of each name, counted for check and metrics (tallies.py). Of the runs up to an
    # id, without those that were open then. How long they took: up to 1, 5, 15 and 60 s, 5 and 15
    # min, 1, 4 and 24 h, and longer.
    """
    CREATE TABLE tallied (up_to INTEGER NOT NULL, since_ns INTEGER NOT NULL);
    CREATE TABLE untallied (run_id INTEGER PRIMARY KEY);
    CREATE TABLE tallies (
        name BLOB NOT NULL,
        state TEXT NOT NULL,
        runs INTEGER NOT NULL,
        elapsed_ns INTEGER NOT NULL,
        b0 INTEGER NOT NULL, b1 INTEGER NOT NULL, b2 INTEGER NOT NULL, b3 INTEGER NOT NULL,
        b4 INTEGER NOT NULL, b5 INTEGER NOT NULL, b6 INTEGER NOT NULL, b7 INTEGER NOT NULL,
        b8 INTEGER NOT NULL, b9 INTEGER NOT NULL,
        PRIMARY KEY (name, state)
    ) WITHOUT ROWID;
    CREATE TABLE standings (
        name BLOB PRIMARY KEY,
        used_ns INTEGER NOT NULL,       -- the latest run was asked for, started or ended
        started_ns INTEGER,             -- the latest start
        ended_ns INTEGER,               -- the latest end, and how
        elapsed_ns INTEGER,
        state TEXT,
        exit_code INTEGER,
        signal INTEGER,
        succeeded_ns INTEGER,           -- the latest success
        refused_ns INTEGER,             -- the latest refusal
        refused INTEGER NOT NULL,       -- refusals since the latest start
        told TEXT                       -- what was told of it last
    ) WITHOUT ROWID;
    CREATE INDEX standings_used ON standings (used_ns)
    """,
    # 10: what was told already, of what is told once.
    """
    CREATE TABLE told (
        name BLOB NOT NULL,
        kind TEXT NOT NULL,             -- the event and a digest of where it is told
        occasion INTEGER NOT NULL,      -- it is told again when this is another
        PRIMARY KEY (name, kind)
    ) WITHOUT ROWID
    """,
)

LATEST = len(MIGRATIONS)
IMPOSSIBLE = 1000
"""No version of ours is so high: the number is damaged."""


def migrate(database: "sqlite3.Connection", version: int) -> None:
    """Migrate a database that has seen so many migrations."""
    for migration in MIGRATIONS[version:]:
        for statement in migration.split(";"):
            database.execute(statement)


def schema(database: "sqlite3.Connection") -> "set[tuple[str, str]]":
    """Return the names of what a database consists of, and how each was made."""
    return set(database.execute("SELECT name, sql FROM sqlite_master WHERE sql NOTNULL"))


def latest_schema() -> "set[tuple[str, str]]":
    """Return the schema of our version; each migration changes it."""
    import sqlite3  # noqa: PLC0415 - rare
    from contextlib import closing  # noqa: PLC0415

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, 0)
        return schema(database)
