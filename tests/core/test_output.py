"""stdout and stderr that nothing can make fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINT = "from sparse_rnn.core.command_line import guard; guard(lambda: print({text!r}), needs_output={needed})"
FULL = "No space left on device"


def printed(text: str, *, encoding: str = "ascii", needed: bool = True, **streams: object) -> tuple[int, bytes, str]:
    """Exit code, stdout and stderr of a command that prints a text."""
    code = PRINT.format(text=text, needed=needed)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
        check=False,
    )
    return done.returncode, done.stdout or b"", (done.stderr or b"").decode()


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "81.3 ± 0.2 †", b"81.3 +- 0.2 *\n"),
        ("ascii", "caf\u00e9 ████▌|  0.330", b"caf? #####|  0.330\n"),
        ("latin-1", "caf\u00e9 ± ██▎", b"caf\xe9 \xb1 ## \n"),
        ("ascii:strict", "\u2713", b"?\n"),
        ("utf-8", "/runs/\udce9", b"/runs/?\n"),  # a file name that is not UTF-8
        ("utf-8", "caf\u00e9", "caf\u00e9\n".encode()),
        ("ascii:backslashreplace", "caf\u00e9", b"caf\\xe9\n"),  # as the user asked for
    ],
)
def test_what_cannot_be_encoded_is_replaced(encoding: str, text: str, shown: bytes) -> None:
    assert printed(text, encoding=encoding) == (0, shown, "")


@pytest.mark.parametrize(
    ("needed", "code", "said"),
    [
        (True, 1, f"error: stdout cannot be written ({FULL}).\n"),
        (False, 0, f"warning: stdout could not be written ({FULL}).\n"),
    ],
)
def test_a_full_stdout_is_one_line(needed: bool, code: int, said: str) -> None:
    with Path("/dev/full").open("w") as full:
        assert printed("text", needed=needed, stdout=full) == (code, b"", said)


def test_a_full_stderr_changes_no_exit_code() -> None:
    refusal = "from sparse_rnn.core.command_line import guard, whole_number; guard(lambda: whole_number('n', 'x'))"
    with Path("/dev/full").open("w") as full:
        assert subprocess.run([sys.executable, "-c", refusal], stderr=full, check=False).returncode == 2


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_number_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    """Else what another program prints would go into a file that is opened later."""
    code = (
        "import subprocess; from sparse_rnn.core.command_line import guard\n"
        f"def work():\n  with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "    assert file.fileno() > 2; print('text', flush=True); subprocess.run(['echo', 'text'], check=True)\n"
        "guard(work)"
    )
    done = subprocess.run(["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_a_reader_that_goes_away_ends_a_command_silently() -> None:
    work = "lambda: [print('line', flush=True) for _ in range(10**7)]"
    code = f"from sparse_rnn.core.command_line import guard; guard({work})"
    script = '"$0" -c "$1" | head -1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(["bash", "-c", script, sys.executable, code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "line\n", "")
