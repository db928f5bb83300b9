r"""Limits and workers: hostile responses, workers that hang, die or cannot start, and what is left afterwards.

Nothing is made up: math-verify hangs because it really computes 9^{9^{9^9}}, and workers are killed with real signals.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asymgrpo.verification import Item, Limits, Pool, PoolError, verify, verify_many
from asymgrpo.verification import math as module
from asymgrpo.verification import pool as pools
from asymgrpo.verification.answers import boxed
from asymgrpo.verification.reasons import DIED, DIFFERS, MEMORY_LIMIT, NO_ANSWER, TIME_LIMIT

HANGING = "9^{9^{9^9}}"
SLOW, SLOW_TOO = "700000!", "700001!"
"""Take math-verify some seconds, but once in a process, in which it can be killed; then they differ."""

HOSTILE = {
    "tower of powers": HANGING,
    "100k opened braces": "{" * 100_000,
    "1 MB of digits": "7" * 1_000_000,
    "deep brackets": "(" * 3000 + "5" + ")" * 3000,
    "deep fractions": r"\frac{1}{" * 400 + "5" + "}" * 400,
    "nested braces": "{" * 3000 + "5" + "}" * 3000,
    "factorials": "((9!)!)!",
    "binomial": r"\binom{10^9}{5 \cdot 10^8}",
    "polynomials": "(x+y+z+1)^{200}",
    "matrix power": r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{100000000}",
}

GOOD = [Item(f"So it is \\boxed{{{n}\\sqrt{{3}}}}.", f"\\sqrt{{{3 * n * n}}}", "expression") for n in range(2, 40)]
SECONDS = 3.0
"""Much more than a good answer takes, on a busy machine too."""


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(module, "_MEMORY", module._Memory(1000))


@pytest.fixture(scope="module")
def pool():
    """One for most tests: whatever one does to it, the next finds it in order."""
    with Pool(2) as found:
        yield found
        assert not busy(found)


@pytest.fixture
def own_pool():
    """One that the test may end, or whose workers cannot start."""
    with Pool(2) as found:
        yield found


@pytest.fixture
def script(tmp_path):
    """Start a Python program; its first line of output is the process ids of its pool's workers."""
    started = []

    def start(text):
        path = tmp_path / "program.py"
        path.write_text(
            "import sys, time\nfrom asymgrpo.verification import *\nfrom asymgrpo.verification import math as module\n"
            "def pids():\n    print(*[w.process.pid for w in module._default._workers], flush=True)\n" + text
        )
        process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return status(pid)[0] not in "ZX"


def status(pid):
    """State and parent of a process."""
    if not Path("/proc/self/stat").exists():
        return "?", 0
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "X", 0
    return state, int(parent)


def gone(pids, seconds):
    """Whether the processes are gone within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


def pids(pool):
    return [worker.process.pid for worker in pool._workers]


def busy(pool):
    return [worker.process.pid for worker in list(pool._workers) if worker.assigned]


# -- hostile responses ------------------------------------------------------------------------------------------------


def test_whatever_the_model_wrote_ends(pool):
    items = [Item(boxed(text), "6", "numerical") for text in HOSTILE.values()]
    start = time.monotonic()
    verdicts = dict(zip(HOSTILE, verify_many(items, limits=Limits(seconds=0.4), pool=pool), strict=True))
    assert time.monotonic() - start < 60  # without limits: days
    assert not any(verdict.correct for verdict in verdicts.values())
    assert {verdict.reason for verdict in verdicts.values()} <= {TIME_LIMIT, MEMORY_LIMIT, DIFFERS, NO_ANSWER}
    assert verdicts["tower of powers"] == (False, HANGING, TIME_LIMIT)
    assert verdicts["100k opened braces"].extracted == ""  # no closed box
    assert verdicts["1 MB of digits"].extracted == "7" * 1000


@pytest.mark.parametrize(
    "text", ["五万\u202e\U0001f600\u0301" * 50, "\0", "\ud800\udfff", "-" * 100 + "5", "\n" * 10_000]
)
def test_strange_characters_are_an_answer_like_others(text):
    assert verify(f"It is 6, that is \\boxed{{x{text}}}.", "6", "numerical")[::2] == (False, DIFFERS)


def test_a_hostile_response_touches_no_other(pool):
    hanging = [Item(boxed(f"{base}^{{9^{{9^9}}}}"), "6", "numerical") for base in (7, 9)]
    items = [hanging[0], *GOOD[:9], hanging[1], *GOOD[9:18], hanging[0], *GOOD[18:]]
    verdicts = verify_many(items, limits=Limits(SECONDS), pool=pool)
    assert [verdict.reason for verdict in verdicts] == [TIME_LIMIT if item in hanging else "" for item in items]
    assert len(pids(pool)) <= 2
    assert verify_many(GOOD[:3], pool=pool) == [(True, f"{n}\\sqrt{{3}}", "") for n in (2, 3, 4)]


def test_the_time_limit_is_that_of_the_call(pool):
    verify_many(GOOD[:1], pool=pool)
    for seconds in (0.5, 1.5):
        start = time.monotonic()
        outcomes = pool.run([(boxed(HANGING), HANGING, "6", "numerical")], seconds, 1024)
        assert outcomes == [(False, "", TIME_LIMIT)]
        assert seconds <= time.monotonic() - start < seconds + 5  # a new worker's start included


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_the_memory_limit_is_the_kernels(pool):
    """A megabyte of digits takes math-verify 600 MB; the worker that has it never had as much."""
    peaks = []
    done = threading.Event()

    def watch():
        while not done.wait(0.05):
            for pid in pids(pool):
                with contextlib.suppress(OSError):
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    peaks.extend(int(line.split()[1]) for line in lines if line.startswith("VmPeak"))

    thread = threading.Thread(target=watch)
    thread.start()
    item = Item(boxed("7" * 1_000_000), "6", "numerical")
    [verdict] = verify_many([item], limits=Limits(SECONDS, memory_mb=128), pool=pool)
    done.set()
    thread.join()
    assert not verdict.correct
    assert 0 < max(peaks) / 1024 < 128 + 150
    assert verify_many(GOOD[:2], limits=Limits(SECONDS, memory_mb=128), pool=pool)[0].correct


# -- workers that die -------------------------------------------------------------------------------------------------


def test_a_worker_that_was_killed_while_idle_is_replaced(pool):
    assert verify_many(GOOD[:20], pool=pool) == [(True, f"{n}\\sqrt{{3}}", "") for n in range(2, 22)]
    before = pids(pool)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert all(verdict.correct for verdict in verify_many(GOOD[20:], pool=pool))
    assert not set(before) & set(pids(pool))


def test_an_answer_whose_worker_was_killed_is_tried_again(pool):
    killed = []

    def kill_one():
        while not killed:
            time.sleep(0.3)
            for pid in busy(pool)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    items = [Item(boxed(SLOW), "6", "numerical"), *GOOD]
    with ThreadPoolExecutor(1) as thread:
        thread.submit(kill_one)
        verdicts = verify_many(items, limits=Limits(60), pool=pool)
    assert killed
    assert [verdict.reason for verdict in verdicts] == [DIFFERS] + [""] * len(GOOD)


def test_an_answer_that_takes_two_workers_with_it_has_failed(pool):
    done = threading.Event()

    def kill_all():
        while not done.wait(0.2):
            for pid in busy(pool):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(kill_all)
        outcomes = pool.run([(boxed(SLOW_TOO), SLOW_TOO, "6", "numerical")], 60, 1024)
        done.set()
    assert outcomes == [(False, "", f"{DIED}: signal SIGKILL")]
    assert all(verdict.correct for verdict in verify_many(GOOD[:3], pool=pool))


# -- workers that cannot start ----------------------------------------------------------------------------------------


def test_a_missing_library_is_an_error_and_no_verdict(own_pool, tmp_path, monkeypatch):
    broken = tmp_path / "math_verify"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('no math-verify here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PoolError, match="cannot be started: ImportError: no math-verify here"):
        verify_many(GOOD, pool=own_pool)
    monkeypatch.undo()
    assert all(verdict.correct for verdict in verify_many(GOOD[:3], pool=own_pool))


def test_a_library_that_judges_wrongly_is_an_error_and_no_verdict(own_pool, tmp_path, monkeypatch):
    """As when every comparison fails without a word, for whatever reason."""
    (tmp_path / "sitecustomize.py").write_text("import math_verify.grader as g\ng.verify = lambda *_, **__: False\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PoolError, match=r"math-verify does not work: 0.5 = 2/4 should be True"):
        verify_many(GOOD, pool=own_pool)


@pytest.mark.parametrize(("name", "said"), [("missing", "No such file"), ("ends-at-once", "exit status 3")])
def test_an_interpreter_that_does_not_run_is_an_error(own_pool, tmp_path, monkeypatch, name, said):
    ends = tmp_path / "ends-at-once"
    ends.write_text("#!/bin/sh\nexit 3\n")
    ends.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / name))
    with pytest.raises(PoolError, match=said):
        verify_many(GOOD, pool=own_pool)


def test_a_worker_that_never_gets_ready_is_an_error(own_pool, monkeypatch):
    monkeypatch.setattr(pools, "START_SECONDS", 0.01)
    with pytest.raises(PoolError, match="not ready after 0 seconds"):
        verify_many(GOOD, pool=own_pool)


def test_limits_in_which_nothing_can_be_compared_are_an_error(own_pool, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import time, math_verify.grader as g\noriginal = g.verify\n"
        "g.verify = lambda *a, **k: time.sleep(0.3) or original(*a, **k)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PoolError, match=r"no answer can be compared within .*time limit"):
        verify_many(GOOD[:1], limits=Limits(seconds=0.1), pool=own_pool)


def test_a_closed_pool_says_so():
    pool = Pool(1)
    pool.close()
    with pytest.raises(PoolError, match="closed"):
        verify_many(GOOD, pool=pool)
    with pytest.raises(ValueError, match="at least one"):
        Pool(0)


# -- threads and processes --------------------------------------------------------------------------------------------


def test_from_many_threads(pool):
    with ThreadPoolExecutor(8) as threads:
        each = threads.map(lambda n: verify_many(GOOD[n::4], pool=pool), range(8))
        assert all(verdict.correct for verdicts in each for verdict in verdicts)
        singles = threads.map(lambda item: verify(*item[:3]), GOOD)
        assert all(verdict.correct for verdict in singles)
    assert len(pids(pool)) <= 2
    assert not busy(pool)


def test_a_hanging_answer_in_one_thread_does_not_keep_the_others(own_pool):
    verify_many(GOOD[:20], pool=own_pool)
    with ThreadPoolExecutor(1) as thread:
        hanging = thread.submit(own_pool.run, [(boxed(HANGING), HANGING, "6", "numerical")], 600, 1024)
        while not busy(own_pool):
            time.sleep(0.05)
        assert all(verdict.correct for verdict in verify_many(GOOD[20:], pool=own_pool))
        assert not hanging.done()
        own_pool.close()  # which ends it
        with pytest.raises(PoolError, match="closed"):
            hanging.result()


def test_workers_outlive_the_thread_that_started_them(pool):
    with ThreadPoolExecutor(1) as thread:
        thread.submit(verify_many, GOOD[:2], pool=pool).result()
    before = pids(pool)
    time.sleep(0.2)
    assert all(map(alive, before))
    assert verify_many(GOOD[2:4], pool=pool)[0].correct
    assert pids(pool) == before


def test_in_a_forked_process(script):
    """The child has its own workers; the parent's go on, and end when the parent does although the child lives."""
    process = script(
        "import os\n"
        "item = Item(r'\\boxed{2\\sqrt{3}}', r'\\sqrt{12}', 'expression')\n"
        "mine = Pool(1)\n"
        "print(verify_many([item], pool=mine)[0].correct, verify(item[0], '4', item[2]).correct, flush=True)\n"
        "ours = [w.process.pid for p in (mine, module._default) for w in p._workers]\n"
        "seen, tell = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    other = item._replace(ground_truth=r'2 \\cdot \\sqrt 3')\n"
        "    try: verify_many([other], pool=mine)\n"
        "    except PoolError as error: print(error, flush=True)\n"
        "    print(verify(*other[:3]).correct, flush=True)\n"
        "    pids()\n"
        "    os.write(tell, b'.')\n"
        "    time.sleep(60)\n"
        "os.read(seen, 1)\n"
        "print(*ours, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    lines = [process.stdout.readline().strip() for _ in range(5)]
    assert lines[:3] == [
        "True False",
        "this pool of verification workers belongs to the process that this one was forked from",
        "True",
    ]
    children, ours = ([int(pid) for pid in line.split()] for line in lines[3:])
    try:
        assert len(ours) == 2
        assert len(children) == 1
        assert gone(ours, 5)
        assert all(map(alive, children))
    finally:
        os.kill(status(children[0])[1], signal.SIGKILL)  # the forked process
    assert gone(children, 5)


# -- nothing is left --------------------------------------------------------------------------------------------------

THREE = (
    "verify_many([Item(rf'\\boxed{{{n}\\sqrt{{3}}}}', '7', 'expression') for n in range(2, 6)], workers=2)\npids()\n"
)


def test_workers_end_with_the_program(script):
    process = script(THREE)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert workers
    assert process.wait(10) == 0
    assert gone(workers, 5)


def test_idle_workers_end_when_the_program_is_killed(script):
    process = script(THREE + "time.sleep(60)")
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert all(map(alive, workers))
    process.kill()
    assert gone(workers, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_busy_workers_end_when_the_program_is_killed(script):
    """Although they are in one C function that never looks for signals, or at their input."""
    text = "verify('\\\\boxed{9^{9^{9^9}}}', '6', 'numerical', limits=Limits(1))"
    process = script(THREE + text)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(0.5)
    process.kill()
    assert gone(workers, 30)  # 3 seconds of CPU


def test_no_zombies_and_no_open_files(own_pool):
    verify_many([Item(boxed(HANGING), "6", "numerical"), *GOOD[:5]], limits=Limits(0.5), pool=own_pool)
    workers = pids(own_pool)
    own_pool.close()
    assert gone(workers, 5)
    for pid in workers:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)  # they were waited for


@pytest.fixture
def ctrl_c():
    """Heard in this process, also where the tests run in the background, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_call_that_is_interrupted_leaves_no_worker_behind(pool):
    def interrupt():
        while not busy(pool):
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pool.run([(boxed(HANGING), HANGING, "6", "numerical")], 60, 1024)
    thread.join()
    assert not busy(pool)
    assert all(verdict.correct for verdict in verify_many(GOOD[:3], pool=pool))


def test_a_program_that_verifies_imports_neither_torch_nor_sympy(script):
    process = script(
        "print(verify('\\\\boxed{x}', 'x', 'expression').correct, {'torch', 'sympy', 'numpy'} & {*sys.modules})\n"
    )
    assert process.stdout.readline().strip() == "True set()"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_import_torch(pool):
    verify_many(GOOD[:2], pool=pool)
    for pid in pids(pool):
        assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
