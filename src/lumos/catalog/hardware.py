"""Hardware: what GPUs reach at most, from their vendors' data sheets, each figure with its source.

All figures are peaks without sparsity. A GPU that is not listed is unknown: no figure is derived
from a similar one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


class Precision(Enum):
    """Number formats that GPUs compute with."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    TF32 = "tf32"  # float32 with the mantissa cut for the matrix units
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8"
    INT8 = "int8"


@dataclass(frozen=True)
class Source:
    """The document that a figure stands in."""

    document: str
    url: str
    date: str


Peaks = Mapping[Precision, float]


@dataclass(frozen=True)
class Hardware:
    """One model of GPU as one trace device sees it.

    `names` are those that traces write. `matrix_flops_per_s` are peaks of the tensor or matrix
    cores, dense; `vector_flops_per_s` those of everything else; formats whose peak the vendor does
    not give are absent. `link_bytes_per_s` is what one GPU sends to others over all its links at
    once, one direction; None where they are joined by PCIe alone.
    """

    name: str
    names: tuple[str, ...]
    matrix_flops_per_s: Peaks
    vector_flops_per_s: Peaks
    memory_bytes_per_s: float
    memory_bytes: int
    link: str
    link_bytes_per_s: float | None
    sources: Mapping[str, Source]  # of the fields above, by name

    def matrix_peak(self, precision: Precision) -> float | None:
        """Peak of matrix products of this format [FLOP/s]; None where it is not known.

        float32 counts as TF32 where the GPU has it: a trace does not tell whether that was allowed,
        and a bound must not be too low. Without matrix units for a format the vector units do it.
        """
        peak = self.matrix_flops_per_s.get(self.matrix_format(precision))
        return peak if peak is not None else self.vector_flops_per_s.get(precision)

    def matrix_format(self, precision: Precision) -> Precision:
        """The format in which matrix products of this one are held to be computed."""
        truncates = precision is Precision.FLOAT32 and Precision.TF32 in self.matrix_flops_per_s
        return Precision.TF32 if truncates else precision

    def vector_peak(self, precision: Precision) -> float | None:
        """Peak of everything but matrix products [FLOP/s]; None where it is not known."""
        return self.vector_flops_per_s.get(precision)


def find_hardware(gpu: str) -> Hardware | None:
    """The GPU of this name as traces write it, whatever its case; None for one not listed."""
    return _by_name().get(" ".join(gpu.split()).lower())


@lru_cache(maxsize=1)
def _by_name() -> Mapping[str, Hardware]:
    return {name.lower(): one for one in CATALOG for name in one.names}


_TERA, _GIGA, _GIB = 1e12, 1e9, 2**30


def _peaks(**tera_flops: float) -> Peaks:
    return {Precision(name): value * _TERA for name, value in tera_flops.items()}


_V100 = Source(
    "NVIDIA V100 Tensor Core GPU data sheet",
    "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf",
    "2020-01",
)
_DGX_STATION = Source(
    "NVIDIA DGX Station data sheet: 4 Tesla V100, 500 TFLOPS mixed precision",
    "https://images.nvidia.com/aem-dam/Solutions/Data-Center/dgx-station/nvidia-dgx-station-datasheet.pdf",
    "2018-05",
)
_A100 = Source(
    "NVIDIA A100 Tensor Core GPU data sheet",
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    "2021-06",
)
_AMPERE = Source(
    "NVIDIA A100 Tensor Core GPU Architecture, white paper, tables 1 and 4",
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/data-center/nvidia-ampere-architecture-whitepaper.pdf",
    "2020-05",
)
_H100 = Source(
    "NVIDIA H100 Tensor Core GPU data sheet (figures with sparsity, halved)",
    "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet",
    "2023-04",
)
_HOPPER = Source(
    "NVIDIA H100 Tensor Core GPU Architecture, white paper, table 2",
    "https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper",
    "2023-01",
)
_H200 = Source(
    "NVIDIA H200 Tensor Core GPU data sheet (figures with sparsity, halved)",
    "https://nvdam.widen.net/s/nb5zzzsjdf/hpc-datasheet-sc23-h200-datasheet-3002446",
    "2023-11",
)
_HGX_B200 = Source(
    "NVIDIA HGX platform, specifications of HGX B200 (8 GPUs, figures with sparsity: one sixteenth)",
    "https://www.nvidia.com/en-us/data-center/hgx/",
    "2025-03",
)
_DGX_B200 = Source(
    "NVIDIA DGX B200 data sheet (8 GPUs: one eighth)",
    "https://resources.nvidia.com/en-us-dgx-systems/dgx-b200-datasheet",
    "2024-11",
)
_MI250X = Source(
    "AMD Instinct MI250X accelerator data sheet (two dies, each a device of its own: one half)",
    "https://www.amd.com/system/files/documents/amd-instinct-mi250x-datasheet.pdf",
    "2022-03",
)
_MI300X = Source(
    "AMD Instinct MI300X accelerator data sheet",
    "https://www.amd.com/content/dam/amd/en/documents/instinct-tech-docs/data-sheets/amd-instinct-mi300x-data-sheet.pdf",
    "2023-12",
)
_TURING = Source(
    "NVIDIA Turing GPU Architecture, white paper WP-09183-001, appendix A (Founders Edition)",
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/design-visualization/technologies/turing-architecture/NVIDIA-Turing-Architecture-Whitepaper.pdf",
    "2018-09",
)


def _all_from(source: Source, **others: Source) -> Mapping[str, Source]:
    fields = ("matrix_flops_per_s", "vector_flops_per_s", "memory_bytes_per_s", "memory_bytes")
    return {**dict.fromkeys((*fields, "link_bytes_per_s"), source), **others}


_V100_SXM2_MATRIX = _peaks(float16=125)
_V100_SXM2_VECTOR = _peaks(float64=7.8, float32=15.7, float16=31.4)
_A100_MATRIX = _peaks(float64=19.5, tf32=156, float16=312, bfloat16=312, int8=624)
_A100_VECTOR = _peaks(float64=9.7, float32=19.5, float16=78, bfloat16=39)
_H100_SXM_MATRIX = _peaks(
    float64=67, tf32=494.7, float16=989.4, bfloat16=989.4, float8=1978.9, int8=1978.9
)
_H100_SXM_VECTOR = _peaks(float64=34, float32=67, float16=133.8, bfloat16=133.8)

CATALOG: tuple[Hardware, ...] = (
    Hardware(
        "V100 SXM2 16 GB", ("Tesla V100-SXM2-16GB",), _V100_SXM2_MATRIX, _V100_SXM2_VECTOR,
        900 * _GIGA, 16 * _GIB, "NVLink", 150 * _GIGA, _all_from(_V100, vector_flops_per_s=_AMPERE),
    ),
    Hardware(
        "V100 SXM2 32 GB", ("Tesla V100-SXM2-32GB",), _V100_SXM2_MATRIX, _V100_SXM2_VECTOR,
        900 * _GIGA, 32 * _GIB, "NVLink", 150 * _GIGA, _all_from(_V100, vector_flops_per_s=_AMPERE),
    ),
    Hardware(
        "V100 DGX Station 32 GB", ("Tesla V100-DGXS-32GB",), _V100_SXM2_MATRIX,
        _V100_SXM2_VECTOR, 900 * _GIGA, 32 * _GIB, "NVLink", None,
        _all_from(_V100, matrix_flops_per_s=_DGX_STATION, vector_flops_per_s=_AMPERE),
    ),
    Hardware(
        "V100 PCIe 16 GB", ("Tesla V100-PCIE-16GB",), _peaks(float16=112),
        _peaks(float64=7, float32=14), 900 * _GIGA, 16 * _GIB, "PCIe 3.0", None, _all_from(_V100),
    ),
    Hardware(
        "V100 PCIe 32 GB", ("Tesla V100-PCIE-32GB",), _peaks(float16=112),
        _peaks(float64=7, float32=14), 900 * _GIGA, 32 * _GIB, "PCIe 3.0", None, _all_from(_V100),
    ),
    Hardware(
        "A100 SXM 40 GB", ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB", "NVIDIA A100-PG509-200"),
        _A100_MATRIX, _A100_VECTOR, 1555 * _GIGA, 40 * _GIB, "NVLink", 300 * _GIGA,
        _all_from(_AMPERE),
    ),
    Hardware(
        "A100 SXM 80 GB", ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"), _A100_MATRIX, _A100_VECTOR,
        2039 * _GIGA, 80 * _GIB, "NVLink", 300 * _GIGA, _all_from(_A100, vector_flops_per_s=_AMPERE),
    ),
    Hardware(
        "A100 PCIe 40 GB", ("NVIDIA A100-PCIE-40GB", "A100-PCIE-40GB"), _A100_MATRIX, _A100_VECTOR,
        1555 * _GIGA, 40 * _GIB, "PCIe 4.0, NVLink bridge in pairs", None, _all_from(_AMPERE),
    ),
    Hardware(
        "A100 PCIe 80 GB", ("NVIDIA A100 80GB PCIe",), _A100_MATRIX, _A100_VECTOR, 1935 * _GIGA,
        80 * _GIB, "PCIe 4.0, NVLink bridge in pairs", None,
        _all_from(_A100, vector_flops_per_s=_AMPERE),
    ),
    Hardware(
        "H100 SXM", ("NVIDIA H100 80GB HBM3",), _H100_SXM_MATRIX, _H100_SXM_VECTOR, 3350 * _GIGA,
        80 * _GIB, "NVLink", 450 * _GIGA, _all_from(_H100, vector_flops_per_s=_HOPPER),
    ),
    Hardware(
        "H100 PCIe", ("NVIDIA H100 PCIe",),
        _peaks(float64=51, tf32=378, float16=756, bfloat16=756, float8=1513, int8=1513),
        _peaks(float64=26, float32=51, float16=102.4, bfloat16=102.4), 2000 * _GIGA, 80 * _GIB,
        "PCIe 5.0, NVLink bridge in pairs", None, _all_from(_H100, vector_flops_per_s=_HOPPER),
    ),
    Hardware(
        "H200 SXM", ("NVIDIA H200",), _H100_SXM_MATRIX, _H100_SXM_VECTOR, 4800 * _GIGA, 141 * 10**9,
        "NVLink", 450 * _GIGA, _all_from(_H200, vector_flops_per_s=_HOPPER),
    ),
    Hardware(
        "B200", ("NVIDIA B200",),
        _peaks(float64=37, tf32=1125, float16=2250, bfloat16=2250, float8=4500, int8=4500),
        _peaks(float64=37, float32=75), 8000 * _GIGA, 180 * 10**9, "NVLink", 900 * _GIGA,
        _all_from(_HGX_B200, memory_bytes_per_s=_DGX_B200, memory_bytes=_DGX_B200),
    ),
    Hardware(
        "MI250X, one die", ("AMD Instinct MI250X",),
        _peaks(float64=47.85, float32=47.85, float16=191.5, bfloat16=191.5, int8=191.5),
        _peaks(float64=23.95, float32=23.95), 1638.4 * _GIGA, 64 * _GIB, "Infinity Fabric",
        None, _all_from(_MI250X),
    ),
    Hardware(
        "MI300X", ("AMD Instinct MI300X",),
        _peaks(float64=163.4, float32=163.4, tf32=653.7, float16=1307.4, bfloat16=1307.4,
               float8=2614.9, int8=2614.9),
        _peaks(float64=81.7, float32=163.4), 5300 * _GIGA, 192 * 10**9, "Infinity Fabric",
        448 * _GIGA, _all_from(_MI300X),
    ),
    Hardware(
        "RTX 2080 Ti", ("GeForce RTX 2080 Ti", "NVIDIA GeForce RTX 2080 Ti"),
        # float16 with sums in float16; in float32, PyTorch's default, half of it: a trace does not tell
        _peaks(float16=113.8, int8=227.7), _peaks(float32=14.2, float16=28.5), 616 * _GIGA,
        11 * _GIB, "NVLink bridge in pairs", None, _all_from(_TURING),
    ),
)  # fmt: skip
"""Sorted by vendor and age. A100-PG509-200 is the board of the 40 GB SXM module: its traces say 42.3 GB
and 108 multiprocessors."""
