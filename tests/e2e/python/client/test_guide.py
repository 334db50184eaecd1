"""The guide as it is written: taken by mypy, and run."""

import pathlib
import re
import subprocess
import sys

import pytest
from support import text_of

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[3]
FILES = ["clients/python/README.md", "docs/clients.md"]


def code_of(file):
    """The blocks of code of a file that are about this client, one after the other."""
    blocks = re.findall(r"```python (?!openai)[a-z]+\n(.*?)```", (ROOT / file).read_text(), re.S)
    assert blocks
    return "\n".join(blocks)


def check_types(*files):
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--cache-dir", ROOT / "target/mypy", *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_say_what_they_should():
    check_types("usage.py")


def test_the_package_has_no_hole_in_its_types():
    configured = ["--config-file", ROOT / "clients/python/pyproject.toml"]
    check_types(*configured, ROOT / "clients/python/src/segue")


@pytest.mark.parametrize("file", FILES)
def test_the_code_of_the_guide_is_taken_by_mypy(file, tmp_path):
    (tmp_path / "guide.py").write_text(code_of(file))
    check_types(tmp_path / "guide.py")


@pytest.mark.parametrize("file", FILES)
def test_the_code_of_the_guide_does_what_it_says(file, server, tmp_path):
    code = code_of(file).replace("http://127.0.0.1:7878", server.url)
    code = code.replace('agent="demo"', 'agent="demo", params={"speed": 0}')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = server.http.get("/v1/runs").json()["data"]
    asked = [run for run in runs if run["session_id"] == "my-session"][-1]
    [pushed] = [run for run in runs if run["session_id"] == "other-session"]
    assert done.stdout.startswith(text_of(server.journal(asked["id"])))
    assert text_of(server.journal(pushed["id"])) == "Hello, world"
    assert pushed["status"] == "finished"
