"""A process forked from one that has a model: it is told what to do, and it ends; the model stays as it was."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent("""
    import os, sys
    import quipu
    from quipu.errors import EngineStopped

    model = quipu.load(sys.argv[1], context=64, kv_memory=0.1, threads=2, runner="native")
    before = model.generate("one two", max_tokens=4, temperature=0)
    if child := os.fork():
        status = os.waitpid(child, 0)[1]
        assert model.generate("one two", max_tokens=4, temperature=0) == before
        model.close()
        sys.exit(os.waitstatus_to_exitcode(status))
    try:
        model.generate("one two", max_tokens=4)
    except EngineStopped as error:
        print(error)
    if sys.argv[2] == "closed":
        model.close()
    del model
""")


@pytest.mark.parametrize("end", ["closed", "left"])
def test_a_fork_is_told_to_load_the_model_itself(smollm2_file, end):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, str(smollm2_file), end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'load the model here, or start processes with multiprocessing.get_context("spawn")' in done.stdout
