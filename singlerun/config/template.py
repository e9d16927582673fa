"""What ``config init`` writes: a start in which everything is a comment."""

from singlerun.config import schema

_HEAD = """\
# The configuration of singlerun; see: man singlerun-config
# To find mistakes in it: singlerun config check
# To see what holds for a name: singlerun config show NAME
"""
_DEFAULTS = """
# What holds for every name. A key is a long option of "singlerun" or of "singlerun add".
"""
_JOBS = """
# What holds for one name, or for all names that a glob matches. The nearest table wins; what is on
# the command line always does.
"""


def text() -> str:
    """Return the text of a new file."""
    parts = [_HEAD, _DEFAULTS, "#[defaults]\n", *_lines(schema.DEFAULTS)]
    parts += [_JOBS, '#[jobs."backup*"]\n#timeout = "2h"\n']
    for table in (schema.NOTIFY, schema.RETENTION):
        if lines := _lines(table):
            parts += [f"\n# {table.help}\n#[{table.name}]\n", *lines]
    return "".join(parts)


def _lines(table: schema.Key) -> list[str]:
    return [f"# {key.help}\n#{key.name} = {key.example}\n" for key in table.keys if key.example]
