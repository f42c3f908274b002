"""kill -9 at seeded moments of a smoke run; the same command goes on to the same results."""

import os
import signal
import subprocess

import numpy as np
import pytest

from tests import helpers

PARTS = range(0, 9, 2)  # of the inputs and then eight notebooks, those that are killed once


def killed(home, cache, part, delay):
    """Whether the run was killed `delay` seconds after `part` began; else it came to its end."""
    process = helpers.start_command(home, cache=cache)
    if part:  # wait until it is there, or beyond where an earlier kill came late
        for line in process.stdout:
            found = helpers.STARTED.match(line)
            if found and int(found[1]) >= part:
                break
    try:
        output, _ = process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, output
    return False


@pytest.mark.slow
def test_a_run_killed_in_many_of_its_parts_goes_on_to_the_same_results(smoke_run, tmp_path):
    rng = np.random.default_rng(20)
    moments = [(part, rng.uniform(0, smoke_run.seconds[part])) for part in PARTS]
    home, cache = tmp_path / "home", helpers.empty_cache(tmp_path / "cache")
    for part, delay in moments:
        while not killed(home, cache, part, delay):
            # it was through before: once more, from the last notebook on, and sooner
            (home / "outputs" / "smoke" / ".stamps" / "08_evaluation.json").unlink()
            delay *= 0.7
    done = helpers.run_command(home, cache=cache)
    assert done.returncode == 0 and "07_vote: finished before" in done.stdout, done.stdout
    helpers.assert_same_results(home, smoke_run.home)
