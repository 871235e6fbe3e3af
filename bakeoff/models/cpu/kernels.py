"""Small loops of decoding and training in C, compiled on first use where there is a compiler; else torch does the same.

Torch runs them as a dozen operations each, which wait for memory and for Python. Set `BAKEOFF_KERNELS=0` to do without.
Where torch's own OpenMP library is found they use its threads, as many as torch does; else one.
"""

import ctypes
import dataclasses
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

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fPIC")
WIDE = "-mprefer-vector-width=512"
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
ARGUMENTS = {
    "spread": "pi" + 8 * "p", "attend": "pif" + 8 * "p", "norm": "llif" + 3 * "p", "norm_backward": "llif" + 5 * "p",
    "gate": "li" + 3 * "p", "gate_backward": "li" + 5 * "p", "slopes": "llif" + 3 * "p", "draw": "llif" + 4 * "p",
}  # fmt: skip
"""What each kernel takes after the number of threads: pointers, longs, ints and floats."""
FALLIBLE = ("attend", "slopes", "draw")
"""Kernels that allocate memory, and return whether they could not."""


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


def cache_folder() -> Path:
    """Where what can be made again is kept: `BAKEOFF_CACHE`, or a folder in the user's cache."""
    return Path(os.environ.get("BAKEOFF_CACHE", Path.home() / ".cache" / "bakeoff"))


def _compiled(compiler: str) -> Path:
    """The shared library for this source and this processor, from the cache folder or made now."""
    threads = _openmp()
    words = repr((compiler, *FLAGS, WIDE, *threads, torch.__version__, _processor()))
    key = hashlib.sha256(SOURCE.read_bytes() + words.encode()).hexdigest()[:16]
    made = cache_folder() / f"kernels-{key}.so"
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
    kinds = {"p": ctypes.c_void_p, "l": ctypes.c_long, "i": ctypes.c_int, "f": ctypes.c_float}
    for name, arguments in ARGUMENTS.items():
        getattr(lib, name).argtypes = [ctypes.c_int, *(kinds[kind] for kind in arguments)]
        getattr(lib, name).restype = ctypes.c_int if name in FALLIBLE else None
    return lib


def _run(name: str, *arguments: Any) -> None:
    """Call a kernel with as many threads as torch has; raises MemoryError where it finds none."""
    plain = [x.data_ptr() if isinstance(x, Tensor) else DTYPES.get(x, x) for x in arguments]
    if getattr(library(), name)(torch.get_num_threads(), *plain):
        raise MemoryError(f"{name}: no memory for one row")


@dataclasses.dataclass(slots=True)
class Rows:
    """Where the rows of one decoding step stand."""

    length_R: Tensor
    """Tokens each row already holds; the new one is written there."""
    place_R: Tensor
    """Each row's place among all slots' places: slot * `widest` + its place in the slot."""
    widest: int
    """Rows of the largest slot: N."""


def spread(
    joined_RW: Tensor, turns: tuple[Tensor, Tensor], grid: Tensor, own: tuple[Tensor, Tensor], rows: Rows
) -> None:
    """Give queries and keys their rotary positions (arXiv:2104.09864, equation 34), and put them where they belong.

    Arguments:
        joined_RW: queries, keys and values of each row side by side, W = (H + 2 K) D, contiguous.
        turns: cosines and sines [R, D] of the rows' positions.
        grid: receives the queries [P, K, N * G, D], contiguous.
        own: receive the new keys and values [R or more, K, S, D], contiguous.
    """
    cosine, sine = (x.contiguous() for x in turns)
    sizes = _sizes(rows, grid, own[0])
    where = rows.length_R, rows.place_R
    _run("spread", ctypes.addressof(sizes), grid.dtype, joined_RW, cosine, sine, *where, grid, *own)


def attend(grid: Tensor, own: tuple[Tensor, Tensor], shared: tuple[Tensor, Tensor], rows: Rows, scale: float) -> Tensor:
    """Attention of each row's query to the row's own tokens, the new one among them, merged with what its prompt gave.

    Arguments:
        grid: queries [P, K, N * G, D], contiguous.
        own: keys and values of the rows [R or more, K, S, D], contiguous.
        shared: output [P, K, N * G, D] of attention to the prompts, and its log-sum-exp [P, K, N * G].

    Returns:
        The attention's output [1, R, H, D].
    """
    out, lse = shared
    sizes = _sizes(rows, grid, own[0], *out.stride()[:3], *lse.stride())
    heads = grid.shape[1] * grid.shape[2] // rows.widest
    merged = torch.empty(1, len(rows.length_R), heads, grid.shape[3], dtype=grid.dtype)
    where = rows.length_R, rows.place_R
    _run("attend", ctypes.addressof(sizes), grid.dtype, scale, grid, *own, out, lse, *where, merged)
    return merged


def _sizes(rows: Rows, grid: Tensor, keys: Tensor, *strides: int) -> Any:
    _, kv_heads, capacity, size = keys.shape
    sizes = [len(rows.length_R), kv_heads, grid.shape[2] // rows.widest, size, capacity, rows.widest]
    return (ctypes.c_long * 12)(*sizes, *strides)


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """weight * x / sqrt(mean(x^2) + epsilon) over the last dimension (RMSNorm, arXiv:1910.07467, equation 4)."""
    x, size = x.contiguous(), x.shape[-1]
    out = torch.empty_like(x)
    _run("norm", x.numel() // size, size, x.dtype, epsilon, x, weight, out)
    return out


def norm_backward(x: Tensor, weight: Tensor, epsilon: float, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `norm` for its input and its weight."""
    x, grad, size = x.contiguous(), grad.contiguous(), x.shape[-1]
    dx, dweight = torch.empty_like(x), torch.zeros(torch.get_num_threads(), size)
    _run("norm_backward", x.numel() // size, size, x.dtype, epsilon, x, weight, grad, dx, dweight)
    return dx, dweight.sum(0).to(weight.dtype)


def gate(x: Tensor, other: Tensor) -> Tensor:
    """silu(x) * other, of one shape."""
    x, other = x.contiguous(), other.contiguous()
    out = torch.empty_like(x)
    _run("gate", x.numel(), x.dtype, x, other, out)
    return out


def gate_backward(x: Tensor, other: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `gate` for both."""
    x, other, grad = x.contiguous(), other.contiguous(), grad.contiguous()
    found = torch.empty_like(x), torch.empty_like(x)
    _run("gate_backward", x.numel(), x.dtype, x, other, grad, *found)
    return found


def slopes(logits_MV: Tensor, targets_M: Tensor, factor: float) -> Tensor:
    """The log-probabilities [M] of tokens, float32, under softmax(factor * logits); the logits become their slopes."""
    logps_M = torch.empty(len(logits_MV))
    _run("slopes", *logits_MV.shape, logits_MV.dtype, factor, logits_MV, targets_M, logps_M)
    return logps_M


def draw(logits_RV: Tensor, uniform_R: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The first token [R] whose cumulative probability exceeds the uniform number (float64); its log-probability."""
    logits_RV, uniform_R = logits_RV.contiguous(), uniform_R.contiguous()
    tokens, logps = torch.empty(len(logits_RV), dtype=torch.long), torch.empty(len(logits_RV), dtype=torch.float64)
    _run("draw", *logits_RV.shape, logits_RV.dtype, 1 / temperature, logits_RV, uniform_R, tokens, logps)
    return tokens, logps
