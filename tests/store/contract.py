"""What every store must do: one contract, run against each."""

import time

import pytest

from singlerun.outcome import Outcome
from singlerun.process import identity
from singlerun.process.identity import Owner
from singlerun.process.marks import Marks
from singlerun.store.run import (
    FAILED,
    LOST,
    REFUSED,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    WAITING,
    Ending,
    Run,
)


def a_run(*names, lock_file=None, argv=(b"true",), asked_ns=None):
    return Run(
        names=names or (b"x",),
        argv=argv,
        wrapper=identity.this_process(),
        uid=0,
        asked_ns=asked_ns or time.time_ns(),
        lock_file=lock_file,
    )


def fields(run):
    """Return what is known of a run, its owners and its outcome taken apart."""

    def apart(value):
        slots = getattr(type(value), "__slots__", None)
        return {name: apart(getattr(value, name)) for name in slots} if slots else value

    return apart(run)


class StoreContract:
    """Subclasses give a fixture ``store``, empty, and ``again``, which opens the same one anew."""

    def started(self, store, *names, **more):
        run = a_run(*names, **more)
        store.start_run(run, None)
        return run

    def test_a_started_run_is_open_and_complete(self, store, again):
        run = self.started(store, b"x", argv=(b"a", b"", b"\xff\xfe", b"b c"))
        assert run.state == RUNNING
        (found,) = again().open_runs()
        assert fields(found) == fields(run)

    def test_ids_and_tokens_grow(self, store):
        runs = [self.started(store) for _ in range(5)]
        assert [run.id for run in runs] == sorted({run.id for run in runs})
        assert [run.token for run in runs] == sorted({run.token for run in runs})

    def test_token_grows_for_each_of_several_names(self, store):
        first = self.started(store, b"a")
        both = self.started(store, b"a", b"b")
        assert both.token > first.token
        assert self.started(store, b"b").token > both.token

    def test_token_never_falls_when_the_clock_does(self, store, monkeypatch):
        first = self.started(store)
        real = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: real - 5 * 3600 * 10**9)
        assert self.started(store).token > first.token

    def test_times_are_nanoseconds_and_in_order(self, store):
        run = self.started(store)
        store.finish_run(run, Ending(Outcome(0, elapsed_ns=5), SUCCEEDED))
        assert run.asked_ns <= run.started_ns <= run.ended_ns
        assert abs(run.started_ns - time.time_ns()) < 60 * 10**9

    def test_finish_closes_with_status_and_usage(self, store, again):
        run = self.started(store)
        outcome = Outcome(None, 9, elapsed_ns=1, user_us=2, system_us=3, max_rss_kb=4)
        store.finish_run(run, Ending(outcome, FAILED))
        found = again().find(run.id)
        assert fields(found) == fields(run)
        assert (found.exit_code, found.signal, found.state) == (None, 9, FAILED)
        assert (found.elapsed_ns, found.user_us, found.system_us, found.max_rss_kb) == (1, 2, 3, 4)
        assert again().open_runs() == []

    def test_closing_twice_changes_nothing(self, store):
        run = self.started(store)
        store.finish_run(run, Ending(Outcome(0), SUCCEEDED))
        before = fields(store.find(run.id))
        assert store.close_run(a_copy(store, run), LOST, "late") is False
        store.finish_run(a_copy(store, run), Ending(Outcome(1), FAILED))
        assert fields(store.find(run.id)) == before

    def test_only_an_open_run_in_the_state_that_was_judged_is_closed(self, store):
        run = a_run()
        store.wait_run(run)
        judged = a_copy(store, run)
        store.start_run(run, None)
        assert store.close_run(judged, STOPPED, "died while it waited") is False
        assert judged.state == WAITING
        assert store.find(run.id).state == RUNNING

    def test_a_signalled_run_ends_as_stopped_by_the_one_that_signalled(self, store):
        run = self.started(store)
        assert store.ask_to_end(a_copy(store, run), "stopped by me", lambda: True) is True
        store.finish_run(run, Ending(Outcome(0)))
        assert (run.state, run.detail) == (STOPPED, "stopped by me")
        assert fields(store.find(run.id)) == fields(run)

    def test_no_note_is_left_without_a_signal(self, store):
        class KilledError(BaseException):
            pass

        def killed():
            raise KilledError

        run = self.started(store)
        with pytest.raises(KilledError):
            store.ask_to_end(a_copy(store, run), "stopped by me", killed)
        assert store.ask_to_end(a_copy(store, run), "not allowed", lambda: False) is True
        store.finish_run(run, Ending(Outcome(0)))
        assert (store.find(run.id).state, run.detail) == (SUCCEEDED, None)

    def test_an_ended_run_is_not_signalled(self, store):
        run = self.started(store)
        store.finish_run(run, Ending(Outcome(0)))
        assert store.ask_to_end(a_copy(store, run), "late", lambda: pytest.fail("sent")) is False

    def test_a_note_can_be_taken_back(self, store):
        run = self.started(store)
        store.ask_to_end(a_copy(store, run), "stopped by me", lambda: True)
        store.take_back(a_copy(store, run))
        store.finish_run(run, Ending(Outcome(1)))
        assert run.state == FAILED

    def test_a_lost_run_that_ends_after_all_is_not_lost(self, store):
        run = self.started(store)
        assert store.close_run(a_copy(store, run), LOST, "gone") is True
        store.finish_run(run, Ending(Outcome(0), SUCCEEDED))
        assert store.find(run.id).state == SUCCEEDED

    def test_waiting_becomes_running_under_one_id(self, store):
        run = a_run()
        store.wait_run(run)
        assert store.find(run.id).state == WAITING
        first = run.id
        store.start_run(run, None)
        assert run.id == first
        assert store.find(first).state == RUNNING

    @pytest.mark.parametrize("waited", [False, True])
    @pytest.mark.parametrize("ending", [REFUSED, STOPPED])
    def test_refused_runs_are_recorded(self, store, waited, ending):
        holder, run = self.started(store), a_run()
        if waited:
            store.wait_run(run)
        store.refuse_run(run, ending, "held", conflict_id=holder.id)
        found = store.find(run.id)
        assert (found.state, found.conflict_id, found.detail) == (ending, holder.id, "held")
        assert found.started_ns is None
        assert found.ended_ns is not None

    def test_open_runs_by_name_and_by_lock_file(self, store):
        x, both = self.started(store, b"x"), self.started(store, b"x", b"y")
        file = self.started(store, b"x", lock_file=b"/f")
        ids = lambda runs: [run.id for run in runs]  # noqa: E731
        assert ids(store.open_runs((b"x",))) == [x.id, both.id]
        assert ids(store.open_runs((b"y", b"z"))) == [both.id]
        assert ids(store.open_runs((b"x",), b"/f")) == [file.id]
        assert ids(store.open_runs()) == [x.id, both.id, file.id]

    def test_names_are_bytes_and_compared_exactly(self, store):
        names = [b"a", b"A", b"a ", b"\xff", "\u00e4".encode(), b"a%", b"a_", b"x" * 4096]
        for name in names:
            self.started(store, name)
        for name in names:
            assert [run.names for run in store.open_runs((name,))] == [(name,)]
            assert [run.names for run in store.runs(name, limit=9)] == [(name,)]

    def test_runs_newest_first(self, store):
        made = [self.started(store, b"x" if i % 2 else b"y").id for i in range(6)]
        assert [run.id for run in store.runs(limit=4)] == made[:1:-1]
        assert [run.id for run in store.runs(b"x", limit=2)] == [made[5], made[3]]

    def test_usual_duration_is_the_median_of_successes(self, store):
        assert store.usual_ns(b"x", (b"true",)) is None
        for elapsed, state in ((1, SUCCEEDED), (100, SUCCEEDED), (7, SUCCEEDED), (9999, FAILED)):
            run = self.started(store)
            store.finish_run(run, Ending(Outcome(0, elapsed_ns=elapsed), state))
        assert store.usual_ns(b"x", (b"true",)) == 7
        other = self.started(store, b"x", argv=(b"other",))
        assert store.usual_ns(b"x", (b"other",)) == 7, "of any command, if it never ran"
        store.finish_run(other, Ending(Outcome(0, elapsed_ns=50), SUCCEEDED))
        assert store.usual_ns(b"x", (b"other",)) == 50
        assert store.usual_ns(b"x", (b"true",)) == 7
        assert store.usual_ns(b"y", (b"true",)) is None

    def test_starts_newest_first(self, store):
        assert store.starts(b"x", limit=3) == []
        runs = [self.started(store) for _ in range(4)]
        store.refuse_run(a_run(), REFUSED, "held")
        self.started(store, b"y")
        assert store.starts(b"x", limit=3) == [run.started_ns for run in runs[:0:-1]]

    def test_parent_counts_only_with_its_token(self, store):
        outer = self.started(store, b"outer")
        for parent, expected in (
            ((outer.id, outer.token), outer.id),
            ((outer.id, outer.token - 1), None),
            ((outer.id + 99, outer.token), None),
            ((2**63 - 1, -1), None),
            (None, None),
        ):
            run = a_run(b"inner")
            store.start_run(run, parent and Marks(b"outer", *parent))
            assert store.find(run.id).parent_id == expected

    def test_command_is_named(self, store):
        run = self.started(store)
        assert store.find(run.id).command is None
        store.name_command(run, Owner(run.wrapper.place, 7, 8))
        found = store.find(run.id).command
        assert (found.pid, found.started) == (7, 8)

    def test_a_run_of_the_same_id_in_a_store_begun_anew_is_another(self, store):
        run = self.started(store)
        before = fields(store.find(run.id))
        stranger = a_copy(store, run)
        stranger.asked_ns -= 1
        stranger.token -= 1
        assert store.close_run(stranger, LOST, "gone") is False
        assert store.ask_to_end(stranger, "stopped", lambda: pytest.fail("sent")) is False
        store.name_command(stranger, Owner(run.wrapper.place, 7, 8))
        store.take_back(stranger)
        assert fields(store.find(run.id)) == before
        store.finish_run(stranger, Ending(Outcome(3)))
        assert stranger.id != run.id, "recorded anew"
        assert store.find(stranger.id).exit_code == 3
        assert fields(store.find(run.id)) == before

    def test_a_waiter_that_was_signalled_is_stopped_by_the_one_that_signalled(self, store):
        run = a_run()
        store.wait_run(run)
        assert store.ask_to_end(a_copy(store, run), "replaced by me", lambda: True)
        store.refuse_run(run, REFUSED, "held")
        assert (run.state, run.detail) == (STOPPED, "replaced by me")
        assert fields(store.find(run.id)) == fields(run)

    def test_a_lost_run_that_was_signalled_ends_as_its_wrapper_says(self, store):
        run = self.started(store)
        store.ask_to_end(a_copy(store, run), "stopped by me", lambda: True)
        assert store.close_run(a_copy(store, run), LOST, "gone")
        store.finish_run(run, Ending(Outcome(0)))
        assert (store.find(run.id).state, run.detail) == (SUCCEEDED, None)

    def test_unknown_run(self, store):
        assert store.find(12345) is None

    def test_a_new_store_is_young(self, store):
        assert store.is_young()

    def test_exclusively_can_be_nested_with_verbs_in_it(self, store):
        with store.exclusively(), store.exclusively():
            run = self.started(store)
        assert store.find(run.id) is not None


def a_copy(store, run):
    return store.find(run.id)
