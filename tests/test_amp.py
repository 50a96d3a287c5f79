import pytest
import torch

from chexnet_fast import amp
from chexnet_fast.amp import amp_dtype, amp_name

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_named_arithmetic_is_taken_on_every_device(name):
    assert amp_name(amp_dtype(name, CPU)) == amp_name(amp_dtype(name, torch.device("cuda"))) == name


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx512f avx512_bf16 clwb", torch.bfloat16),
        ("fpu avx512f avx512_bf16", torch.bfloat16),
        ("fpu avx512f avx512_vnni", torch.float32),
    ],
)
def test_auto_takes_bfloat16_on_a_cpu_that_computes_in_it(flags, dtype, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    monkeypatch.setattr(amp, "CPUINFO", cpuinfo)
    assert amp_dtype("auto", CPU) == dtype


def test_auto_takes_float32_where_a_system_does_not_tell_of_its_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(amp, "CPUINFO", tmp_path / "none")
    assert amp_dtype("auto", CPU) == torch.float32
