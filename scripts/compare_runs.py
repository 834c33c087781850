"""Comparisons of training runs and of generated images, for gpu_check.py.

same_bits(), close() and same_images() return a line that says how the two agree, or raise Difference.
"""
import hashlib
import json
import math
import struct
import zlib

TOLERANCE = 0.02  # of max(1, value): TF32 convolutions have ten bits of mantissa, and training amplifies the differences
CODES_TOLERANCE = 0.13  # of codes_used, which changes in steps of 1/16
MIN_AGREEMENT = 0.98  # share of the pixel values


class Difference(Exception):
    """Says how two runs or images differ, or what is missing."""


def state_of(run_folder):
    """Hashes of the weights, EMA and moments of the newest checkpoint of each stage."""
    hashes = {}
    for stage in ("dvae", "dalle"):
        checkpoints = sorted((run_folder / "checkpoints" / stage).glob("step-*"))
        if not checkpoints:
            raise Difference(f"the run {run_folder.name} has no checkpoint of the {stage} stage")
        for path in sorted(checkpoints[-1].glob("*.safetensors")):
            hashes[f"{stage}/{checkpoints[-1].name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def metrics_of(run_folder):
    """The lines of metrics.jsonl without the times, which differ from run to run."""
    path = run_folder / "metrics.jsonl"
    if not path.is_file():
        raise Difference(f"the run {run_folder.name} has no metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def same_bits(found, expected):
    """Compares two run folders."""
    hashes, expected_hashes = state_of(found), state_of(expected)
    differing = sorted(key for key in hashes.keys() | expected_hashes.keys() if hashes.get(key) != expected_hashes.get(key))
    lines, expected_lines = metrics_of(found), metrics_of(expected)
    if differing:
        raise Difference(f"{len(differing)} files differ or are missing, the first is {differing[0]}")
    if lines != expected_lines:
        raise Difference(f"the weights are equal, but the metrics differ ({len(lines)} lines, expected {len(expected_lines)})")
    return f"equal bits in {len(hashes)} files of weights and moments and in {len(lines)} lines of metrics"


def relative_to_tolerance(key, value, expected):
    """The error of a metric, as a share of its tolerance; NaN if only one of the values is finite."""
    if value == expected:
        return 0.0
    if value is None or expected is None:  # written for a value that is not finite
        return math.nan
    return abs(value - expected) / (CODES_TOLERANCE if key == "codes_used" else TOLERANCE * max(1, abs(expected)))


def close(found, expected):
    """Compares the metrics of two run folders."""
    lines, expected_lines = metrics_of(found), metrics_of(expected)
    if [(line["stage"], line["step"], line.keys()) for line in lines] != [
            (line["stage"], line["step"], line.keys()) for line in expected_lines]:
        raise Difference(f"different metrics: {len(lines)} lines, expected {len(expected_lines)}")
    worst, where = 0.0, "no difference"
    for line, expected_line in zip(lines, expected_lines):
        for key in line.keys() - {"stage", "step"}:
            error = relative_to_tolerance(key, line[key], expected_line[key])
            if error > worst or math.isnan(error):
                worst = error
                where = f"{key} {line[key]}, expected {expected_line[key]}, at {line['stage']} step {line['step']}"
    text = f"{len(lines)} lines of metrics, at most {worst:.1%} of the tolerance: {where}"
    if not worst <= 1:  # also NaN
        raise Difference(text)
    return text


def pixels_of(path):
    """The bytes of an 8-bit PNG, row by row."""
    content, position, header, packed = path.read_bytes(), 8, b"", b""
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position + 8:position + 8 + size]
        header, packed = (chunk if kind == b"IHDR" else header), packed + (chunk if kind == b"IDAT" else b"")
        position += 12 + size
    width, height, depth, color = struct.unpack_from(">IIBB", header)
    if depth != 8:
        raise Difference(f"{path.name}: found {depth} bits per value, expected 8")
    step = {0: 1, 2: 3, 6: 4}[color]
    raw, row, result = zlib.decompress(packed), bytearray(width * step), bytearray()
    for y in range(height):
        kind, *line = raw[y * (width * step + 1):(y + 1) * (width * step + 1)]
        above, row = row, bytearray(line)
        for x in range(len(row)):
            left, up, corner = (row[x - step], above[x], above[x - step]) if x >= step else (0, above[x], 0)
            paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            row[x] = (row[x] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        result += row
    return bytes(result)


def same_images(folder, expected):
    """Compares two folders of PNG files of the same names."""
    names = sorted(path.name for path in expected.glob("*.png"))
    if not names or names != sorted(path.name for path in folder.glob("*.png")):
        raise Difference("different files")
    found, wanted = ([pixels_of(images / name) for name in names] for images in (folder, expected))
    if [len(image) for image in found] != [len(image) for image in wanted]:
        raise Difference("the images have different sizes")
    pairs = [pair for images in zip(found, wanted) for pair in zip(*images)]
    share = sum(abs(a - b) <= 2 for a, b in pairs) / len(pairs)
    text = f"{share:.2%} of the values of {len(names)} images agree ({MIN_AGREEMENT:.0%})"
    if share < MIN_AGREEMENT:
        raise Difference(text)
    return text
