"""The GPUs of this host, found once and then read at each tick.

A call that hangs, or a GPU that is lost, does not stop the others. Needs nvidia-ml-py. Knows
nothing of files: events go to `note`.
"""

import ctypes
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dolly_assets.hardware.description import (
    DriverVersions,
    describe,
    device_handles,
    driver_versions,
    mig_handles,
)
from dolly_assets.hardware.nvml import LOST, TIMED_OUT, Missing, pynvml, query
from dolly_assets.hardware.visible_gpus import Device, visible
from dolly_assets.profiling.record.background_call import BackgroundCall
from dolly_assets.profiling.record.devices import Hardware, Link
from dolly_assets.profiling.record.events import HANG_SECONDS, XID_WORDS, Event, Kind
from dolly_assets.profiling.record.readings import (
    HEALTH,
    MIG_SLOW,
    MIG_TICK,
    SLOW,
    TICK,
    Gpm,
    Query,
    Reader,
    Reading,
)
from dolly_assets.profiling.record.topology import find_links

_EVENT_TYPES = (
    pynvml.nvmlEventTypeXidCriticalError
    | pynvml.nvmlEventTypeSingleBitEccError
    | pynvml.nvmlEventTypeDoubleBitEccError
)
_EVENT_WAIT_MILLISECONDS = 10_000
_ERROR_PAUSE_SECONDS = 10.0


class Gpu:
    """One GPU: its handle, and the readers of its fields by how often they are read.

    Its calls are made on a thread of its own.
    """

    def __init__(self, device: Device, handle: Any, instances: dict[int, Any]) -> None:
        gpm = Gpm(handle)
        self.device = device
        self.handle = handle
        self.call: BackgroundCall[Reading] = BackgroundCall()
        self.is_lost = False
        self.is_hanging = False
        self._tick = Reader(handle, [*TICK, Query(Gpm.FIELDS, gpm.read)])
        self._slow = Reader(handle, SLOW)
        self._health = Reader(handle, HEALTH)
        self._instances = {
            str(index): (Reader(each, MIG_TICK), Reader(each, MIG_SLOW))
            for index, each in instances.items()
        }

    def read(self, slow: bool) -> Reading:
        """Read the cheap fields, and with `slow` the expensive ones too."""
        reading = self._tick.read()
        if slow and not reading.is_lost:
            reading = _joined(reading, self._slow.read())
        for index, (tick, expensive) in self._instances.items():
            part = _joined(tick.read(), expensive.read()) if slow else tick.read()
            reading.values.setdefault("mig", {})[index] = part.values
        return reading

    def read_health(self) -> Reading:
        """Read the error counts."""
        return self._health.read()


def _joined(one: Reading, other: Reading) -> Reading:
    return Reading(
        one.values | other.values, one.struck | other.struck, one.is_lost or other.is_lost
    )


@dataclass(frozen=True)
class GpuInventory:
    """The GPUs that this training may use; without any, `reason` says why."""

    gpus: tuple[Gpu, ...] = ()
    reason: str = ""
    event_set: Any = None
    links: tuple[Link, ...] = ()
    versions: DriverVersions | None = None


def find() -> GpuInventory:
    """Find all GPUs. This may take long, such as where no GPU is kept initialized."""
    try:
        return _find()
    except Exception as error:  # noqa: BLE001 the host can be sampled all the same
        traceback.print_exc()
        return GpuInventory(reason=f"finding GPUs failed: {error!r}")


def _find() -> GpuInventory:
    started = query("nvmlInit")
    if isinstance(started, Missing):
        return GpuInventory(reason=started.reason)
    versions = driver_versions()
    handles = device_handles()
    if not handles:
        return GpuInventory(reason="the NVIDIA driver reports no device", versions=versions)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible([describe(index, handle) for index, handle in handles.items()], chosen)
    gpus = tuple(_opened(device, handles[device.index]) for device in devices)
    reason = "" if gpus else f"CUDA_VISIBLE_DEVICES={chosen!r} hides every device"
    links = find_links([(gpu.device.index, gpu.handle) for gpu in gpus])
    return GpuInventory(gpus, reason, _registered(gpus), links, versions)


def _opened(device: Device, handle: Any) -> Gpu:
    """Return the GPU with the readings that it lacks, found by reading all of them once."""
    seen = {each.index for each in device.mig_instances if each.is_visible}
    handles = mig_handles(handle) if seen else {}
    gpu = Gpu(device, handle, {index: each for index, each in handles.items() if index in seen})
    first = _joined(gpu.read(slow=True), gpu.read_health())
    gpu.device = replace(device, missing=first.struck)
    return gpu


def _registered(gpus: Sequence[Gpu]) -> Any:
    """Return an event set that receives the errors of all GPUs, or None.

    A GPU that reports no errors lacks `error_events`.
    """
    event_set = query("nvmlEventSetCreate")
    can_wait = (
        event_set if isinstance(event_set, Missing) else query("nvmlEventSetWait_v2", event_set, 0)
    )
    for gpu in gpus:
        types = query("nvmlDeviceGetSupportedEventTypes", gpu.handle)
        if isinstance(can_wait, Missing) and can_wait.is_final:
            lack = can_wait
        elif isinstance(types, Missing):
            lack = types
        else:
            lack = query("nvmlDeviceRegisterEvents", gpu.handle, types & _EVENT_TYPES, event_set)
        if isinstance(lack, Missing):
            gpu.device = replace(
                gpu.device, missing=gpu.device.missing | {"error_events": lack.reason}
            )
    return None if isinstance(event_set, Missing) else event_set


class GpuWatch:
    """Reads all GPUs at each tick, and reports events.

    The search for them starts at once, on a thread: `found` is None until it is done.

    Args:
        note: Receives events; called on the caller's thread, during `read`.
    """

    def __init__(self, note: Callable[[Event], None]) -> None:
        self.found: GpuInventory | None = None
        self.has_news = False
        self._note = note
        self._finding: BackgroundCall[GpuInventory] = BackgroundCall()
        self._finding.start(find)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def look(self, timeout_seconds: float = 0.0) -> bool:
        """Return whether the GPUs have just been found."""
        if self.found is not None or (found := self._finding.answer(timeout_seconds)) is None:
            return False
        self.found = found
        if found.event_set is not None:
            threading.Thread(target=_listen, args=(found, self._events), daemon=True).start()
        return True

    def described(self, hardware: Hardware) -> Hardware:
        """Return the description of the host with the GPUs that were found."""
        assert self.found is not None
        found = self.found
        return replace(
            hardware,
            devices=tuple(gpu.device for gpu in found.gpus),
            no_device_reason=found.reason,
            links=found.links,
            driver_version=found.versions.driver if found.versions else "",
            cuda_driver_version=found.versions.cuda if found.versions else "",
            nvml_version=found.versions.nvml if found.versions else "",
        )

    def read(self, slow: bool, timeout_seconds: float) -> dict[str, dict[str, Any]]:
        """Return the readings by index, without GPUs that are lost or do not answer in time."""
        self._drain_events()
        return self._ask(partial(Gpu.read, slow=slow), timeout_seconds)

    def read_health(self, timeout_seconds: float) -> dict[str, dict[str, Any]]:
        """Return the error counts by index, likewise."""
        self.has_news = False
        return self._ask(Gpu.read_health, timeout_seconds)

    def _ask(
        self, call: Callable[[Gpu], Reading], timeout_seconds: float
    ) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + timeout_seconds
        asked = [gpu for gpu in self.found.gpus if self._is_ready(gpu)] if self.found else []
        for gpu in asked:
            gpu.call.start(partial(call, gpu))
        values: dict[str, dict[str, Any]] = {}
        for gpu in asked:
            reading = gpu.call.answer(deadline - time.monotonic())
            if reading is None:
                continue
            self._note_changes(gpu, reading)
            if reading.values:
                values[str(gpu.device.index)] = reading.values
        return values

    def _is_ready(self, gpu: Gpu) -> bool:
        if gpu.is_lost:
            return False
        if not gpu.call.is_busy:
            return True
        seconds = gpu.call.busy_seconds
        late = gpu.call.answer()  # of an earlier tick: too late to be a sample
        if late is None:
            if seconds > HANG_SECONDS and not gpu.is_hanging:
                gpu.is_hanging = True
                self._emit(
                    gpu, "hang", f"a call to the driver has not returned for {seconds:.0f} s"
                )
            return False
        if gpu.is_hanging:
            gpu.is_hanging = False
            self._emit(
                gpu,
                "back",
                f"a call to the driver returned after {seconds:.0f} s",
                seconds=round(seconds, 1),
            )
        self._note_changes(gpu, late)
        return not gpu.is_lost

    def _note_changes(self, gpu: Gpu, reading: Reading) -> None:
        for field, reason in reading.struck.items():
            self._emit(gpu, "field", f"{field}: {reason}")
        if reading.is_lost and not gpu.is_lost:
            gpu.is_lost = True
            self._emit(gpu, "lost", LOST.reason)

    def _emit(self, gpu: Gpu, kind: Kind, text: str, seconds: float | None = None) -> None:
        self._note(Event(round(time.time(), 3), kind, gpu.device.index, text, seconds=seconds))

    def _drain_events(self) -> None:
        while not self._events.empty():
            self.has_news = True
            self._note(self._events.get())


def _listen(found: GpuInventory, events: "queue.SimpleQueue[Event]") -> None:
    """Receive the errors that the driver reports, for as long as the process lives."""
    indices = {_address(gpu.handle): gpu.device.index for gpu in found.gpus}
    while True:
        data = query("nvmlEventSetWait_v2", found.event_set, _EVENT_WAIT_MILLISECONDS)
        if not isinstance(data, Missing):
            events.put(_event(data, indices.get(_address(data.device), -1)))
        elif data is not TIMED_OUT:
            time.sleep(
                _ERROR_PAUSE_SECONDS
            )  # such as a lost GPU: the others may still report errors


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _event(data: Any, gpu: int) -> Event:
    now = round(time.time(), 3)
    if data.eventType == pynvml.nvmlEventTypeXidCriticalError:
        return Event(
            now,
            "xid",
            gpu,
            XID_WORDS.get(data.eventData, "see NVIDIA's list of Xid errors"),
            data.eventData,
        )
    corrected = data.eventType == pynvml.nvmlEventTypeSingleBitEccError
    return Event(
        now,
        "ecc",
        gpu,
        "corrected memory error" if corrected else "memory error",
        1 if corrected else 2,
    )
