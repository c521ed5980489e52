"""Files that people asked for: timelines, the page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lumos import predict
from lumos.analysis.answers import Answers
from lumos.errors import UsageError
from lumos.export.perfetto import write_perfetto


def write_timeline(folder: Path, run: predict.Replay, taken: Collection[Path] = ()) -> Path:
    """Write a replayed step to `folder`/<step>.json.gz, under a name that is not in `taken`."""
    name = re.sub(r"[^\w.-]+", "-", run.step, flags=re.ASCII).strip("-.")[:100] or "step"
    path, number = folder / f"{name}.json.gz", 2
    while path in taken:
        path, number = folder / f"{name}-{number}.json.gz", number + 1
    return write_run(path, run)


def write_run(path: Path, run: predict.Replay) -> Path:
    """Write a replayed step, measured beside replayed, with both critical paths."""
    runs = {"measured": run.measured, "replayed": run.replayed}
    paths = {name: predict.critical_path_of(run, measured=name == "measured").path for name in runs}
    with _writing(path):
        write_perfetto(path, run.job, runs, run.graph, paths=paths)
    return path


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A place that cannot be written is the user's to change."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path}: cannot be written ({reason}); give another place") from error


def title_of(recording: predict.Recording) -> str:
    """What a page is called unless the user says so: the folder of the traces, or their one file."""
    first = Path(recording.files[0])
    if len(recording.files) == 1:
        return first.name.partition(".")[0]
    return first.resolve().parent.name


def write_page(answers: Answers, title: str, path: Path) -> Path:
    """Write the page of these answers to `path`."""
    from lumos.report.page import page

    text = page(answers, title)
    with _writing(path):
        path.write_text(text, encoding="utf-8")
    return path
