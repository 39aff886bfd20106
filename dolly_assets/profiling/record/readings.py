"""What is read of a GPU, and how often: the single table of fields.

Knows no threads, files or ticks.

Not all fields are cheap. Those of `TICK` cost microseconds. Of `SLOW`, PCIe throughput blocks for
20 ms per direction and listing processes costs milliseconds. Those of `HEALTH` change so seldom
that they are read at the start, at the end and when the driver tells of an error.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dolly_assets.hardware.nvml import (
    DRIVER_TOO_OLD,
    NOT_SUPPORTED,
    Missing,
    pynvml,
    query,
    query_fields,
)

_ALL_LINKS = 0xFFFFFFFF  # as a field's scope

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Query:
    """One query to the driver.

    Attributes:
        fields: The names of its values, with their units.
        read: Takes the device's handle; single values may be missing too.
    """

    fields: tuple[str, ...]
    read: Callable[[Any], Values | Missing]


@dataclass
class Reading:
    """What a device reported at one time.

    Attributes:
        values: By field; those without a value are left out.
        struck: The fields that it turned out never to report, with the reason. They are not queried
            again.
        is_lost: Whether the GPU has fallen off the bus.
    """

    values: dict[str, Any] = field(default_factory=dict)
    struck: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False


class Reader:
    """Runs queries on one device, and drops those that it never answers."""

    def __init__(self, handle: Any, queries: Iterable[Query]) -> None:
        self._handle = handle
        self._queries = list(queries)
        self._struck: set[str] = set()

    def read(self) -> Reading:
        """Run all queries once."""
        reading = Reading()
        for each in tuple(self._queries):
            answer = each.read(self._handle)
            values = (answer,) * len(each.fields) if isinstance(answer, Missing) else answer
            for name, value in zip(each.fields, values, strict=True):
                if not isinstance(value, Missing):
                    reading.values[name] = value
                elif value.is_lost:
                    reading.is_lost = True
                    return reading
                elif value.is_final and name not in self._struck:
                    reading.struck[name] = value.reason
            self._struck |= reading.struck.keys()
            if self._struck.issuperset(each.fields):
                self._queries.remove(each)
        return reading


def _number(function: str, *arguments: Any, per_unit: int = 1) -> Callable[[Any], Values | Missing]:
    def read(handle: Any) -> Values | Missing:
        value = query(function, handle, *arguments)
        if isinstance(value, Missing):
            return value
        return (value if per_unit == 1 else value / per_unit,)

    return read


def _utilization(handle: Any) -> Values | Missing:
    # Share of the driver's last sample period (1/6 to 1 s) with a kernel running, resp. memory
    # being read or written.
    rates = query("nvmlDeviceGetUtilizationRates", handle)
    return rates if isinstance(rates, Missing) else (rates.gpu, rates.memory)


def _memory(handle: Any) -> Values | Missing:
    memory = query("nvmlDeviceGetMemoryInfo", handle, pynvml.nvmlMemory_v2)
    if not isinstance(memory, Missing):
        return memory.used, memory.reserved
    memory = query("nvmlDeviceGetMemoryInfo", handle)  # counts what the driver reserves as used
    return memory if isinstance(memory, Missing) else (memory.used, DRIVER_TOO_OLD)


def _throttle_reasons(handle: Any) -> Values | Missing:
    reasons = query("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is DRIVER_TOO_OLD:  # its name before R535
        reasons = query("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return reasons if isinstance(reasons, Missing) else (reasons,)


def _memory_temperature(handle: Any) -> Values:
    return tuple(query_fields(handle, [pynvml.NVML_FI_DEV_MEMORY_TEMP]))


TICK = (
    Query(("gpu_utilization_percent", "memory_utilization_percent"), _utilization),
    Query(("memory_used_bytes", "memory_reserved_bytes"), _memory),
    Query(("power_watts",), _number("nvmlDeviceGetPowerUsage", per_unit=1000)),  # milliwatts
    # Millijoules since the driver was loaded; Volta and newer.
    Query(("energy_joules",), _number("nvmlDeviceGetTotalEnergyConsumption", per_unit=1000)),
    Query(
        ("temperature_celsius",), _number("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
    ),
    Query(("memory_temperature_celsius",), _memory_temperature),
    Query(("sm_clock_mhz",), _number("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM)),
    Query(("memory_clock_mhz",), _number("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM)),
    Query(("throttle_reasons",), _throttle_reasons),
    Query(("performance_state",), _number("nvmlDeviceGetPerformanceState")),
)


class Gpm:
    """The activity of the SMs, from the difference of two samples: chips since Hopper."""

    FIELDS = (
        "sm_active_percent",
        "sm_occupancy_percent",
        "tensor_active_percent",
        "dram_active_percent",
    )
    _METRICS = (
        pynvml.NVML_GPM_METRIC_SM_UTIL,
        pynvml.NVML_GPM_METRIC_SM_OCCUPANCY,
        pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
        pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
    )

    def __init__(self, handle: Any) -> None:
        self._unsupported = self._check(handle)
        if self._unsupported:
            return
        self._asked = pynvml.c_nvmlGpmMetricsGet_t(version=pynvml.NVML_GPM_METRICS_GET_VERSION)
        self._asked.numMetrics = len(self._METRICS)
        for slot, metric in zip(self._asked.metrics, self._METRICS, strict=False):
            slot.metricId = metric
        self._last, self._next = (query("nvmlGpmSampleAlloc") for _ in range(2))
        query("nvmlGpmSampleGet", handle, self._last)

    @staticmethod
    def _check(handle: Any) -> Missing | None:
        support = query("nvmlGpmQueryDeviceSupport", handle)
        if isinstance(support, Missing):
            return support
        return None if support.isSupportedDevice else NOT_SUPPORTED

    def read(self, handle: Any) -> Values | Missing:
        """Return percentages since the previous call."""
        if self._unsupported:
            return self._unsupported
        sample = query("nvmlGpmSampleGet", handle, self._next)
        if isinstance(sample, Missing):
            return sample
        self._asked.sample1, self._asked.sample2 = self._last, self._next
        self._last, self._next = self._next, self._last
        answer = query("nvmlGpmMetricsGet", self._asked)
        if isinstance(answer, Missing):
            return answer
        metrics = self._asked.metrics[: len(self._METRICS)]
        return tuple(
            NOT_SUPPORTED if metric.nvmlReturn else round(metric.value, 2) for metric in metrics
        )


def _nvlink(handle: Any) -> Values:
    # Counters, in KiB; the scope of all links together.
    sent, received, *errors = query_fields(
        handle,
        [
            (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS),
            (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS),
            pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
            pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
            pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
        ],
    )
    sent, received = (
        value if isinstance(value, Missing) else value * 1024 for value in (sent, received)
    )
    lacking = [error for error in errors if isinstance(error, Missing)]
    return sent, received, lacking[0] if lacking else sum(errors)


def _processes(handle: Any) -> Values | Missing:
    # By pid, as the driver counts them: in a container these are the host's.
    processes = query("nvmlDeviceGetComputeRunningProcesses", handle)
    if isinstance(processes, Missing):
        return processes
    return (
        {
            str(process.pid): process.usedGpuMemory
            for process in processes
            if process.usedGpuMemory is not None
        },
    )


_PROCESSES = Query(("process_memory_bytes",), _processes)

SLOW = (
    # NVML says KB, and not whether of 1,000 or 1,024 bytes.
    Query(
        ("pcie_sent_bytes_per_second",),
        lambda handle: _scaled(
            query("nvmlDeviceGetPcieThroughput", handle, pynvml.NVML_PCIE_UTIL_TX_BYTES), 1000
        ),
    ),
    Query(
        ("pcie_received_bytes_per_second",),
        lambda handle: _scaled(
            query("nvmlDeviceGetPcieThroughput", handle, pynvml.NVML_PCIE_UTIL_RX_BYTES), 1000
        ),
    ),
    Query(("nvlink_sent_bytes", "nvlink_received_bytes", "nvlink_error_count"), _nvlink),
    Query(("fan_percent",), _number("nvmlDeviceGetFanSpeed")),
    _PROCESSES,
)

# Of a MIG instance; all else is its GPU's.
MIG_TICK = (Query(("memory_used_bytes", "memory_reserved_bytes"), _memory),)
MIG_SLOW = (_PROCESSES,)


def _scaled(value: Any, factor: int) -> Values | Missing:
    return value if isinstance(value, Missing) else (value * factor,)


def _remapped_rows(handle: Any) -> Values | Missing:
    rows = query("nvmlDeviceGetRemappedRows", handle)  # Ampere and newer
    if isinstance(rows, Missing):
        return rows
    corrected, uncorrected, is_pending, has_failed = rows
    return corrected, uncorrected, int(is_pending), int(has_failed)


def _retired_pages(handle: Any) -> Values | Missing:
    counts = []
    for cause in (
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    ):
        pages = query("nvmlDeviceGetRetiredPages", handle, cause)  # Volta and older
        if isinstance(pages, Missing):
            return pages
        counts.append(len(pages))
    return tuple(counts)


def _ecc(error_type: int) -> Callable[[Any], Values | Missing]:
    return _number("nvmlDeviceGetTotalEccErrors", error_type, pynvml.NVML_VOLATILE_ECC)


HEALTH = (
    Query(
        ("ecc_corrected_count",), _ecc(pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)
    ),  # since the driver was loaded
    Query(("ecc_uncorrected_count",), _ecc(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)),
    Query(
        (
            "remapped_rows_corrected",
            "remapped_rows_uncorrected",
            "remapping_is_pending",
            "remapping_has_failed",
        ),
        _remapped_rows,
    ),
    Query(("retired_pages_single_bit", "retired_pages_double_bit"), _retired_pages),
    Query(("pcie_replay_count",), _number("nvmlDeviceGetPcieReplayCounter")),
)
