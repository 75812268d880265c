"""Triton's compiler accepts every kernel for an H100, which takes no GPU; its interpreter accepts more than it does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

COMPILE = '''
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sparse_rnn.backends.gpu import averaged_step, highway, mixture, ordered_neurons

OTHERS = {"entries": "i32", "width": "i32", "n": "i32", "k": "i32", "size": "i32", "decay": "fp32", "target": "*i64"}


def compiled(kernel, constants, missing=(), low=(), masks="*fp32"):
    """Compile for pointers to float32, or to bfloat16 if they are in `low`."""
    types = {name: "*bf16" if name in low else masks if name == "mask" else "*fp32" for name in kernel.arg_names}
    constants = {**constants, **dict.fromkeys(missing)}
    types |= {name: kind for name, kind in OTHERS.items() if name in types} | dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, types, places)
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert binary.asm["cubin"]
    print(kernel.__name__)


block, tile, row = {"block": 256}, {"most_n": 128, "most_k": 16}, {"words": 1001, "block": 512}
for missing in ((), ("mask",), ("projected", "mask", "following")):
    compiled(highway._forward, block, missing)
compiled(highway._forward, block, ("mask",), low=("product", "projected", "following"))
for missing in ((), ("d_state",), ("d_state", "mask")):
    compiled(highway._backward, block, missing)
compiled(highway._backward, block, low=("d_read", "d_pre"))
compiled(ordered_neurons._forward, tile, ("following",))
compiled(ordered_neurons._forward, tile, low=("product", "projected", "following"))
compiled(ordered_neurons._backward, tile)
compiled(ordered_neurons._backward, tile, low=("dh", "d_rows"))
for low in ((), ("logits",)):
    compiled(mixture._log_probability, row, low=low)
    compiled(mixture._residual, row, low=low)
for missing in ((), ("mask",)):
    compiled(averaged_step._sum_of_squares, block, missing, masks="*u8")
for missing in ((), ("mask", "total"), ("coefficient",)):
    compiled(averaged_step._step, block, missing, masks="*u8")
'''


def test_every_kernel_compiles_for_an_h100(tmp_path: Path) -> None:
    there = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 6
