"""What every store with queues must do: one contract, run against each."""

import time

import pytest
from contract import a_run

from singlerun.outcome import Outcome
from singlerun.process.identity import Place, this_process
from singlerun.store.queue import (
    CANCELLED,
    DELAYED,
    FAILED,
    LOST,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Context,
    FullError,
    Job,
    NoSuchJobError,
    NotAnnouncedError,
    ReplacedError,
)
from singlerun.store.run import FAILED as RUN_FAILED
from singlerun.store.run import LOST as RUN_LOST
from singlerun.store.run import RUNNING as RUN_RUNNING
from singlerun.store.run import STOPPED, Ending, PausedError
from singlerun.store.run import SUCCEEDED as RUN_SUCCEEDED

HOUR = 3600 * 10**9


def a_job(name=b"x", argv=(b"true",), **more):
    return Job(name=name, argv=argv, **more)


def a_context(**more):
    return Context(**({"cwd": b"/", "umask": 0o22, "env": (b"A=1",), "options": {}} | more))


class QueueContract:
    """Subclasses give a fixture ``store``, empty, and ``again``, which opens the same one anew."""

    def add(self, store, *jobs, unique=False, limit=None):
        return store.enqueue(jobs or (a_job(),), a_context(), unique=unique, limit=limit)

    def one(self, store, **more):
        return self.add(store, a_job(**more))[0]

    def claimed(self, store, name=b"x"):
        return store.claim(name, this_process())

    def end(self, store, job, outcome=None, state=RUN_SUCCEEDED):
        return store.finish(job, Ending(outcome or Outcome(0), state))

    def end_and_claim(self, store, job, outcome=None, state=RUN_SUCCEEDED, announced=None):
        ending = Ending(outcome or Outcome(0), state)
        if announced is None:
            return store.finish_and_claim(job, ending, this_process())[0]
        return store.finish_and_claim_announced(job, ending, this_process(), announced)[0]

    def state(self, store, number):
        return store.find_job(number).state

    # -- accepting ---------------------------------------------------------------------------

    def test_what_was_accepted_is_there_as_it_was_given(self, store, again):
        argv = (b"a", b"", b"\xff\n", b"b c")
        context = a_context(
            cwd=b"/\xff", umask=0o7, env=(b"A=\xff=b\n", b"B="), options={"timeout": 1.5}
        )
        job = a_job(
            b"\xff", argv, priority=-3, not_before_ns=time.time_ns() + HOUR, label="L\u00e4bel",
            retries=2, retry_delay=0.5,
        )  # fmt: skip
        (number,) = store.enqueue([job], context, unique=False, limit=None)
        found = again().find_job(number)
        for field in ("name", "argv", "priority", "not_before_ns", "label", "retries"):
            assert getattr(found, field) == getattr(job, field), field
        assert (found.id, found.state, found.tries, found.retry_delay) == (number, DELAYED, 0, 0.5)
        for field in Context.__slots__:
            assert getattr(found.context, field) == getattr(context, field), field

    def test_an_empty_environment_stays_empty(self, store):
        (number,) = store.enqueue([a_job()], a_context(env=()), unique=False, limit=None)
        assert store.find_job(number).context.env == ()

    def test_ids_grow_and_no_run_has_one_of_them(self, store):
        first = self.add(store, *[a_job() for _ in range(3)])
        run = a_run()
        store.start_run(run, None)
        second = self.add(store, *[a_job() for _ in range(2)])
        numbers = [*first, run.id, *second]
        assert numbers == sorted(set(numbers))

    def test_a_limit_refuses_all_or_none(self, store):
        self.add(store, a_job(), a_job(), limit=2)
        with pytest.raises(FullError) as full:
            self.add(store, limit=2)
        assert full.value.args == (2,)
        with pytest.raises(FullError):
            self.add(store, a_job(), a_job(), limit=3)
        assert len(store.jobs(b"x")) == 2
        self.add(store, limit=3)
        self.add(store, a_job(b"y"), limit=1)
        self.claimed(store)
        self.add(store, limit=3)

    def test_unique_cancels_what_is_pending_under_that_name_alone(self, store):
        other = self.one(store, name=b"y")
        running = self.one(store)
        self.claimed(store)
        pending = [self.one(store), self.one(store, not_before_ns=time.time_ns() + HOUR)]
        follower = self.one(store, name=b"z", after_id=pending[0])
        (new,) = self.add(store, unique=True, limit=1)
        assert [self.state(store, number) for number in pending] == [CANCELLED] * 2
        assert store.find_job(pending[0]).detail == f"replaced by job {new}"
        assert self.state(store, follower) == CANCELLED
        assert [self.state(store, number) for number in (other, running)] == [QUEUED, RUNNING]
        assert [job.id for job in store.jobs(b"x")] == [running, new]
        with pytest.raises(ReplacedError):
            self.add(store, a_job(after_id=new), unique=True)
        assert self.state(store, new) == QUEUED

    def test_no_job_follows_one_that_there_is_not(self, store):
        for number in (99, a_run_of(store).id):
            with pytest.raises(NoSuchJobError):
                self.add(store, a_job(), a_job(after_id=number))
        assert store.jobs() == []

    # -- claiming ----------------------------------------------------------------------------

    def test_each_is_claimed_once_in_order(self, store, again):
        low, first, second, high = self.add(
            store, *[a_job(priority=priority) for priority in (-1, 0, 0, 5)]
        )
        self.one(store, name=b"y")
        order = []
        while (job := self.claimed(again())) is not None:
            order.append(job.id)
        assert order == [high, first, second, low]

    def test_a_claim_records_the_run(self, store, again):
        number = self.one(store, argv=(b"a", b"b"))
        job = self.claimed(store)
        run = job.run
        assert (job.state, job.tries, job.run_id) == (RUNNING, 1, run.id)
        found = again().find(run.id)
        assert (found.state, found.job_id, found.argv) == (RUN_RUNNING, number, (b"a", b"b"))
        assert (found.token, found.cwd) == (run.token, b"/")
        assert again().find_job(number).state == RUNNING
        assert [job.state for job in again().jobs(b"x")] == [RUNNING]

    def test_a_claim_that_was_given_back_was_none(self, store):
        number = self.one(store)
        job = self.claimed(store)
        store.give_back(job, "why")
        found = store.find_job(number)
        assert (found.state, found.tries) == (QUEUED, 0)
        assert store.open_runs() == []
        assert self.claimed(store).id == number

    def test_one_end_and_the_next_claim_are_one_step(self, store, again):
        first, second = self.add(store, a_job(), a_job())
        job = self.claimed(store)
        following = self.end_and_claim(store, job, Outcome(0, elapsed_ns=7))
        assert (following.id, following.state) == (second, RUNNING)
        found = again().find_job(first)
        assert (found.state, found.exit_code, found.run.elapsed_ns) == (SUCCEEDED, 0, 7)
        assert self.end_and_claim(store, following, Outcome(3), RUN_FAILED) is None
        assert (self.state(store, second), store.find_job(second).exit_code) == (FAILED, 3)
        assert store.open_runs() == []
        assert store.jobs() == []

    def test_look_tells_when(self, store):
        assert store.look(b"x") is None
        self.one(store, not_before_ns=time.time_ns() + 2 * HOUR)
        late = self.one(store, not_before_ns=time.time_ns() + HOUR)
        assert 3500 < store.look(b"x") <= 3600
        assert self.claimed(store) is None
        self.one(store, after_id=late)
        assert 3500 < store.look(b"x") <= 3600, "what follows another has no time of its own"
        due = self.one(store, not_before_ns=time.time_ns() - 1)
        assert store.look(b"x") == 0
        assert self.claimed(store).id == due
        assert store.look(b"y") is None

    # -- ends --------------------------------------------------------------------------------

    def test_a_failure_is_tried_again_later_and_later(self, store):
        number = self.one(store, retries=2, retry_delay=0.0)
        waits = []
        for _ in range(3):
            job = self.claimed(store)
            job_again = store.find_job(number)
            assert job_again.tries == job.tries
            self.end(store, job, Outcome(1), RUN_FAILED)
            waits.append(store.look(b"x"))
        assert waits == [0, 0, None]
        found = store.find_job(number)
        assert (found.state, found.tries, found.exit_code) == (FAILED, 3, 1)

    def test_the_delay_doubles(self, store, monkeypatch):
        self.one(store, retries=9, retry_delay=100.0)
        now = time.time_ns()
        for delay in (100, 200, 400):
            monkeypatch.setattr(time, "time_ns", lambda now=now: now)
            self.end(store, self.claimed(store), Outcome(1), RUN_FAILED)
            assert store.look(b"x") == delay
            now += delay * 10**9

    def test_a_stopped_job_is_not_retried(self, store):
        number = self.one(store, retries=5)
        self.end(store, self.claimed(store), Outcome(None, 15), STOPPED)
        found = store.find_job(number)
        assert (found.state, found.signal, found.detail) == (FAILED, 15, "stopped")

    @pytest.mark.parametrize(("retries", "ends_as"), [(0, LOST), (1, DELAYED)])
    def test_a_run_closed_as_lost_ends_its_job_or_tries_it_again(
        self, store, again, retries, ends_as
    ):
        number = self.one(store, retries=retries)
        self.claimed(store)
        other = again()
        (run,) = other.open_runs((b"x",))
        assert other.close_run(run, RUN_LOST, "gone")
        found = store.find_job(number)
        assert (found.state, found.tries) == (ends_as, 1)
        assert f"run {run.id} is lost: gone" in found.detail

    def test_a_job_taken_for_lost_may_succeed_after_all(self, store, again):
        number = self.one(store)
        job = self.claimed(store)
        other = again()
        (run,) = other.open_runs((b"x",))
        other.close_run(run, RUN_LOST, "gone")
        self.end(store, job)
        assert self.state(store, number) == SUCCEEDED

    def test_the_late_end_of_a_former_try_says_nothing_of_the_present_one(self, store, again):
        number = self.one(store, retries=1, retry_delay=0.0)
        former = self.claimed(store)
        other = again()
        assert other.close_run(other.find(former.run.id), RUN_LOST, "gone")
        present = self.claimed(store)
        assert present.tries == 2
        follower = self.one(store, name=b"y", after_id=number)
        for state in (RUN_SUCCEEDED, RUN_FAILED):
            self.end(store, former, Outcome(0), state)
            assert self.state(store, number) == RUNNING
            assert self.state(store, follower) == DELAYED
        store.give_back(former, "why")
        found = store.find_job(number)
        assert (found.state, found.tries, found.run_id) == (RUNNING, 2, present.run.id)
        self.end(store, present)
        assert self.state(store, number) == SUCCEEDED

    def test_a_long_chain_is_cancelled_to_its_end(self, store):
        first = self.one(store)
        chain = [first]
        for name in (b"a", b"b", b"c"):
            chain.append(self.one(store, name=name, after_id=chain[-1]))
        assert self.end(store, self.claimed(store), Outcome(1), RUN_FAILED) == {b"a", b"b", b"c"}
        assert [self.state(store, number) for number in chain] == [FAILED, *[CANCELLED] * 3]
        details = [store.find_job(number).detail for number in chain[1:]]
        assert details == [f"job {number} did not succeed" for number in chain[:-1]]

    def test_what_follows_is_set_free_or_cancelled(self, store):
        first = self.one(store)
        second = self.one(store, name=b"y", after_id=first)
        late = self.one(store, name=b"z", after_id=first, not_before_ns=time.time_ns() + HOUR)
        third = self.one(store, name=b"z", after_id=second)
        assert [store.find_job(number).is_blocked for number in (second, late, third)] == [True] * 3
        assert store.look(b"y") is None
        assert self.end(store, self.claimed(store)) == {b"y", b"z"}
        assert [self.state(store, number) for number in (second, late)] == [QUEUED, DELAYED]
        assert self.end(store, self.claimed(store, b"y"), Outcome(1), RUN_FAILED) == {b"z"}
        assert store.find_job(third).detail == f"job {second} did not succeed"
        assert self.state(store, third) == CANCELLED
        done = self.one(store, name=b"z", after_id=first)
        assert self.state(store, done) == QUEUED
        lost = self.one(store, name=b"w")
        run = self.claimed(store, b"w").run
        assert store.close_run(store.find(run.id), RUN_LOST, "gone")
        for number in (second, third, lost):
            never = self.one(store, name=b"z", after_id=number)
            assert self.state(store, never) == CANCELLED

    def test_what_follows_does_not_start_when_its_time_comes_alone(self, store):
        first = self.one(store)
        self.one(store, name=b"y", after_id=first, not_before_ns=time.time_ns() - 1)
        assert self.claimed(store, b"y") is None

    def test_a_follower_that_was_cancelled_is_not_set_free(self, store):
        first = self.one(store)
        cancelled, other = (self.one(store, name=b"y", after_id=first) for _ in range(2))
        store.cancel(cancelled, "why")
        self.end(store, self.claimed(store))
        assert [self.state(store, number) for number in (cancelled, other)] == [CANCELLED, QUEUED]

    # -- steering ----------------------------------------------------------------------------

    def test_cancel_what_is_pending_alone(self, store):
        running, pending = self.add(store, a_job(), a_job())
        self.claimed(store)
        follower = self.one(store, name=b"y", after_id=pending)
        assert store.cancel(pending, "why") == {b"y"}
        assert (self.state(store, pending), store.find_job(pending).detail) == (CANCELLED, "why")
        assert self.state(store, follower) == CANCELLED
        for number in (running, pending, 9999):
            assert store.cancel(number, "again") is None

    def test_retry_what_did_not_succeed_alone(self, store):
        number = self.one(store, retries=1)
        assert store.retry(number) is False
        assert store.cancel(number, "why") is not None
        assert store.retry(number) is True
        found = store.find_job(number)
        assert (found.state, found.tries, found.detail, found.ended_ns) == (QUEUED, 0, None, None)
        self.end(store, self.claimed(store))
        assert store.retry(number) is False
        assert store.retry(9999) is False

    def test_a_job_that_is_queued_again_is_as_if_it_were_new(self, store):
        first = self.one(store)
        number = self.one(store, name=b"y", after_id=first, not_before_ns=time.time_ns() + HOUR)
        assert store.put_first(number)
        store.cancel(number, "why")
        assert store.retry(number)
        found = store.find_job(number)
        assert (found.is_blocked, found.not_before_ns, found.detail) == (False, None, None)
        self.end(store, self.claimed(store, b"y"), Outcome(3), RUN_FAILED)
        assert store.retry(number)
        self.one(store, name=b"y")
        found = store.find_job(number)
        assert (found.exit_code, found.tries, found.ended_ns) == (None, 0, None)
        assert self.claimed(store, b"y").id == number

    def test_a_job_that_is_queued_again_has_lost_the_place_it_was_given(self, store):
        one, two = self.one(store), self.one(store)
        assert store.put_first(two)
        store.cancel(two, "why")
        assert store.retry(two)
        assert [job.id for job in store.jobs(b"x")] == [one, two]

    def test_put_first(self, store):
        one, two, three = self.add(store, a_job(priority=9), a_job(), a_job())
        for number in (three, two):
            assert store.put_first(number) is True
        assert [job.id for job in store.jobs(b"x")] == [two, three, one]
        assert [job.place for job in store.jobs(b"x")] == [1, 2, 3]
        assert self.claimed(store).id == two
        assert store.put_first(two) is False
        assert store.put_first(9999) is False

    def test_a_pause_keeps_all_from_starting_until_its_end(self, store):
        self.one(store)
        store.pause(b"x", None)
        assert store.look(b"x") is None
        assert self.claimed(store) is None
        with pytest.raises(PausedError) as paused:
            store.start_run(a_run(), None, heed_pause=True)
        assert paused.value.args[0].until_ns is None
        store.start_run(a_run(b"y"), None, heed_pause=True)
        until = time.time_ns() + HOUR
        store.pause(b"x", until)
        assert 3500 < store.look(b"x") <= 3600
        assert store.pause_of((b"y", b"x")).until_ns == until
        assert store.resume(b"x") is True
        assert store.resume(b"x") is False
        store.pause(b"x", time.time_ns() - 1)
        assert store.pause_of((b"x",)) is None
        assert self.claimed(store) is not None

    def test_a_pause_lets_no_following_job_start(self, store):
        self.add(store, a_job(), a_job())
        job = self.claimed(store)
        store.pause(b"x", None)
        assert self.end_and_claim(store, job) is None
        assert [job.state for job in store.jobs(b"x")] == [QUEUED]

    def test_nothing_is_announced_where_nothing_waits(self, store):
        self.one(store)
        self.claimed(store)
        assert store.announce(b"x") is None

    def test_nothing_is_announced_where_the_boot_has_no_name(self, store, monkeypatch):
        """A later boot could not tell that the announcement is of another."""
        self.one(store)
        monkeypatch.setattr("singlerun.store.sqlite_queue.here", lambda: Place("host", "", 1))
        assert store.announce(b"x") is None

    def test_names_where_work_is_left(self, store):
        assert store.names_with_jobs() == []
        self.one(store, name=b"a")
        self.one(store, name=b"b", not_before_ns=time.time_ns() + HOUR)
        self.one(store, name=b"c")
        self.one(store, name=b"d")
        self.claimed(store, b"c")
        self.end(store, self.claimed(store, b"d"))
        assert sorted(store.names_with_jobs()) == [b"a", b"b", b"c"]

    def test_a_direct_run_hears_that_jobs_wait(self, store):
        run = a_run_of(store)
        assert store.finish_run(run, Ending(Outcome(0))) is False
        for not_before_ns in (None, time.time_ns() + HOUR):
            run = a_run_of(store)
            number = self.one(store, not_before_ns=not_before_ns)
            assert store.finish_run(run, Ending(Outcome(0))) is True
            store.cancel(number, "why")

    def test_all_jobs_newest_first(self, store):
        numbers = [self.one(store, name=name) for name in (b"x", b"y", b"x")]
        self.end(store, self.claimed(store))
        assert [job.id for job in store.jobs(ended=True)] == numbers[::-1]
        assert [job.id for job in store.jobs(b"x", ended=True, limit=1)] == numbers[2:]
        assert store.find_job(9999) is None

    # -- announcing --------------------------------------------------------------------------

    def test_what_was_announced_is_claimed_like_any_other(self, store, again):
        first, second = self.one(store), self.one(store)
        job = self.claimed(store)
        assert store.announce(b"x") == second
        job = self.end_and_claim(store, job, announced=second)
        assert (job.id, job.run.id) == (second, job.run_id)
        self.end(store, job)
        assert [self.state(again(), number) for number in (first, second)] == [SUCCEEDED] * 2

    def test_another_may_come_before_what_was_announced(self, store):
        self.one(store)
        second = self.one(store)
        job = self.claimed(store)
        announced = store.announce(b"x")
        urgent = self.one(store, priority=5)
        with pytest.raises(NotAnnouncedError):
            self.end_and_claim(store, job, announced=announced)
        assert (self.state(store, job.id), job.run.ended_ns) == (RUNNING, None), "nothing was done"
        assert len(store.open_runs()) == 1
        job = self.end_and_claim(store, job)
        assert job.id == urgent
        assert self.end_and_claim(store, job).id == second

    @pytest.mark.parametrize("retries", [0, 1])
    def test_what_was_announced_before_a_boot_may_have_run(self, store, monkeypatch, retries):
        self.one(store)
        announced, last = self.one(store, retries=retries), self.one(store)
        follower = self.one(store, name=b"y", after_id=announced)
        job = self.claimed(store)
        store.announce(b"x")
        self.end(store, job)
        here = Place("host", "another boot", 1)
        monkeypatch.setattr("singlerun.store.sqlite_queue.here", lambda: here)
        job = self.claimed(store)
        if retries:
            assert (job.id, job.tries) == (announced, 2), "that may have been a try"
        else:
            assert job.id == last
            assert self.state(store, announced) == LOST
            assert self.state(store, follower) == CANCELLED
            assert "went down" in store.find_job(announced).detail

    @pytest.mark.parametrize("then", ["it was queued again", "its claim was synced"])
    def test_an_announcement_that_is_over_says_nothing_after_a_boot(self, store, monkeypatch, then):
        number = self.one(store, retries=1, retry_delay=0.0)
        store.announce(b"x")
        if then == "it was queued again":
            store.cancel(number, "why")
            assert store.retry(number)
        else:
            self.end(store, self.claimed(store), Outcome(1), RUN_FAILED)
        tries = store.find_job(number).tries
        here = Place("host", "another boot", 1)
        monkeypatch.setattr("singlerun.store.sqlite_queue.here", lambda: here)
        job = self.claimed(store)
        assert (job.id, job.tries) == (number, tries + 1)

    def test_what_was_retracted_has_not_run(self, store, monkeypatch):
        self.one(store)
        second = self.one(store)
        job = self.claimed(store)
        store.announce(b"x")
        store.retract(second)
        self.end(store, job)
        here = Place("host", "another boot", 1)
        monkeypatch.setattr("singlerun.store.sqlite_queue.here", lambda: here)
        assert self.claimed(store).id == second

    # -- looking -----------------------------------------------------------------------------

    def test_jobs_in_some_states_or_with_a_label(self, store):
        done = self.one(store, label="a 1")
        self.end(store, self.claimed(store))
        runs = self.one(store)
        self.claimed(store)
        queued, other = self.add(store, a_job(label="b"), a_job(label="a 2"))
        later = self.one(store, not_before_ns=time.time_ns() + HOUR)
        assert [job.id for job in store.jobs(states=[RUNNING, DELAYED])] == [runs, later]
        assert [job.id for job in store.jobs(b"x", label="a*")] == [other]
        assert [job.place for job in store.jobs(b"x", label="a*")] == [2]
        assert [job.id for job in store.jobs(ended=True, label="a*")] == [other, done]
        latest = store.jobs(ended=True, states=[SUCCEEDED, QUEUED], limit=2)
        assert [job.id for job in latest] == [other, queued]
        assert [job.id for job in store.jobs_of([done, 10**6, later])] == [done, later]

    def test_the_first_jobs_are_those_of_all_queues_name_by_name(self, store):
        numbers = {name: self.add(store, *[a_job(name)] * 3) for name in (b"b", b"c", b"a")}
        self.claimed(store, b"c")
        first = store.jobs(limit=5)
        assert [job.id for job in first] == [*numbers[b"a"], *numbers[b"b"][:2]]
        assert [job.place for job in first] == [1, 2, 3, 1, 2]
        assert [job.state for job in store.jobs(limit=7)][-1] == RUNNING, "it comes before"

    def test_totals_count_each_state(self, store):
        self.add(store, a_job(), a_job(), a_job(not_before_ns=time.time_ns() + HOUR))
        self.one(store, name=b"y")
        self.end(store, self.claimed(store))
        counts = {state: count for state, count in store.totals().items() if count}
        assert counts == {QUEUED: 2, DELAYED: 1, SUCCEEDED: 1}
        assert store.totals(b"y")[QUEUED] == 1

    def test_pauses_are_told_until_they_end(self, store):
        until = time.time_ns() + HOUR
        store.pause(b"x", until)
        store.pause(b"a", None)
        store.pause(b"past", time.time_ns() - 1)
        assert [(pause.name, pause.until_ns) for pause in store.pauses()] == [
            (b"a", None), (b"x", until),
        ]  # fmt: skip
        assert [pause.name for pause in store.pauses([b"x", b"y"])] == [b"x"]

    def test_durations_are_those_of_successful_runs(self, store):
        for argv, outcome, state in (
            ((b"a",), Outcome(0, elapsed_ns=1), RUN_SUCCEEDED),
            ((b"b",), Outcome(0, elapsed_ns=2), RUN_SUCCEEDED),
            ((b"a",), Outcome(1, elapsed_ns=3), RUN_FAILED),
        ):
            self.one(store, argv=argv)
            self.end(store, self.claimed(store), outcome, state)
        assert store.durations(b"x") == [((b"b",), 2), ((b"a",), 1)]
        for _ in range(250):
            store.refuse_run(a_run(b"x"), "refused", None)
        assert len(store.durations(b"x")) == 2, "also behind many refusals"
        assert store.durations(b"y") == []

    def test_the_last_refusal_by_a_holder(self, store):
        holder = a_run(b"x")
        store.start_run(holder, None)
        assert store.last_refusal_ns(b"x", holder.id) is None
        refused = [a_run(b"x") for _ in range(2)]
        for run in refused:
            store.refuse_run(run, "refused", None, conflict_id=holder.id)
        store.refuse_run(a_run(b"x"), "refused", None, conflict_id=holder.id + 1)
        assert store.last_refusal_ns(b"x", holder.id) == refused[1].ended_ns

    def test_the_pace_of_a_queue(self, store):
        assert store.pace(b"x") is None
        self.add(store, *[a_job() for _ in range(5)])
        tries = []
        for _ in range(3):
            job = self.claimed(store)
            tries.append(job.run)
            self.end(store, job)
        pace = store.pace(b"x")
        assert (pace.tries, pace.left) == (3, 2)
        assert pace.latest_ns == tries[-1].ended_ns
        assert pace.spent_ns == tries[-1].ended_ns - tries[0].started_ns


def a_run_of(store):
    run = a_run()
    store.start_run(run, None)
    return run
