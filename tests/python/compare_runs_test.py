#!/usr/bin/env python3
"""scripts/compare_runs.py, which decides for gpu_check.py whether runs and images agree."""
import json
import pathlib
import struct
import sys
import tempfile
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/tools")]
import compare_runs
import png

LINE = {"stage": "dalle", "step": 5, "loss": 2.0, "codes_used": 0.5, "time": {"step_ms": 3}}


def gray_png(values, width=20):
    """An 8-bit gray image, each row with another filter of the format."""
    rows, above = b"", bytes(width)
    for y in range(len(values) // width):
        row, kind = bytes(values[y * width:(y + 1) * width]), y % 5
        left, corner = bytes(1) + row[:-1], bytes(1) + above[:-1]

        def paeth(a, b, c):
            return min((a, b, c), key=lambda value: abs(a + b - c - value))

        guesses = [(0, a, b, (a + b) // 2, paeth(a, b, c))[kind] for a, b, c in zip(left, above, corner)]
        rows += bytes([kind]) + bytes((x - guess) & 255 for x, guess in zip(row, guesses))
        above = row

    header = struct.pack(">IIBBBBB", width, len(values) // width, 8, 0, 0, 0, 0)
    return png.SIGNATURE + png.chunk(b"IHDR", header) + png.chunk(b"IDAT", zlib.compress(rows)) + png.chunk(b"IEND", b"")


class CompareRunsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_folder(self, name, weights=b"weights", **metrics):
        folder = self.folder / name
        for stage in ("dvae", "dalle"):
            checkpoint = folder / "checkpoints" / stage / "step-00000005"
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.safetensors").write_bytes(weights)
        (folder / "metrics.jsonl").write_text(json.dumps({**LINE, **metrics}) + "\n")
        return folder

    def test_equal_runs_agree_whatever_they_took(self):
        first, second = self.run_folder("a"), self.run_folder("b", time={"step_ms": 9})
        self.assertIn("equal bits in 2 files", compare_runs.same_bits(first, second))
        compare_runs.close(first, second)

    def test_bits_of_weights_and_metrics_count(self):
        expected = self.run_folder("a")
        for name, run in (("weights", self.run_folder("b", weights=b"weightS")), ("metrics", self.run_folder("c", loss=2.0000001))):
            with self.subTest(name), self.assertRaises(compare_runs.Difference):
                compare_runs.same_bits(run, expected)

    def test_metrics_may_differ_within_the_tolerance(self):
        expected = self.run_folder("a")
        compare_runs.close(self.run_folder("b", loss=2.03, codes_used=0.6), expected)
        for name, change in (("loss", 2.05), ("codes_used", 0.7), ("loss", None), ("loss", float("nan"))):
            with self.subTest(f"{name} {change}"), self.assertRaises(compare_runs.Difference):
                compare_runs.close(self.run_folder(f"{name}-{change}", **{name: change}), expected)

    def test_a_missing_checkpoint_is_named(self):
        run = self.run_folder("a")
        (run / "checkpoints/dalle/step-00000005/model.safetensors").unlink()
        (run / "checkpoints/dalle/step-00000005").rmdir()
        with self.assertRaisesRegex(compare_runs.Difference, "a has no checkpoint of the dalle stage"):
            compare_runs.same_bits(run, self.run_folder("b"))

    def test_images_agree_if_nearly_all_values_do(self):
        values = [(7 * i) % 251 for i in range(400)]

        def images(name, changed, difference):
            folder = self.folder / name
            folder.mkdir()
            (folder / "0.png").write_bytes(gray_png([value + difference if i < changed else value for i, value in enumerate(values)]))
            return folder

        expected = images("expected", 0, 0)
        compare_runs.same_images(images("all-by-2", 400, 2), expected)
        compare_runs.same_images(images("few", 8, 4), expected)
        with self.assertRaises(compare_runs.Difference):
            compare_runs.same_images(images("many", 20, 4), expected)


if __name__ == "__main__":
    unittest.main()
