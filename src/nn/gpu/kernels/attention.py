"""Block-sparse attention for GPUs, forward and backward, in Triton.

Queries and keys are taken in an order of places in which the keys of neighboring queries are close together: raster order,
or column by column (`position_of`). A block mask lists, for each block of ROWS places, the blocks of 64 places on the other
side that it has pairs with: `full` ones, all of whose pairs are attended to, and `partial` ones, each with a bit for every
pair. So the kernels do not depend on the attention pattern, and skip all blocks without a pair.

Shapes, all contiguous:
  qkv, d_qkv   [batch, length, 3, heads, WIDTH]
  out, d_out   [batch, length, heads, WIDTH]
  lse, delta   [batch, heads, length] float32: log2 of the sum of the exponentials of the scaled scores; sum of out * d_out
  ranges       [blocks of rows, 4] int32: first and end in `full`, first and end in `partial`
  full, partial  int32: blocks of 64
  masks        [partial, 2, ROWS] int32: bit j of word w of a row: whether the row has a pair with place 32 w + j of the block

Rows are queries in forward() and backward_queries(), and keys in backward_keys(). No sum depends on the order in which
programs run, so results are reproducible. cmake/compile_kernels.py compiles the kernels ahead of time;
src/nn/gpu/cuda_attention_kernels.cpp launches them with one program for each block of rows of each head of each sequence.
"""
import triton
import triton.language as tl

COLUMNS = tl.constexpr(64)  # places on the other side of a block
HIDDEN = tl.constexpr(-1e30)  # the score of a pair that is not attended to
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def position_of(place, text, period, stride):
    """The position in the sequence. Text comes first; then cell c of the image is position c % period * stride + c // period,
    so (image length, 1) is raster order and (grid height, grid width) goes column by column."""
    cell = place - text
    return tl.where(cell < 0, place, text + cell % period * stride + cell // period)


@triton.jit
def task(length, heads, ROWS: tl.constexpr):
    """This program's block of rows, its row of lse, and the sequence and the head of that row."""
    blocks = tl.cdiv(length, ROWS)
    row = tl.program_id(0) // blocks
    return tl.program_id(0) % blocks, row.to(tl.int64), (row // heads).to(tl.int64), row % heads


@triton.jit
def attended(masks, tile, ROWS: tl.constexpr):
    """[ROWS, COLUMNS] bool: the pairs of a partial block."""
    words = masks + tile * 2 * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    word = tl.where((column < 32)[None, :], tl.load(words)[:, None], tl.load(words + ROWS)[:, None])
    return (word & (1 << (column % 32))[None, :]) != 0


@triton.jit
def load(pointers, inside, PARTIAL: tl.constexpr):
    """The values, or 0 outside. A full block has no place beyond the last one, so that nothing needs to be compared."""
    if PARTIAL:
        return tl.load(pointers, mask=inside, other=0.0)
    else:
        return tl.load(pointers)


@triton.jit
def attend(total, top, denominator, q, keys, values, token, tiles, first, end, masks, length, text, period, stride, scale,
           PARTIAL: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Adds the blocks [first, end) of `tiles` to a softmax whose scores are relative to `top`, the largest so far."""
    d = tl.arange(0, WIDTH)
    for tile in range(first, end):
        place = tl.load(tiles + tile) * COLUMNS + tl.arange(0, COLUMNS)
        at = position_of(place, text, period, stride) * token
        inside = place < length
        k = load(keys + at[None, :] + d[:, None], inside[None, :], PARTIAL)
        v = load(values + at[:, None] + d[None, :], inside[:, None], PARTIAL)
        scores = tl.dot(q, k, input_precision='ieee') * scale
        if PARTIAL:
            seen = attended(masks, tile, ROWS)
            scores = tl.where(seen, scores, HIDDEN)
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - new_top[:, None])
        if PARTIAL:
            weights = tl.where(seen, weights, 0.0)  # in a row that has not yet seen any pair, top is HIDDEN as well
        shrink = tl.exp2(top - new_top)
        denominator = denominator * shrink + tl.sum(weights, 1)
        total = tl.dot(weights.to(v.dtype), v, total * shrink[:, None], input_precision='ieee')
        top = new_top
    return total, top, denominator


@triton.jit
def forward(qkv, out, lse, ranges, full, partial, masks, length, text, period, stride, heads, scale,
            ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """out and lse."""
    block, row, sequence, head = task(length, heads, ROWS)
    token = 3 * WIDTH * heads
    queries = qkv + sequence * length * token + head * WIDTH
    keys = queries + heads * WIDTH
    values = keys + heads * WIDTH
    place = block * ROWS + tl.arange(0, ROWS)
    inside = place < length
    position = position_of(place, text, period, stride)
    d = tl.arange(0, WIDTH)
    q = tl.load(queries + position[:, None] * token + d[None, :], mask=inside[:, None], other=0.0)

    total = tl.zeros([ROWS, WIDTH], tl.float32)
    top = tl.full([ROWS], HIDDEN, tl.float32)
    denominator = tl.zeros([ROWS], tl.float32)
    scale *= LOG2_E
    bounds = ranges + block * 4
    total, top, denominator = attend(total, top, denominator, q, keys, values, token, full, tl.load(bounds),
                                     tl.load(bounds + 1), masks, length, text, period, stride, scale, False, ROWS, WIDTH)
    total, top, denominator = attend(total, top, denominator, q, keys, values, token, partial, tl.load(bounds + 2),
                                     tl.load(bounds + 3), masks, length, text, period, stride, scale, True, ROWS, WIDTH)

    out += (sequence * length * heads + head) * WIDTH
    tl.store(out + position[:, None] * (heads * WIDTH) + d[None, :], (total / denominator[:, None]).to(q.dtype),
             mask=inside[:, None])
    tl.store(lse + row * length + position, top + tl.log2(denominator), mask=inside)


@triton.jit
def add_to_d_q(d_q, q, d_out, lse, delta, keys, values, token, tiles, first, end, masks, length, text, period, stride, scale,
               PARTIAL: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    d = tl.arange(0, WIDTH)
    for tile in range(first, end):
        place = tl.load(tiles + tile) * COLUMNS + tl.arange(0, COLUMNS)
        at = position_of(place, text, period, stride) * token
        inside = place < length
        k = load(keys + at[:, None] + d[None, :], inside[:, None], PARTIAL)
        v = load(values + at[None, :] + d[:, None], inside[None, :], PARTIAL)
        weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision='ieee') * scale - lse[:, None])
        if PARTIAL:
            weights = tl.where(attended(masks, tile, ROWS), weights, 0.0)
        d_scores = weights * (tl.dot(d_out, v, input_precision='ieee') - delta[:, None])
        d_q = tl.dot(d_scores.to(k.dtype), k, d_q, input_precision='ieee')
    return d_q


@triton.jit
def backward_queries(qkv, out, d_out, lse, delta, d_qkv, ranges, full, partial, masks, length, text, period, stride, heads,
                     scale, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """The queries' part of d_qkv, and delta."""
    block, row, sequence, head = task(length, heads, ROWS)
    token = 3 * WIDTH * heads
    offset = sequence * length * token + head * WIDTH
    queries = qkv + offset
    keys = queries + heads * WIDTH
    values = keys + heads * WIDTH
    place = block * ROWS + tl.arange(0, ROWS)
    inside = place < length
    position = position_of(place, text, period, stride)
    d = tl.arange(0, WIDTH)
    q = tl.load(queries + position[:, None] * token + d[None, :], mask=inside[:, None], other=0.0)
    at_out = (sequence * length * heads + head) * WIDTH + position[:, None] * (heads * WIDTH) + d[None, :]
    o = tl.load(out + at_out, mask=inside[:, None], other=0.0).to(tl.float32)
    g = tl.load(d_out + at_out, mask=inside[:, None], other=0.0)
    at_sums = row * length + position
    sums = tl.sum(o * g.to(tl.float32), 1)
    tl.store(delta + at_sums, sums, mask=inside)
    logs = tl.load(lse + at_sums, mask=inside, other=0.0)

    d_q = tl.zeros([ROWS, WIDTH], tl.float32)
    bounds = ranges + block * 4
    d_q = add_to_d_q(d_q, q, g, logs, sums, keys, values, token, full, tl.load(bounds), tl.load(bounds + 1), masks, length,
                     text, period, stride, scale * LOG2_E, False, ROWS, WIDTH)
    d_q = add_to_d_q(d_q, q, g, logs, sums, keys, values, token, partial, tl.load(bounds + 2), tl.load(bounds + 3), masks,
                     length, text, period, stride, scale * LOG2_E, True, ROWS, WIDTH)
    tl.store(d_qkv + offset + position[:, None] * token + d[None, :], (d_q * scale).to(q.dtype), mask=inside[:, None])


@triton.jit
def add_to_d_kv(d_k, d_v, k, v, queries, d_out, lse, delta, token, out_token, tiles, first, end, masks, length, text, period,
                stride, scale, PARTIAL: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    d = tl.arange(0, WIDTH)
    for tile in range(first, end):
        place = tl.load(tiles + tile) * COLUMNS + tl.arange(0, COLUMNS)
        position = position_of(place, text, period, stride)
        inside = place < length
        q = load(queries + position[None, :] * token + d[:, None], inside[None, :], PARTIAL)
        g = load(d_out + position[:, None] * out_token + d[None, :], inside[:, None], PARTIAL)
        logs = load(lse + position, inside, PARTIAL)
        sums = load(delta + position, inside, PARTIAL)
        weights = tl.exp2(tl.dot(k, q, input_precision='ieee') * scale - logs[None, :])
        if PARTIAL:
            weights = tl.where(attended(masks, tile, ROWS), weights, 0.0)
        d_v = tl.dot(weights.to(g.dtype), g, d_v, input_precision='ieee')
        d_scores = weights * (tl.dot(v, tl.trans(g), input_precision='ieee') - sums[None, :])
        d_k = tl.dot(d_scores.to(q.dtype), tl.trans(q), d_k, input_precision='ieee')
    return d_k, d_v


@triton.jit
def backward_keys(qkv, d_out, lse, delta, d_qkv, ranges, full, partial, masks, length, text, period, stride, heads, scale,
                  ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """The keys' and values' parts of d_qkv; after backward_queries(), which writes delta."""
    block, row, sequence, head = task(length, heads, ROWS)
    token = 3 * WIDTH * heads
    offset = sequence * length * token + head * WIDTH
    place = block * ROWS + tl.arange(0, ROWS)
    inside = place < length
    d = tl.arange(0, WIDTH)
    at = offset + heads * WIDTH + position_of(place, text, period, stride)[:, None] * token + d[None, :]
    k = tl.load(qkv + at, mask=inside[:, None], other=0.0)
    v = tl.load(qkv + at + heads * WIDTH, mask=inside[:, None], other=0.0)
    d_out += (sequence * length * heads + head) * WIDTH
    lse += row * length
    delta += row * length

    d_k = tl.zeros([ROWS, WIDTH], tl.float32)
    d_v = tl.zeros([ROWS, WIDTH], tl.float32)
    bounds = ranges + block * 4
    d_k, d_v = add_to_d_kv(d_k, d_v, k, v, qkv + offset, d_out, lse, delta, token, heads * WIDTH, full, tl.load(bounds),
                           tl.load(bounds + 1), masks, length, text, period, stride, scale * LOG2_E, False, ROWS, WIDTH)
    d_k, d_v = add_to_d_kv(d_k, d_v, k, v, qkv + offset, d_out, lse, delta, token, heads * WIDTH, partial, tl.load(bounds + 2),
                           tl.load(bounds + 3), masks, length, text, period, stride, scale * LOG2_E, True, ROWS, WIDTH)
    tl.store(d_qkv + at, (d_k * scale).to(k.dtype), mask=inside[:, None])
    tl.store(d_qkv + at + heads * WIDTH, d_v.to(k.dtype), mask=inside[:, None])
