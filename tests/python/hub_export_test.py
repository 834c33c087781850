#!/usr/bin/env python3
"""Exports models with random weights and compares what rebuild_logits.py computes with them with what the C++ code does.

Usage: hub_export_test.py PATH_OF_hub_example PATH_OF_dalle-export. Exits with 77 (skipped) if torch or safetensors are
missing.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch, safetensors  # not those of rebuild_logits.py alone: an error in it must fail
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)
import rebuild_logits

TOLERANCE = 1e-4
OTHER_CODES = 0.01  # the share of an image's codes that rounding may change
# Those of hub_example.cpp, with options of dalle-export.
VARIANTS = {"small": (), "deep": (), "wide": ("--max-shard-mb", "1"), "vq": (), "vq-unit-norm": (), "fsq": ()}


def check(program, tool, variant, options):
    with tempfile.TemporaryDirectory() as folder:
        run, out, example = (pathlib.Path(folder) / name for name in ("run", "out", "example.safetensors"))
        subprocess.run([program, variant, run, example], check=True)
        subprocess.run([tool, "--model", run, "--format", "hf", "--out", out, *options], check=True)
        assert (out / "model.safetensors.index.json").exists() == bool(options), sorted(out.iterdir())
        kinds = set(json.loads((out / "config.json").read_text())["transformer"]["attention"])
        largest = rebuild_logits.differences(out, example)
        for name, difference in largest.items():
            most = OTHER_CODES if name == "image_codes" else TOLERANCE
            assert difference <= most, f"{variant}: {name} differs by {difference}, expected at most {most}"
        print(f"{variant}:", ", ".join(f"{name} {difference:.1e}" for name, difference in largest.items()))
        return kinds


def main():
    kinds = set()
    for variant, options in VARIANTS.items():
        kinds |= check(*sys.argv[1:], variant, options)
    assert kinds == {"dense", "row", "column", "conv"}, kinds


if __name__ == "__main__":
    main()
