import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[3] / "examples" / "hammer.py"


def test_q05_a_hammered_session_ends_with_every_run_explained(server):
    seconds = os.environ.get("SEGUE_HAMMER_SECONDS", "8")
    command = [sys.executable, str(SCRIPT), "--server", server.url, "--seconds", seconds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
