import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")

# A parent that starts a sleeping child, says its number, and waits to be killed.
PARENT = """
import os, subprocess, sys
from dicomweb.processes import die_with_parent
parent = os.getpid()
child = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: die_with_parent(parent))
print(child.pid, flush=True)
child.wait()
"""


def test_a_child_dies_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        descriptor = os.pidfd_open(child)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    try:
        ended = select.select([descriptor], [], [], 30)[0]
    finally:
        os.close(descriptor)
    assert ended


def test_a_child_whose_parent_is_already_gone_does_not_start() -> None:
    nobody = 2**22 + 1  # Above the largest process number.
    code = f"from dicomweb.processes import die_with_parent; die_with_parent({nobody}); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""


def test_the_children_of_a_living_parent_live() -> None:
    code = f"from dicomweb.processes import die_with_parent; die_with_parent({os.getpid()}); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stdout == "alive\n"
