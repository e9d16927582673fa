"""The command gets its caller's environment and dispositions, through sh and Python."""

import os
import shutil
import signal
import subprocess

import pytest
from conftest import PATIENCE, signals_in

OURS = {b"SINGLERUN_NAME", b"SINGLERUN_RUN_ID", b"SINGLERUN_TOKEN", b"SINGLERUN_LOCKS"}
STRANGE = {
    b"foo-bar": b"1",
    b"a.b": b"2",
    b"1": b"3",
    b"BASH_FUNC_greet%%": b"() {  echo hi\n}",
    b"NEWLINES": b"a\n\nb\n",
    b"BYTES": b"\xff\x81\x82 \\ '\"$(exit 1)`",
    b"EMPTY": b"",
    b"IFS": b"x",
    b"OPTIND": b"7",
    b"LINENO": b"8",
    b"PPID": b"9",
    b"PWD": b"/nonexistent",
    b"OLDPWD": b"/other",
    b"SHLVL": b"five",
    b"_": b"/bin/it",
    b"PS4": b"$(exit 1)",
    b"ENV": b"/nonexistent",
    b"CDPATH": b"/tmp",
    b"LC_ALL": b"C",
    b"LC_CTYPE": b"POSIX",
}
PYTHON = {
    "PYTHONHOME": "/nonexistent",
    "PYTHONIOENCODING": "bogus",
    "PYTHONHASHSEED": "abc",
    "PYTHONSAFEPATH": "",
    "PYTHONUTF8": "2",
    "PYTHONCOERCECLOCALE": "warn",
    "PYTHONMALLOC": "bogus",
    "PYTHONINSPECT": "1",
    "PYTHONVERBOSE": "1",
}


def entries(output):
    return [entry for entry in output.split(b"\0") if entry.partition(b"=")[0] not in OURS]


def shells():
    """Return what can be /bin/sh; with that compatibility, bash has files for here-documents."""
    found = [[], ["dash"], ["bash", "--posix"], ["env", "BASH_COMPAT=5.0", "bash", "--posix"]]
    return [*found, *([["busybox", "sh"]] if shutil.which("busybox") else [])]


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
def test_environment_arrives_byte_for_byte(cli, shell):
    for given in (STRANGE, {}, {b"PATH": b"/usr/bin:/bin"}):
        env = given | {b"SINGLERUN_CONFIG": b"", b"SINGLERUN_DIR": os.fsencode(cli.dir)}
        if "BASH_COMPAT=5.0" in shell:
            env |= {b"BASH_COMPAT": b"5.0"}
        command = [*shell, cli.binary, "-n", "x", "/usr/bin/env", "-0"]
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        assert done.stderr == b""
        assert entries(done.stdout) == [b"=".join(entry) for entry in env.items()] + [b""]


def test_large_environment_arrives(cli):
    env = cli.env | {f"V{number}": "x" * 100_000 for number in range(5)}
    done = cli.run("-n", "x", "/usr/bin/env", "-0", env=env)
    assert set(done.stdout.split("\0")) >= {f"{name}={value}" for name, value in env.items()}


@pytest.mark.parametrize("name", PYTHON)
def test_variables_of_python_steer_the_command_alone(cli, name):
    env = cli.env | {name: PYTHON[name]}
    for options in ([], ["-t", "60", "--log"]):
        done = cli.run("-n", "x", *options, "printenv", name, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{PYTHON[name]}\n", "")
    assert cli.run("ps", env=env).stderr == ""


def test_modules_of_an_application_shadow_none_of_ours(cli, tmp_path):
    for name in ("select", "os", "site", "click", "sitecustomize", "usercustomize", "singlerun"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    for where in ({"cwd": tmp_path}, {"env": cli.env | {"PYTHONPATH": str(tmp_path)}}):
        done = cli.run("-n", "x", "-t", "60", "--log", "echo", "hi", **where)
        assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
        assert cli.run("ps", **where).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGXFSZ, None])
@pytest.mark.parametrize("options", [[], ["--exec"], ["-t", "60", "--log"]], ids=len)
def test_ignored_signals_stay_ignored(cli, number, options):
    def prepare():
        for each in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(each, signal.SIG_IGN if each == number else signal.SIG_DFL)

    command = ["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]
    plain = subprocess.run(
        command, preexec_fn=prepare, restore_signals=False, capture_output=True, check=True
    )
    done = subprocess.run(
        [cli.binary, "-n", "x", *options, *command], env=cli.env, preexec_fn=prepare,
        restore_signals=False, capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert signals_in(done.stdout.decode()) == signals_in(plain.stdout.decode())


def test_ignored_sigpipe_is_seen_by_a_filter(cli):
    script = "trap '' PIPE; { \"$@\"; echo $? >&2; } | :"
    plain = subprocess.run(
        ["bash", "-c", script, "bash", "yes"], capture_output=True, check=True, text=True
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", cli.binary, "yes"],
        env=cli.env, capture_output=True, check=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stderr == plain.stderr
    assert "Broken pipe" in done.stderr


def test_descriptors_of_the_caller_arrive(cli):
    look = "sh -c 'ls -l /proc/$$/fd'"
    for given in ("8</dev/null 9>&1", "3>&1 4>&1 5>&1 6>&1 7>&1 8>&1 9>&1", "0<&- 7>&1"):
        script = f"exec {given}; {look}; exec {cli.binary} -n x {look}"
        done = subprocess.run(["bash", "-c", script], env=cli.env, capture_output=True, check=False)
        bare, ours = done.stdout.decode().split("total 0\n")[1:]
        told = [
            {int(line.split()[-3]): line.split()[-1] for line in lines.splitlines()}
            for lines in (bare, ours)
        ]
        assert {fd: to for fd, to in told[1].items() if fd < 10} == {
            fd: to for fd, to in told[0].items() if fd < 10
        }


def test_copy_of_the_shell_is_gone_when_the_command_starts(cli):
    script = "cat /proc/$PPID/task/$PPID/children; echo; echo $$"
    children, own = cli.run("-n", "x", "sh", "-c", script).stdout.split("\n")[:2]
    assert children.split() == [own]


def test_copy_of_the_shell_ends_with_a_killed_launcher(cli, tmp_path):
    """Without an interpreter that would close the pipe."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "singlerun").mkdir()
    (tmp_path / "singlerun" / "__main__.py").touch()
    script = shutil.copy(cli.binary, tmp_path / "bin")
    python = tmp_path / "bin" / "python3"
    python.write_text("#!/bin/sh\necho $_singlerun_launch; kill -KILL $$")
    python.chmod(0o755)
    with subprocess.Popen([script], stdout=subprocess.PIPE) as launcher:
        told = launcher.stdout.read()  # until all that have it have ended
    assert int(told.partition(b":")[0]) > 0
    assert launcher.returncode == -signal.SIGKILL


def test_bogus_hand_over_is_ignored(cli):
    for value in ("1:9", "x:y", ":", "999999999:"):
        done = cli.run("printenv", "_singlerun_launch", env=cli.env | {"_singlerun_launch": value})
        assert (done.returncode, done.stdout) == (0, f"{value}\n")


def test_name_of_the_process(cli):
    assert cli.run("-n", "x", "sh", "-c", "cat /proc/$PPID/comm").stdout == "singlerun\n"
