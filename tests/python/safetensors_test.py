#!/usr/bin/env python3
"""Exchanges files with the PyPI package `safetensors`, both ways.

Usage: safetensors_test.py PATH_OF_safetensors_exchange. Exits with 77 (skipped) if the packages are missing.
"""
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

NUMPY_TYPES = {"U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16",
               "I32": "int32", "F32": "float32", "I64": "int64", "F64": "float64"}


def expected() -> dict[str, numpy.ndarray]:
    """All types that numpy has; bfloat16 is compared as bytes."""
    arrays = {name: numpy.arange(6, dtype=dtype).reshape(2, 3) for name, dtype in NUMPY_TYPES.items()}
    arrays["BOOL"] = numpy.array([True, False, True])
    arrays["scalar"] = numpy.array(1.5, dtype="float32")
    arrays["empty"] = numpy.empty((0, 4), dtype="float32")
    return arrays


def bfloat16_bytes() -> bytes:
    """The numbers 0 to 5: the upper halves of their float32 bytes."""
    return b"".join(struct.pack("<f", number)[2:] for number in range(6))


def check_what_cpp_wrote(path: pathlib.Path) -> None:
    raw = dict(safetensors.deserialize(path.read_bytes()))
    assert raw.keys() == expected().keys() | {"BF16"}, sorted(raw)
    assert raw["BF16"]["dtype"] == "BF16" and raw["BF16"]["shape"] == [2, 3]
    assert bytes(raw["BF16"]["data"]) == bfloat16_bytes()
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt", "note": "from C++"}, file.metadata()
        for name, array in expected().items():
            found = file.get_tensor(name)
            assert found.dtype == array.dtype and found.shape == array.shape, name
            assert numpy.array_equal(found, array), name


def write_for_cpp(path: pathlib.Path) -> None:
    safetensors.numpy.save_file(expected(), path, {"note": "from Python"})


def main() -> None:
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.safetensors"
        subprocess.run([program, "write", path], check=True)
        check_what_cpp_wrote(path)
        write_for_cpp(path)
        subprocess.run([program, "check", path], check=True)
        print("safetensors", safetensors.__version__, "agrees both ways")


if __name__ == "__main__":
    main()
