"""The history of the database's schema, read downward. Only ever append.

``PRAGMA user_version`` counts the migrations that a database has seen.
"""

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
)

LATEST = len(MIGRATIONS)
