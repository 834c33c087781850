"""What the tests of the tools share: the binaries, a finished run, and ways to start tools and read what they write."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

import png

BIN = pathlib.Path(sys.argv[1]).resolve()
TINY = pathlib.Path(__file__).with_name("tiny.yaml").resolve()
REPOSITORY = TINY.parents[2]
RELEASED = REPOSITORY / "tests" / "fixtures" / "released_dvae"
RELEASED_CLIP = REPOSITORY / "tests" / "fixtures" / "clip"
STAGES = ("dvae", "dalle")
CLIP = ("--set", "clip={model: {patch_size: 8, image_depth: 1, image_heads: 2, image_width: 16, text_depth: 1, text_heads: 2, "
        "text_width: 16, text_length: 16, embed_dim: 8}, train: {steps: 20, batch_size: 8, learning_rate: 0.003, warmup_steps: 0, "
        "log_every: 5, eval_every: 10, eval_samples: 16, eval_chunk: 8, save_every: 5}}")
STATE = ("weights", "ema", "first_moment", "second_moment")


def run(tool, *arguments, cwd=None, **environment):
    """Runs a tool to completion and returns the process with its output as text."""
    return subprocess.run([BIN / tool, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def train(folder, *arguments):
    return run("dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", *arguments)


def start_training(folder, *arguments, **environment):
    return subprocess.Popen([BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", *arguments],
                            stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def start_rank(rank, ranks, port, folder, *arguments, tool="dalle-train"):
    """Starts a rank like torchrun does."""
    what = ["--config", TINY, "--run-dir", folder] if tool == "dalle-train" else ["--model", folder]
    variables = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return subprocess.Popen([BIN / tool, *what, "--device", "cpu", *arguments], stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL if tool == "dalle-eval" else None, text=True,
                            env={**os.environ, **{name: str(value) for name, value in variables.items()}})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def newest_checkpoint(folder, stage):
    return sorted((pathlib.Path(folder) / "checkpoints" / stage).glob("step-*"))[-1]


def state_hashes(folder, stages=STAGES):
    """Hashes of the weights, EMA and moments of the newest checkpoint of each stage."""
    return {(stage, name): hashlib.sha256((newest_checkpoint(folder, stage) / f"{name}.safetensors").read_bytes()).hexdigest()
            for stage in stages for name in STATE}


def metrics(folder, stages=STAGES):
    """The lines of metrics.jsonl without the times, which differ from run to run."""
    lines = []
    for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        values.pop("time", None)
        if values["stage"] in stages:
            lines.append(values)
    return lines


def skipped(folder):
    """Why samples of a run were skipped in training and validation, by key."""
    reasons = {}
    for name in ("skipped.jsonl", "skipped_validation.jsonl"):
        for line in (pathlib.Path(folder) / name).read_text().splitlines():
            entry = json.loads(line)
            reasons[entry["key"]] = entry["reason"]
    return reasons


def hashes_below(folder):
    """Hashes of all files in a folder, by their paths."""
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def settings(stages=STAGES, **values):
    """Options that set keys of `train` in each stage."""
    return [word for stage in stages for key, value in values.items() for word in ("--set", f"{stage}.train.{key}={value}")]


def on_images(path, *arguments, kind="folder"):
    """Options for training on given images."""
    return ("--set", f"data.kind={kind}", "--set", f"data.path={path}", "--set", "data.validation_fraction=0.2", *arguments)


class ToolCase(unittest.TestCase):
    """Has a finished run of tiny.yaml, `whole`, and a folder for new ones."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="dalle-test-")
        cls.work = pathlib.Path(cls.folder.name)
        cls.whole = cls.work / "runs" / "whole"
        result = train(cls.whole)
        assert result.returncode == 0, result.stderr

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def fresh(self, name):
        path = self.work / f"{self.id().rsplit('.', 1)[1]}-{name}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def copy_of_whole(self, name="copy"):
        path = self.fresh(name)
        shutil.copytree(self.whole, path)
        return path

    def whole_with_clip(self):
        """A copy of the finished run, with a contrastive model."""
        folder = self.copy_of_whole("with-clip")
        self.assert_succeeds(train(folder, *CLIP, "--stage", "clip"))
        return folder

    def compile_faults(self):
        """Compiles the library that makes the disk fail."""
        library = self.work / "faults.so"
        source = REPOSITORY / "tests" / "chaos" / "faults.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        return library

    def assert_succeeds(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)

    def assert_fails(self, result, status, *texts):
        """The tool exited with `status` and one clear error line, without a backtrace."""
        self.assertEqual(result.returncode, status, result.stderr)
        for text in texts:
            self.assertIn(str(text), result.stderr)
        lines = result.stderr.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        self.assertNotIn("frame #", result.stderr)

    def sample(self, *arguments, model=None, **environment):
        return run("dalle-sample", *arguments, "--device", "cpu", *(("--model", model) if model else ()), cwd=self.work, **environment)

    def images(self, folder):
        return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.png"))}

    def checkpoint_with(self, change_config=lambda text: text, **manifest_entries):
        """A copy of the newest checkpoint with a changed config and changed manifest entries, and a valid manifest."""
        copy = self.fresh("model")
        shutil.copytree(newest_checkpoint(self.whole, "dalle"), copy)
        config = change_config((copy / "config.yaml").read_text()).encode()
        (copy / "config.yaml").write_bytes(config)
        manifest = json.loads((copy / "manifest.json").read_text()) | manifest_entries
        manifest["files"]["config.yaml"] = {"size": len(config), "sha256": hashlib.sha256(config).hexdigest()}
        del manifest["manifest_sha256"]
        manifest["manifest_sha256"] = hashlib.sha256(json.dumps(manifest, separators=(",", ":")).encode()).hexdigest()
        (copy / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        return copy

    def noise_png(self, name, width, height):
        path = self.fresh(name)
        path.write_bytes(png.png(width, height, random.Random(name).randbytes(3 * width * height)))
        return path


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
