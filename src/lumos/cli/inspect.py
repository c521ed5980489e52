"""`lumos inspect`: what is in the traces, the layout found, and a grade of the capture."""

from __future__ import annotations

from lumos.cli.options import AsJson, NoCache, Paths
from lumos.cli.output import print_json, print_report, progress
from lumos.errors import UnusableInputError


def inspect(
    paths: Paths,
    json: AsJson = False,
    no_cache: NoCache = False,
) -> None:
    """Say what is in the traces and grade the capture.

    For each rank: events, threads, streams, steps, communication, what the profiler recorded; for
    the job: its ranks and process groups, and what to change at the next capture.
    """
    from lumos.analysis import grade, inspection
    from lumos.build import build
    from lumos.ingest.op_level import find_job_trace
    from lumos.ingest.read import read

    if (file := find_job_trace(paths)) is not None:
        raise UnusableInputError(
            f"{file}: holds whole operations and no profiler's trace to grade; "
            "see lumos replay or lumos stragglers"
        )

    with progress() as doing:
        doing("reading traces")
        traces = read(paths, cache=not no_cache)
        doing(f"building the job of {len(traces)} ranks")
        job, problem = None, "no operator or runtime call in any step"
        try:
            job, _ = build(traces)
        except UnusableInputError as error:
            problem = str(error)
        if job is not None and not any(len(program.rows) for program in job.programs):
            job = None
        doing("inspecting")
        found = inspection.inspect(traces, job, problem)
    lacks = grade.shortfalls(found)
    if json:
        from lumos.report.documents.inspection import inspect_document

        print_json(inspect_document(found, grade.grade(lacks), lacks))
    else:
        from lumos.report.text.inspection import inspect_report

        print_report(inspect_report(found, grade.grade(lacks), lacks))
