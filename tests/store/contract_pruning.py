"""What every store that forgets must do: one contract, run against each."""

import time

from contract import a_run
from contract_queue import a_context, a_job

from singlerun.outcome import Outcome
from singlerun.process.identity import this_process
from singlerun.store.pruning import Limits
from singlerun.store.run import FAILED, REFUSED, SUCCEEDED, Ending

DAY = 86_400 * 10**9
ALL, NONE = 10**9, 0


def limits(*, before_ns=0, count=ALL):
    return Limits(before_ns, count)


def now():
    return time.time_ns() + 1


def rows(steps):
    return sum(step.rows for step in steps)


class PruningContract:
    """Subclasses give a fixture ``store``, empty, and ``again``, which opens the same one anew."""

    def ended(self, store, *names, state=SUCCEEDED, elapsed_ns=10**9, **more):
        run = a_run(*names, **more)
        store.start_run(run, None)
        status = 0 if state == SUCCEEDED else 1
        store.finish_run(run, Ending(Outcome(status, elapsed_ns=elapsed_ns), state))
        return run

    def refused(self, store, *names):
        run = a_run(*names)
        store.refuse_run(run, REFUSED, "held")
        return run

    def ids(self, store, name=None):
        return {run.id for run in store.runs(name, limit=ALL)}

    def claimed(self, store, name=b"x", **more):
        store.enqueue([a_job(name=name, **more)], a_context(), unique=False, limit=None)
        return store.claim(name, this_process())

    def done(self, store, name=b"x", state=SUCCEEDED, **more):
        job = self.claimed(store, name, **more)
        store.finish(job, Ending(Outcome(0 if state == SUCCEEDED else 1), state))
        return job

    # -- runs by age -----------------------------------------------------------------------------

    def test_old_runs_are_forgotten_but_the_latest_of_each_name(self, store):
        old = [self.ended(store, b"a") for _ in range(3)] + [self.ended(store, b"b")]
        steps = list(store.forget_runs(limits(before_ns=now())))
        assert rows(steps) == 2
        assert {number for step in steps for number in step.ids} == {old[0].id, old[1].id}
        assert self.ids(store) == {old[2].id, old[3].id}

    def test_what_ended_later_is_kept(self, store):
        self.ended(store)
        cut = now()
        young = [self.ended(store) for _ in range(2)]
        list(store.forget_runs(limits(before_ns=cut)))
        assert self.ids(store) == {run.id for run in young}

    def test_a_run_that_was_asked_for_long_ago_and_ended_lately_is_kept(self, store):
        long = self.ended(store, asked_ns=time.time_ns() - 500 * DAY)
        self.ended(store)
        list(store.forget_runs(limits(before_ns=now() - DAY)))
        assert long.id in self.ids(store)

    def test_open_runs_are_kept(self, store):
        waiting, running = a_run(), a_run()
        store.wait_run(waiting)
        store.start_run(running, None)
        self.ended(store)
        self.ended(store)
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        assert {waiting.id, running.id} < self.ids(store)
        store.finish_run(running, Ending(Outcome(0)))
        assert {run.id for run in store.open_runs()} == {waiting.id}

    def test_the_latest_start_and_the_latest_success_are_kept(self, store):
        self.ended(store)
        success = self.ended(store)
        self.ended(store, state=FAILED)
        failure = self.ended(store, state=FAILED)
        self.refused(store)
        latest = self.refused(store)
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        assert self.ids(store) == {success.id, failure.id, latest.id}
        assert store.latest_success(b"x").id == success.id
        assert store.starts(b"x", limit=1) == [failure.started_ns]

    # -- runs by count ---------------------------------------------------------------------------

    def test_so_many_runs_of_each_name_are_kept(self, store):
        runs = {name: [self.ended(store, name) for _ in range(5)] for name in (b"a", b"b")}
        assert rows(store.forget_runs(limits(count=3))) == 4
        for name, of in runs.items():
            assert self.ids(store, name) == {run.id for run in of[2:]}

    def test_a_run_of_two_names_is_kept_while_one_of_them_has_room(self, store):
        both = self.ended(store, b"a", b"b")
        for _ in range(3):
            self.ended(store, b"a")
        list(store.forget_runs(limits(count=2)))
        assert both.id in self.ids(store)
        for _ in range(2):
            self.ended(store, b"b")
        list(store.forget_runs(limits(count=2)))
        assert both.id not in self.ids(store)
        assert both.id not in self.ids(store, b"a") | self.ids(store, b"b")

    def test_more_than_one_page(self, store):
        runs = [self.ended(store) for _ in range(250)]
        assert rows(store.forget_runs(limits(count=10))) == 240
        assert self.ids(store) == {run.id for run in runs[-10:]}

    # -- nothing is lost -------------------------------------------------------------------------

    def test_sums_keep_what_is_forgotten(self, store, again):
        for seconds in (0.5, 1, 2, 100_000):
            self.ended(store, b"a", b"b", elapsed_ns=round(seconds * 1e9))
        self.refused(store, b"a")
        self.ended(store, b"a", b"b")
        for _ in range(2):
            list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        sums = again().tallies([b"a", b"b"])
        assert {name: {*of} for name, of in sums.items()} == {
            b"a": {SUCCEEDED, REFUSED}, b"b": {SUCCEEDED},
        }  # fmt: skip
        for of in sums.values():
            assert of[SUCCEEDED].runs == 5, "also the one that is kept"
            assert of[SUCCEEDED].elapsed_ns >= 100_003_500_000_000
            assert of[SUCCEEDED].buckets[1:] == [1, 0, 0, 0, 0, 0, 0, 0, 1]
        assert sums[b"a"][REFUSED].runs == 1

    def test_what_has_ended_since_is_counted_before_it_is_forgotten(self, store):
        for _ in range(2):
            self.ended(store)
            self.ended(store)
            steps = store.forget_runs(limits(count=1))
            next(steps)
            list(steps)
        store.tally()
        assert [each.runs for each in store.tallies([b"x"])[b"x"].values()] == [4]

    def test_tokens_and_ids_grow_on(self, store):
        before = self.ended(store)
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        after = self.ended(store)
        assert after.token > before.token
        assert after.id > before.id

    def test_dry_run_tells_the_same_and_forgets_nothing(self, store):
        job = self.done(store)
        for _ in range(3):
            self.done(store)
            self.ended(store)
        wanted = limits(before_ns=now(), count=1)

        def forget(*, dry_run):
            steps = [
                list(store.forget_jobs(wanted, dry_run=dry_run)),
                list(store.forget_runs(wanted, dry_run=dry_run)),
                list(store.forget_contexts(dry_run=dry_run)),
            ]
            return [(rows(each), sum(step.size for step in each)) for each in steps]

        before = self.ids(store)
        told = forget(dry_run=True)
        assert self.ids(store) == before
        assert store.find_job(job.id) is not None
        store._gone.clear()
        store._left.clear()
        assert forget(dry_run=False) == told
        assert told[0][0] == 4

    # -- jobs ------------------------------------------------------------------------------------

    def test_jobs_that_ended_are_forgotten_and_pending_ones_are_not(self, store):
        done = self.done(store)
        (pending,) = store.enqueue([a_job()], a_context(), unique=False, limit=None)
        running = self.claimed(store, b"y")
        list(store.forget_jobs(limits(before_ns=now(), count=NONE)))
        assert store.find_job(done.id) is None
        assert store.find_job(pending).state == "queued"
        assert store.find_job(running.id).state == "running"
        store.finish(running, Ending(Outcome(0)))
        assert store.find_job(running.id).state == "succeeded"

    def test_a_job_that_a_pending_one_follows_is_kept(self, store):
        first = self.done(store)
        self.done(store)
        (follower,) = store.enqueue(
            [a_job(after_id=first.id)], a_context(), unique=False, limit=None
        )
        assert rows(store.forget_jobs(limits(before_ns=now(), count=NONE))) == 1
        assert store.find_job(first.id) is not None
        assert store.cancel(follower, "test") is not None
        assert rows(store.forget_jobs(limits(before_ns=now(), count=NONE))) == 2

    def test_a_run_is_kept_while_its_job_is(self, store):
        job = self.done(store)
        self.ended(store)
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        assert store.find_job(job.id).run.id == job.run_id
        list(store.forget_jobs(limits(before_ns=now(), count=NONE)))
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        assert store.find(job.run_id) is None

    def test_the_run_of_a_job_that_is_tried_again_is_kept(self, store):
        job = self.done(store, state=FAILED, retries=3, retry_delay=1000.0)
        self.ended(store)
        self.ended(store, state=FAILED)
        list(store.forget_jobs(limits(before_ns=now(), count=NONE)))
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        found = store.find_job(job.id)
        assert (found.state, found.run.id) == ("delayed", job.run_id)

    def test_so_many_jobs_in_each_state_are_kept(self, store):
        jobs = [self.done(store) for _ in range(5)] + [self.done(store, state=FAILED)]
        assert rows(store.forget_jobs(limits(count=2))) == 3
        left = {job.id for job in store.jobs(ended=True)}
        assert left == {job.id for job in jobs[3:]}

    def test_contexts_without_jobs_are_forgotten_but_never_the_latest(self, store):
        def add(env):
            store.enqueue([a_job()], a_context(env=(env,)), unique=False, limit=None)

        add(b"A=1")
        self.done(store)
        for env in (b"A=2", b"A=3"):
            add(env)
        list(store.forget_jobs(limits(before_ns=now(), count=NONE)))
        assert rows(store.forget_contexts()) <= 2
        assert {job.context.env for job in store.jobs()} >= {(b"A=3",)}
        for job in store.jobs():
            store.cancel(job.id, "test")
        list(store.forget_jobs(limits(before_ns=now(), count=NONE)))
        list(store.forget_contexts())
        add(b"A=4")
        (job,) = store.jobs()
        assert job.context.env == (b"A=4",)

    # -- the rest --------------------------------------------------------------------------------

    def test_pauses_that_are_over_are_forgotten(self, store):
        store.pause(b"a", None)
        store.resume(b"a")
        store.pause(b"b", time.time_ns() - 1)
        store.pause(b"c", None)
        store.pause(b"d", now() + DAY)
        assert rows(store.forget_pauses(limits(before_ns=now()), dry_run=True)) == 2
        assert rows(store.forget_pauses(limits(before_ns=now()))) == 2
        assert {pause.name for pause in store.pauses_in(0, now())} == {b"c", b"d"}

    def test_names_in_use(self, store):
        self.ended(store, b"over")
        store.start_run(a_run(b"a", b"b"), None)
        store.start_run(a_run(b"c", lock_file=b"/f"), None)
        store.enqueue([a_job(name=b"d")], a_context(), unique=False, limit=None)
        store.enqueue(
            [a_job(name=b"e", not_before_ns=now() + DAY)], a_context(), unique=False, limit=None
        )
        store.pause(b"f", None)
        used = store.names_in_use()
        assert used.names == {b"a", b"b", b"c", b"d", b"e", b"f"}
        assert used.lock_files == {b"/f"}

    def test_last_use(self, store):
        assert store.last_use_ns(b"x") is None
        run = self.ended(store)
        assert store.last_use_ns(b"x") == run.ended_ns

    def test_known_runs(self, store):
        assert store.known_runs([1]) == (set(), 0)
        first, second = self.ended(store), self.ended(store)
        list(store.forget_runs(limits(count=1)))
        assert store.known_runs([first.id, second.id, 99]) == ({second.id}, second.id)
