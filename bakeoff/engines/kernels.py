"""Decoding's three small loops in C, compiled on first use where there is a compiler; without one torch does the same.

Torch runs them as a dozen operations each, which wait for memory and for Python. Set `BAKEOFF_KERNELS=0` to do without.
Where torch's own OpenMP library is found they use its threads, as many as torch does; else one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bakeoff import models

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fPIC")
WIDE = "-mprefer-vector-width=512"
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors: on the CPU, float32 or bfloat16, and compiled."""
    return all(t.device.type == "cpu" and t.dtype in DTYPES for t in tensors) and library() is not None


@functools.cache
def library() -> Any:
    """The compiled kernels; None where they are switched off or no C compiler makes them."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get("BAKEOFF_KERNELS") == "0" or not compiler or platform.system() == "Windows":
        return None
    try:
        return _declare(ctypes.CDLL(str(_compiled(compiler))))
    except (OSError, subprocess.CalledProcessError):
        return None


def _compiled(compiler: str) -> Path:
    """The shared library for this source and this processor, from the cache folder or made now."""
    threads = _openmp()
    words = repr((compiler, *FLAGS, WIDE, *threads, torch.__version__, _processor()))
    key = hashlib.sha256(SOURCE.read_bytes() + words.encode()).hexdigest()[:16]
    made = models.cache_folder() / f"kernels-{key}.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent, prefix=".kernels.") as folder:
            compile_ = [compiler, *FLAGS, *(["-fopenmp"] if threads else []), "-c", str(SOURCE), "-o", f"{folder}/k.o"]
            if subprocess.run([*compile_, WIDE], capture_output=True, check=False).returncode:  # a flag of x86 alone
                subprocess.run(compile_, capture_output=True, check=True)
            # linked without -ffast-math: with it, loading would make the whole process flush denormal numbers to zero
            link = [compiler, "-shared", f"{folder}/k.o", *threads, "-lm", "-o", f"{folder}/{made.name}"]
            subprocess.run(link, capture_output=True, check=True)
            Path(folder, made.name).replace(made)
    return made


def _openmp() -> list[str]:
    """Torch's own OpenMP library: a second one would have threads of its own, which fight with torch's."""
    package = Path(torch.__file__).parent
    found = sorted(x for folder in (package / "lib", package.with_name("torch.libs")) for x in folder.glob("libgomp*"))
    return [str(x) for x in found[:1]]


def _processor() -> str:
    """What the compiled code depends on: a cache folder may be shared by machines that differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.system()} {platform.machine()} {flags}"


def _declare(lib: Any) -> Any:
    lib.attend.argtypes = [ctypes.c_int, _POINTER, ctypes.c_int, ctypes.c_float, *[_POINTER] * 10]
    lib.norm.argtypes = [ctypes.c_int, _LONG, _LONG, ctypes.c_int, ctypes.c_float, *[_POINTER] * 3]
    lib.draw.argtypes = [ctypes.c_int, _LONG, _LONG, ctypes.c_int, ctypes.c_float, *[_POINTER] * 4]
    return lib


def attend(
    qkv: tuple[Tensor, Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    length_R: Tensor,
    place_R: Tensor,
    scale: float,
) -> Tensor:
    """Write each row's new key and value behind its own, attend to those, and merge with what its prompt gave.

    Arguments:
        qkv: the step's queries [1, H, R, D], keys and values [1, K, R, D].
        own: keys and values of the rows [R or more, K, S, D], contiguous; written at `length_R`.
        shared: output [P, K, N * G, D] of attention to the prompts, and its log-sum-exp [P, K, N * G].
        length_R: tokens that each row holds already.
        place_R: slot * N + the row's place in its slot.

    Returns:
        The attention's output [1, R, H, D].
    """
    threads = torch.get_num_threads()
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in qkv)
    _, heads, rows, size = q.shape
    kv_heads, group = k.shape[1], heads // k.shape[1]
    out, lse = shared
    strides = [q.stride(2), q.stride(1), k.stride(2), k.stride(1), v.stride(2), v.stride(1)]
    sizes = [rows, kv_heads, group, size, own[0].shape[2], out.shape[2] // group]
    numbers = (_LONG * 18)(*sizes, *strides, *out.stride()[:3], *lse.stride())
    merged = torch.empty(1, rows, heads, size, dtype=q.dtype)
    pointers = [x.data_ptr() for x in (q, k, v, *own, out, lse, length_R, place_R, merged)]
    if library().attend(threads, ctypes.addressof(numbers), DTYPES[q.dtype], scale, *pointers):
        raise MemoryError("no memory for the attention's scores")
    return merged


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """weight * x / sqrt(mean(x^2) + epsilon) over the last dimension (RMSNorm, arXiv:1910.07467, equation 4)."""
    threads = torch.get_num_threads()
    x = x.contiguous()
    out = torch.empty_like(x)
    size = x.shape[-1]
    pointers = [t.data_ptr() for t in (x, weight, out)]
    library().norm(threads, x.numel() // size, size, DTYPES[x.dtype], epsilon, *pointers)
    return out


def draw(logits_RV: Tensor, uniform_R: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The first token [R] whose cumulative probability exceeds the uniform number (float64); its log-probability."""
    threads = torch.get_num_threads()
    logits_RV, uniform_R = logits_RV.contiguous(), uniform_R.contiguous()
    rows, size = logits_RV.shape
    tokens, logps = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.float64)
    pointers = [t.data_ptr() for t in (logits_RV, uniform_R, tokens, logps)]
    if library().draw(threads, rows, size, DTYPES[logits_RV.dtype], 1 / temperature, *pointers):
        raise MemoryError("no memory for one row of probabilities")
    return tokens, logps
