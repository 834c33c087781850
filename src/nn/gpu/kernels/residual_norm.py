"""Layer normalization of the sum of a residual stream and a branch for GPUs, forward and backward, in Triton.

Shapes, all contiguous:
  x, total, d_total, d_x             [rows, width] float32
  branch, normed, d_normed, d_branch  [rows, width] bfloat16
  mean, rstd                          [rows] float32: the mean, and one over the standard deviation
  gain, bias                          [width] float32
  d_gain, d_bias                      [programs, width] float32: partial sums, in a fixed order

width is a multiple of 16, and BLOCK a power of two that is at least width. With BRANCH = False there is no branch: total is x
itself and is not written, and neither is d_branch. norm_backward() runs as any number of programs. cmake/compile_kernels.py
compiles the kernels ahead of time; src/nn/gpu/cuda_norm_kernels.cpp launches them.
"""
import triton
import triton.language as tl


@triton.jit
def norm_forward(x, branch, gain, bias, total, normed, mean, rstd, width, epsilon, BRANCH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    at = row * width + column
    values = tl.load(x + at, mask=inside, other=0.0)
    if BRANCH:
        values += tl.load(branch + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(total + at, values, mask=inside)
    center = tl.sum(values, 0) / width
    centered = tl.where(inside, values - center, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centered * centered, 0) / width + epsilon)
    result = centered * scale * tl.load(gain + column, mask=inside) + tl.load(bias + column, mask=inside)
    tl.store(normed + at, result.to(normed.dtype.element_ty), mask=inside)
    tl.store(mean + row, center)
    tl.store(rstd + row, scale)


@triton.jit
def norm_backward(total, mean, rstd, gain, d_total, d_normed, d_x, d_branch, d_gain, d_bias, rows, width, BRANCH: tl.constexpr,
                  BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = column < width
    gains = tl.load(gain + column, mask=inside, other=0.0)
    gain_sum = tl.zeros([BLOCK], tl.float32)
    bias_sum = tl.zeros([BLOCK], tl.float32)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        at = row * width.to(tl.int64) + column
        scale = tl.load(rstd + row)
        hat = tl.where(inside, (tl.load(total + at, mask=inside, other=0.0) - tl.load(mean + row)) * scale, 0.0)
        g = tl.load(d_normed + at, mask=inside, other=0.0).to(tl.float32)
        gain_sum += g * hat
        bias_sum += g
        g *= gains
        d = (g - tl.sum(g, 0) / width - hat * (tl.sum(g * hat, 0) / width)) * scale
        d += tl.load(d_total + at, mask=inside, other=0.0)
        tl.store(d_x + at, d, mask=inside)
        if BRANCH:
            tl.store(d_branch + at, d.to(d_branch.dtype.element_ty), mask=inside)
    at = tl.program_id(0) * width + column
    tl.store(d_gain + at, gain_sum, mask=inside)
    tl.store(d_bias + at, bias_sum, mask=inside)
