"""The device of a run: which one, its switches, its random state, its failures; CUDA is stood in for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparse_rnn.core import device
from sparse_rnn.core.device import device_facts, device_failure, make_device, restore_rng, rng_state, set_up_device
from sparse_rnn.core.errors import ConfigError, DeviceLost

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A machine with two GPUs that compute nothing; the devices that became torch's current one."""
    current: list[torch.device] = []
    fakes = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: 0,
        "set_device": current.append,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.zeros(1).fill_(device.index))
    return current


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_has_an_index_and_becomes_the_current_one(two_gpus: list[torch.device], name: str, index: int) -> None:
    assert make_device(name) == torch.device("cuda", index)
    assert two_gpus == [torch.device("cuda", index)]
    assert make_device("cpu") == CPU


def test_without_a_gpu_auto_is_the_cpu_and_cuda_a_sentence() -> None:
    assert make_device("auto") == CPU
    sentence = "device=cuda is not available: torch finds no GPU that it can use here; use device=cpu."
    with pytest.raises(ConfigError) as refused:
        make_device("cuda")
    assert str(refused.value) == sentence


def test_a_gpu_that_does_not_exist_or_does_not_compute(
    two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^device=cuda:2 does not exist here: the GPUs are cuda:0 to cuda:1\.$"):
        make_device("cuda:2")

    def busy(*size: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: out of memory\nCompile with ...")

    monkeypatch.setattr(torch, "ones", busy)
    with pytest.raises(ConfigError) as refused:
        make_device("auto")
    expected = "device=cuda does not compute (CUDA error: out of memory): choose another, or device=cpu."
    assert str(refused.value) == expected


def test_a_gpu_that_has_broken_down_is_lost(two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*size: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr(torch, "ones", broken)
    with pytest.raises(DeviceLost, match=r"^device=cuda does not compute \(CUDA error: uncorrectable ECC"):
        make_device("cuda")


@pytest.mark.parametrize(("precision", "products"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_products_and_cudnn_have_the_same_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, products: str
) -> None:
    cudnn = SimpleNamespace(conv=SimpleNamespace(), rnn=SimpleNamespace())
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace())
    switched: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on, warn_only: switched.append(on))
    monkeypatch.setenv(device.CUBLAS_WORKSPACE[0], "")
    set_up_device(torch.device("cuda:0"), precision, deterministic=True)
    everywhere = [cudnn, cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul]
    assert [each.fp32_precision for each in everywhere] == [products] * 4
    assert switched == [cudnn.deterministic] == [True]


def test_a_cpu_has_no_tf32() -> None:
    with pytest.raises(ConfigError, match=r"^precision=tf32 needs a GPU, and device=cpu; use precision=fp32\.$"):
        set_up_device(CPU, "tf32", deterministic=False)


def test_the_random_state_is_that_of_the_run_s_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {torch.device("cuda:0"): torch.tensor([0]), torch.device("cuda:1"): torch.tensor([1])}
    monkeypatch.setattr(torch.cuda, "get_rng_state", states.__getitem__)
    restored: list[tuple[int, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, on: restored.append((int(state), on)))
    saved = rng_state(torch.device("cuda:1"))
    assert [int(state) for state in saved["cuda"]] == [1]
    before = torch.rand(3)
    restore_rng(saved, torch.device("cuda:0"))
    assert restored == [(1, torch.device("cuda:0"))], "the run may go on on another GPU"
    assert torch.equal(torch.rand(3), before)
    restore_rng(saved, CPU)
    restore_rng(rng_state(CPU), torch.device("cuda:0"))
    assert len(restored) == 1, "a state of the other kind of device is left out"


def test_a_record_names_gpu_cuda_cudnn_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC version: 13\n"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91100)
    monkeypatch.setattr(device.Path, "read_text", lambda path, encoding: text)
    assert device_facts(torch.device("cuda:0")) == {
        "device_name": "NVIDIA H100 80GB HBM3",
        "cuda": "13.0",
        "cudnn": 91100,
        "driver": "580.159.04",
    }


def test_where_a_sandbox_hides_the_driver_nvidia_smi_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: Path, encoding: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(device.Path, "read_text", hidden)
    monkeypatch.setattr(device.subprocess, "run", lambda query, **named: SimpleNamespace(stdout="580.159.04\n"))
    assert device._driver() == "580.159.04"

    def missing(query: list[str], **named: Any) -> None:
        raise FileNotFoundError(query[0])

    monkeypatch.setattr(device.subprocess, "run", missing)
    assert device._driver() is None


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
)
def test_too_little_memory_is_a_sentence(error: Exception) -> None:
    failure = device_failure(error)
    assert str(failure) == "Out of memory: lower training.batch or the size of the model."
    assert failure is not None
    assert failure.exit_code == 1


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "No CUDA-capable device is detected",
        "CUDA error: unknown error",
    ],
)
def test_a_lost_gpu_is_a_sentence_with_an_exit_code_of_its_own(text: str) -> None:
    failure = device_failure(RuntimeError(f"{text}\nCUDA kernel errors might be reported later."))
    assert str(failure) == f"The GPU was lost ({text}): the same command resumes from the last checkpoint."
    assert isinstance(failure, DeviceLost)
    assert failure.exit_code == 4


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
    ],
)
def test_a_defect_is_no_failure_of_the_device(error: Exception) -> None:
    assert device_failure(error) is None


def test_a_graphics_card_is_called_what_its_maker_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA A100 {device.index}")
    assert device.device_name(torch.device("cuda:1")) == "NVIDIA A100 1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nmodel name\t: other\n", "AMD EPYC 7B13"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "aarch64"),
        (None, "aarch64"),
    ],
)
def test_a_processor_by_its_model_or_else_by_its_kind(
    monkeypatch: pytest.MonkeyPatch, text: str | None, name: str
) -> None:
    def read(path: Path, **named: Any) -> str:
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(device.platform, "processor", lambda: "")
    monkeypatch.setattr(device.platform, "machine", lambda: "aarch64")
    assert device.device_name(torch.device("cpu")) == name
