"""The table of the checks, in the order in which they are shown."""

from singlerun.checkup import (
    clock,
    cron_lines,
    database,
    directory,
    domains,
    installation,
    leftovers,
    limits,
    open_runs,
    queues,
    settings,
    space,
)

CHECKS = {
    "directory": directory.check,
    "file-system": space.check,
    "database": database.check,
    "sqlite": database.check_sqlite,
    "domains": domains.check,
    "crontabs": cron_lines.check,
    "runs": open_runs.check,
    "queues": queues.check,
    "pauses": queues.check_pauses,
    "leftovers": leftovers.check,
    "clock": clock.check,
    "limits": limits.check,
    "installation": installation.check,
    "configuration": settings.check,
}
