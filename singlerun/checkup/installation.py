"""Checks the installed copy: that it is whole, and that PATH, man and shells find its parts."""

import importlib.metadata
import importlib.util
import operator
import os
import pwd
import re
import stat
import subprocess
import sys

import singlerun
from singlerun.checkup.case import user_of
from singlerun.finding import NOTE, PROBLEM, Answer
from singlerun.process.search import find_program
from singlerun.render.text import quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.checkup.case import Case

PACKAGE = os.path.dirname(os.path.abspath(singlerun.__file__))
PATIENCE = 5.0
"""Seconds that ``man -w`` may take."""
_SHARES = "/usr/local/share:/usr/share"
"""Where XDG_DATA_DIRS points to if it is not set."""
_COMPLETIONS = {
    "bash": ("bash-completion/completions/singlerun", ".bashrc"),
    "fish": ("fish/vendor_completions.d/singlerun.fish", ".config/fish/config.fish"),
    "zsh": ("zsh/site-functions/_singlerun", ".zshrc"),
}
"""By shell, the file in a share directory, and the start-up file in a home."""
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)")
_BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([\d.]+)")


def check(case: "Case") -> Answer:
    """Check the copy of singlerun that is running."""
    answer = Answer(f"singlerun {singlerun.__version__} in {PACKAGE}")
    _check_path(answer)
    _check_bytecode(case, answer)
    _check_owner(case, answer)
    _check_manual(answer)
    _check_completion(case, answer)
    _check_versions(answer)
    return answer


# -- the program -----------------------------------------------------------------------------------


def _check_path(answer: Answer) -> None:
    """Check that the command ``singlerun`` is this very copy."""
    own = os.path.join(sys.prefix, "bin", "singlerun")
    found = find_program("singlerun")
    if found is None:
        directory = os.path.dirname(own) if os.path.exists(own) else "DIR"
        what = "no directory in PATH has singlerun: neither hooks nor a shell find it"
        answer.add(NOTE, "PATH", what, "add its directory", f"PATH={quoted(directory)}:$PATH")
    elif os.path.exists(own) and not os.path.samefile(found, own):
        what = f"the command singlerun is {os.path.realpath(found)}, not this copy, {own}"
        answer.add(PROBLEM, shown(found), what, "remove one of them, or change their order in PATH")


def _check_bytecode(case: "Case", answer: Answer) -> None:
    """Check that modules need not be compiled at each start."""
    missing = [path for path in _sources() if not _is_compiled(path)]
    if not missing:
        return
    cache = os.path.join(PACKAGE, "__pycache__")
    if os.access(cache if os.path.isdir(cache) else PACKAGE, os.W_OK):
        return  # the next start that needs them writes them
    what = f"{len(missing)} modules are not compiled, and {user_of(case.uid)} may not write what"
    typed = f"{quoted(sys.executable)} -m compileall -q {quoted(PACKAGE)}"
    answer.add(
        NOTE, PACKAGE, f"{what} is compiled: each start compiles them anew", "as root", typed
    )


def _sources() -> "Iterator[str]":
    for directory, _, files in os.walk(PACKAGE):
        yield from (os.path.join(directory, file) for file in files if file.endswith(".py"))


def _is_compiled(path: str) -> bool:
    """Return whether there is bytecode of a source as it is (PEP 552)."""
    try:
        with open(importlib.util.cache_from_source(path), "rb") as file:
            head = file.read(16)
        entry = os.stat(path)
    except OSError:
        return False
    if head[:4] != importlib.util.MAGIC_NUMBER or len(head) < 16:
        return False
    if int.from_bytes(head[4:8], "little") & 1:  # checked by hash, or not at all
        return True
    changed = int(entry.st_mtime) & 0xFFFFFFFF, entry.st_size & 0xFFFFFFFF
    return (int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:], "little")) == changed


def _check_owner(case: "Case", answer: Answer) -> None:
    """Check that no other user can change the program, which would run as this one."""
    for path in (PACKAGE, os.path.join(PACKAGE, "__main__.py"), sys.executable):
        try:
            entry = os.stat(path)
        except OSError:
            continue
        if entry.st_uid not in {0, case.uid}:
            what = f"user {user_of(entry.st_uid)} may change what runs here as {user_of(case.uid)}"
        elif entry.st_mode & stat.S_IWOTH:
            what = f"any user may change what runs here as {user_of(case.uid)}"
        else:
            continue
        level = PROBLEM if case.uid == 0 or entry.st_mode & stat.S_IWOTH else NOTE
        answer.add(level, path, what, "install it as root or as yourself")
        return


def _check_versions(answer: Answer) -> None:
    """Check that what is installed beside it is what it was written for."""
    try:
        own = importlib.metadata.distribution("singlerun")
    except importlib.metadata.PackageNotFoundError:
        return
    if own.version != singlerun.__version__:
        what = f"it is {singlerun.__version__}, but was installed as {own.version}"
        typed = "pip install --force-reinstall singlerun"
        answer.add(NOTE, PACKAGE, what, "install it again", typed)
    for text in own.requires or ():
        match = _REQUIREMENT.match(text)
        if match is None or "extra ==" in text:
            continue
        typed = f"pip install {quoted(match[1] + match[2].strip())}"
        try:
            version = importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            what = "it is not installed, and is needed here"
            answer.add(PROBLEM, match[1], what, "install it", typed)
            continue
        if not satisfies(version, match[2]):
            what = f"version {version} is installed, but {match[2].strip()} is needed here"
            answer.add(PROBLEM, match[1], what, "install another", typed)


def satisfies(version: str, bounds: str) -> bool:
    """Return whether a version is within bounds such as ``>=4,<4.3``; ours have no others."""
    return all(
        _COMPARE[sign](_numbers(version), _numbers(bound)) for sign, bound in _BOUND.findall(bounds)
    )


_COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
            "<": operator.lt, ">": operator.gt}  # fmt: skip


def _numbers(version: str) -> list[int]:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:4]]
    return numbers + [0] * (4 - len(numbers))


# -- what shells and man look for ------------------------------------------------------------------


def _check_manual(answer: Answer) -> None:
    """Check that man finds our page."""
    if find_program("man") is None:
        return
    try:
        done = subprocess.run(
            ["man", "-w", "1", "singlerun"], capture_output=True, check=False, timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0 and done.stdout.strip():
        return
    share = os.path.join(sys.prefix, "share", "man")
    has_pages = os.path.exists(os.path.join(share, "man1", "singlerun.1"))
    what = "the page singlerun(1) is not where man looks for it"
    typed = f'export MANPATH={quoted(share)}:"$MANPATH"' if has_pages else "singlerun --help"
    remedy = "name the directory of the pages" if has_pages else "this copy came without; see"
    answer.add(NOTE, "man", what, remedy, typed)


def _check_completion(case: "Case", answer: Answer) -> None:
    """Check that the user's shell finds our completion."""
    try:
        entry = pwd.getpwuid(case.uid)
    except KeyError:
        return
    shell = os.path.basename(entry.pw_shell)
    if shell not in _COMPLETIONS:
        return
    file, start = _COMPLETIONS[shell]
    shares = (os.environ.get("XDG_DATA_DIRS") or _SHARES).split(":")
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(entry.pw_dir, ".local", "share")
    found = find_program("singlerun")
    if found is not None and shell == "bash":  # it looks beside the program, too
        shares.append(
            os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(found))), "share")
        )
    start_up = os.path.join(entry.pw_dir, start)
    places = [os.path.join(share, file) for share in (home, *shares)]
    places += [os.path.join(entry.pw_dir, ".config/fish/completions/singlerun.fish"), *_vendored()]
    if any(map(os.path.exists, places)) or "singlerun completion" in _text(start_up):
        return
    typed = f'eval "$(singlerun completion {shell})"'
    if shell == "fish":
        typed = "singlerun completion fish | source"
    what = f"there is no completion for {shell} where it looks for them"
    answer.add(NOTE, shell, what, f"add to {start_up}", typed)


def _vendored() -> list[str]:
    return ["/usr/share/zsh/vendor-completions/_singlerun", "/etc/bash_completion.d/singlerun"]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1024 * 1024)
    except OSError:
        return ""
