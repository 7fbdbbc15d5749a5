"""Device and precision: what is asked for, or an error; running out of memory says what to try."""

import pytest
import torch

from harness.device import memory_advice, resolve
from harness.errors import HarnessError, UsageError


def test_auto_prefers_the_gpu(monkeypatch):
    assert resolve("auto").kind == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve("cpu").precision == "fp32"
    assert resolve("cpu", "bf16").precision == "bf16"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU", ""])
def test_strange_names(name):
    with pytest.raises(UsageError, match="expected auto, cpu, cuda"):
        resolve(name)


def test_a_device_that_is_not_there():
    with pytest.raises(UsageError, match=f"found {torch.cuda.device_count()}"):
        resolve("cuda:99")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError("no"),
        RuntimeError("can't allocate memory: 9 GB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory(error):
    with pytest.raises(HarnessError, match="Try --batch-size 16"), memory_advice(32):
        raise error


def test_other_errors_pass_through():
    for text in ("shapes do not match", "CUDA error: an illegal memory access was encountered"):
        with pytest.raises(RuntimeError, match=text), memory_advice(32):
            raise RuntimeError(text)


def test_bf16_runs_under_autocast():
    layer = torch.nn.Conv2d(1, 2, 3)
    with resolve("cpu", "bf16").autocast():
        assert layer(torch.rand(1, 1, 8, 8)).dtype == torch.bfloat16
    with resolve("cpu").autocast():
        assert layer(torch.rand(1, 1, 8, 8)).dtype == torch.float32
