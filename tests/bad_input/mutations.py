"""What can be wrong with a trace: each function makes one thing wrong, drawn from a seed.

A mutation gets the documents of a job, one a rank, changes them in place or returns others.
Text instead of a document is written as it is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.bad_input.sources import Event, Trace

Documents = list[Any]
Mutation = Callable[[Documents, random.Random], "Documents | None"]
MUTATIONS: dict[str, Mutation] = {}

ODD_NUMBERS: tuple[Any, ...] = (
    0, -1, -0.0, 1e-9, 0.0004, -1e6, 1e15, 9.2e15, -9.2e15, 1e18, 1e30, 1e300, -1e300, 2**31, 2**32 - 1,
    2**63 - 1, 2**63, -(2**63), 2**64, 10**40, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, "", " ", "12", "-3", "1e3", "NaN", "cuda:0", "0x10", "x" * 5000, [], [1], {}, {"a": 1},
    "\x1b[2J\x00\n", "\u202eabc", "\ud800", [[[]]], "ProfilerStep#1", "[1, 2",
)  # fmt: skip
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy", "Memset")
CALLS = ("cuda_runtime", "cuda_driver", "Runtime")


def mutation(function: Mutation) -> Mutation:
    """Enter a function into MUTATIONS."""
    MUTATIONS[function.__name__] = function
    return function


def timed(documents: Documents, *categories: str) -> list[Event]:
    """The spans of all documents, of some categories where any are named."""
    return [
        event
        for document in documents
        for event in document["traceEvents"]
        if event.get("ph") == "X" and (not categories or event.get("cat") in categories)
    ]


def some(events: list[Event], draw: random.Random, share: float | None = None) -> list[Event]:
    """A drawn share of the events, at least one where there is any."""
    share = draw.choice((0.001, 0.01, 0.1, 0.5, 1.0)) if share is None else share
    chosen = [event for event in events if draw.random() < share]
    return chosen or events[:1]


def arguments(event: Event) -> dict[str, Any]:
    """The event's arguments, made where it has none."""
    found = event.setdefault("args", {})
    return found if isinstance(found, dict) else {}


def keep(documents: Documents, condition: Callable[[Event], bool]) -> None:
    """Leave only the events that meet a condition."""
    for document in documents:
        document["traceEvents"] = [e for e in document["traceEvents"] if condition(e)]


def steps_of(documents: Documents) -> list[Event]:
    return [
        e for e in timed(documents, "user_annotation") if str(e["name"]).startswith("ProfilerStep")
    ]


# What is missing


@mutation
def events_missing(documents: Documents, draw: random.Random) -> None:
    share = draw.choice((0.001, 0.01, 0.1, 0.5, 0.9, 0.99))
    keep(documents, lambda event: draw.random() >= share)


@mutation
def category_missing(documents: Documents, draw: random.Random) -> None:
    found = sorted({str(event.get("cat")) for event in timed(documents)})
    gone = draw.sample(found, draw.randint(1, max(len(found) // 2, 1)))
    keep(documents, lambda event: str(event.get("cat")) not in gone)


@mutation
def operators_missing(documents: Documents, draw: random.Random) -> None:
    keep(documents, lambda event: event.get("cat") not in ("cpu_op", "Operator"))


@mutation
def calls_missing(documents: Documents, draw: random.Random) -> None:
    keep(documents, lambda event: event.get("cat") not in CALLS)


@mutation
def kernels_missing(documents: Documents, draw: random.Random) -> None:
    keep(documents, lambda event: event.get("cat") not in DEVICE)


@mutation
def annotations_missing(documents: Documents, draw: random.Random) -> None:
    keep(documents, lambda event: event.get("cat") != "user_annotation")


@mutation
def only_one_category(documents: Documents, draw: random.Random) -> None:
    category = draw.choice(sorted({str(event.get("cat")) for event in timed(documents)}))
    keep(documents, lambda event: str(event.get("cat")) == category)


@mutation
def only_the_device(documents: Documents, draw: random.Random) -> None:
    keep(documents, lambda event: event.get("cat") in DEVICE)


@mutation
def device_and_steps_only(documents: Documents, draw: random.Random) -> None:
    keep(documents, lambda event: event.get("cat") in (*DEVICE, "user_annotation"))


@mutation
def few_events(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        events = timed([document])
        document["traceEvents"] = draw.sample(
            events, min(len(events), draw.choice((0, 1, 1, 2, 3, 5)))
        )


@mutation
def one_event(documents: Documents, draw: random.Random) -> Documents:
    documents[0]["traceEvents"] = [draw.choice(timed(documents))]
    return documents[:1]


@mutation
def keys_missing(documents: Documents, draw: random.Random) -> None:
    key = draw.choice(("ts", "dur", "cat", "name", "pid", "tid", "args", "ph"))
    for event in some(timed(documents), draw):
        event.pop(key, None)


@mutation
def argument_missing(documents: Documents, draw: random.Random) -> None:
    key = draw.choice(("correlation", "stream", "device", "External id", "wait_on_stream"))
    for event in some(timed(documents), draw):
        arguments(event).pop(key, None)


@mutation
def one_side_of_the_window_missing(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        times = sorted(event["ts"] for event in timed([document]))
        border, early = draw.choice(times), draw.random() < 0.5
        keep([document], lambda event: event.get("ph") != "X" or (event["ts"] < border) == early)


@mutation
def header_missing(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        for key in [key for key in document if key != "traceEvents" and draw.random() < 0.7]:
            del document[key]


# What is there twice, or too often


@mutation
def events_twice(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        document["traceEvents"] += deepcopy(some(timed([document]), draw))


@mutation
def events_twice_later(documents: Documents, draw: random.Random) -> None:
    shift = draw.choice((1, 1000, 1e6, 1e9))
    for document in documents:
        copies = deepcopy(some(timed([document]), draw))
        for event in copies:
            event["ts"] += shift
        document["traceEvents"] += copies


@mutation
def ranks_twice(documents: Documents, draw: random.Random) -> Documents:
    return documents + deepcopy(documents[: draw.randint(1, len(documents))])


@mutation
def ranks_counted_but_equal(documents: Documents, draw: random.Random) -> Documents:
    found = [deepcopy(documents[0]) for _ in range(draw.randint(2, 4))]
    for rank, document in enumerate(found):
        header = document.get("distributedInfo")
        document["distributedInfo"] = {**(header if isinstance(header, dict) else {}), "rank": rank}
    return found


@mutation
def file_inside_file(documents: Documents, draw: random.Random) -> Documents:
    text = json.dumps(documents[0])
    return [text + draw.choice(("", "\n", ",", "]")) + text, *documents[1:]]


# Times


@mutation
def odd_times(documents: Documents, draw: random.Random) -> None:
    key = draw.choice(("ts", "dur"))
    value = draw.choice(ODD_NUMBERS + ODD_VALUES)
    for event in some(timed(documents), draw):
        event[key] = value


@mutation
def odd_times_each(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        event[draw.choice(("ts", "dur"))] = draw.choice(ODD_NUMBERS)


@mutation
def times_as_text(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        event["ts"], event["dur"] = str(event["ts"]), str(event["dur"])


@mutation
def times_swapped(documents: Documents, draw: random.Random) -> None:
    chosen = some(timed(documents), draw)
    values = [event["ts"] for event in chosen]
    draw.shuffle(values)
    for event, value in zip(chosen, values, strict=True):
        event["ts"] = value


@mutation
def start_and_duration_swapped(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        event["ts"], event["dur"] = event["dur"], event["ts"]


@mutation
def durations_negative(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        event["dur"] = -event["dur"]


@mutation
def durations_zero(documents: Documents, draw: random.Random) -> None:
    groups = ((), DEVICE, CALLS, ("cpu_op",), ("user_annotation",))
    for event in some(timed(documents, *draw.choice(groups)), draw):
        event["dur"] = 0


@mutation
def durations_huge(documents: Documents, draw: random.Random) -> None:
    factor = draw.choice((10, 1e3, 1e6, 1e9, 1e12))
    groups = ((), DEVICE, CALLS, ("cpu_op",), ("user_annotation",))
    for event in some(timed(documents, *draw.choice(groups)), draw):
        event["dur"] = event["dur"] * factor


@mutation
def time_stands_still(documents: Documents, draw: random.Random) -> None:
    value = draw.choice((0, 5, timed(documents)[0]["ts"]))
    for event in timed(documents, *draw.choice(((), DEVICE, CALLS, ("cpu_op",)))):
        event["ts"] = value


@mutation
def times_jump_back(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        events = timed([document])
        shift = draw.choice((10, 1e4, 1e6, 1e9, 1e15))
        for event in events[draw.randrange(len(events)) :]:
            event["ts"] -= shift


@mutation
def device_before_host(documents: Documents, draw: random.Random) -> None:
    shift = draw.choice((5, 100, 1e5, 1e9))
    for event in some(timed(documents, *DEVICE), draw):
        event["ts"] -= shift


@mutation
def device_long_after_host(documents: Documents, draw: random.Random) -> None:
    shift = draw.choice((1e5, 1e9, 1e13))
    for event in some(timed(documents, *DEVICE), draw):
        event["ts"] += shift


@mutation
def times_scaled(documents: Documents, draw: random.Random) -> None:
    factor = draw.choice((1e-6, 1e-3, 1e3, 1e6, -1))
    for event in timed(documents):
        event["ts"], event["dur"] = event["ts"] * factor, event["dur"] * abs(factor)


@mutation
def base_time_absurd(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        document["baseTimeNanoseconds"] = draw.choice(
            (*ODD_NUMBERS, *ODD_VALUES, 2**62 - 1, 2**61, str(2**62), 9 * 10**18)
        )


@mutation
def clocks_apart(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        shift, drift = draw.choice((0, 1e6, -1e9, 1e14)), draw.choice((1, 1.01, 2, 0))
        for event in timed([document]):
            event["ts"] = event["ts"] * drift + shift


@mutation
def order_shuffled(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        draw.shuffle(document["traceEvents"])


# Links between events


@mutation
def correlations_equal(documents: Documents, draw: random.Random) -> None:
    value = draw.choice((0, 1, 2**31, 2**63 - 1, -1))
    for event in some(timed(documents, *draw.choice(((), DEVICE, CALLS))), draw):
        arguments(event)["correlation"] = value


@mutation
def correlations_shuffled(documents: Documents, draw: random.Random) -> None:
    chosen = some([e for e in timed(documents) if "correlation" in arguments(e)], draw)
    values = [arguments(event)["correlation"] for event in chosen]
    draw.shuffle(values)
    for event, value in zip(chosen, values, strict=True):
        arguments(event)["correlation"] = value


@mutation
def correlations_odd(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        arguments(event)["correlation"] = draw.choice(ODD_NUMBERS + ODD_VALUES)


@mutation
def streams_equal(documents: Documents, draw: random.Random) -> None:
    value = draw.choice(
        (0, 7, -1, -2, 2**31, 2**32 - 1, 2**40, 2**40 - 1, 2**62, 2**63 - 1, 2**63, "7", None)
    )
    for event in some(timed(documents, *DEVICE, "cuda_sync"), draw, 1.0):
        arguments(event)["stream"] = value


@mutation
def streams_odd(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents, *DEVICE, "cuda_sync"), draw):
        arguments(event)["stream"] = draw.choice((*ODD_NUMBERS, *ODD_VALUES, 2**40, 2**41 + 7))


@mutation
def streams_many(documents: Documents, draw: random.Random) -> None:
    for number, event in enumerate(timed(documents, *DEVICE)):
        arguments(event)["stream"] = number * draw.choice((1, 1, 2**32))


@mutation
def devices_odd(documents: Documents, draw: random.Random) -> None:
    values = (
        0,
        1,
        7,
        -1,
        -2,
        -3,
        2**20,
        2**23,
        2**30,
        2**31 - 1,
        -(2**31),
        2**31,
        2**40,
        "cuda:0",
        None,
        1.5,
    )
    value = draw.choice(values)
    for event in some(timed(documents, *DEVICE, "cuda_sync"), draw):
        arguments(event)["device"] = value if draw.random() < 0.7 else draw.choice(values)


@mutation
def threads_merged(documents: Documents, draw: random.Random) -> None:
    for event in timed(documents):
        event["tid"] = 1
        if draw.random() < 0.5:
            event["pid"] = 1


@mutation
def threads_renamed(documents: Documents, draw: random.Random) -> None:
    values = (*ODD_NUMBERS[:-3], *ODD_VALUES)
    for event in some(timed(documents), draw):
        event[draw.choice(("tid", "pid"))] = draw.choice(values)


@mutation
def threads_many(documents: Documents, draw: random.Random) -> None:
    for number, event in enumerate(timed(documents)):
        event[draw.choice(("tid", "tid", "pid"))] = number


@mutation
def processes_many(documents: Documents, draw: random.Random) -> None:
    count = draw.choice((2, 3, 70))
    for event in timed(documents):
        event["pid"] = draw.randrange(count)
        if event.get("cat") in DEVICE:
            arguments(event)["device"] = draw.choice((0, event["pid"], 2**31 - 1 - event["pid"]))


@mutation
def events_awaited_oddly(documents: Documents, draw: random.Random) -> None:
    keys = ("wait_on_stream", "wait_on_cuda_event_record_corr_id", "wait_on_cuda_event_id")
    known = [arguments(e).get("correlation") for e in timed(documents, *CALLS)]
    for event in timed(documents, "cuda_sync", *CALLS):
        if event.get("cat") == "cuda_sync" or draw.random() < 0.1:
            values = (0, -1, 7, 2**63, "x", None, draw.choice(known or [1]))
            arguments(event)[draw.choice(keys)] = draw.choice(values)


@mutation
def synchronizations_everywhere(documents: Documents, draw: random.Random) -> None:
    names = ("cudaStreamWaitEvent", "cudaEventRecord", "cudaDeviceSynchronize", "cudaStreamSynchronize",
             "cudaEventSynchronize", "cudaEventQuery", "cudaLaunchKernel", "cudaMemcpyAsync", "cudaGraphLaunch",
             "hipStreamWaitEvent", "cudaMalloc", "cudaFree")  # fmt: skip
    one = draw.choice(names)
    for event in some(timed(documents, *CALLS), draw):
        event["name"] = one if draw.random() < 0.5 else draw.choice(names)


# Steps


@mutation
def steps_overlap(documents: Documents, draw: random.Random) -> None:
    factor = draw.choice((1.5, 3, 1000))
    for event in steps_of(documents):
        event["dur"] *= factor


@mutation
def steps_nested(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        outer = steps_of([document]) or timed([document])[:1]
        for number in range(draw.randint(1, 40)):
            step = deepcopy(outer[0])
            step.update(cat="user_annotation", name=f"ProfilerStep#{1000 + number}")
            step.update(ts=step["ts"] + number, dur=max(step["dur"] - 2 * number, 0))
            document["traceEvents"].append(step)


@mutation
def steps_empty(documents: Documents, draw: random.Random) -> None:
    for event in steps_of(documents):
        if draw.random() < 0.7:
            event["dur"] = 0


@mutation
def steps_thousands(documents: Documents, draw: random.Random) -> None:
    count = draw.choice((300, 3000))
    for document in documents:
        events = timed([document])
        begin = min(event["ts"] for event in events)
        span = max(event["ts"] for event in events) - begin
        where = {"pid": events[0].get("pid"), "tid": events[0].get("tid")}
        document["traceEvents"] += [
            {"ph": "X", "cat": "user_annotation", "name": f"ProfilerStep#{n}", **where,
             "ts": begin + span * n / count, "dur": draw.choice((0, span / count))}
            for n in range(count)
        ]  # fmt: skip


@mutation
def steps_outside(documents: Documents, draw: random.Random) -> None:
    shift = draw.choice((1e9, -1e9, 1e14))
    for event in steps_of(documents) or timed(documents, "user_annotation"):
        event["ts"] += shift
    if not steps_of(documents):
        for document in documents:
            last = deepcopy(timed([document])[-1])
            last.update(cat="user_annotation", name="ProfilerStep#0", ts=last["ts"] + abs(shift))
            document["traceEvents"].append(last)


@mutation
def steps_of_one_name(documents: Documents, draw: random.Random) -> None:
    name = draw.choice(("ProfilerStep#1", "ProfilerStep*", "ProfilerStep", "ProfilerStep#"))
    for event in steps_of(documents):
        event["name"] = name


@mutation
def steps_named_oddly(documents: Documents, draw: random.Random) -> None:
    for event in steps_of(documents):
        event["name"] = f"ProfilerStep#{draw.choice((10**30, -1, '', '007', '1.5', '٣'))}"


@mutation
def steps_on_other_threads(documents: Documents, draw: random.Random) -> None:
    for event in steps_of(documents):
        event["tid"] = draw.choice((-1, 99, "main", event.get("tid")))


@mutation
def steps_on_one_rank_only(documents: Documents, draw: random.Random) -> None:
    if len(documents) > 1:
        keep(documents[1:], lambda event: not str(event.get("name")).startswith("ProfilerStep"))
    else:
        keep(documents, lambda event: draw.random() < 0.5 or event not in steps_of(documents))


@mutation
def marks_of_a_loader(documents: Documents, draw: random.Random) -> None:
    mark = draw.choice(
        ("enumerate(DataLoader)#x", "Optimizer.step#SGD.step", "Optimizer.zero_grad#SGD")
    )
    keep(
        documents,
        lambda event: not str(event.get("name")).startswith(("ProfilerStep", "Optimizer")),
    )
    for document in documents:
        for event in some(timed([document], "cpu_op", "Operator"), draw, 0.02):
            event["name"] = mark


# Names and arguments


@mutation
def names_odd(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        event["name"] = draw.choice(
            (*ODD_VALUES, 5, 1.5, "gloo:all_reduce", "ncclKernel_AllReduce")
        )


@mutation
def names_equal(documents: Documents, draw: random.Random) -> None:
    name = draw.choice(("", "x", "ProfilerStep#1", "gloo:send", "ncclDevKernel_SendRecv", "nccl:all_reduce",
                        "c10d::allreduce_", "record_param_comms", "cudaLaunchKernel"))  # fmt: skip
    groups = ((), DEVICE, CALLS, ("cpu_op",), ("user_annotation",))
    for event in timed(documents, *draw.choice(groups)):
        event["name"] = name


@mutation
def categories_shuffled(documents: Documents, draw: random.Random) -> None:
    values = sorted({str(event.get("cat")) for event in timed(documents)})
    for event in some(timed(documents), draw):
        event["cat"] = draw.choice((*values, None, 5, "", "unheard of", []))


@mutation
def arguments_odd(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        found = arguments(event)
        for key in list(found):
            if draw.random() < 0.5:
                found[key] = draw.choice(ODD_NUMBERS + ODD_VALUES)


@mutation
def arguments_of_another_type(documents: Documents, draw: random.Random) -> None:
    for event in some(timed(documents), draw):
        event["args"] = draw.choice((None, [], "text", 5, [[1]], True))


@mutation
def arguments_of_collectives_odd(documents: Documents, draw: random.Random) -> None:
    keys = ("Collective name", "In msg nelems", "Out msg nelems", "Group size", "dtype", "Process Group Name",
            "Process Group Ranks", "Seq", "Src Rank", "Dst Rank", "Input Dims", "Input type",
            "warps per SM", "est. achieved occupancy %", "registers per thread", "shared memory", "block")  # fmt: skip
    values = (*ODD_NUMBERS, *ODD_VALUES, "[0, 1]", "[0, 0, 0]", [0, 1], "[99999999999999999999]", "int",
              "float", "[[" + "9" * 400 + ", " + "9" * 5000 + "]]", [[2**62, 2**62]], [0, 0, 0], [-1, 5, 2])  # fmt: skip
    for event in some(timed(documents), draw):
        for key in draw.sample(keys, 4):
            arguments(event)[key] = draw.choice(values)


@mutation
def arguments_nested(documents: Documents, draw: random.Random) -> Documents:
    depth = draw.choice((100, 1000, 5000, 100_000))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
    text = json.dumps(documents[0])
    deep = opening * depth + "1" + closing * depth
    place = draw.choice(('"args": {', '"traceEvents": ['))
    inserted = f'"deep": {deep}, ' if place.startswith('"args') else f"{deep}, "
    return [text.replace(place, place + inserted, 1), *documents[1:]]


@mutation
def events_that_are_none(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        events = document["traceEvents"]
        for _ in range(draw.randint(1, 5)):
            events.insert(draw.randrange(len(events) + 1), draw.choice(ODD_VALUES + ODD_NUMBERS))


# Jobs and ranks


@mutation
def jobs_mixed(documents: Documents, draw: random.Random) -> None:
    """Events of the same trace again, as of another process and time, in one file."""
    shift = draw.choice((0, 17, 1e7))
    for document in documents:
        others = deepcopy(timed([document]))
        for event in others:
            event["ts"] += shift
            event["pid"] = f"other {event.get('pid')}"
            if event.get("cat") in DEVICE:
                arguments(event)["device"] = draw.choice((0, 1, 1, 1))
        document["traceEvents"] += others


@mutation
def world_sizes_disagree(documents: Documents, draw: random.Random) -> Documents:
    found = documents if len(documents) > 1 else [documents[0], deepcopy(documents[0])]
    for rank, document in enumerate(found):
        document["distributedInfo"] = {
            "rank": rank,
            "world_size": draw.choice((rank + 1, 4, 10**12, 0, -1, "x")),
        }
    return found


@mutation
def ranks_odd(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        header = document.setdefault("distributedInfo", {})
        if isinstance(header, dict):
            header["rank"] = draw.choice((*ODD_NUMBERS, *ODD_VALUES, 2**31, 2**40, 2**62 - 1, 5))


@mutation
def process_groups_malformed(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        header = document.setdefault("distributedInfo", {})
        if not isinstance(header, dict):
            continue
        entry: Any = draw.choice((
            None, 5, "x", {}, {"ranks": []}, {"pg_name": "0", "ranks": [0, 0, 0]}, {"pg_name": 5, "ranks": ["0", None]},
            {"pg_name": "0", "ranks": [0, 1, 2**61]}, {"pg_name": "0", "ranks": {"a": 1}}, {"pg_name": ["0"], "ranks": [1]},
            {"pg_name": "0", "pg_desc": "\x1b[2J", "ranks": list(range(3000))},
        ))  # fmt: skip
        header["pg_config"] = draw.choice(([entry] * draw.randint(1, 3), {"0": entry}, entry))


@mutation
def header_odd(documents: Documents, draw: random.Random) -> None:
    for document in documents:
        for key in ("distributedInfo", "deviceProperties", "schemaVersion", "baseTimeNanoseconds"):
            if draw.random() < 0.6:
                document[key] = draw.choice(
                    (*ODD_NUMBERS, *ODD_VALUES, [{"name": 5}], [{"name": "\x1b[31m"}], [[]])
                )


@mutation
def collectives_missing_on_one_rank(documents: Documents, draw: random.Random) -> None:
    words = ("nccl", "gloo:", "c10d::", "record_param_comms")
    share = draw.choice((0.1, 0.5, 1))
    keep(
        documents[:1],
        lambda e: not str(e.get("name")).startswith(words) or draw.random() >= share,
    )


@mutation
def collectives_shuffled(documents: Documents, draw: random.Random) -> None:
    """Other order on each rank: where lowered naively, the ranks wait for each other in a circle."""
    words = ("nccl", "gloo:", "c10d::", "record_param_comms")
    for document in documents:
        chosen = [e for e in timed([document]) if str(e.get("name")).startswith(words)]
        values = [(e["name"], e.get("args")) for e in chosen]
        draw.shuffle(values)
        for event, (name, found) in zip(chosen, values, strict=True):
            event["name"], event["args"] = name, deepcopy(found)


@mutation
def ranks_of_different_jobs(documents: Documents, draw: random.Random) -> Documents:
    other = deepcopy(documents[0])
    keep([other], lambda event: draw.random() < 0.5)
    for rank, document in enumerate(found := [documents[0], other]):
        header = document.get("distributedInfo")
        document["distributedInfo"] = {**(header if isinstance(header, dict) else {}), "rank": rank}
    return found


# Text


@mutation
def text_cut_off(documents: Documents, draw: random.Random) -> Documents:
    text = json.dumps(documents[0])
    return [text[: draw.randrange(len(text))], *documents[1:]]


@mutation
def text_scratched(documents: Documents, draw: random.Random) -> Documents:
    text = bytearray(json.dumps(documents[0]).encode())
    for _ in range(draw.choice((1, 3, 50))):
        text[draw.randrange(len(text))] = draw.choice((*b'{}[]",:0-\\', draw.randrange(256)))
    return [bytes(text), *documents[1:]]


@mutation
def several_things(documents: Documents, draw: random.Random) -> Documents:
    """Two or three of the others, one behind the other."""
    names = [name for name in MUTATIONS if name != "several_things"]
    for name in draw.sample(names, draw.randint(2, 3)):
        try:
            documents = MUTATIONS[name](documents, draw) or documents
        except (TypeError, KeyError, IndexError, ValueError, AttributeError, OverflowError):
            continue  # what one made odd the next cannot change any more
    return documents


def apply(name: str, documents: list[Trace], seed: int) -> Documents:
    """The documents after one mutation."""
    return MUTATIONS[name](documents, random.Random(f"{name} {seed}")) or documents
