"""The layout: the floors of the package as its imports draw them, its sizes and its vocabulary.

    python tests/test_layout.py

prints the floors. A room is a top-level module or package of ``singlerun``; it stands one floor
above the highest room that it imports. Imports inside functions count, too: they only defer the
cost. Imports under ``if TYPE_CHECKING:`` do not count: they do not exist at run time.
"""

import ast
import re
import sys
from pathlib import Path

import singlerun

ROOT = Path(singlerun.__file__).parent
PROJECT = Path(__file__).parents[1]

FLOORS = [
    "__init__ errors finding outcome timings",
    "duration paths process size symlinks url",
    "lock moment rule store",
    "options ownership",
    "lifecycle render spec suggestion",
    "config contention event output recorder",
    "completion hooks notify pruning",
    "alarm queue",
    "checkup diagnosis runner survey",
    "api commands",
    "cli",
    "__main__",
]
"""The rooms from the ground up: each imports only from floors below its own."""
MOST_FLOORS = 12
LONGEST_FILE = 350
LONGEST_FUNCTION = 50


# -- the graph of imports -----------------------------------------------------------------------


def sources():
    """Return the path of each module by its dotted name."""
    return {
        ".".join(("singlerun", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in sorted(ROOT.rglob("*.py"))
    }


def at_run_time(node):
    """Yield the nodes of a syntax tree, without those under ``if TYPE_CHECKING:``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from at_run_time(statement)
        else:
            yield from at_run_time(child)


def imported(tree, modules):
    """Yield the name of each module of ours that a syntax tree imports."""
    for node in at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def graph():
    """Return the modules that each module imports."""
    modules = sources()
    return {
        name: set(imported(ast.parse(path.read_text()), modules)) - {name}
        for name, path in modules.items()
    }


def room_of(module):
    return [*module.split("."), "__init__"][1]


def rooms():
    """Return the rooms that each room imports."""
    found = {}
    for module, others in graph().items():
        found.setdefault(room_of(module), set()).update(map(room_of, others))
    return {room: others - {room} for room, others in found.items()}


def circles(arrows):
    """Return the sets of nodes that reach each other, sorted."""

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            new = arrows[todo.pop()] - seen
            seen |= new
            todo += new
        return seen

    reach = {node: reached(node) for node in arrows}
    tied = {
        frozenset(other for other in reach[node] if node in reach[other])
        for node in arrows
        if node in reach[node]
    }
    return sorted(sorted(circle) for circle in tied)


def floors():
    """Return the rooms floor by floor, as the imports draw them."""
    left, drawn = rooms(), []
    while left:
        floor = sorted(room for room, others in left.items() if not others & left.keys())
        assert floor, f"circles between rooms: {circles(left_alone(left))}"
        drawn.append(floor)
        left = {room: others for room, others in left.items() if room not in floor}
    return drawn


def left_alone(arrows):
    return {node: others & arrows.keys() for node, others in arrows.items()}


def test_no_circle_between_modules():
    assert circles(graph()) == []


def test_no_circle_between_rooms():
    assert circles(rooms()) == []


def test_no_arrow_goes_up():
    """Needs no exception: what two rooms need of each other belongs in a room below both."""
    floor = {room: number for number, row in enumerate(FLOORS) for room in row.split()}
    assert set(floor) == set(rooms()), "each room has its place in FLOORS"
    arrows = [(room, other) for room, others in rooms().items() for other in others]
    assert [arrow for arrow in arrows if floor[arrow[0]] <= floor[arrow[1]]] == []


def test_floors_are_few():
    assert len(floors()) <= MOST_FLOORS


def test_only_imports_at_run_time_draw_arrows():
    """Tests the drawing itself: what counts, and what does not."""
    source = """
import singlerun.errors
TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.spec import RunSpec
else:
    from singlerun import duration
def late():
    from singlerun.lock import flock, Lock
"""
    assert set(imported(ast.parse(source), sources())) == {
        "singlerun.errors", "singlerun.duration", "singlerun.lock.flock", "singlerun.lock",
    }  # fmt: skip


# -- what belongs where -------------------------------------------------------------------------


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", ""))


def test_only_renderers_and_commands_print():
    speaking = {
        room_of(module)
        for module, path in sources().items()
        if {"print", "echo"} & set(calls(path))
    }
    assert speaking <= {"render", "commands"}


def test_sql_stands_in_the_store_alone():
    found = {
        module
        for module, path in sources().items()
        if room_of(module) != "store" and "SELECT " in path.read_text()
    }
    assert found == set()


# -- sizes --------------------------------------------------------------------------------------

EXCEPTION = re.compile(r"# long: \w+")


def functions(path):
    """Yield each function of a module, its lines without its docstring, and its head."""
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = node.end_lineno - node.lineno + 1
            first, *others = node.body
            if ast.get_docstring(node, clean=False) is not None:
                size -= first.end_lineno - first.lineno + 1
                first = others[0] if others else first
            begin = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield node.name, size, "\n".join(lines[begin - 2 : first.lineno])


def test_functions_are_short():
    """A longer one says why, in a comment at its head: ``# long: …``."""
    found = {
        f"{module}.{name}": size
        for module, path in sources().items()
        for name, size, head in functions(path)
        if size > LONGEST_FUNCTION and not EXCEPTION.search(head)
    }
    assert found == {}


def test_files_are_short():
    """A longer one says why, in a comment that stands by itself: ``# long: …``."""
    found = {
        module: len(lines)
        for module, path in sources().items()
        if len(lines := path.read_text().splitlines()) > LONGEST_FILE
        and not any(EXCEPTION.match(line) for line in lines)
    }
    assert found == {}


# -- vocabulary ---------------------------------------------------------------------------------

IDIOLECT = re.compile(r"\b(?:[Ss]omebody|[Nn]obody|[Aa]nybody|[Ww]hoever)\b|\bWho ")
"""Pronouns that stand where the worker, waiter, holder, caller or process should be named."""


def prose():
    """Return all that people read: the package, the manual, and what lies beside it."""
    paths = [*ROOT.rglob("*.py"), *PROJECT.glob("*.md"), *PROJECT.glob("man/*")]
    return sorted([*paths, *PROJECT.glob("completions/*"), *PROJECT.glob("examples/**/*.md")])


def test_prose_names_what_it_speaks_of():
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in prose()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if IDIOLECT.search(line)
    ]
    assert not found, "\n".join(found)


def main():
    for number, floor in reversed(list(enumerate(floors(), 1))):
        print(f"{number:2}  {'  '.join(floor)}")


if __name__ == "__main__":
    sys.exit(main())
