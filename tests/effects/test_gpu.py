"""Which GPUs a machine has, from files as drivers write them."""

from __future__ import annotations

from pathlib import Path

from offgridd.effects.gpu import gpu_names


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_without_any(tmp_path: Path) -> None:
    assert gpu_names(tmp_path) == []


def test_nvidia_s_have_names_and_others_numbers(tmp_path: Path) -> None:
    for number in ("0000:17:00.0", "0000:65:00.0"):
        put(tmp_path, f"proc/driver/nvidia/gpus/{number}/information", "Model: \t\t NVIDIA L4\nIRQ:   \t\t 99\n")
    for number, maker in (("128", "0x10de"), ("129", "0x1002")):  # the first is one of those above
        put(tmp_path, f"sys/class/drm/renderD{number}/device/vendor", f"{maker}\n")
        put(tmp_path, f"sys/class/drm/renderD{number}/device/device", "0x744c\n")
    put(tmp_path, "sys/class/drm/renderD130/device/driver_override", "")  # no PCI device
    assert gpu_names(tmp_path) == ["NVIDIA L4", "NVIDIA L4", "pci 1002:744c"]
