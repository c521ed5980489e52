"""The two files of an operation-level trace, read and checked: a table of operations, the job's sizes.

    trace-ST.parquet   one row an operation of a rank: what, in which step, from when, how long
    meta-ST.yaml       beside it: dp_size: 2, pp_size: 4, ...

The format is that of the traces published with Lin et al., Understanding Stragglers in Large Model
Training Using What-if Analysis (OSDI 2025): github.com/ByteDance-Seed/StragglerAnalysis.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars
import yaml
from numpy.typing import NDArray

from lumos.errors import UnusableInputError
from lumos.units import NS_PER_S

MOST_OPERATIONS = 50_000_000
"""More rows than any such trace has; a file that unpacks to more is not read."""
MOST_META_BYTES = 2**16
MOST_PARTS = 2**15
"""Model chunks, and micro-batches of a step."""
LONGEST_S = 1e6
"""Times beyond eleven days are no times of a step."""
NUMBERS = ("dp_rank", "stage", "rank", "step", "seq_id", "mc", "mb_id", "gmc")
TIMES = ("start_ts", "duration")
TYPE = "optype"


@dataclass(frozen=True)
class Sizes:
    """In how many parts a job is split, in each direction; `sequence` counts sequence parallelism."""

    name: str
    data: int
    pipeline: int
    chunks: int  # model chunks a stage
    tensor: int
    sequence: int
    world: int


@dataclass(frozen=True)
class Operations:
    """The rows of a trace, sorted by rank, step and start; times in ns from the step's first start.

    `type` indexes `types`; `chunk` is the model chunk in the stage, `model_chunk` that in the model,
    both and `micro_batch` -1 where a row has none; `row` is the place in the file.
    """

    types: tuple[str, ...]
    type: NDArray[np.int64]
    rank: NDArray[np.int64]
    dp_rank: NDArray[np.int64]
    stage: NDArray[np.int64]
    step: NDArray[np.int64]
    chunk: NDArray[np.int64]
    model_chunk: NDArray[np.int64]
    micro_batch: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.type)

    def take(self, chosen: NDArray[Any]) -> Operations:
        """Only these rows."""
        columns = {name: column[chosen] for name, column in vars(self).items() if name != "types"}
        return Operations(types=self.types, **columns)


def read_operations(path: Path) -> tuple[Operations, Sizes]:
    """The operations in `path` and the sizes in the meta file beside it.

    Raises UnusableInputError naming the file, the value and the rule that it breaks.
    """
    sizes = read_sizes(meta_beside(path))
    frame = _frame(path)
    _check_numbers(path, frame)
    return _sorted(path, frame, sizes), sizes


def meta_beside(path: Path) -> Path:
    """Where the sizes of the job in `trace-NAME.parquet` stand: `meta-NAME.yaml`."""
    return path.with_name(f"meta-{path.stem.removeprefix('trace-')}.yaml")


def read_sizes(path: Path) -> Sizes:
    """The sizes in a meta file: `key: whole number` lines."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_META_BYTES + 1)
    except FileNotFoundError as error:
        raise UnusableInputError(
            f"{path}: is missing; an operation-level trace needs the sizes of its job beside it"
        ) from error
    except OSError as error:
        raise UnusableInputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(text) > MOST_META_BYTES:
        raise UnusableInputError(
            f"{path}: is larger than {MOST_META_BYTES} bytes; it is no meta file"
        )
    try:
        table = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UnusableInputError(f"{path}: cannot be read as YAML ({reason})") from error
    if not isinstance(table, dict):
        raise UnusableInputError(f"{path}: holds no table; expected lines like dp_size: 2")

    def size(key: str, default: int | None = None) -> int:
        value = table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**7:
            shown = "is missing" if value is None else f"is {value!r:.40}"
            raise UnusableInputError(f"{path}: {key} {shown}; it must be a whole number from 1 on")
        return value

    sizes = Sizes(
        name=str(table.get("trial_name", path.stem.removeprefix("meta-"))),
        data=size("dp_size"),
        pipeline=size("pp_size"),
        chunks=size("vpp_size", 1),
        tensor=size("tp_size", 1),
        sequence=size("dsp_size", 1),
        world=size("world_size"),
    )
    product = sizes.data * sizes.pipeline * sizes.tensor * sizes.sequence
    if product != sizes.world:
        raise UnusableInputError(
            f"{path}: world_size is {sizes.world}, but dp_size x pp_size x tp_size x dsp_size is {product}"
        )
    return sizes


def _frame(path: Path) -> polars.DataFrame:
    wanted = [*NUMBERS, TYPE, *TIMES]
    try:
        scan = polars.scan_parquet(path, glob=False)
        known = scan.collect_schema()
        missing = [name for name in wanted if name not in known]
        if missing:
            raise UnusableInputError(
                f"{path}: has no column {', '.join(missing)}; an operation-level trace has {', '.join(wanted)}"
            )
        count = int(scan.select(polars.len()).collect().item())
        if not 0 < count <= MOST_OPERATIONS:
            raise UnusableInputError(
                f"{path}: holds {count} operations; between 1 and {MOST_OPERATIONS} can be read"
            )
        for name in wanted:
            _check_type(path, name, known[name])
        return scan.select(
            polars.col(*NUMBERS).cast(polars.Int64),
            polars.col(*TIMES).cast(polars.Float64),
            polars.col(TYPE).cast(polars.String),
        ).collect()
    except OSError as error:
        raise UnusableInputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnusableInputError(f"{path}: cannot be read as Parquet ({reason})") from error


def _check_type(path: Path, name: str, found: polars.DataType) -> None:
    if name in NUMBERS:
        right, wanted = found.is_integer(), "whole numbers"
    elif name in TIMES:
        right, wanted = found.is_numeric(), "seconds"
    else:
        right, wanted = found in (polars.String, polars.Categorical, polars.Enum), "text"
    if not right:
        raise UnusableInputError(f"{path}: column {name} holds {found}; expected {wanted}")


def _check_numbers(path: Path, frame: polars.DataFrame) -> None:
    for name in frame.columns:
        if empty := frame[name].null_count():
            raise UnusableInputError(
                f"{path}: {empty} rows have no {name}; every operation needs one"
            )
    start, duration = (frame[name].to_numpy() for name in TIMES)
    for name, values, low in (("start_ts", start, -LONGEST_S), ("duration", duration, 0.0)):
        wrong = np.flatnonzero(~((values >= low) & (values <= LONGEST_S)))
        if len(wrong):
            raise UnusableInputError(
                f"{path}: row {wrong[0]} has {name} {values[wrong[0]]}; "
                f"it must be seconds from {low:g} to {LONGEST_S:g}"
            )


def _sorted(path: Path, frame: polars.DataFrame, sizes: Sizes) -> Operations:
    numbers = {name: frame[name].to_numpy() for name in NUMBERS}
    for name, limit in (("dp_rank", sizes.data), ("stage", sizes.pipeline), ("rank", sizes.world)):
        wrong = np.flatnonzero((numbers[name] < 0) | (numbers[name] >= limit))
        if len(wrong):
            raise UnusableInputError(
                f"{path}: row {wrong[0]} has {name} {numbers[name][wrong[0]]}; "
                f"by its meta file the job has {limit}, numbered from 0"
            )
    for name in ("mc", "gmc", "mb_id"):
        wrong = np.flatnonzero((numbers[name] < -1) | (numbers[name] >= MOST_PARTS))
        if len(wrong):
            raise UnusableInputError(
                f"{path}: row {wrong[0]} has {name} {numbers[name][wrong[0]]}; "
                f"it must be a number below {MOST_PARTS}, or -1 for none"
            )
    places = np.stack([numbers["rank"], numbers["dp_rank"], numbers["stage"]], axis=1)
    _check_places(path, np.unique(places, axis=0), sizes)
    types = tuple(sorted(set(frame[TYPE].to_list())))
    step = numbers["step"]
    start = np.rint(frame["start_ts"].to_numpy() * NS_PER_S).astype(np.int64)
    end = np.rint((frame["start_ts"] + frame["duration"]).to_numpy() * NS_PER_S).astype(np.int64)
    steps, number = np.unique(step, return_inverse=True)
    first = np.full(len(steps), np.iinfo(np.int64).max)
    np.minimum.at(first, number, start)
    order = np.lexsort((np.arange(len(step)), end, start, step, numbers["rank"]))
    found = Operations(
        types=types,
        type=frame[TYPE].cast(polars.Enum(types)).to_physical().to_numpy().astype(np.int64),
        rank=numbers["rank"],
        dp_rank=numbers["dp_rank"],
        stage=numbers["stage"],
        step=step,
        chunk=numbers["mc"],
        model_chunk=numbers["gmc"],
        micro_batch=numbers["mb_id"],
        start_ns=start - first[number],
        end_ns=end - first[number],
        row=np.arange(len(step)),
    )
    return found.take(order)


def _check_places(path: Path, places: NDArray[np.int64], sizes: Sizes) -> None:
    """Each rank has one place in the layout, and each place one rank."""
    for what, columns, others in (
        ("rank {}", [0], [1, 2]),
        ("dp_rank {}, stage {}", [1, 2], [0]),
    ):
        found, count = np.unique(places[:, columns], axis=0, return_counts=True)
        if (count > 1).any():
            twice = found[count > 1][0]
            other = places[(places[:, columns] == twice).all(axis=1)][:2, others].tolist()
            shown = " and ".join(", ".join(map(str, one)) for one in other)
            raise UnusableInputError(
                f"{path}: {what.format(*twice)} is given twice ({shown}); "
                "one rank of each data-parallel rank and stage is expected"
            )
    if len(places) < sizes.data * sizes.pipeline:
        known = {(data, stage) for _, data, stage in places.tolist()}
        every = itertools.product(range(sizes.data), range(sizes.pipeline))
        data, stage = next(place for place in every if place not in known)
        raise UnusableInputError(
            f"{path}: holds {len(places)} of {sizes.data * sizes.pipeline} ranks, none of "
            f"dp_rank {data}, stage {stage}; what others wait for cannot be told without all"
        )
