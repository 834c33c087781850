#!/usr/bin/env python3
"""Installs the package in a temporary folder, builds programs against it, and compares their results with the tools'.

Usage: package_test.py BUILD_FOLDER CMAKE CXX_COMPILER [-v] [-k PART_OF_A_NAME]
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))
import png  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
CMAKE, COMPILER = sys.argv[2:4]
TINY = HERE.parent / "tools" / "tiny.yaml"
CAPTION = "a red circle"


def run(*command, **environment):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def succeed(*command, **environment):
    result = run(*command, **environment)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="dalle-package-test-")
        cls.work = pathlib.Path(cls.folder.name)
        cls.installed, cls.programs, cls.model = cls.work / "installed", cls.work / "programs", cls.work / "run"
        succeed(CMAKE, "--install", BUILD, "--prefix", cls.installed)
        result = cls.configure(cls.programs)
        assert result.returncode == 0, result.stdout + result.stderr
        succeed(CMAKE, "--build", cls.programs)
        succeed(cls.programs / "train_program", TINY, cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def configure(cls, folder, *options):
        """Clears TORCH_ROOT, which could select a different LibTorch than the build's."""
        return run(CMAKE, "-S", HERE, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_CXX_COMPILER={COMPILER}",
                   f"-DCMAKE_PREFIX_PATH={cls.installed}", *options, TORCH_ROOT="")

    def test_a_program_generates_the_images_of_dalle_sample(self):
        own, tools = self.work / "own", self.work / "tools"
        own.mkdir()
        succeed(self.programs / "sample_program", self.model, CAPTION, own)
        succeed(self.installed / "bin" / "dalle-sample", CAPTION, "--model", self.model, "--device", "cpu", "--seed", 7,
                "--count", 3, "--out", tools)
        for number in (1, 2):
            expected, = tools.glob(f"*-{number:03}.png")
            self.assertEqual(png.pixels((own / f"{number}.png").read_bytes()), png.pixels(expected.read_bytes()))

    def test_a_program_trains_what_dalle_train_trains(self):
        folder = self.work / "other"
        succeed(self.installed / "bin" / "dalle-train", "--config", TINY, "--device", "cpu", "--run-dir", folder)
        for stage in ("dvae", "dalle"):
            own, = (self.model / "checkpoints" / stage).glob("step-000*40")
            same = folder / "checkpoints" / stage / own.name
            for name in ("weights", "ema"):
                self.assertEqual((own / f"{name}.safetensors").read_bytes(), (same / f"{name}.safetensors").read_bytes())

    def test_a_program_catches_errors(self):
        missing = self.work / "missing"
        for command in (("sample_program", missing, CAPTION, self.work), ("train_program", missing, self.work / "run-2")):
            result = run(self.programs / command[0], *command[1:])
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn(f"error: {missing}: ", result.stderr)

    def test_the_library_exports_nothing_but_the_api(self):
        library = self.installed / "lib" / "libdalle.so"
        symbols = succeed("nm", "--dynamic", "--defined-only", "--demangle", library).splitlines()
        strong = {name for kind, name in (line.split(" ", 2)[1:] for line in symbols) if kind in "TDBR"}
        strong -= {"_edata", "_end", "__bss_start", "_init", "_fini"}  # the linker's
        self.assertIn("mkl_serv_intel_cpu_true", strong)  # replaces LibTorch's: see src/tensor/mkl_dispatch.cpp
        strong.remove("mkl_serv_intel_cpu_true")
        self.assertIn("dalle::train(dalle::TrainRequest const&)", strong)
        self.assertEqual([name for name in strong if not name.startswith(("dalle::Model::", "dalle::train(", "dalle::load_image(",
                                                                          "dalle::save_image("))], [])
        succeed(sys.executable, HERE.parents[1] / "scripts" / "check_symbols.py", self.programs / "sample_program")
        needed = re.findall(r"NEEDED.*\[(lib\w+)\.so", succeed("readelf", "--dynamic", self.programs / "sample_program"))
        self.assertLess(needed.index("libdalle"), needed.index("libtorch_cpu"))  # or LibTorch's would be found first

    def test_libtorch_is_found_elsewhere_or_reported(self):
        config = self.installed / "lib" / "cmake" / "dalle" / "dalleConfig.cmake"
        torch = re.search(r"^TORCH_ROOT:PATH=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE).group(1)
        text = config.read_text()
        self.assertIn(f'"{torch}"', text)
        config.write_text(text.replace(f'"{torch}"', '"/nowhere"'))
        try:
            result = self.configure(self.work / "without")
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("Found no LibTorch in", " ".join(result.stderr.split()))
            self.assertIn("Set TORCH_ROOT", " ".join(result.stderr.split()))
            result = self.configure(self.work / "with", f"-DTORCH_ROOT={torch}")
            self.assertEqual(result.returncode, 0, result.stderr)
        finally:
            config.write_text(text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
