"""``singlerun prune``: forget what is too old, too many or too large."""

import click

from singlerun.commands import common
from singlerun.commands.configured import no_config_option
from singlerun.pruning import background, rules
from singlerun.pruning.prune import Pruner
from singlerun.render.pruned import Pruning
from singlerun.render.result import Result
from singlerun.store.sqlite_pruning import SqlitePruning


@common.subcommand("Forget old runs, jobs, output and files.",
                   example="singlerun prune --older-than 90d --dry-run")  # fmt: skip
@click.option("--older-than", type=common.DURATION, metavar="DURATION",
              help="Keep nothing that ended longer ago; the default is 400d.")  # fmt: skip
@click.option("--keep", type=common.COUNT, metavar="N",
              help="Keep the latest N runs of each name; the default is 10000.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be forgotten.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@no_config_option
@common.json_option
def command(
    ctx: click.Context, *, older_than: float | None, keep: int | None, dry_run: bool, quiet: bool,
    no_config: bool,
) -> Result:  # fmt: skip
    """Forget runs and jobs that ended long ago or are too many, their output, and the files of
    names that are not used; give the space back.

    What is open, pending or held is left alone, and so are the latest run, start and success of
    each name. It needs no crontab: runs do it by themselves, once an hour at most.
    """
    state, store = common.open_record(ctx)
    if state is None or store is None:
        return Pruning(None, dry_run=dry_run, quiet=quiet)
    table = {} if no_config else rules.configured(state.path)
    kept = rules.of(table, older_than=older_than, keep=keep)
    with background.alone(state) as is_alone:
        if not is_alone and not dry_run:
            message = "another singlerun is pruning this state directory; try again later"
            return Result(errors=[message], status=75)
        pruned = Pruner(state, SqlitePruning(state), kept, dry_run=dry_run).prune()
    return Pruning(pruned, dry_run=dry_run, quiet=quiet)
