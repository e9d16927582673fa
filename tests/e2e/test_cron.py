"""A real cron daemon, a real user's crontab, real mail: needs root, and takes two minutes."""

import contextlib
import json
import mailbox
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, demand_or_skip, eventually, is_alive, need

PROJECT = Path(__file__).parents[2]
SENDMAIL = "/usr/sbin/sendmail"  # cron knows no other way to send mail
MINUTES = 150.0
"""Seconds in which cron, which starts its jobs at full minutes, has started them twice."""

CRONTAB = """\
* * * * * {singlerun} -n nightly --skip {home}/job
* * * * * {home}/control
* * * * * test -e {home}/begun && {singlerun} -n nightly true
"""

ALARM = """\
* * * * * {singlerun} check nightly --expect 26h --notify; echo tick >> {home}/ticks
"""

# The job runs until the pipe is written to.
JOB = """\
#!/bin/sh
env -0 > "$HOME/job.env"
echo $$ >> "$HOME/begun"
cat "$HOME/release"
echo nightly done
"""

CONTROL = """\
#!/bin/sh
env -0 > "$HOME/control.env"
echo tick >> "$HOME/ticks"
echo control was here
"""


def by_cron(condition, what):
    deadline = time.monotonic() + MINUTES
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.1)
    return value


class User:
    """A throw-away user with a home, a singlerun that it can execute, and a mailbox."""

    def __init__(self, name, place):
        self.name = name
        self.home = place / "home"
        self.singlerun = place / "venv" / "bin" / "singlerun"
        make = ["useradd", "--create-home", "--home-dir", self.home, "--shell", "/bin/bash"]
        subprocess.run([*make, "--user-group", name], check=True, capture_output=True)
        entry = pwd.getpwnam(name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid

    def remove(self):
        subprocess.run(["crontab", "-u", self.name, "-r"], check=False, capture_output=True)
        eventually(lambda: not self.kill(), "the end of the user's processes")
        remove = ["userdel", "--remove", "--force", self.name]
        subprocess.run(remove, check=True, capture_output=True)

    def kill(self):
        """Kill every process of this user, who is new on this machine; return what there was."""
        found = [path.name for path in Path("/proc").glob("[0-9]*") if self.owns(path)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return found

    def owns(self, process):
        try:
            return process.stat().st_uid == self.uid and is_alive(process.name)
        except OSError:
            return False

    def install(self):
        """Install the project with an interpreter that this user may execute."""
        test = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
        for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
            try:
                tried = self.run(python, "-c", test)
            except OSError:  # in a directory of root's
                continue
            if tried.returncode == 0:
                break
        else:
            demand_or_skip("no Python 3.11 or later with venv that others than root may execute")
        venv = self.singlerun.parents[1]
        for command in (
            [python, "-m", "venv", venv],
            [venv / "bin" / "pip", "install", "--quiet", PROJECT],
        ):
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, umask=0o022, cwd="/"
            )
            assert done.returncode == 0, done.stderr

    def run(self, *command, **more):
        """Run a command as this user, without a login and with an empty environment."""
        more = {"env": {}, "cwd": "/", "user": self.uid, "group": self.gid} | more
        return subprocess.run(
            command, check=False, capture_output=True, text=True, extra_groups=[], **more
        )

    def login(self, script):
        """Run a script in a login shell of this user."""
        su = ["su", "-", self.name, "-c", script.replace("singlerun", str(self.singlerun))]
        return subprocess.run(
            su, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def runs(self, what):
        result = self.login(f"singlerun {what} --json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["runs"]

    def mail(self):
        """Return the subject and the text of each message, in an mbox or a Maildir."""
        boxes = [(mailbox.mbox, Path("/var/mail", self.name))]
        boxes.append((mailbox.Maildir, self.home / "Maildir"))
        messages = []
        for read, path in boxes:
            if path.exists():
                with contextlib.closing(read(path, create=False)) as box:
                    messages += [(str(mail["Subject"]), mail.get_payload()) for mail in box]
        return messages

    def texts(self, ending):
        return [text for subject, text in self.mail() if subject.endswith(ending)]

    def send(self, subject):
        """Send a message to this user, and wait for all mail to be delivered."""
        message = f"Subject: {subject}\n\nnothing more\n"
        subprocess.run([SENDMAIL, "-i", self.name], input=message, text=True, check=True)
        deadline = time.monotonic() + PATIENCE
        while not self.texts(subject) or self.mail_is_on_its_way():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def mail_is_on_its_way(self):
        if shutil.which("mailq") is None:
            return False
        queue = subprocess.run(["mailq"], check=False, capture_output=True, text=True).stdout
        return self.name in queue


@pytest.fixture
def user():
    if os.geteuid() != 0:
        demand_or_skip("only root can make a user and start cron")
    need("cron", "crontab", "useradd", "userdel", "su", "bash")
    if not os.access(SENDMAIL, os.X_OK):
        demand_or_skip(f"not installed: a mail agent ({SENDMAIL})")
    with contextlib.ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="singlerun-cron-"))
        stack.callback(shutil.rmtree, place)
        place.chmod(0o755)
        user = User(f"singlerun-{secrets.token_hex(4)}", place)
        stack.callback(user.remove)
        if not user.send("Ready"):
            demand_or_skip(f"{SENDMAIL} delivers no local mail")
        user.install()
        yield user


@contextlib.contextmanager
def cron_daemon():
    """Start cron, unless it runs already."""
    traces = [Path("/run/crond.pid"), Path("/run/crond.reboot")]
    traces = [path for path in traces if not path.exists()]
    daemon = subprocess.Popen(
        [shutil.which("cron"), "-f"],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env={},
    )  # fmt: skip
    try:
        # If a daemon runs already, this one ends by itself.
        eventually(lambda: daemon.poll() is not None or has_pid_file(daemon.pid), "cron")
        yield
    finally:
        if daemon.poll() is None:
            daemon.terminate()
            daemon.wait(PATIENCE)
            for path in traces:
                path.unlink(missing_ok=True)


def has_pid_file(pid):
    try:
        return Path("/run/crond.pid").read_text().strip() == str(pid)
    except FileNotFoundError:
        return False


def environment(path):
    return dict(entry.split(b"=", 1) for entry in path.read_bytes().split(b"\0") if entry)


def states(user):
    return [run["state"] for run in user.runs("history")]


@pytest.mark.cron
def test_overlapping_runs_of_a_crontab_line_are_skipped_without_mail(user):
    home = user.home
    for name, text in (("job", JOB), ("control", CONTROL)):
        script = home / name
        script.write_text(text)
        script.chmod(0o755)
    os.mkfifo(home / "release")
    os.chown(home / "release", user.uid, user.gid)
    crontab = CRONTAB.format(singlerun=user.singlerun, home=home)
    subprocess.run(["crontab", "-u", user.name, "-"], input=crontab, text=True, check=True)

    with cron_daemon():
        begun = home / "begun"
        by_cron(lambda: begun.exists() and begun.read_text(), "the first minute")
        ticks = len((home / "ticks").read_text().split()) if (home / "ticks").exists() else 0
        pid = int(begun.read_text())

        # A login shell sees what cron started, whatever its environment says of HOME.
        eventually(lambda: user.runs("ps")[0]["pid"] == pid, "the record of the command")
        (run,) = user.runs("ps")
        assert (run["name"], run["state"], run["user"]) == ("nightly", "running", user.name)
        assert run["cwd"] == str(home)
        elsewhere = "HOME=/nowhere XDG_STATE_HOME=/nowhere XDG_RUNTIME_DIR=/nowhere"
        held = user.login(f"{elsewhere} singlerun is-running nightly")
        assert (held.returncode, f"PID {pid} " in held.stdout) == (0, True), held
        bare = user.run("bash", "-l", "-c", f"unset HOME; {user.singlerun} -n nightly true")
        assert (bare.returncode, f"PID {pid} " in bare.stderr) == (75, True), bare

        # The next minute comes while the job is still at work.
        refused = states(user).count("refused")
        by_cron(lambda: len((home / "ticks").read_text().split()) > ticks, "the second minute")
        eventually(lambda: "skipped" in states(user), "the skipping")
        eventually(lambda: states(user).count("refused") > refused, "the refusal")
        subprocess.run(["crontab", "-u", user.name, "-r"], check=True)
        (home / "release").write_text("")
        eventually(lambda: user.texts("/job"), "the mail of the job that ran")
        assert user.send("The end")

    assert begun.read_text() == f"{pid}\n", "the job started once"
    first, *others = [
        run for run in user.runs("history")[::-1] if run["command"] == [f"{home}/job"]
    ]
    assert (first["state"], first["exit_code"], first["pid"]) == ("succeeded", 0, pid)
    assert {(run["state"], run["conflict_id"]) for run in others} == {("skipped", first["id"])}

    # Mail is delivered, but of the runs with --skip only what the job itself printed.
    controls = user.texts("/control")
    assert len(controls) >= 2
    assert set(controls) == {"control was here\n"}
    refusals = user.texts("nightly true")
    assert refusals
    assert all(f"singlerun: nightly is held by PID {pid} " in text for text in refusals)
    assert user.texts("/job") == ["nightly done\n"]

    # In the C locale, which cron uses, Python sets LC_CTYPE for itself; the job does not see it.
    seen, as_without = environment(home / "job.env"), environment(home / "control.env")
    ours = {key for key in seen if key.startswith(b"SINGLERUN_")}
    names = (b"NAME", b"RUN_ID", b"TOKEN", b"LOCKS")
    assert ours == {b"SINGLERUN_" + name for name in names}
    assert {key: value for key, value in seen.items() if key not in ours} == as_without


def ticks(home):
    path = home / "ticks"
    return len(path.read_text().split()) if path.exists() else 0


@pytest.mark.cron
def test_the_alarm_for_a_job_that_did_not_run_is_mailed_once_and_so_is_its_end(user):
    crontab = ALARM.format(singlerun=user.singlerun, home=user.home)
    subprocess.run(["crontab", "-u", user.name, "-"], input=crontab, text=True, check=True)

    def alarms():
        assert user.send("All of it")
        return [text.split(" | ")[0] for subject, text in user.mail() if "check" in subject]

    critical = "SINGLERUN CRITICAL - nightly: it has not succeeded yet,"
    with cron_daemon():
        by_cron(lambda: ticks(user.home) == 2, "the second check")
        found = alarms()
        assert len(found) == 1, found
        assert found[0].startswith(critical)
        assert user.login("singlerun -n nightly true").returncode == 0
        by_cron(lambda: ticks(user.home) > 2, "another check")
        assert [text.partition(" ago")[0].rpartition(" ")[0] for text in alarms()[1:]] == [
            "SINGLERUN OK - nightly: last success",
        ]  # fmt: skip
