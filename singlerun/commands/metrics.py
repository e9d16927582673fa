"""``singlerun metrics``: how names stand, for Prometheus."""

import click

from singlerun import config
from singlerun.commands import common
from singlerun.options import read_path
from singlerun.paths import reason, state_path
from singlerun.render import textfile
from singlerun.render.metrics import Metrics, Written
from singlerun.render.result import Result
from singlerun.render.text import shown
from singlerun.survey import Surveyor, record_bytes

LIMIT = 200


@common.subcommand("Print metrics for Prometheus.",
                   example="singlerun metrics --textfile /var/lib/node/singlerun.prom")  # fmt: skip
@click.option("--openmetrics", is_flag=True, help="Print the OpenMetrics format.")
@click.option("--textfile", "path", type=common.Read("PATH", read_path), metavar="PATH",
              help="Write this file instead, for node_exporter.")  # fmt: skip
@click.option("--limit", type=common.COUNT, metavar="N", default=LIMIT,
              help=f"Include at most N names; default: {LIMIT}.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not say how many names are left out.")
def command(
    ctx: click.Context, *, openmetrics: bool, path: bytes | None, limit: int, quiet: bool
) -> Result:
    """Print metrics of the names that have settings of their own or something open, and of those
    that were used last.
    """
    settings = config.load(state_path(ctx.obj))
    state, store = common.open_record(ctx)
    survey = Surveyor(state, store, settings).of_all(limit)
    names = [each.name for each in survey.watched]
    tallies = {} if store is None else store.tallies(names)
    errors = [*settings.problems, *common.notices(store)]
    kind = Metrics if path is None else Written
    metrics = kind(
        survey, tallies, record_bytes(state), openmetrics=openmetrics, quiet=quiet, errors=errors
    )
    if path is not None:
        try:
            textfile.replace(path, metrics.text)
        except OSError as error:
            what = f"cannot write {shown(path)}: {reason(error)}; an older file there is kept"
            return Result(errors=[what], status=125)
    return metrics
