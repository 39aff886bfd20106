"""The single access to NVML: a query returns a value, or why there is none.

Knows no fields, files or threads. Importing it needs nvidia-ml-py. A call can take long or never
return, so callers make it where nothing waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pynvml as _untyped

pynvml: Any = _untyped


@dataclass(frozen=True)
class Missing:
    """Stands for a value that NVML does not provide.

    Attributes:
        reason: Such as "not supported by this device".
        is_final: Whether querying again is pointless.
        is_lost: Whether it is missing because the GPU has fallen off the bus.
    """

    reason: str
    is_final: bool = False
    is_lost: bool = False


NOT_SUPPORTED = Missing("not supported by this device", is_final=True)
DRIVER_TOO_OLD = Missing("the driver is too old for it", is_final=True)
BINDINGS_TOO_OLD = Missing("nvidia-ml-py is too old for it", is_final=True)
TIMED_OUT = Missing("the driver did not answer in time")
LOST = Missing("the GPU has fallen off the bus", is_final=True, is_lost=True)

_KNOWN = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: DRIVER_TOO_OLD,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: DRIVER_TOO_OLD,
    pynvml.NVML_ERROR_NO_PERMISSION: Missing("no permission", is_final=True),
    pynvml.NVML_ERROR_TIMEOUT: TIMED_OUT,
    pynvml.NVML_ERROR_GPU_IS_LOST: LOST,
}
_VALUE_MEMBERS = (
    "dVal",
    "uiVal",
    "ulVal",
    "ullVal",
    "sllVal",
    "siVal",
    "usVal",
)  # by nvmlValueType_t


def query(function: str, *arguments: Any) -> Any:
    """Call a function of pynvml; return its value, or a `Missing` for any of NVML's errors."""
    call = getattr(pynvml, function, None)
    if call is None:
        return BINDINGS_TOO_OLD
    try:
        return call(*arguments)
    except pynvml.NVMLLibraryMismatchError:
        return DRIVER_TOO_OLD
    except pynvml.NVMLError as error:
        return missing(error.value)


def missing(code: int) -> Missing:
    """Return the reason behind one of NVML's error codes."""
    return _KNOWN.get(code) or Missing(str(pynvml.NVMLError(code)))


def query_fields(handle: Any, fields: Sequence[int | tuple[int, int]]) -> list[Any]:
    """Query `NVML_FI_…` fields, or pairs of field and scope, in one call.

    Each value is a number or a `Missing`.
    """
    values = query("nvmlDeviceGetFieldValues", handle, fields)
    if isinstance(values, Missing):
        return [values] * len(fields)
    return [
        getattr(value.value, _VALUE_MEMBERS[value.valueType])
        if not value.nvmlReturn
        else missing(value.nvmlReturn)
        for value in values
    ]
