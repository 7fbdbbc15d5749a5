"""A process that fails ends in seconds, with its status and its message, where its connections cannot be closed."""

import subprocess
import time

import pytest
import several

pytestmark = pytest.mark.slow

FAILS = """
import sys, threading, time
import torch
from harness import together
from harness.errors import HarnessError

backend, destroys, who = sys.argv[1], [], int(sys.argv[2])
together.torch.cuda.is_available = lambda: backend == "nccl"
connect = together.dist.init_process_group
together.dist.init_process_group = lambda kinds, **more: connect("gloo", **more)

def destroy():
    destroys.append(backend)
    print("destroy", flush=True)
    time.sleep(1000)  # waits for its peer

together.dist.destroy_process_group = destroy
with together.session():
    mine = together.world()
    together.summed(torch.ones(1))
    if mine.rank == who:
        error = HarnessError("the disk is full")
        error.exit_status = 4
        raise error
    threading.Event().wait(1000)  # inside a kernel that never finishes
"""


@pytest.mark.parametrize("backend", ["nccl", "gloo"])
@pytest.mark.parametrize("who", [0, 1])
def test_connections_that_never_close_hold_up_nobody(tmp_path, backend, who):
    script = tmp_path / "fails.py"
    script.write_text(FAILS)
    processes = several.start(2, [str(script), backend, str(who)], stdout=-1, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    try:
        while processes[who].poll() is None:
            assert time.monotonic() - began < 60, "it does not end"
            time.sleep(0.1)
        assert processes[1 - who].poll() is None
    finally:
        for process in processes:
            process.kill()
        (out, err), _ = (processes[r].communicate() for r in (who, 1 - who))
    assert processes[who].returncode == 4, err
    assert "the disk is full" in err
    assert out == ("destroy\n" if backend == "gloo" else "")
