"""Every wrong call and every unusable input ends with its code and one clear line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import small_trace, write
from tests.cli.run import Cli, start

VERBS = ("replay", "inspect")


def unusable(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Inputs that hold no job, by what is wrong with them."""
    packed = gzip.compress(small_trace().encode())
    (folder / "no traces").mkdir()
    write(folder / "no traces" / "notes.txt", "nothing")
    return {
        "empty file": (write(folder / "empty.json", ""),),
        "not json": (write(folder / "text.json", "Traceback (most recent call last):"),),
        "gzip cut in its head": (write(folder / "head.json.gz", packed[:12]),),
        "no events": (write(folder / "none.json", '{"traceEvents": []}'),),
        "another document": (write(folder / "other.json", '{"rows": [1, 2, 3]}'),),
        "folder without traces": (folder / "no traces",),
        "missing path": (folder / "missing.json",),
        "glob without match": (folder / "*.trace",),
        "duplicate ranks": (
            write(folder / "a.json", small_trace(0, 2)),
            write(folder / "b.json", small_trace(0, 2)),
        ),
        "mixed jobs": (
            write(folder / "c.json", small_trace(0, 2)),
            write(folder / "d.json", small_trace(1, 4)),
        ),
    }


INPUTS = (
    "empty file",
    "not json",
    "gzip cut in its head",
    "no events",
    "another document",
    "folder without traces",
    "missing path",
    "glob without match",
    "duplicate ranks",
    "mixed jobs",
)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("what", INPUTS)
def test_unusable_input_is_one_line_that_names_the_file(
    cli: Cli, tmp_path: Path, what: str, verb: str
) -> None:
    paths = unusable(tmp_path)[what]
    code, out, err = cli(verb, "--json", *paths)
    assert code == 3
    assert out == ""
    assert err.count("\n") == 1
    assert any(path.name in err for path in paths), err


def test_inputs_are_all_listed(tmp_path: Path) -> None:
    assert tuple(unusable(tmp_path)) == INPUTS


def test_a_file_cut_in_the_middle_is_read_up_to_there_and_said_so(cli: Cli, tmp_path: Path) -> None:
    whole = small_trace()
    path = write(tmp_path / "cut.json", whole[: whole.rindex("sgemm")])
    code, out, err = cli("replay", "--json", path)
    assert (code, err) == (0, "")
    assert "cut-off" in [finding["code"] for finding in json.loads(out)["findings"]]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--step", "nine"], "nine"),
        (["--from-step", "nine"], "nine"),
        (["--drop", "gravity"], "gravity"),
        (["--whole", "--step", "0"], "--whole"),
        (["--fail-if", "error"], "error"),
        (["--fail-if", "error<5%"], "error<5%"),
        (["--fail-if", "speed>5%"], "speed"),
        (["--fail-if", "error>five%"], "five"),
        (["--fail-if", "error>nan%"], "nan"),
        (["--fail-if", "error>-5%"], "-5"),
        (["--fail-if", "period_error>5%"], "--from-step"),
        (["--sideways"], "--sideways"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it(
    cli: Cli, tmp_path: Path, options: list[str], names: str
) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    code, out, err = cli("replay", path, "--json", *options)
    assert (code, out) == (2, "")
    assert names in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["dance"], ["replay"], ["inspect"]])
def test_a_call_without_verb_or_path_is_a_usage_error(cli: Cli, arguments: list[str]) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert "Usage" in err


def test_a_timeline_folder_that_cannot_be_made_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    code, _, err = cli("replay", path, "-o", path / "inside")
    assert code == 2
    assert "cannot be written" in err


def test_control_characters_of_names_never_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[31m[bold]red[/bold]\u202e"
    text = small_trace(name=evil).replace('"A GPU"', json.dumps(evil))
    path = write(tmp_path / "rank0.json", text)
    for arguments in (["replay", path], ["inspect", path], ["replay", path, "--step", evil]):
        _, out, err = cli(*arguments)
        for character in "\x1b\x07\u202e":
            assert character not in out + err
    assert "[bold]red[/bold]" in cli("inspect", path).out, "markup is text"


@pytest.mark.parametrize("traceback", [False, True])
def test_an_error_of_ours_is_one_line_and_a_traceback_on_request(
    tmp_path: Path, traceback: bool
) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    broken = (
        "import sys, lumos.predict\n"
        "def record(traces): raise ValueError('two\\nlines')\n"
        "lumos.predict.record = record\n"
        f"sys.argv = ['lumos', 'replay', {str(path)!r}]\n"
        "from lumos.cli import main\nmain()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LUMOS_TRACEBACK"}
    if traceback:
        environment["LUMOS_TRACEBACK"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", broken], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert ("Traceback" in done.stderr) == traceback
    if not traceback:
        assert done.stderr.count("\n") == 1
        assert "ValueError: two\\nlines" in done.stderr
        assert "LUMOS_TRACEBACK=1" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_with_130_and_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    interrupted = (
        "import os, signal, sys, lumos.predict\n"
        "def record(traces): signal.raise_signal(signal.SIGINT)\n"
        "lumos.predict.record = record\n"
        f"sys.argv = ['lumos', 'replay', {str(path)!r}]\n"
        "from lumos.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", interrupted],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "lumos: interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of POSIX")
def test_a_named_pipe_is_refused_and_not_waited_for(cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "rank0.json"
    os.mkfifo(pipe)
    code, _, err = cli("replay", pipe)
    assert code == 3
    assert "neither a file nor a folder" in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        process = start("replay", path, "--json", "--fail-if", "error>=0%", stdout=closed)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 4, "the gate counts all the same"
    assert "BrokenPipe" not in err
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk to write to is Linux's")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_output_that_cannot_be_written_is_one_line_and_no_error_of_ours(
    tmp_path: Path, form: tuple[str, ...]
) -> None:
    path = write(tmp_path / "rank0.json", small_trace())
    with Path("/dev/full").open("w") as full:
        process = start("inspect", path, *form, stdout=full)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    (line,) = err.splitlines()
    assert line.startswith("lumos: standard output: cannot be written (")
