"""The sampler under scripted drivers: real processes and bindings above a stand-in for NVML."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dolly_assets.profiling.record.devices import DEVICES_FILE, Hardware
from dolly_assets.profiling.record.events import Event, read_events, read_health
from dolly_assets.profiling.record.journal import read_journal
from dolly_assets.profiling.record.sampler import SAMPLES_FILE
from dolly_assets.profiling.series.samples import (
    THERMAL_REASONS,
    Samples,
    Series,
    time_share,
)
from dolly_assets_tests.nvml import SCENARIOS, scenario
from dolly_assets_tests.profiling.journals import read_samples
from dolly_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow

SCRIPT_SECONDS = 6.2  # their last change comes after 6
ALWAYS = (0.0, 1e12)


@dataclass(frozen=True)
class Record:
    """What a sampler wrote under a scenario."""

    folder: Path
    exit_code: int

    @property
    def hardware(self) -> Hardware:
        return Hardware.load(self.folder / DEVICES_FILE)

    @property
    def samples(self) -> Samples:
        return read_samples(self.folder / SAMPLES_FILE)

    @property
    def events(self) -> list[Event]:
        return list(read_events(self.folder, *ALWAYS))

    def series(self, gpu: int, field: str) -> Series:
        return self.samples.get(f"gpu.{gpu}.{field}")

    def last(self, gpu: int, field: str) -> float:
        """The last reading; NaN where there is none."""
        values = self.series(gpu, field)
        return float(values[~np.isnan(values)][-1]) if len(values) else float("nan")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Every scenario's record, all taken at the same time while one process sleeps."""
    root = tmp_path_factory.mktemp("records")
    environments = {name: scenario(name) for name in SCENARIOS}
    environments["chosen"] = environments["mig"] | {
        "CUDA_VISIBLE_DEVICES": "MIG-a1000000-57a9-4d1e-8000-000000000001"
    }
    environments["no driver"] = {"LD_LIBRARY_PATH": ""}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as watched:
        samplers = {}
        for name, environment in environments.items():
            (root / name).mkdir()
            command = [
                sys.executable,
                "-m",
                "dolly_assets.profiling.record.sampler",
                "--folder",
                str(root / name),
            ]
            command += ["--interval-seconds", "0.2", "--watch-pid", str(watched.pid)]
            clean = {
                key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"
            }
            samplers[name] = subprocess.Popen(command, env={**clean, **environment})
        wait_until(lambda: all(_seconds(root / name) > SCRIPT_SECONDS for name in environments))
        watched.kill()
        codes = {name: sampler.wait(timeout=60) for name, sampler in samplers.items()}
    return {name: Record(root / name, code) for name, code in codes.items()}


def _seconds(folder: Path) -> float:
    """The time from the first sample to the last."""
    times = [record["time_seconds"] for record in read_journal(folder / SAMPLES_FILE)]
    return times[-1] - times[0] if times else 0.0


def test_every_sampler_ends_by_itself_whatever_its_driver_does(records: dict[str, Record]) -> None:
    assert {name for name, record in records.items() if record.exit_code} == set()
    assert all(len(record.samples) >= 5 for record in records.values())
    assert all(
        np.isfinite(record.samples.series["host.cpu_percent"]).all() for record in records.values()
    )


def test_eight_gpus_are_described_with_how_they_are_connected(records: dict[str, Record]) -> None:
    hardware = records["a100"].hardware
    assert [device.index for device in hardware.devices] == list(range(8))
    assert hardware.no_device_reason == ""
    assert (hardware.driver_version, hardware.cuda_driver_version) == ("550.54.15", "12.4")
    assert {"torch", "deepspeed", "transformers"} <= hardware.versions.keys()
    device = hardware.devices[5]
    assert (device.name, device.compute_capability) == ("NVIDIA A100-SXM4-80GB", "8.0")
    assert device.memory_total_bytes == 80 * 2**30
    assert (device.mig_mode, device.ecc_mode, device.persistence_mode) == (False, True, True)
    assert (device.power_limit_watts, device.pcie_generation, device.pcie_width) == (
        400.0,
        4,
        16,
    )
    assert (device.numa_nodes, device.near_cpus) == ((1,), tuple(range(16, 32)))
    links = {(link.first, link.second): link for link in hardware.links}
    assert len(links) == 8 * 7 / 2
    assert {link.nvlink_count for link in links.values()} == {12}
    assert {link.p2p for link in links.values()} == {"ok"}
    assert [links[pair].level for pair in ((0, 1), (0, 2), (0, 7))] == ["PXB", "NODE", "SYS"]


def test_readings_are_in_the_units_of_their_names(records: dict[str, Record]) -> None:
    record = records["a100"]
    assert record.last(0, "memory_used_bytes") == 60 * 2**30
    assert record.last(0, "memory_reserved_bytes") == 652 * 2**20
    assert record.last(0, "sm_clock_mhz") == 1410
    assert record.last(0, "memory_clock_mhz") == 1593
    assert record.last(0, "pcie_received_bytes_per_second") == 480e6
    assert record.last(0, "nvlink_error_count") == 0
    assert record.last(0, "process_memory_bytes.4242") == 59 * 2**30
    power, energy = record.series(0, "power_watts"), record.series(0, "energy_joules")
    assert np.all((power >= 315) & (power <= 375))
    times = record.samples.time_seconds
    assert (energy[-1] - energy[0]) / (times[-1] - times[0]) == pytest.approx(345, rel=0.1)


def test_dear_fields_are_read_seldom(records: dict[str, Record]) -> None:
    """Once in these seconds, where the cheap ones are read at each tick."""
    record = records["a100"]
    assert not np.isnan(record.series(0, "power_watts")).any()
    assert np.isfinite(record.series(0, "pcie_sent_bytes_per_second")).sum() == 1


def test_a_chip_with_gpm_tells_what_its_sms_do(records: dict[str, Record]) -> None:
    record = records["h100"]
    assert record.last(0, "gpu_utilization_percent") == 100
    assert record.last(0, "sm_active_percent") == pytest.approx(47, abs=3.1)
    assert record.last(0, "tensor_active_percent") == pytest.approx(18, abs=2.1)
    lacking = records["a100"].hardware.devices[0].missing
    assert lacking["sm_active_percent"] == "not supported by this device"


def test_a_gpu_lost_on_the_way_is_told_once_and_the_others_go_on(
    records: dict[str, Record],
) -> None:
    record = records["lost"]
    told = [(event.kind, event.gpu, event.code) for event in record.events]
    assert sorted(told, key=str) == [("lost", 3, None), ("xid", 3, 79)]
    lost_at = next(event.time_seconds for event in record.events if event.kind == "lost")
    power, times = record.series(3, "power_watts"), record.samples.time_seconds
    assert not np.isnan(power[times < lost_at - 0.5]).any()
    assert np.isnan(power[times > lost_at + 0.5]).all()
    assert not np.isnan(record.series(4, "power_watts")).any()


def test_throttling_is_seen_as_it_comes(records: dict[str, Record]) -> None:
    record = records["throttling"]
    assert time_share(record.series(5, "throttle_reasons"), THERMAL_REASONS) > 0.2
    assert time_share(record.series(4, "throttle_reasons"), THERMAL_REASONS) == 0
    assert record.last(5, "temperature_celsius") == 91


def test_fields_that_are_not_given_are_listed_with_the_reason(records: dict[str, Record]) -> None:
    record = records["lost_field"]
    missing = record.hardware.devices[0].missing
    assert missing["power_watts"] == missing["energy_joules"] == "not supported by this device"
    assert missing["pcie_sent_bytes_per_second"] == "no permission"
    assert len(record.series(0, "power_watts")) == 0
    assert not np.isnan(record.series(0, "gpu_utilization_percent")).any()
    assert [(event.kind, event.gpu) for event in record.events] == [("field", 2)]
    assert "memory_temperature_celsius" in record.events[0].text


def test_a_mig_instance_has_its_own_memory_and_its_gpu_all_else(records: dict[str, Record]) -> None:
    record = records["mig"]
    device = record.hardware.devices[0]
    assert device.mig_mode
    assert [each.name for each in device.mig_instances] == ["NVIDIA A100-SXM4-80GB MIG 2g.20gb"] * 3
    assert record.last(0, "mig.1.memory_used_bytes") == 14 * 2**30
    assert record.last(0, "mig.1.process_memory_bytes.4242") == 13.5 * 2**30
    assert "gpu_utilization_percent" in device.missing
    assert len(record.series(0, "power_watts"))


def test_only_the_chosen_mig_instance_is_sampled(records: dict[str, Record]) -> None:
    record = records["chosen"]
    (device,) = record.hardware.devices
    assert [each.is_visible for each in device.mig_instances] == [False, True, False]
    assert record.last(0, "mig.1.memory_used_bytes") == 14 * 2**30
    assert len(record.series(0, "mig.0.memory_used_bytes")) == 0


def test_an_old_driver_lacks_what_came_later_and_gives_the_rest(records: dict[str, Record]) -> None:
    record = records["driver_2019"]
    device = record.hardware.devices[2]
    too_old = {
        field
        for field, reason in device.missing.items()
        if reason == "the driver is too old for it"
    }
    assert {
        "memory_reserved_bytes",
        "process_memory_bytes",
        "sm_active_percent",
        "error_events",
    } <= too_old
    assert record.last(2, "throttle_reasons") == 0
    assert record.last(2, "power_watts") == pytest.approx(250, abs=21)
    counts = {(link.first, link.second): link.nvlink_count for link in record.hardware.links}
    assert counts == {(0, 1): 1, (0, 2): 1, (0, 3): 2, (1, 2): 2, (1, 3): 1, (2, 3): 1}
    assert read_health(record.folder)[0].gpu[2]["retired_pages_single_bit"] == 2


def test_a_call_that_hangs_is_a_gap_of_its_gpu_alone(records: dict[str, Record]) -> None:
    record = records["hang"]
    power = {gpu: record.series(gpu, "power_watts") for gpu in (2, 6, 7)}
    assert np.isnan(power[2]).any()
    assert np.isfinite(power[2][-2:]).all(), "it came back"
    assert np.isnan(power[6][-2:]).all()
    assert not np.isnan(power[7]).any()
    assert not np.isnan(record.samples.series["host.cpu_percent"]).any()
    assert [event.kind for event in record.events if event.gpu == 6] == ["hang"]


def test_a_driver_that_does_not_come_up_costs_the_gpus_and_not_the_host(
    records: dict[str, Record],
) -> None:
    record = records["hang_at_start"]
    assert record.hardware.no_device_reason == "the NVIDIA driver has not answered yet"
    assert np.isfinite(record.samples.series["host.cpu_percent"]).all()


def test_memory_errors_are_told_and_counted_before_and_after(records: dict[str, Record]) -> None:
    record = records["errors"]
    assert [(event.kind, event.gpu, event.code) for event in record.events] == [
        ("ecc", 1, 2),
        ("xid", 1, 48),
    ]
    before, *_, after = health = read_health(record.folder)
    assert [each.when for each in health][:2] == ["start", "event"]
    assert after.when == "end"
    assert (before.gpu[1]["ecc_uncorrected_count"], after.gpu[1]["ecc_uncorrected_count"]) == (0, 1)
    assert after.gpu[1]["remapping_is_pending"] == 1
    assert before.gpu[4]["ecc_corrected_count"] == after.gpu[4]["ecc_corrected_count"] == 17


def test_a_straggler_and_an_idle_gpu_differ_from_the_others(records: dict[str, Record]) -> None:
    record = records["straggler"]
    assert record.last(3, "sm_clock_mhz") == record.last(2, "sm_clock_mhz") / 2
    assert record.last(7, "gpu_utilization_percent") == 0


def test_without_a_driver_there_are_no_devices_and_a_reason(records: dict[str, Record]) -> None:
    assert records["no driver"].hardware.devices == ()
    assert records["no driver"].hardware.no_device_reason == "NVML Shared Library Not Found"
