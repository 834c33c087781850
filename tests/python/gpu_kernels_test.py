#!/usr/bin/env python3
"""Runs the kernels of src/nn/gpu/kernels in Triton's interpreter, without a GPU, and compares them with the same in float64. Those
of attention get the block masks that the C++ code makes.

Usage: gpu_kernels_test.py PATH_OF_write_block_masks. Exits with 77 (skipped) if the packages are missing.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "src/nn/gpu/kernels"))

try:
    import numpy
    import safetensors.numpy
    import triton

    import attention
    import residual_norm
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


class Array:
    """A numpy array as a tensor that Triton's interpreter can read and write."""

    def __init__(self, array):
        self.array = numpy.ascontiguousarray(array)
        self.dtype = f"torch.{self.array.dtype}"

    def data_ptr(self):
        return self.array.ctypes.data

    def untyped_storage(self):
        return self

    def cpu(self):
        return self

    def copy_(self, _):
        return self

    def new_empty(self, *_, **__):
        return Array(numpy.empty(1, self.array.dtype))

    def set_(self, source, *_):
        self.array = source.array

    def storage_offset(self):
        return 0

    def size(self):
        return self.array.shape

    def stride(self):
        return 0


def not_a_number(*shape):
    return Array(numpy.full(shape, numpy.nan, numpy.float32))


def expected(mask, qkv, d_out):
    """out and d_qkv, by the definition."""
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3).astype(numpy.float64) for i in range(3))
    g = d_out.transpose(0, 2, 1, 3).astype(numpy.float64)
    scale = q.shape[3] ** -0.5
    scores = numpy.where(mask, q @ k.transpose(0, 1, 3, 2) * scale, -numpy.inf)
    weights = numpy.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = weights @ v
    d_scores = weights * (g @ v.transpose(0, 1, 3, 2) - (g * out).sum(-1, keepdims=True)) * scale
    d_qkv = numpy.stack([d_scores @ k, d_scores.transpose(0, 1, 3, 2) @ q, weights.transpose(0, 1, 3, 2) @ g])
    return out.transpose(0, 2, 1, 3), d_qkv.transpose(1, 3, 0, 2, 4)


def run_kernels(tensors, qkv, d_out):
    """out and d_qkv, by the kernels; what they do not write stays NaN."""
    length, text, period, stride, rows = map(int, tensors["order"])
    batch, _, _, heads, width = qkv.shape
    masks = {side: [Array(tensors[f"{side}.{name}"]) for name in ("ranges", "full", "partial", "masks")]
             for side in ("queries", "keys")}
    rest = (length, text, period, stride, heads, width ** -0.5)
    grid = (-(-length // rows) * batch * heads,)
    out, d_qkv = not_a_number(*d_out.shape), not_a_number(*qkv.shape)
    lse, delta = not_a_number(batch, heads, length), not_a_number(batch, heads, length)
    qkv, d_out = Array(qkv), Array(d_out)
    constants = {"ROWS": rows, "WIDTH": width}
    attention.forward[grid](qkv, out, lse, *masks["queries"], *rest, **constants)
    attention.backward_queries[grid](qkv, out, d_out, lse, delta, d_qkv, *masks["queries"], *rest, **constants)
    attention.backward_keys[grid](qkv, d_out, lse, delta, d_qkv, *masks["keys"], *rest, **constants)
    return out.array, d_qkv.array


def expect_close(found, expected, what, limit=1e-5):
    error = numpy.abs(found - expected).max()
    assert error < limit, f"{what} differs by {error}"
    print(f"{what}: largest error {error:.1e}", flush=True)


def check_attention(folder):
    random = numpy.random.default_rng(1)
    paths = sorted(pathlib.Path(folder).iterdir())
    assert len(paths) == 6, paths
    for path in paths:
        tensors = safetensors.numpy.load_file(path)
        mask = tensors["mask"].astype(bool)
        length = len(mask)
        batch, heads, width = (1, 2, 64) if length == 1280 else (2, 3, 32)
        qkv = random.standard_normal((batch, length, 3, heads, width), dtype=numpy.float32)
        d_out = random.standard_normal((batch, length, heads, width), dtype=numpy.float32)
        with numpy.errstate(divide="ignore", invalid="ignore"):  # rows beyond the last position, which are not written
            found = run_kernels(tensors, qkv, d_out)
        for name, one, other in zip(("out", "d_qkv"), found, expected(mask, qkv, d_out)):
            expect_close(one, other, f"{path.stem}, {name}")


def check_norm(rows, width, block, branch, programs):
    random = numpy.random.default_rng(2)
    x, added, d_total, d_normed = random.standard_normal((4, rows, width), dtype=numpy.float32)
    gain, bias = random.standard_normal((2, width), dtype=numpy.float32)
    x += 3
    constants = {"BRANCH": branch, "BLOCK": block}
    total = not_a_number(rows, width) if branch else Array(x)
    normed, mean, rstd = not_a_number(rows, width), not_a_number(rows), not_a_number(rows)
    residual_norm.norm_forward[(rows,)](Array(x), Array(added), Array(gain), Array(bias), total, normed, mean, rstd, width,
                                        1e-5, **constants)
    d_x, d_branch = not_a_number(rows, width), not_a_number(rows, width)
    d_gain, d_bias = not_a_number(programs, width), not_a_number(programs, width)
    residual_norm.norm_backward[(programs,)](total, mean, rstd, Array(gain), Array(d_total), Array(d_normed), d_x, d_branch,
                                             d_gain, d_bias, rows, width, **constants)

    exact = x.astype(numpy.float64) + (added if branch else 0)
    scale = 1 / numpy.sqrt(exact.var(1, keepdims=True) + 1e-5)
    hat = (exact - exact.mean(1, keepdims=True)) * scale
    g = d_normed * gain.astype(numpy.float64)
    d_sum = (g - g.mean(1, keepdims=True) - hat * (g * hat).mean(1, keepdims=True)) * scale + d_total
    what = f"norm of {rows} x {width}{' with a branch' if branch else ''}, "
    expect_close(total.array, exact, what + "total")
    expect_close(normed.array, hat * gain + bias, what + "normed")
    expect_close(d_x.array, d_sum, what + "d_x")
    if branch:
        expect_close(d_branch.array, d_sum, what + "d_branch")
    else:
        assert numpy.isnan(d_branch.array).all(), "there is no branch, but its gradient was written"
    expect_close(d_gain.array.sum(0), (d_normed * hat).sum(0), what + "d_gain", 1e-4)
    expect_close(d_bias.array.sum(0), d_normed.sum(0), what + "d_bias", 1e-4)


def main():
    if not triton.__version__.startswith("3.6."):
        print(f"skipped: found Triton {triton.__version__}, expected 3.6")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        check_attention(folder)
    for branch in (False, True):
        check_norm(rows=7, width=96, block=128, branch=branch, programs=3)
        check_norm(rows=100, width=64, block=64, branch=branch, programs=512)


if __name__ == "__main__":
    main()
