"""A program and all that it starts: ended with us, watched for signs of life, and its end told."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asymgrpo.training.verl import process
from asymgrpo.training.verl.process import run_to_end

PYTHON = [sys.executable, "-I", "-S", "-c"]
LONG = 60.0
"""Seconds that nothing here may take: what a slow machine is given before a test fails."""

# notes its own pid and that of a process that it starts; then both would sleep for long
FAMILY = f"""
import os, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep({LONG})"])
Path("pids.writing").write_text(f"{{os.getpid()}} {{child.pid}}")
os.rename("pids.writing", "pids")
"""

PARENT = """
import os, sys
from pathlib import Path
from asymgrpo.training.verl.process import run_to_end
run_to_end(sys.argv[2:], Path(sys.argv[1]), os.environ, [])
"""


def alive(pid):
    """Whether the process is there and not merely waiting to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def wait_until(condition):
    deadline = time.monotonic() + LONG / 2
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def pids_in(directory):
    wait_until((directory / "pids").exists)
    return [int(pid) for pid in (directory / "pids").read_text().split()]


def run(code, directory, watched=(), **more):
    run_to_end([*PYTHON, code], directory, os.environ, watched, **more)


@pytest.fixture
def parent(tmp_path):
    """parent(code) -> a process that runs `code` to its end in tmp_path; whatever is left over is killed afterwards."""
    started = []

    def start(code):
        environment = os.environ | {"PYTHONPATH": str(Path(process.__file__).parents[3])}
        command = [sys.executable, "-c", PARENT, str(tmp_path), *PYTHON, code]
        started.append(subprocess.Popen(command, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.wait()
    for pid in pids_in(tmp_path) if (tmp_path / "pids").exists() else []:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_a_program_that_succeeds_ran_where_it_was_told(tmp_path):
    code = "import os; open(os.environ['NAME'], 'w').write(os.getcwd())"
    run_to_end([*PYTHON, code], tmp_path, {"NAME": "here"}, [])
    assert Path((tmp_path / "here").read_text()).samefile(tmp_path)


def test_its_input_is_empty(tmp_path):
    run("import sys; assert sys.stdin.read() == ''", tmp_path)


@pytest.mark.parametrize("status", [1, 3])
def test_an_error_is_told_with_its_status_and_where_the_work_is(tmp_path, status):
    with pytest.raises(ValueError, match=f"ended with exit status {status};") as error:
        run(f"raise SystemExit({status})", tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_told_by_its_number(tmp_path, number):
    with pytest.raises(ValueError, match=f"was killed by signal {number.value};"):
        run(f"import os; os.kill(os.getpid(), {number.value})", tmp_path)


def test_what_it_left_running_is_ended(tmp_path):
    run(FAMILY, tmp_path)
    assert not any(map(alive, pids_in(tmp_path)))


def test_what_it_left_running_is_ended_after_an_error_too(tmp_path):
    with pytest.raises(ValueError, match="exit status 1"):
        run(FAMILY + "raise SystemExit(1)", tmp_path)
    assert not any(map(alive, pids_in(tmp_path)))


def test_who_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"  # as the one that it starts will be
    run(deaf + FAMILY, tmp_path)
    assert not any(map(alive, pids_in(tmp_path)))


def test_our_own_handlers_come_back(tmp_path):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    run("pass", tmp_path)
    with pytest.raises(ValueError, match="exit status"):
        run("raise SystemExit(1)", tmp_path)
    assert [signal.getsignal(number) for number in numbers] == before


# -- signs of life -----------------------------------------------------------------------------------------------------


def test_without_a_sign_of_life_it_is_ended(tmp_path):
    watched = tmp_path / "journal"
    watched.write_text("of an earlier attempt")
    started = time.monotonic()
    with pytest.raises(ValueError, match=re.escape("no sign of life for 2 s")) as error:
        run(FAMILY + f"time.sleep({LONG})", tmp_path, [watched, tmp_path / "never there"], stall_seconds=2)
    assert "ASYMGRPO_STALL_SECONDS" in str(error.value)
    assert 2 <= time.monotonic() - started < LONG / 2
    assert not any(map(alive, pids_in(tmp_path)))


def test_a_file_that_is_written_keeps_it_alive(tmp_path):
    """The program takes longer than it may be silent, and one of the files that are watched appears and grows."""
    code = """
import time
for i in range(60):
    with open("journal", "a") as file:
        file.write("x")
    time.sleep(0.1)
"""
    run(code, tmp_path, [tmp_path / "never there", tmp_path / "journal"], stall_seconds=5)
    assert (tmp_path / "journal").stat().st_size == 60


# -- when we end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_end_we_take_everybody_along(parent, tmp_path, number):
    us = parent(FAMILY + f"time.sleep({LONG})")
    pids = pids_in(tmp_path)
    assert all(map(alive, pids))
    us.send_signal(number)
    assert us.wait(timeout=LONG / 2) == 128 + number
    assert not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells")
def test_when_we_are_killed_everybody_is_ended(parent, tmp_path):
    us = parent(FAMILY + f"time.sleep({LONG})")
    pids = pids_in(tmp_path)
    us.kill()
    us.wait()
    wait_until(lambda: not any(map(alive, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells")
def test_when_we_are_killed_before_the_program_starts_it_does_not(parent, tmp_path):
    us = parent(FAMILY + f"time.sleep({LONG})")
    children = Path(f"/proc/{us.pid}/task/{us.pid}/children")
    wait_until(lambda: children.read_text())
    (supervisor,) = map(int, children.read_text().split())
    us.kill()
    us.wait()
    wait_until(lambda: not alive(supervisor))
    time.sleep(0.5)  # of the program there is nothing, or nothing more
    assert not (tmp_path / "pids").exists() or not any(map(alive, pids_in(tmp_path)))


def test_the_supervisor_kills_who_does_not_listen(tmp_path):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    patience = "from asymgrpo.training.verl import supervisor; supervisor.GRACE_SECONDS = 0.3; supervisor.main()"
    command = [sys.executable, "-c", patience, str(os.getpid()), *PYTHON, deaf + FAMILY + f"time.sleep({LONG})"]
    supervisor = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    pids = pids_in(tmp_path)
    supervisor.terminate()
    assert supervisor.wait(timeout=LONG / 2) == -signal.SIGKILL
    wait_until(lambda: not any(map(alive, pids)))
