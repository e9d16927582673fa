"""Of several tables the nearest holds, and what is nearer removes what contradicts it."""

import errno
import os

import pytest

from singlerun import config
from singlerun.errors import ConfigError, UsageError
from singlerun.options import Words


def test_nearest_table_wins_key_by_key(files):
    files.write(
        files.user / "config.toml",
        """
        [jobs.backup]
        retries = 1
        [jobs."b*"]
        retries = 2
        timeout = 2
        [jobs."back*"]
        timeout = 3
        jitter = 3
        [jobs."[b]*kup"]
        timeout = 4
        [jobs."other*"]
        timeout = 5
        [defaults]
        retries = 9
        timeout = 9
        jitter = 9
        kill-after = 9
        """,
    )
    assert files.options() == {"retries": 1, "timeout": 3, "jitter": 3, "kill_after": 9}
    assert files.options(b"bx") == {"retries": 2, "timeout": 2, "jitter": 9, "kill_after": 9}
    assert files.options(b"x")["retries"] == 9
    assert files.load().names() == [b"backup"]


def test_later_file_wins_among_equals(files):
    for number, path in enumerate(
        [
            files.system / "config.toml",
            files.system / "conf.d" / "10.toml",
            files.system / "conf.d" / "20.toml",
            files.user / "config.toml",
            files.user / "conf.d" / "05.toml",
        ]
    ):
        files.write(path, f"[defaults]\ntimeout = {number + 1}\nretries = {number + 1}\n")
        assert files.options() == {"timeout": number + 1, "retries": number + 1}
    files.write(files.user / "conf.d" / "not-toml", "[defaults]\ntimeout = 99\n")
    files.write(files.user / "conf.d" / ".hidden.toml", "[defaults]\ntimeout = 99\n")
    files.write(files.user / "conf.d" / "06.toml", "[defaults]\nretries = 7\n")
    assert files.options() == {"timeout": 5, "retries": 7}


def test_near_table_of_the_system_wins_over_defaults_of_the_user(files):
    files.write(files.system / "config.toml", "[jobs.backup]\ntimeout = 1\n")
    files.write(files.user / "config.toml", "[defaults]\ntimeout = 2\n")
    assert files.options() == {"timeout": 1}


def test_name_that_looks_like_a_glob_is_that_name_first(files):
    files.write(files.user / "config.toml", '[jobs."a[1]"]\ntimeout = 1\n')
    assert files.options(b"a[1]") == {"timeout": 1}
    assert files.options(b"a1") == {"timeout": 1}
    assert files.load().names() == []


@pytest.mark.parametrize("name", ["grün", "a b", "x\ny", 'quo"te'])
def test_odd_names(files, name):
    key = name.replace("\n", "\\n").replace('"', '\\"')
    files.write(files.user / "config.toml", f'[jobs."{key}"]\nretries = 1\n')
    assert files.options(name.encode()) == {"retries": 1}
    assert files.options(b"\xff") == {}
    assert files.load().names() == [name.encode()]


def test_what_to_do_if_the_lock_is_held_is_one_choice(files):
    files.write(
        files.user / "config.toml",
        '[defaults]\nwait-for = "5m"\nskip = true\n[jobs.backup]\ncoalesce = true\n'
        "[jobs.x]\nwait = false\n",
    )
    assert files.options() == {"coalesce": True}
    assert files.options(b"x") == {"wait_for": 300, "skip": True, "wait": False}


@pytest.mark.parametrize(
    ("far", "near", "left"),
    [
        ("slots = 2", "shared = true", {"shared": True}),
        ("shared = true", "slots = 2", {"slots": 2}),
        ("slots = 2", "shared = false", {"shared": False, "slots": 2}),
        ("retries = 2", 'restart = "always"', {"restart": "always"}),
        ("queue = true", "jitter = 5", {"jitter": 5}),
        ("jitter = 5\ntimeout = 1", "queue = true", {"queue": True, "timeout": 1}),
        ("log = true\nslots = 2", "exec = true", {"exec": True, "slots": 2}),
        ("exec = true", "log = true", {"log": True}),
    ],
)
def test_nearer_table_removes_what_contradicts_it(files, far, near, left):
    files.write(files.user / "config.toml", f"[defaults]\n{far}\n[jobs.backup]\n{near}\n")
    assert files.options() == left


def apply(*typed, command=("true",)):
    values = Words().values | dict(typed)
    return config.apply(values, list(command))


class TestCommandLine:
    def test_it_wins(self, files):
        files.write(
            files.user / "config.toml",
            "[jobs.x]\ntimeout = 5\nskip = true\nslots = 2\nlog = true\nretries = 2\n",
        )
        values, warning = apply(("name", (b"x",)), ("timeout", 7.0), ("shared", True))
        assert warning is None
        assert (values["timeout"], values["skip"], values["log"]) == (7.0, True, True)
        assert (values["slots"], values["shared"]) == (None, True)
        assert apply(("name", (b"x",)), ("wait_for", 0.0))[0]["skip"] is False
        assert apply(("name", (b"x",)), ("retries", 0))[0]["retries"] == 0

    def test_first_of_several_names_counts(self, files):
        files.write(
            files.user / "config.toml",
            "[jobs.a]\nretries = 1\nqueue = true\n[jobs.b]\nretries = 2\n",
        )
        values, _ = apply(("name", (b"a", b"b")))
        assert (values["retries"], values["queue"]) == (1, False), "a queue has one name"
        assert apply(("name", (b"b", b"a")))[0]["retries"] == 2
        assert apply(("name", (b"a", b"a")))[0]["queue"] is True

    def test_derived_name_has_its_tables(self, files):
        files.write(
            files.user / "config.toml",
            '[jobs."backup.sh-*"]\nretries = 4\nlock-file = "/tmp/x"\n',
        )
        values, _ = apply(command=("/opt/backup.sh", "x"))
        assert (values["retries"], values["lock_file"]) == (4, b"/tmp/x")
        assert values["name"][0].startswith(b"backup.sh-"), "the record keeps the name"
        assert apply(command=("/opt/restore.sh",))[0]["retries"] is None

    def test_lock_file_that_was_typed_is_the_name(self, files):
        files.write(files.user / "config.toml", '[jobs."/run/*"]\nretries = 4\n')
        values, _ = apply(("lock_file", b"/run/x"))
        assert (values["retries"], values["name"]) == (4, ())

    def test_descriptor_takes_what_needs_no_command(self, files):
        files.write(files.user / "config.toml", '[defaults]\nlog = true\nwait-for = "1m"\n')
        values, _ = apply(("lock_fd", (9, b"/run/x")), command=())
        assert (values["log"], values["wait_for"]) == (False, 60)

    def test_options_of_a_queue_come_along(self, files):
        files.write(
            files.user / "config.toml",
            '[defaults]\npriority = 5\ndelay = "1m"\nenv = "A"\nqueue = true\nall-env = true\n'
            'label = "grün"\nlimit = 3\nunique = true\n',
        )
        assert apply()[0]["in_queue"] == {
            "priority": 5, "delay": 60, "env": ("A",), "all_env": True, "label": "grün",
            "limit": 3, "unique": True,
        }  # fmt: skip

    def test_queue_beside_a_lock_file_is_refused(self, files):
        files.write(files.user / "config.toml", '[jobs.x]\nlock-file = "/tmp/x"\n')
        with pytest.raises(UsageError, match="lock-file for x"):
            apply(("name", (b"x",)), ("queue", True))
        assert apply(("name", (b"y",)), ("queue", True))[0]["queue"] is True


def test_environment_overrules_the_directory(files, monkeypatch):
    files.write(files.user / "config.toml", '[defaults]\ndir = "/srv/state"\n')
    assert files.options() == {"dir": b"/srv/state"}
    assert files.load().directory() == b"/srv/state"
    monkeypatch.setenv("SINGLERUN_DIR", "/tmp/other")
    assert files.options() == {}
    assert files.load().directory() is None


def test_lock_file_behind_a_link_is_resolved_by_each_run(files, tmp_path):
    link = tmp_path / "lock"
    files.write(files.user / "config.toml", f'[defaults]\nlock-file = "{link}"\n')
    assert files.options() == {"lock_file": os.fsencode(link)}
    link.symlink_to(tmp_path / "moved")
    assert files.options() == {"lock_file": os.fsencode(tmp_path / "moved")}


def test_what_is_expected_of_a_name(files):
    files.write(
        files.user / "config.toml",
        '[defaults]\noverlong = 2.5\nmax-refused = 5\n[jobs.backup]\nexpect = "26h"\n'
        "max-queued = 9\ntimeout = 1\n",
    )
    settings = files.load()
    assert settings.watch(b"backup") == {
        "expect": 26 * 3600, "overlong": 2.5, "max_refused": 5, "max_queued": 9,
    }  # fmt: skip
    assert settings.watch(b"x") == {"overlong": 2.5, "max_refused": 5}
    assert settings.options(b"backup") == {"timeout": 1}


def test_nothing_is_configured(files):
    settings = files.load()
    assert settings.problems == ()
    assert (settings.options(b"x"), settings.watch(b"x"), settings.notify(b"x")) == ({}, {}, {})
    assert (settings.table("retention"), settings.names()) == ({}, [])


# -- mistakes ---------------------------------------------------------------------------------


def test_mistake_leaves_out_its_key_alone(files):
    path = files.write(
        files.user / "config.toml",
        '[defaults]\ntimeout = "soon"\nretries = 2\n[jobs.x]\ntimout = 1\n',
    )
    settings = files.load()
    assert settings.options(b"x") == {"retries": 2}
    assert [problem.partition(": ")[0] for problem in settings.problems] == [
        f"{path}:2",
        f"{path}:5",
    ]
    warning = settings.warning()
    assert warning.startswith(f"{path}:2: defaults.timeout: bad duration 'soon'")
    assert warning.endswith("and 1 more like this; left out; see: singlerun config check")


def test_contradiction_leaves_out_its_table(files):
    path = files.write(
        files.user / "config.toml",
        "[defaults]\ntimeout = 1\n[jobs.x]\nshared = true\nretries = 1\nslots = 2\n",
    )
    settings = files.load()
    assert settings.options(b"x") == {"timeout": 1}
    assert settings.problems == (
        f"{path}:6: jobs.x.slots: --shared and --slots cannot be combined",
    )


def test_broken_file_leaves_the_others_and_the_lock_that_was_known(files):
    files.write(files.system / "config.toml", "[defaults]\nretries = 1\n")
    path = files.write(
        files.user / "config.toml",
        '[defaults]\nlock-file = "/tmp/x"\ntimeout = 5\n[jobs.s]\nslots = 3\n',
    )
    assert files.options(b"s") == {
        "retries": 1, "timeout": 5, "slots": 3, "lock_file": b"/tmp/x",
    }  # fmt: skip
    files.write(path, "[defaults\n")
    settings = files.load()
    assert settings.problems[0].startswith(f"{path}:1: it is not TOML: ")
    assert settings.options(b"s") == {"retries": 1, "slots": 3, "lock_file": b"/tmp/x"}
    assert settings.options(b"t") == {"retries": 1, "lock_file": b"/tmp/x"}
    assert files.load().options(b"s") == settings.options(b"s"), "however often it is read"
    path.unlink()
    assert files.options(b"s") == {"retries": 1}


def test_repaired_lock_settings_hold(files):
    path = files.write(files.user / "config.toml", "[defaults]\nslots = 2\n")
    assert files.options() == {"slots": 2}
    files.write(path, "[defaults]\nslots = 2\nx = 1\n")
    assert files.load().options(b"") == {"slots": 2}
    files.write(path, "[defaults]\nx = 1\n")
    assert files.load().options(b"") == {"slots": 2}, "the mistake may hide it"
    files.write(path, "[defaults]\nretries = 1\n")
    assert files.options() == {"retries": 1}


def test_strict_is_remembered(files):
    path = files.write(files.user / "config.toml", "[defaults]\nstrict = true\n")
    assert files.load().warning() is None
    files.write(path, "[defaults\nstrict = true\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"config.toml:1: .*nothing runs.*config check"):
            files.load().warning()
    files.write(path, "x = 1\n")
    with pytest.raises(ConfigError):
        files.load().warning()
    files.write(path, "[defaults]\nretries = 1\n")
    assert files.load().warning() is None
    files.write(path, "x = 1\n")
    assert "left out" in files.load().warning()


def test_strict_beside_a_mistake(files):
    files.write(files.user / "config.toml", "x = 1\n[defaults]\nstrict = true\n")
    with pytest.raises(ConfigError):
        files.load().warning()


def test_loading_never_raises(files, monkeypatch):
    files.write(files.user / "config.toml", "[defaults]\nretries = 1\n")
    monkeypatch.setattr("singlerun.config.cache._read", lambda _: 1 // 0)
    settings = files.load()
    (problem,) = settings.problems
    assert ":1: the configuration cannot be read: ZeroDivisionError: " in problem
    with pytest.raises(ConfigError, match="nothing runs until that is mended"):
        settings.warning()  # for there is no knowing which lock is configured


def test_what_is_remembered_is_what_held(files):
    """The slots of [defaults] did not hold for a name with a queue, and do not begin to."""
    path = files.write(
        files.user / "config.toml", "[defaults]\nslots = 2\n[jobs.x]\nqueue = true\n"
    )
    assert files.options(b"x") == {"queue": True}
    path.write_text(path.read_text() + "typo = 1\n")
    assert files.load().options(b"x") == {"queue": True}
    assert files.load().options(b"y") == {"slots": 2}


def test_shortage_is_no_mistake(files, monkeypatch):
    """What is known holds; where nothing is, no other lock is taken than may be configured."""
    path = files.write(files.user / "config.toml", "[defaults]\nslots = 2\nretries = 1\n")

    def scarce(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as short:
        short.setattr("singlerun.config.trust.read", scarce)
        with pytest.raises(ConfigError, match="too many open files; nothing runs"):
            files.load().warning()
    assert files.options() == {"slots": 2, "retries": 1}
    path.write_text("[defaults]\n")
    monkeypatch.setattr("singlerun.config.trust.read", scarce)
    settings = files.load()
    assert "too many open files; left out" in settings.warning()
    assert settings.options(b"x") == {"slots": 2, "retries": 1}
