#!/usr/bin/env python3
"""Tests the real binaries: training that is killed and resumed, sampling, and all kinds of invalid input.

Usage: tools_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]... [ToolsTest.test_...]...
"""
import base64
import collections
import contextlib
import hashlib
import html.parser
import http.client
import json
import math
import os
import pathlib
import pickle
import pty
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
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


@contextlib.contextmanager
def hang_ups(action):
    """Sets what SIGHUP does in processes started meanwhile, independently of how the tests were started."""
    previous = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


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


def ranks_of(process):
    """The processes started with --ranks, by rank."""
    return list(map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


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


def safetensors_of(path):
    """The shapes and bytes of the tensors in a file, by name."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    return {name: (entry["shape"], raw[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]])
            for name, entry in header.items() if name != "__metadata__"}


def hashes_below(folder):
    """Hashes of all files in a folder, by their paths."""
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


class Hostile:
    """Its pickle creates a file when Python reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class ElementChecker(html.parser.HTMLParser):
    """Fails if the elements of a report are not nested correctly."""

    EMPTY = {"meta", "img", "br", "line", "rect", "circle", "polyline"}

    def __init__(self):
        super().__init__()
        self.open = []
        self.counts = collections.Counter()

    def handle_starttag(self, tag, attributes):
        self.counts[tag] += 1
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY and (not self.open or self.open.pop() != tag):
            raise ValueError(f"</{tag}> at {self.getpos()} closes another element")


def elements_of(report):
    """The number of elements of each kind in a report, which must be well-formed and refer to no other file."""
    text = report.read_text()
    checker = ElementChecker()
    checker.feed(text)
    checker.close()
    if checker.open:
        raise ValueError(f"not closed: {checker.open}")
    found = re.search(r"https?://|@import|url\(|(src|href)=\"(?!data:|#)", text)
    if found:
        raise ValueError(f"not self-contained: {found[0]}")
    return checker.counts


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def settings(stages=STAGES, **values):
    """Options that set keys of `train` in each stage."""
    return [word for stage in stages for key, value in values.items() for word in ("--set", f"{stage}.train.{key}={value}")]


def noise_image(number, width=40, height=36):
    return png.png(width, height, random.Random(number).randbytes(3 * width * height))


def write_images(folder, count):
    """Writes images of noise, each with two captions."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"noise-{number:02}.png").write_bytes(noise_image(number))
        (folder / f"noise-{number:02}.txt").write_text(f"noise number {number}\nsome noise\n")


def on_images(path, *arguments, kind="folder"):
    """Options for training on given images."""
    return ("--set", f"data.kind={kind}", "--set", f"data.path={path}", "--set", "data.validation_fraction=0.2", *arguments)


class ToolsTest(unittest.TestCase):
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

    # ---- training ----

    def test_a_run_folder_has_the_documented_files(self):
        for name in ("config.yaml", "versions.json", "metrics.jsonl", "tokenizer.model", "log.txt"):
            self.assertTrue((self.whole / name).is_file(), name)
        self.assertTrue(list(self.whole.glob("tensorboard/*/*")))
        self.assertTrue(list(self.whole.glob("samples/**/*.png")))
        stages = [(line["stage"], line["step"]) for line in metrics(self.whole)]
        self.assertIn(("dvae", 40), stages)
        self.assertIn(("dalle", 40), stages)

    def test_a_run_killed_at_random_ends_with_the_same_bits(self):
        folder = self.fresh("run")
        chance = random.Random(11)
        kills = 0
        while kills < 8:
            process = start_training(folder)
            try:
                process.wait(timeout=chance.uniform(0.6, 2.5))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        self.assertGreater(kills, 0)
        result = train(folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(folder), state_hashes(self.whole))
        self.assertEqual(metrics(folder), metrics(self.whole))

    def test_a_signal_makes_training_save_and_exit(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            folder = self.fresh(f"run-{number}")
            with hang_ups(signal.SIG_DFL):
                process = start_training(folder, "--set", "dvae.train.steps=100000", "--set", "dvae.train.save_every=100000",
                                         "--set", "dvae.train.keep_best=false")
            while not (folder / "metrics.jsonl").is_file() or not metrics(folder):
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=60), 128 + number)
            self.assertEqual(len(list((folder / "checkpoints" / "dvae").glob("step-*"))), 1)

    def test_a_signal_before_the_first_step_ends_the_run_at_once(self):
        """Before the first step there is nothing to save, and long preparations cannot be interrupted."""
        for ranks in (1, 2):
            folder, model = self.fresh(f"run-{ranks}"), self.fresh(f"pipe-{ranks}")
            os.mkfifo(model)  # nobody writes to it, so reading the tokenizer takes forever
            process = start_training(folder, "--ranks", str(ranks), "--set", f"tokenizer.model={model}")
            while not (folder / "data.txt").is_file():
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=15), 128 + signal.SIGINT)
            self.assertIn("nothing to save", (folder / "log.txt").read_text())
            self.assertFalse((folder / "checkpoints").exists())

    def start_training_into_a_pipe(self, folder, *arguments):
        """Starts training that would take hours, waits for its first step, and returns it with the read end of its output."""
        read_end, write_end = os.pipe()
        process = subprocess.Popen(
            [BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--set", "dvae.train.steps=100000",
             "--set", "dvae.train.save_every=100000", "--set", "dvae.train.keep_best=false", *arguments],
            stdout=write_end, stderr=write_end, env={**os.environ, "OMP_NUM_THREADS": "1"})
        os.close(write_end)
        self.wait_for_lines(process, folder, 1)
        return process, read_end

    def wait_for_lines(self, process, folder, count):
        """Waits until training has written `count` more lines of metrics."""
        lines = folder / "metrics.jsonl"
        before = len(metrics(folder)) if lines.is_file() else 0
        while not lines.is_file() or len(metrics(folder)) < before + count:
            time.sleep(0.05)
            self.assertIsNone(process.poll())

    def test_training_continues_and_saves_if_its_output_pipe_is_closed(self):
        for ranks in (1, 2):
            folder = self.fresh(f"run-{ranks}")
            process, output = self.start_training_into_a_pipe(folder, "--ranks", str(ranks))
            os.close(output)
            self.wait_for_lines(process, folder, 2)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=60), 128 + signal.SIGINT)
            self.assertEqual(len(list((folder / "checkpoints" / "dvae").glob("step-*"))), 1)
            self.assertIn("stopped and saved", (folder / "log.txt").read_text().splitlines()[-1])

    def test_under_nohup_training_ignores_a_hangup(self):
        folder = self.fresh("run")
        with hang_ups(signal.SIG_IGN):
            process = start_training(folder, "--set", "dvae.train.steps=100000")
        self.wait_for_lines(process, folder, 1)
        process.send_signal(signal.SIGHUP)
        self.wait_for_lines(process, folder, 2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), 128 + signal.SIGTERM)

    def test_training_without_standard_streams_has_the_same_bits(self):
        """No file may get the descriptor of a standard stream, to which others write."""
        folder = self.fresh("run")
        result = subprocess.run(
            ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu",
             "--stage", "dvae"], timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(result.returncode, 0)
        self.assertEqual(state_hashes(folder, ["dvae"]), state_hashes(self.whole, ["dvae"]))
        self.assertEqual(metrics(folder, ["dvae"]), metrics(self.whole, ["dvae"]))

    def test_a_second_signal_ends_a_run_at_once(self):
        """Even while it saves: an unfinished checkpoint is worthless, and the previous one can be resumed."""
        faults = self.compile_faults()
        for ranks, first, second in ((1, signal.SIGTERM, signal.SIGTERM), (2, signal.SIGUSR1, signal.SIGINT)):
            folder, saving = self.fresh(f"run-{ranks}"), self.fresh(f"saving-{ranks}")
            process = start_training(
                folder, "--ranks", str(ranks), LD_PRELOAD=str(faults), FAULT_KIND="slow", FAULT_RANK="0", FAULT_CALL="1",
                FAULT_FOLDER=str(folder / "checkpoints" / "dvae" / "step-00000010"), FAULT_REPORT=str(saving))
            while not saving.exists():
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            processes = ranks_of(process)
            process.send_signal(first)
            time.sleep(1)
            self.assertIsNone(process.poll(), "the first signal must wait for the checkpoint, which takes a minute")
            process.send_signal(second)
            self.assertEqual(process.wait(timeout=2), 128 + second)
            self.assertEqual([rank for rank in processes if pathlib.Path(f"/proc/{rank}").exists()], [])
            result = train(folder, "--ranks", ranks, *(() if ranks == 1 else ("--stage", "dvae")))
            self.assert_succeeds(result)
            self.assertIn("dvae: resuming from step 5 of 40", result.stderr)
            if ranks == 1:
                self.assertEqual(state_hashes(folder), state_hashes(self.whole))
                self.assertEqual(metrics(folder), metrics(self.whole))

    def assert_same_within_rounding(self, lines, expected):
        """Checks that lines of metrics.jsonl are equal except for the order of summation."""
        self.assertEqual(len(lines), len(expected))
        for line, other in zip(lines, expected):
            self.assertEqual(line.keys(), other.keys())
            for key, value in line.items():
                if isinstance(value, float):
                    self.assertAlmostEqual(value, other[key], delta=2e-3 * max(1, abs(other[key])), msg=f"{key}: {line}")
                else:
                    self.assertEqual(value, other[key], f"{key}: {line}")

    def test_two_ranks_train_like_one(self):
        folder = self.fresh("run")
        result = train(folder, "--ranks", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_same_within_rounding(metrics(folder), metrics(self.whole))
        self.assertTrue((folder / "log_rank1.txt").is_file())

    def test_ranks_killed_at_random_moments_end_with_the_same_bits(self):
        folder, whole = self.fresh("run"), self.fresh("whole")
        result = train(whole, "--ranks", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        chance = random.Random(12)
        for _ in range(4):
            process = start_training(folder, "--ranks", "2")
            time.sleep(chance.uniform(1, 3))
            for pid in ranks_of(process) if process.poll() is None else []:
                os.kill(pid, signal.SIGKILL)
            process.wait(timeout=60)
        result = train(folder, "--ranks", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(folder), state_hashes(whole))
        self.assertEqual(metrics(folder), metrics(whole))

    def test_exact_training_has_one_sha256_on_any_number_of_ranks(self):
        """Weights, average and moments after 200 steps; also when the world changes half way."""
        exact = ("--set", "distributed.bitwise=true", "--set", "dalle.train.sample_every=100",
                 *settings(batch_size=8, micro_batch_size=1, eval_every=100, save_every=100))

        def train_exactly(name, ranks, dvae_steps, dalle_steps=0, shard="false"):
            folder = self.work / f"exact-{name}"
            stages = (*settings(["dvae"], steps=dvae_steps),
                      *(settings(["dalle"], steps=dalle_steps) if dalle_steps else ("--stage", "dvae")))
            result = train(folder, *exact, *stages, "--ranks", ranks, "--set", f"distributed.shard_optimizer={shard}")
            self.assert_succeeds(result)
            return folder

        one = train_exactly("one", 1, 200, 200)
        for ranks, shard in ((2, "false"), (4, "true"), (8, "false")):
            folder = train_exactly(f"{ranks}-ranks", ranks, 200, shard=shard)
            self.assertEqual(state_hashes(folder, ["dvae"]), state_hashes(one, ["dvae"]), f"{ranks} ranks")
            self.assertEqual(metrics(folder, ["dvae"]), metrics(one, ["dvae"]), f"{ranks} ranks")
        train_exactly("changing", 1, 100)
        train_exactly("changing", 2, 200, 100, shard="true")
        changing = train_exactly("changing", 4, 200, 200)
        self.assertEqual(state_hashes(changing), state_hashes(one))
        self.assertEqual(metrics(changing), metrics(one))

    def ranks_that_train_on(self, folder):
        """Starts two ranks that would train for hours and waits for their first step; returns the launcher and the ranks."""
        process = subprocess.Popen(
            [BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--ranks", "2", "--set",
             "dvae.train.steps=100000", "--set", "distributed.timeout_s=2"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not (folder / "metrics.jsonl").is_file() or not metrics(folder):
            time.sleep(0.05)
            self.assertIsNone(process.poll())
        return process, ranks_of(process)

    def test_ranks_name_a_stopped_rank_and_exit(self):
        for stopped, words in ((1, "rank 1 has sent no heartbeat for"), (0, "rank 0")):
            process, ranks = self.ranks_that_train_on(self.fresh(f"stopped_{stopped}"))
            os.kill(ranks[stopped], signal.SIGSTOP)
            begin = time.monotonic()
            other = pathlib.Path(f"/proc/{ranks[1 - stopped]}/stat")
            while other.exists() and other.read_text().split()[2] != "Z" and time.monotonic() - begin < 60:
                time.sleep(0.05)
            self.assertLess(time.monotonic() - begin, 2 + 10)
            os.kill(ranks[stopped], signal.SIGKILL)
            errors = process.communicate(timeout=60)[1]
            self.assertIn(f"rank {1 - stopped} of 2: {words}", errors)
            self.assertNotEqual(process.returncode, 0)

    def test_ranks_name_a_dead_rank_and_exit(self):
        folder = self.fresh("run")
        process, ranks = self.ranks_that_train_on(folder)
        os.kill(ranks[1], signal.SIGKILL)
        errors = process.communicate(timeout=60)[1]
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(errors, r"rank 0 of 2: .*rank 1 has sent no heartbeat for .*; it was at step \d+, ")
        # The run can be resumed.
        self.assertEqual(train(folder, "--allow-config-change").returncode, 0)

    def test_ranks_of_a_launcher_must_run_the_same_experiment(self):
        folder, port = self.fresh("run"), free_port()
        errors = ""
        for process in [start_rank(rank, 2, port, folder, "--set", f"seed={3 + rank}") for rank in (0, 1)]:
            errors += process.communicate(timeout=60)[1]
            self.assertNotEqual(process.returncode, 0)
        self.assertIn('rank 1 does not have the same config as rank 0: found "seed: 4", expected "seed: 3"', errors)

    def test_ranks_need_a_shared_run_folder(self):
        port, folders = free_port(), [self.fresh(f"run-{rank}") for rank in (0, 1)]
        for folder in folders:
            folder.mkdir()
        errors = ""
        for process in [start_rank(rank, 2, port, folders[rank]) for rank in (0, 1)]:
            errors += process.communicate(timeout=60)[1]
            self.assertNotEqual(process.returncode, 0)
        self.assertIn("rank 1 cannot see files that rank 0 writes there", errors)

    def test_a_signal_to_any_rank_interrupts_an_evaluation(self):
        for asked in (0, 1):
            folder = self.fresh(f"run-{asked}")
            process = subprocess.Popen(
                [BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--ranks", "2", "--stage", "dvae",
                 "--set", "data.shapes.validation_samples=1000000", "--set", "dvae.train.eval_samples=1000000"],
                stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while not (folder / "checkpoints" / "dvae" / "step-00000005").exists():
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            time.sleep(1)  # in the evaluation after step 10, which would take hours
            os.kill(ranks_of(process)[asked], signal.SIGTERM)
            errors = process.communicate(timeout=60)[1]
            self.assertIn("stopped at step 10 of 40", errors)
            self.assertTrue((folder / "checkpoints" / "dvae" / "step-00000010").is_dir())

    def test_every_rank_needs_a_sample(self):
        folder = self.fresh("run")
        self.assert_fails(train(folder, "--ranks", "3", "--set", "dvae.train.batch_size=2"), 1, "dvae.train.batch_size", "3 ranks")
        self.assertFalse(folder.exists())  # detected before any rank was started

    def test_ranks_that_fail_in_the_same_way_report_it_once(self):
        result = train(self.fresh("run"), "--ranks", "3", *on_images(self.work / "no-such-folder"))
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count("no-such-folder: "), 1, result.stderr)

    def test_the_only_process_of_a_launcher_may_start_ranks(self):
        slurm = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0",
                 "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "here"}
        torchrun = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        for variables in (slurm, torchrun):
            result = run("dalle-train", "--config", TINY, "--run-dir", self.fresh("run"), "--device", "cpu", "--ranks", "2",
                         "--stage", "dvae", "--set", "dvae.train.steps=2", **variables)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(", 2 ranks", result.stderr)

    def test_ranks_of_a_launcher_must_not_start_ranks(self):
        folder = self.fresh("run")
        for rank, errors in ((0, "--ranks 4: torchrun has already started 2 ranks"), (1, "")):
            process = start_rank(rank, 2, 1, folder, "--ranks", "4")
            self.assertIn(errors, process.communicate(timeout=60)[1])
            self.assertEqual(process.returncode, 2)
        self.assertFalse(folder.exists())

    def test_a_command_in_an_interactive_slurm_step_is_a_single_rank(self):
        step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
                "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_JOB_NODELIST": "here"}
        log, folder = self.work / "terminal.txt", self.fresh("run")
        command = shlex.join(map(str, [BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--stage",
                                       "dvae", "--set", "dvae.train.steps=2"]))
        shell, terminal = pty.fork()
        if shell == 0:  # like srun --pty; with job control, like an interactive shell
            os.execvpe("bash", ["bash", "-mc", f"{command} 2> {shlex.quote(str(log))}; exit $?"], {**os.environ, **step})
        status = os.waitstatus_to_exitcode(os.waitpid(shell, 0)[1])
        os.close(terminal)
        self.assertEqual(status, 0, log.read_text())
        self.assertIn("this shell is task 0 of 4 of an interactive Slurm step", log.read_text())

    def test_the_launcher_relays_a_hangup_to_its_ranks(self):
        process, ranks = self.ranks_that_train_on(self.fresh("run"))
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 128 + signal.SIGHUP)

    def test_a_finished_run_is_not_repeated(self):
        folder = self.copy_of_whole()
        before = state_hashes(folder)
        result = train(folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(folder), before)
        self.assertEqual(metrics(folder), metrics(self.whole))

    def test_a_finished_stage_with_a_corrupt_checkpoint_is_completed_again(self):
        """From the previous checkpoint, with the same bits. Sampling uses that one and says so."""
        for stage, file in (("dvae", "ema"), ("dvae", "second_moment"), ("dalle", "ema")):
            with self.subTest(stage=stage, file=file):
                folder = self.copy_of_whole(f"{stage}-{file}")
                if stage == "dvae":
                    shutil.rmtree(folder / "checkpoints" / "dalle")
                newest = newest_checkpoint(folder, stage)
                flip_a_bit(newest / f"{file}.safetensors")
                named = rf"(?m)^warning: .*{newest.name}/{file}.safetensors"
                if stage == "dalle":
                    result = self.sample("a red circle", "--out", self.fresh("out"), "--count", 1, model=folder)
                    self.assert_succeeds(result)
                    self.assertRegex(result.stderr, named)
                    self.assertIn("(step 35)", result.stderr)
                result = train(folder)
                self.assert_succeeds(result)
                self.assertRegex(result.stderr, named)
                self.assertIn(f"{stage}: resuming from step 35 of 40", result.stderr)
                self.assertEqual(state_hashes(folder), state_hashes(self.whole))
                self.assertEqual(metrics(folder), metrics(self.whole))

    def test_the_number_of_workers_changes_nothing(self):
        folder = self.fresh("run")
        result = train(folder, "--set", "data.workers=5", "--set", "data.prefetch=1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(folder), state_hashes(self.whole))

    def test_cached_codes_train_like_codes_computed_on_the_fly(self):
        crops = ("--set", "dalle.crops_per_image=2")
        fly, cached = self.copy_of_whole(), self.fresh("cached")
        shutil.copytree(fly, cached)
        for folder, extra in ((fly, ()), (cached, ("--set", "dalle.cache_codes=true"))):
            shutil.rmtree(folder / "checkpoints" / "dalle")
            result = train(folder, *crops, *extra)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(fly), state_hashes(cached))

    def test_stages_run_separately_and_name_what_they_need(self):
        folder = self.fresh("run")
        self.assert_fails(train(folder, "--stage", "dalle"), 1, "tokenizer")
        self.assertEqual(train(folder, "--stage", "tokenizer").returncode, 0)
        self.assert_fails(train(folder, "--stage", "dalle"), 1, "dvae")
        self.assertEqual(train(folder, "--stage", "dvae").returncode, 0)
        self.assertEqual(train(folder, "--stage", "dalle").returncode, 0)
        self.assertEqual(state_hashes(folder), state_hashes(self.whole))

    def test_the_contrastive_stage_needs_a_section_and_whole_batches(self):
        folder = self.copy_of_whole()
        self.assert_fails(train(folder, "--stage", "clip"), 1, "the config has no clip section")
        small = ("--set", "clip.train.micro_batch_size=4")
        self.assert_fails(train(folder, *CLIP, *small, "--stage", "clip"), 1, "clip.train.micro_batch_size: found 4",
                          "at least 8 for 1 rank", "compares all samples")
        self.assert_succeeds(train(folder, *CLIP, *small, "--stage", "clip", "--ranks", 2))

    def test_the_contrastive_stage_trains_alone_and_resumes_with_the_same_bits(self):
        whole = self.whole_with_clip()
        self.assertEqual(state_hashes(whole), state_hashes(self.whole))
        lines = metrics(whole, ("clip",))
        self.assertEqual([line["step"] for line in lines], [5, 10, 10, 15, 20, 20])
        self.assertIn("image_to_text_at_1", lines[2])
        self.assertTrue((whole / "samples" / "clip" / "retrieval-00000020.png").is_file())
        self.assertIn("Training: clip", (whole / "report.html").read_text())
        alone = self.fresh("alone")
        self.assert_succeeds(train(alone, *CLIP, "--stage", "tokenizer"))
        self.assert_succeeds(train(alone, *CLIP, "--stage", "clip", "--set", "clip.train.steps=7"))
        self.assert_succeeds(train(alone, *CLIP, "--stage", "clip"))
        self.assertEqual(state_hashes(alone, ("clip",)), state_hashes(whole, ("clip",)))
        change = ("--set", "clip.train.learning_rate=0.001")
        self.assert_fails(train(alone, *CLIP, *change, "--stage", "clip"), 1, "clip.train.learning_rate: 0.003 -> 0.001")
        self.assert_succeeds(train(alone, *CLIP))  # and all other stages
        self.assertEqual(state_hashes(alone), state_hashes(self.whole))

    def test_ranks_train_the_contrastive_stage_like_one(self):
        whole, folder = self.whole_with_clip(), self.copy_of_whole()
        self.assert_succeeds(train(folder, *CLIP, "--stage", "clip", "--ranks", 2))
        self.assert_same_within_rounding(metrics(folder, ("clip",)), metrics(whole, ("clip",)))
        exact = ("--set", "distributed.bitwise=true", "--set", "clip.train.micro_batch_size=4", "--set", "dvae.train.micro_batch_size=2")
        hashes = []
        for name in ("first", "second"):
            again = self.fresh(name)
            for stage in ("tokenizer", "clip"):
                self.assert_succeeds(train(again, *CLIP, *exact, "--stage", stage, "--ranks", 2))
            hashes.append(state_hashes(again, ("clip",)))
        self.assertEqual(*hashes)
        resumed = self.fresh("resumed")
        self.assert_succeeds(train(resumed, *CLIP, *exact, "--stage", "tokenizer"))
        for steps in (7, 20):
            self.assert_succeeds(train(resumed, *CLIP, *exact, "--stage", "clip", "--ranks", 2, "--set", f"clip.train.steps={steps}"))
        self.assertEqual(state_hashes(resumed, ("clip",)), hashes[0])

    def test_a_changed_config_is_rejected_with_its_keys(self):
        folder = self.copy_of_whole()
        change = ("--set", "dalle.train.learning_rate=2e-3")
        self.assert_fails(train(folder, *change), 1, "dalle.train.learning_rate: 0.001 -> 0.002", "--allow-config-change")
        self.assertEqual(train(folder, *change, "--allow-config-change").returncode, 0)

    def test_restart_renames_the_old_run_folder(self):
        folder = self.copy_of_whole()
        result = train(folder, "--restart", "--stage", "tokenizer")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse((folder / "checkpoints" / "dvae").exists())
        moved = folder.with_name(folder.name + ".old-1")
        self.assertEqual(state_hashes(moved), state_hashes(self.whole))

    def test_two_processes_cannot_share_a_run_folder(self):
        folder = self.fresh("run")
        process = start_training(folder, "--set", "dvae.train.steps=100000")
        try:
            while not (folder / "metrics.jsonl").is_file():
                time.sleep(0.05)
            self.assert_fails(train(folder), 1, folder, "in use by another process")
        finally:
            process.kill()
            process.wait()

    # ---- user images ----

    def folder_with_bad_images(self):
        """Writes 24 valid images and all kinds of invalid ones. Returns the folder, and the reason to expect for each invalid one."""
        folder = self.fresh("images")
        write_images(folder / "good", 24)
        bad = folder / "bad"
        bad.mkdir()
        generated = self.fresh("generated")
        self.assert_succeeds(self.sample("a red circle", "--count", 1, "--format", "jpg", "--out", generated, model=self.whole))
        jpeg = next(generated.glob("*.jpg")).read_bytes()
        (folder / "good" / "generated.jpg").write_bytes(jpeg)
        (folder / "good" / "generated.txt").write_text("a red circle")
        for name, content in (("truncated.png", noise_image(100)[:-1000]), ("empty.png", b""), ("text.png", b"words"),
                              ("gray-tail.jpg", jpeg[:len(jpeg) * 9 // 10]), ("tiny.png", noise_image(101, 31, 50)),
                              ("latin1.png", noise_image(102)), ("silent.png", noise_image(103))):
            (bad / name).write_bytes(content)
            (bad / name).with_suffix(".txt").write_text("something bad")
        (bad / "latin1.txt").write_bytes("un caf\u00e9".encode("latin-1"))
        (bad / "silent.txt").unlink()
        return folder, {"bad/truncated.png": "truncated", "bad/empty.png": "empty", "bad/text.png": "expected a JPEG",
                        "bad/gray-tail.jpg": "JPEG image: ", "bad/tiny.png": "31 x 50", "bad/latin1.png": "latin1.txt: .*UTF-8",
                        "bad/silent.png": "no caption"}

    def assert_skipped(self, run_folder, expected):
        found = skipped(run_folder)
        self.assertEqual(found.keys(), expected.keys())
        for key, reason in expected.items():
            self.assertRegex(found[key], reason)

    def test_invalid_images_are_skipped_and_listed(self):
        """With the same bits and the same list after kills. Too many invalid images end the run."""
        images, bad = self.folder_with_bad_images()
        options = on_images(images, "--set", "data.max_invalid_fraction=0.5")
        whole, killed = self.fresh("whole"), self.fresh("killed")
        self.assert_succeeds(train(whole, *options))
        self.assert_skipped(whole, bad)
        chance = random.Random(13)
        for _ in range(4):
            process = start_training(killed, *options)
            try:
                process.wait(timeout=chance.uniform(0.6, 1.8))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.assert_succeeds(train(killed, *options))
        self.assertEqual(state_hashes(killed), state_hashes(whole))
        self.assertEqual(metrics(killed), metrics(whole))
        self.assert_skipped(killed, bad)
        # Only if captions are not needed are the images checked during training.
        result = train(self.fresh("strict"), *on_images(images, "--set", "data.max_invalid_fraction=0.01", "--stage", "dvae"))
        self.assert_fails(result, 1, "the 1% that data.max_invalid_fraction allows")
        error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
        self.assertTrue([key for key in bad if key in error], error)

    def test_shards_train_and_sample(self):
        shards = self.fresh("shards")
        write_images(shards / "loose", 24)
        (shards / "loose" / "noise-05.png").write_bytes(noise_image(5)[:-1000])
        for number in range(2):
            with tarfile.open(shards / f"{number:05}.tar", "w") as shard:
                for path in sorted((shards / "loose").iterdir())[24 * number:24 * (number + 1)]:
                    shard.add(path, arcname=path.name)
        folder, out = self.fresh("run"), self.fresh("out")
        self.assert_succeeds(train(folder, *on_images(shards / "{00000..00001}.tar", "--set", "data.max_invalid_fraction=0.5",
                                                        kind="shards")))
        self.assert_skipped(folder, {"00000.tar/noise-05": "truncated"})
        self.assert_succeeds(self.sample("some noise", "--out", out, "--count", 1, model=folder))
        self.assertEqual(len(self.images(out)), 1)

    def test_images_without_captions_train_only_the_dvae(self):
        images, folder = self.fresh("images"), self.fresh("run")
        write_images(images, 24)
        for path in images.glob("*.txt"):
            path.unlink()
        options = on_images(images)
        for stage in ((), ("--stage", "tokenizer"), ("--stage", "dalle"),
                      ("--set", f"tokenizer.model={self.whole / 'tokenizer.model'}")):
            self.assert_fails(train(folder, *options, *stage), 1, "have no valid caption", "noise-", ".txt next to it",
                              "--stage dvae")
            self.assertFalse((folder / "checkpoints").exists())  # reported before anything is trained
        self.assert_succeeds(train(folder, *options, "--stage", "dvae"))

    def test_moved_data_is_the_same_data(self):
        images, moved, folder = self.fresh("images"), self.fresh("moved"), self.fresh("run")
        write_images(images, 24)
        stage = ("--stage", "dvae")
        self.assert_succeeds(train(folder, *on_images(images), *stage, "--set", "dvae.train.steps=20"))
        shutil.copytree(images, moved)
        self.assert_succeeds(train(folder, *on_images(f"{moved}/"), *stage, "--set", "dvae.train.steps=30"))
        # Different images with the same names in another folder are different data, even on the second attempt.
        for number in range(24):
            (images / f"noise-{number:02}.png").write_bytes(noise_image(200 + number))
        for _ in range(2):
            self.assert_fails(train(folder, *on_images(images), *stage), 1, "a different data set")
        self.assert_succeeds(train(folder, *on_images(moved), *stage))

    def test_runs_inside_the_data_folder_are_not_data(self):
        images = self.fresh("images")
        write_images(images, 24)
        for step, *options in ((10, "--stage", "dvae"), (20, "--stage", "dvae"), (20, "--restart")):
            result = train(images / "runs" / "a", *on_images(images), "--set", f"dvae.train.steps={step}",
                           "--set", "dalle.train.steps=10", *options)
            self.assert_succeeds(result)
            self.assertIn("ignored the output of training runs: runs/a", result.stderr)
        self.assertIn("and 1 more", result.stderr)

    def test_one_image_trains(self):
        images, folder = self.fresh("images"), self.fresh("run")
        write_images(images, 1)
        self.assert_succeeds(train(folder, *on_images(images)))
        self.assertEqual(newest_checkpoint(folder, "dalle").name, "step-00000040")

    def test_changed_images_are_rejected(self):
        images, folder = self.fresh("images"), self.fresh("run")
        write_images(images, 24)
        options = on_images(images, "--stage", "dvae")
        self.assert_succeeds(train(folder, *options, "--set", "dvae.train.steps=20"))
        (images / "one-more.png").write_bytes(noise_image(24))
        (images / "one-more.txt").write_text("one more")
        self.assert_fails(train(folder, *options), 1, "a different data set", "--allow-config-change")
        result = train(folder, *options, "--allow-config-change")
        self.assert_succeeds(result)
        self.assertIn("dvae: resuming from step 20 of 40", result.stderr)

    def test_other_programs_read_the_checkpoints_of_a_run(self):
        try:
            from safetensors.numpy import load_file
        except ImportError as missing:
            self.skipTest(str(missing))
        newest = sorted((self.whole / "checkpoints" / "dvae").glob("step-*"))[-1]
        weights = load_file(newest / "weights.safetensors")
        self.assertEqual(weights["encoder.blocks.input.w"].shape, (8, 3, 7, 7))
        self.assertEqual(weights["decoder.blocks.input.w"].shape, (8, 16, 1, 1))
        self.assertIn("encoder.blocks.group_1.block_1.res_path.conv_1.w", weights)
        for name in STATE:
            self.assertEqual(load_file(newest / f"{name}.safetensors").keys(), weights.keys())

    # ---- sampling ----

    def sample(self, *arguments, model=None, **environment):
        return run("dalle-sample", *arguments, "--device", "cpu", *(("--model", model) if model else ()), cwd=self.work, **environment)

    def images(self, folder):
        return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.png"))}

    def test_sampling_uses_and_names_the_newest_finished_run(self):
        out = self.fresh("out")
        result = self.sample("a red circle", "--out", out, "--count", 2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("runs/whole", result.stderr)
        self.assertEqual(len(self.images(out)), 2)

    def test_image_i_of_a_seed_does_not_depend_on_other_images(self):
        one, many = self.fresh("one"), self.fresh("many")
        self.sample("a red circle", "--out", one, "--count", 3, "--seed", 5, model=self.whole)
        self.sample("a blue star", "a red circle", "--out", many, "--count", 5, "--seed", 5, model=self.whole)
        few, more = self.images(one), self.images(many)
        self.assertEqual(len(few), 3)
        for name, content in few.items():
            self.assertEqual(content, more[name], name)

    def test_batch_size_and_decoding_change_no_image(self):
        def images_with(*options, **environment):
            out = self.fresh("out")
            self.assert_succeeds(self.sample("a red circle", "a blue star", "a red circle", "--out", out, "--count", 5, "--seed", 3,
                                             *options, model=self.whole, **environment))
            return self.images(out)

        expected = images_with("--batch-size", 1, "--decode", "sequential")
        self.assertEqual(len(expected), 10)
        for options in (("--batch-size", 4), ("--decode", "parallel", "--window", 7), ("--decode", "auto", "--window", 100)):
            self.assertEqual(images_with(*options), expected, options)
        self.assertEqual(images_with(OMP_NUM_THREADS="2"), expected)
        self.assert_fails(self.sample("a", "--decode", "guess", model=self.whole), 2, "--decode")
        self.assert_fails(self.sample("a", "--window", 0, model=self.whole), 2, "--window")
        self.assert_fails(self.sample("a", "--batch-size", 0, model=self.whole), 2, "--batch-size")

    def test_a_copied_checkpoint_is_sufficient_for_sampling(self):
        newest = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[-1]
        alone = self.fresh("alone")
        shutil.copytree(newest, alone)
        out, reference = self.fresh("out"), self.fresh("reference")
        self.assertEqual(self.sample("a red circle", "--out", out, model=alone).returncode, 0)
        self.sample("a red circle", "--out", reference, model=self.whole)
        self.assertEqual(self.images(out), self.images(reference))

    def test_the_environment_names_the_model(self):
        result = self.sample("a red circle", "--out", self.fresh("out"), DALLE_MODEL="nowhere")
        self.assert_fails(result, 1, "nowhere")
        copy = self.copy_of_whole()
        result = self.sample("a red circle", "--out", self.fresh("out"), DALLE_MODEL=str(copy))
        self.assert_succeeds(result)
        self.assertIn(f"generating with {copy}", result.stderr)

    def train_the_end_again(self, folder):
        """Makes a copied run finish now."""
        shutil.rmtree(newest_checkpoint(folder, "dalle"))
        self.assert_succeeds(train(folder))

    def test_of_several_runs_the_one_that_finished_last_is_used(self):
        place = self.fresh("place")
        first, last, unfinished = (place / "runs" / name for name in ("zebra", "apple", "mango"))
        for folder in (first, last, unfinished):
            shutil.copytree(self.whole, folder)
        self.train_the_end_again(last)
        shutil.rmtree(newest_checkpoint(unfinished, "dalle"))
        os.utime(newest_checkpoint(unfinished, "dalle"))
        result = run("dalle-sample", "a red circle", "--device", "cpu", cwd=place)
        self.assert_succeeds(result)
        self.assertIn("generating with runs/apple", result.stderr)
        damaged = place / "runs" / "newest"
        shutil.copytree(self.whole, damaged)
        self.train_the_end_again(damaged)
        (newest_checkpoint(damaged, "dalle") / "manifest.json").write_text("{")
        result = run("dalle-sample", "a red circle", "--device", "cpu", cwd=place)
        self.assert_succeeds(result)
        self.assertRegex(result.stderr, "(?m)^warning: .*runs/newest")
        self.assertIn("generating with runs/apple", result.stderr)

    def test_copying_or_touching_a_run_does_not_change_when_it_finished(self):
        place = self.fresh("place")
        old, last, copy = (place / "runs" / name for name in ("zebra", "mango", "apple"))
        for folder in (old, last):
            shutil.copytree(self.whole, folder)
        self.train_the_end_again(last)
        shutil.copytree(old, copy)
        os.utime(newest_checkpoint(old, "dalle"))
        os.utime(newest_checkpoint(copy, "dalle"))

        def sample():
            return run("dalle-sample", "a red circle", "--count", 1, "--device", "cpu", cwd=place)

        self.assertIn("generating with runs/mango", sample().stderr)
        shutil.rmtree(last)
        result = sample()
        self.assertIn("runs/apple and runs/zebra finished at the same time", result.stderr)
        self.assertIn("generating with runs/apple", result.stderr)
        # Runs that recorded no time are older than all others; among them, file times decide.
        metrics_file = copy / "metrics.jsonl"
        metrics_file.write_text(re.sub(r',"unix_s":[0-9.]+', "", metrics_file.read_text()))
        self.assertIn("generating with runs/zebra", sample().stderr)

    def test_a_model_may_be_given_by_any_path_in_its_run(self):
        checkpoints = self.whole / "checkpoints"
        newest = newest_checkpoint(self.whole, "dalle")
        best = checkpoints / "dalle" / (checkpoints / "dalle" / "best").read_text().strip()
        for path, taken in ((self.whole, newest), (f"{self.whole}/", newest), (checkpoints, newest), (checkpoints / "dalle", newest),
                            (f"{checkpoints}/dalle/", newest), (checkpoints / "dalle" / "latest", newest),
                            (checkpoints / "dalle" / "best", best), (newest, newest), (f"{newest}/", newest)):
            result = self.sample("a red circle", "--count", 1, "--out", self.fresh("out"), model=path)
            self.assert_succeeds(result)
            self.assertIn(taken.name, result.stderr, path)
        for path in (checkpoints / "dvae", checkpoints / "dvae" / "latest", newest_checkpoint(self.whole, "dvae")):
            self.assert_fails(self.sample("x", model=path), 1, "of the dvae stage, which cannot read captions")
        dangling = self.fresh("stage") / "latest"
        dangling.parent.mkdir()
        dangling.write_text("step-00000099\n")
        self.assert_fails(self.sample("x", model=dangling), 1, dangling, "step-00000099")
        self.assert_fails(self.sample("x", model=self.work), 1, "holds no DALL-E checkpoint")

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

    def test_a_checkpoint_of_another_version_is_reported_as_such(self):
        self.assert_succeeds(self.sample("x", "--out", self.fresh("out"), "--count", 1, model=self.checkpoint_with()))
        other = self.checkpoint_with(lambda config: config + "telepathy: true\n")
        self.assert_fails(self.sample("x", model=other), 1, "a different version of dalle", "telepathy")
        self.assert_fails(self.sample("x", model=self.checkpoint_with(format_version=2)), 1, "format version 2")

    def test_temperature_zero_generates_the_most_likely_image(self):
        """For any seed. Sampling from the single most likely code (top-k 1) is equivalent."""
        generated = []
        for options in (("--temperature", 0, "--seed", 1), ("--temperature", 0, "--seed", 2), ("--top-k", 1, "--seed", 3)):
            out = self.fresh("out")
            self.assert_succeeds(self.sample("a red circle", "--count", 2, "--out", out, *options, model=self.whole))
            generated += [png.pixels(content) for content in self.images(out).values()]
        self.assertEqual(len(generated), 6)
        self.assertEqual(len(set(generated)), 1)

    def test_invalid_numbers_are_rejected(self):
        for option, value in (("--temperature", "nan"), ("--top-p", "nan"), ("--temperature", "inf"), ("--temperature", "-1"),
                              ("--top-p", "0"), ("--top-p", "2"), ("--top-k", "-1"), ("--temperature", "warm")):
            result = self.sample("x", f"{option}={value}", "--out", self.fresh("out"), model=self.whole)
            self.assertIn(result.returncode, (1, 2), f"{option} {value}: {result.stderr}")
            self.assert_fails(result, result.returncode)
            self.assertIn(f"error: {option}: found {value}", result.stderr)

    def test_an_image_contains_its_request(self):
        out, caption = self.fresh("out"), "ein gr\u00fcner W\u00fcrfel"
        self.assert_succeeds(self.sample(caption, "--seed", 7, "--top-k", 3, "--out", out, "--count", 2, model=self.whole))
        (name, content), second = sorted(self.images(out).items())
        texts = png.texts(content)
        self.assertEqual(texts["caption"], caption)
        self.assertEqual(texts["seed"], "7")
        self.assertEqual(texts["top_k"], "3")
        self.assertEqual(texts["image"], "0")
        self.assertEqual(png.texts(second[1])["image"], "1")
        entry = {entry["file"]: entry for entry in json.loads(next(out.glob("*.json")).read_text())}[name]
        self.assertEqual({key: value if isinstance(value, str) else json.dumps(value)
                          for key, value in entry.items() if key != "file"}, texts)

    def test_the_config_sets_the_default_number_of_images(self):
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a red circle", "--out", out, model=self.whole))
        self.assertEqual(len(self.images(out)), 2)  # sample.count of tiny.yaml

    def test_formats_grid_and_description(self):
        for suffix, magic in (("png", b"\x89PNG"), ("jpg", b"\xff\xd8"), ("webp", b"RIFF")):
            out = self.fresh(suffix)
            result = self.sample("a red circle", "--format", suffix, "--out", out, "--grid", out / f"grid.{suffix}", "--count", 2,
                                 model=self.whole)
            self.assertEqual(result.returncode, 0, result.stderr)
            files = sorted(out.glob(f"a-red-circle-*.{suffix}"))
            self.assertEqual(len(files), 2)
            self.assertTrue(files[0].read_bytes().startswith(magic))
            self.assertTrue((out / f"grid.{suffix}").read_bytes().startswith(magic))
            made = json.loads(next(out.glob("*.json")).read_text())
            self.assertEqual([entry["file"] for entry in made], [path.name for path in files])
            self.assertEqual(made[0]["caption"], "a red circle")
            self.assertEqual(len(made[0]["model"]), 64)

    def test_captions_of_any_kind(self):
        for caption in ("word " * 10_000, "ein grüner Würfel 立方体", "/etc/passwd", "."):
            result = self.sample(caption, "--out", self.fresh("out"), "--count", 1, model=self.whole)
            self.assertEqual(result.returncode, 0, result.stderr)
            if caption.startswith("word"):
                self.assertIn("tokens; the model reads only the first 15", result.stderr)
        for nothing in ("", "\u3000", " \t\n"):
            self.assert_fails(self.sample(nothing, "--out", self.fresh("out"), model=self.whole), 1, "caption", "empty")
        self.assert_fails(self.sample(b"\xff\xfe".decode("utf-8", "surrogateescape"), model=self.whole), 1, "UTF-8")

    def test_similar_captions_have_separate_files(self):
        out = self.fresh("out")
        captions = ("a red circle", "a red circle!", "A red, circle", "a-red-circle", "long " * 30 + "a", "long " * 30 + "b", "...")
        self.assertEqual(self.sample(*captions, "--out", out, "--count", 1, model=self.whole).returncode, 0)
        self.assertEqual(len(list(out.glob("*.png"))), len(captions))
        made = {json.loads(path.read_text())[0]["caption"] for path in out.glob("*.json")}
        self.assertEqual(made, set(captions))
        self.assertTrue((out / "a-red-circle-seed1-000.png").exists())

    def test_images_of_different_requests_never_overwrite_one_another(self):
        out, other = self.fresh("out"), self.fresh("other")
        prompt, other_prompt = self.noise_png("prompt.png", 32, 32), self.noise_png("other-prompt.png", 32, 32)
        shutil.copytree(self.whole / "checkpoints" / "dalle" / "step-00000035", other)
        requests = [((), self.whole), (("--temperature", 0.5), self.whole), (("--top-k", 3), self.whole),
                    (("--top-p", 0.5), self.whole), (("--top-k", 3, "--top-p", 0.5), self.whole), (("--seed", 2), self.whole),
                    (("--guidance", 2), self.whole), (("--image", prompt, "--keep-rows", 0.5), self.whole),
                    (("--image", other_prompt, "--keep-rows", 0.5), self.whole),
                    (("--image", prompt, "--keep-rows", 0.25), self.whole), ((), other), (("--temperature", 0.5), other)]

        def sample_all():
            for options, model in requests:
                self.assert_succeeds(self.sample("a red circle", "a red circle", "--count", 1, "--out", out, *options, model=model))
            return {path.name: path.read_bytes() for path in sorted(out.iterdir())}

        first = sample_all()
        self.assertEqual(len(self.images(out)), len(requests))
        for name in ("seed1", "seed1-temperature0.5", "seed1-top-k3", "seed1-top-p0.5", "seed1-top-k3-top-p0.5", "seed2"):
            self.assertIn(f"a-red-circle-{name}-000.png", first)
        for path in out.glob("*.json"):
            entry, = json.loads(path.read_text())
            self.assertEqual(png.texts(first[entry["file"]])["model"], entry["model"])
        self.assertEqual(sample_all(), first)
        # A JSON file in another format is not overwritten either.
        (out / "a-red-circle-seed1.json").write_text("mine")
        result = self.sample("a red circle", "--count", 1, "--out", out, model=self.whole)
        self.assert_succeeds(result)
        self.assertIn("a-red-circle-seed1.json describes images from a different model or different settings", result.stderr)
        self.assertEqual((out / "a-red-circle-seed1.json").read_text(), "mine")

    def test_guidance_of_one_is_off_and_other_guidance_is_in_the_name(self):
        def files_with(*options):
            out = self.fresh("out")
            result = self.sample("a red circle", "a blue star", "--count", 3, "--out", out, *options, model=self.whole)
            self.assert_succeeds(result)
            return {path.name: path.read_bytes() for path in sorted(out.iterdir())}, result.stderr

        plain, _ = files_with()
        off, log = files_with("--guidance", 1, "--guidance-to", 0.5)
        self.assertEqual(off, plain)
        self.assertNotIn("caption_dropout", log)
        guided, log = files_with("--guidance", 2.5, "--guidance-to", 0.5)
        self.assertEqual(log.count("warning: "), 1, log)
        self.assertIn("caption_dropout", log)
        self.assertIn("a-red-circle-seed1-guidance2.5-to0.5-000.png", guided)
        self.assertEqual(png.texts(guided["a-red-circle-seed1-guidance2.5-to0.5-000.png"])["guidance"], "2.5")
        self.assertEqual(json.loads(guided["a-blue-star-seed1-guidance2.5-to0.5.json"])[0]["guidance_to"], 0.5)
        for options in (("--batch-size", 1), ("--batch-size", 2, "--decode", "parallel", "--window", 5)):
            self.assertEqual(files_with("--guidance", 2.5, "--guidance-to", 0.5, *options)[0], guided)
        for options, words in ((("--guidance", -1), "--guidance"), (("--guidance-from", 2), "--guidance-from"),
                               (("--guidance", 2, "--guidance-from", 0.5, "--guidance-to", 0.5), "guidance_to: found 0.5")):
            result = self.sample("x", "--out", self.fresh("out"), *options, model=self.whole)
            self.assert_fails(result, result.returncode, words)
            self.assertNotEqual(result.returncode, 0)

    def scores(self, folder):
        """The scores of a folder's images, by file name."""
        return {entry["file"]: entry["score"] for entry in json.loads(next(folder.glob("*.json")).read_text())}

    def test_the_best_of_several_images_are_kept(self):
        model = self.whole_with_clip()

        def sampled(name, *options, source=model):
            out = self.fresh(name)
            result = self.sample("a red circle", "--out", out, *options, model=source)
            self.assert_succeeds(result)
            return out, self.images(out), result.stderr

        _, plain, _ = sampled("plain", "--count", 6)
        out, ranked, log = sampled("all", "--best-of", 6, "--count", 6)
        self.assertEqual({name: png.pixels(content) for name, content in ranked.items()},
                         {name: png.pixels(content) for name, content in plain.items()})
        scores = self.scores(out)
        order = sorted(scores, key=lambda name: -scores[name])
        self.assertEqual(len(set(scores.values())), 6)
        numbers = [int(png.texts(ranked[name])["image"]) for name in order]
        expected = ", ".join(f"{number} ({scores[name]:.4f})" for number, name in zip(numbers, order))
        self.assertIn(f"a red circle: kept 6 of 6 images, the best first: {expected}", log)
        manifest = hashlib.sha256((newest_checkpoint(model, "clip") / "manifest.json").read_bytes()).hexdigest()
        for name, content in ranked.items():
            self.assertEqual(png.texts(content)["score"], json.dumps(scores[name]))
            self.assertEqual(png.texts(content)["ranked_by"], f"clip {manifest}")
            self.assertEqual((png.texts(content)["rank"], png.texts(content)["best_of"]), (str(order.index(name) + 1), "6"))
        _, best, _ = sampled("best", "--best-of", 6, "--count", 2, "--batch-size", 1, "--grid", self.fresh("grid.png"))
        self.assertEqual(best, {name: ranked[name] for name in sorted(order[:2])})
        _, everything, _ = sampled("keep-all", "--best-of", 6, "--count", 2, "--keep-all")
        self.assertEqual({name: png.pixels(content) for name, content in everything.items()},
                         {name: png.pixels(content) for name, content in ranked.items()})
        self.assertEqual({name for name, content in everything.items() if "rank" in png.texts(content)}, set(order[:2]))
        _, one, _ = sampled("one", "--best-of", 1)  # although sample.count is 4
        self.assertEqual([png.pixels(content) for content in one.values()], [png.pixels(next(iter(plain.values())))])
        alone = self.fresh("alone")
        shutil.copytree(newest_checkpoint(model, "clip"), alone)
        _, other, _ = sampled("other", "--best-of", 6, "--count", 2, "--reranker", alone, source=self.whole)
        self.assertEqual(other, best)
        # A plain request describes the same images, without scores.
        self.assert_succeeds(self.sample("a red circle", "--out", out, "--count", 2, model=model))
        entries = json.loads(next(out.glob("*.json")).read_text())
        self.assertEqual([entry["file"] for entry in entries if "score" in entry], sorted(plain)[2:])

    def test_the_grid_has_the_best_images_of_each_caption_in_order(self):
        model, out, grid = self.whole_with_clip(), self.fresh("out"), self.fresh("grid.png")
        captions = ("a red circle", "a blue star")
        self.assert_succeeds(self.sample(*captions, "--best-of", 4, "--count", 2, "--grid", grid, "--out", out, model=model))
        side, line = 32, 2
        rows = png.rgb_rows(grid.read_bytes())
        self.assertEqual((len(rows), len(rows[0])), (2 * (side + line) + line, 3 * (2 * (side + line) + line)))
        for row, caption in enumerate(captions):
            entries = json.loads((out / f"{caption.replace(' ', '-')}-seed1.json").read_text())
            self.assertEqual(sorted(entry["rank"] for entry in entries), [1, 2])
            self.assertEqual({entry["best_of"] for entry in entries}, {4})
            first, second = sorted(entries, key=lambda entry: entry["rank"])
            self.assertGreater(first["score"], second["score"])
            for column, entry in enumerate((first, second)):
                left, top = line + column * (side + line), line + row * (side + line)
                cell = [rows[y][3 * left:3 * (left + side)] for y in range(top, top + side)]
                self.assertEqual(cell, png.rgb_rows((out / entry["file"]).read_bytes()))

    def test_images_with_a_prompt_are_ranked_as_they_are_written(self):
        model, prompt = self.whole_with_clip(), self.noise_png("prompt.png", 32, 32)
        options = ("--image", prompt, "--keep-rows", 0.5, "--paste-original", "--count", 3)
        plain, ranked, unpasted = self.fresh("plain"), self.fresh("ranked"), self.fresh("unpasted")
        self.assert_succeeds(self.sample("a red circle", *options, "--out", plain, model=model))
        self.assert_succeeds(self.sample("a red circle", *options, "--best-of", 3, "--out", ranked, model=model))
        self.assertEqual([png.pixels(content) for content in self.images(ranked).values()],
                         [png.pixels(content) for content in self.images(plain).values()])
        options = tuple(option for option in options if option != "--paste-original")
        self.assert_succeeds(self.sample("a red circle", *options, "--best-of", 3, "--out", unpasted, model=model))
        self.assertNotEqual(set(self.scores(ranked).values()), set(self.scores(unpasted).values()))

    def test_a_ranking_that_is_stopped_keeps_the_best_so_far(self):
        model = self.whole_with_clip()
        captions = [f"a red circle {number}" for number in range(3000)]
        for options in ((), ("--keep-all",)):
            out = self.fresh("out")
            log = self.fresh("log.txt")  # not a pipe, which would fill up
            with log.open("w") as stream:
                process = subprocess.Popen(
                    [BIN / "dalle-sample", *captions, "--best-of", "40", "--count", "2", *options, "--device", "cpu",
                     "--model", model, "--out", out], stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while not (out / "a-red-circle-9-seed1.json").exists():
                time.sleep(0.05)
                self.assertIsNone(process.poll(), log.read_text()[-1000:])
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            errors = log.read_text()
            self.assertEqual(process.returncode, 128 + signal.SIGTERM, errors[-1000:])
            images = self.images(out)
            if options:
                self.assertRegex(errors, rf"stopped: {len(images)} of 120000 images are in ")
            else:
                self.assertRegex(errors, rf"stopped: \d+ of 120000 images were generated, {len(images)} of them are in ")
            described = [json.loads(path.read_text()) for path in out.glob("*.json")]
            self.assertEqual({entry["file"] for entries in described for entry in entries}, set(images))
            for entries in described:
                kept = [entry for entry in entries if "rank" in entry]
                self.assertEqual(sorted(entry["rank"] for entry in kept), [1, 2][:len(entries)])
                best = sorted((entry["score"] for entry in entries), reverse=True)[:2]
                self.assertEqual(sorted((entry["score"] for entry in kept), reverse=True), best)
            first = json.loads((out / "a-red-circle-0-seed1.json").read_text())
            self.assertEqual({entry["best_of"] for entry in first if "rank" in entry}, {40})

    def test_images_are_ranked_by_the_models_own_likelihood(self):
        with_dropout = self.checkpoint_with(lambda config: config.replace("caption_dropout: 0.0", "caption_dropout: 0.1"))
        out = self.fresh("out")
        options = ("--best-of", 5, "--rank-by", "likelihood")
        self.assert_succeeds(self.sample("a red circle", "--out", out, *options, "--count", 5, model=with_dropout))
        scores = self.scores(out)
        kept = self.fresh("kept")
        self.assert_succeeds(self.sample("a red circle", "--out", kept, *options, "--count", 2, model=with_dropout))
        self.assertEqual(sorted(self.images(kept)), sorted(sorted(scores, key=lambda name: -scores[name])[:2]))
        self.assertEqual(png.texts(next(iter(self.images(kept).values())))["ranked_by"], "likelihood")
        self.assert_fails(self.sample("x", *options, model=self.whole), 1, "dalle.train.caption_dropout is 0")

    def test_invalid_rankings_are_rejected(self):
        model = self.whole_with_clip()
        clip = newest_checkpoint(model, "clip")
        large = self.fresh("large")
        for stage in ("tokenizer", "clip"):
            self.assert_succeeds(train(large, *CLIP, "--set", "data.image_size=64", "--stage", stage))
        for source, status, options, words in (
                (model, 2, ("--keep-all",), "--best-of"), (model, 2, ("--reranker", model), "--best-of"),
                (model, 2, ("--best-of", 0), "--best-of"), (model, 2, ("--best-of", 4, "--rank-by", "luck"), "--rank-by"),
                (model, 1, ("--best-of", 2, "--count", 3), "--best-of: found 2, expected at least 3"),
                (model, 1, ("--best-of", 4, "--rank-by", "likelihood", "--reranker", clip), "--reranker: found"),
                (model, 1, ("--best-of", 4, "--reranker", large), "reads images of 64 x 64 pixels"),
                (model, 1, ("--best-of", 4, "--reranker", "nowhere"), "nowhere: no such reranker"),
                (self.whole, 1, ("--best-of", 4), "no reranker for"),
                (model, 1, ("--best-of", 4, "--reranker", self.whole), "holds no checkpoint of the clip stage"),
                (model, 1, ("--best-of", 4, "--reranker", newest_checkpoint(model, "dalle")), "of the dalle stage, expected one of the clip stage"),
                (clip, 1, (), "of the clip stage, which cannot generate images")):
            out = self.fresh("out")
            self.assert_fails(self.sample("x", *options, "--out", out, model=source), status, words)
            self.assertEqual(list(out.glob("*")), [], options)

    def noise_png(self, name, width, height):
        path = self.fresh(name)
        path.write_bytes(png.png(width, height, random.Random(name).randbytes(3 * width * height)))
        return path

    def test_an_image_prompt_is_completed(self):
        out = self.fresh("first")
        self.assert_succeeds(self.sample("a red circle", "--count", 1, "--out", out, model=self.whole))
        first = out / "a-red-circle-seed1-000.png"
        out = self.fresh("out")
        prompts = (("--keep-rows", 0.5), ("--keep-rows", 0.5, "--paste-original"), ("--keep", "0,0,32,16"), ("--keep-rows", 1),
                   ("--keep-rows", 0.5, "--variation", 0.4), ("--variation", 0.4), ("--variation", 0.4, "--seed", 2))
        for options in prompts:
            result = self.sample("a red circle", "--count", 2, "--out", out, "--image", first, *options, model=self.whole)
            self.assert_succeeds(result)
            kept = 32 if 0.5 in options or "--keep" in options else 64
            self.assertIn(f"{first}: {kept} of 64 codes are kept", result.stderr)
            self.assertNotIn("--strict", result.stderr)
        self.assertEqual(len(self.images(out)), 2 * len(prompts))
        described = [json.loads(path.read_text()) for path in out.glob("*.json")]
        self.assertEqual(len(described), len(prompts))
        by_prompt = {json.dumps(entry["image_prompt"]): entry for entries in described for entry in entries if entry["image"] == 0
                     if entry["seed"] == 1}
        digest = hashlib.sha256(first.read_bytes()).hexdigest()
        self.assertIn(json.dumps({"sha256": digest, "keep": [0, 0, 32, 16]}), by_prompt)
        pasted = by_prompt[json.dumps({"sha256": digest, "keep_rows": 0.5, "paste_original": True})]
        content = (out / pasted["file"]).read_bytes()
        self.assertEqual(json.loads(png.texts(content)["image_prompt"]), pasted["image_prompt"])
        row = 1 + 3 * 32  # its filter and its pixels
        self.assertEqual(png.pixels(content)[:16 * row], png.pixels(first.read_bytes())[:16 * row])
        def pixels_with(count, **prompt):
            found = [entry for entries in described for entry in entries
                     if entry["seed"] == 1 and entry["image_prompt"] == {"sha256": digest, **prompt}]
            self.assertEqual(len(found), count)
            return [png.pixels((out / entry["file"]).read_bytes()) for entry in sorted(found, key=lambda entry: entry["image"])]
        whole = pixels_with(2, keep_rows=1)
        self.assertEqual(whole[0], whole[1])  # nothing is generated
        halves = pixels_with(2, keep_rows=0.5)
        self.assertNotEqual(halves[0], halves[1])
        varied = pixels_with(2, variation=0.4)
        self.assertEqual(len({*varied, *whole, *halves}), 5)
        half = by_prompt[json.dumps({"sha256": digest, "keep_rows": 0.5})]
        rectangle = by_prompt[json.dumps({"sha256": digest, "keep": [0, 0, 32, 16]})]
        self.assertEqual(png.pixels((out / half["file"]).read_bytes()), png.pixels((out / rectangle["file"]).read_bytes()))

    def test_codes_that_cannot_be_taken_into_account_are_reported_or_refused(self):
        image, white, mask = self.noise_png("image.png", 48, 32), b"\xff" * 3, self.fresh("mask.png")
        mask.write_bytes(png.png(48, 32, (b"\0" * 72 + white * 24) * 32))  # keeps the right half
        for options in (("--keep", "0,16,32,16"), ("--mask", mask)):
            result = self.sample("x", "--image", image, *options, "--count", 1, "--out", self.fresh("out"), model=self.whole)
            self.assert_succeeds(result)
            self.assertIn("32 of 64 codes are kept", result.stderr)
            self.assertIn("32 of the kept codes come after generated ones", result.stderr)
            out = self.fresh("out")
            result = self.sample("x", "--image", image, *options, "--strict", "--out", out, model=self.whole)
            self.assert_fails(result, 1, "--strict: ", "32 of the kept codes")
            self.assertEqual(list(out.glob("*")), [])

    def test_invalid_image_prompts_are_rejected(self):
        image, small, text = self.noise_png("image.png", 48, 32), self.noise_png("small.png", 31, 40), self.fresh("text.png")
        text.write_text("no image")
        empty = self.fresh("empty.png")
        empty.touch()
        for status, options, words in (
                (2, ("--image", image), "--keep-rows, --keep, --mask or --variation"), (2, ("--keep-rows", 0.5), "--image"),
                (2, ("--strict",), "--image"), (2, ("--image", image, "--keep-rows", 1.5), "--keep-rows"),
                (2, ("--image", image, "--keep-rows", 0.5, "--keep", "0,0,4,4"), "--keep"),
                (2, ("--image", image, "--keep", "0,0,4"), "found 0,0,4, expected x,y,width,height"),
                (2, ("--image", image, "--keep", "0,0,4,4,4"), "expected x,y,width,height"),
                (2, ("--image", image, "--variation", 0.5, "--paste-original"), "--paste-original"),
                (2, ("--image", image, "--variation", "much"), "--variation"),
                (2, ("--image", "", "--keep-rows", 0.5), "--image"),
                (1, ("--image", image, "--keep", "0,0,33,32"), "--keep: found 0,0,33,32"),
                (1, ("--image", image, "--keep", "1,1,4,4"), "no code would be kept"),
                (1, ("--image", image, "--keep-rows", 0), "no code would be kept"),
                (1, ("--image", small, "--keep-rows", 0.5), "small.png: image too small"),
                (1, ("--image", text, "--keep-rows", 0.5), "text.png: "),
                (1, ("--image", image, "--mask", empty), "empty.png: "),
                (1, ("--image", "missing.png", "--keep-rows", 0.5), "missing.png"),
                (1, ("--image", image, "--mask", small), "small.png: found 31 x 40 pixels, expected 48 x 32"),
                (1, ("--image", image, "--mask", text), "text.png: ")):
            out = self.fresh("out")
            self.assert_fails(self.sample("x", *options, "--out", out, model=self.whole), status, words)
            self.assertEqual(list(out.glob("*")), [], options)

    def test_a_description_keeps_the_images_of_the_same_request(self):
        out = self.fresh("out")
        for options in (("--count", 3), ("--count", 1), ("--count", 1, "--format", "jpg")):
            self.assert_succeeds(self.sample("a red circle", "--out", out, *options, model=self.whole))
        entries = json.loads((out / "a-red-circle-seed1.json").read_text())
        self.assertEqual(sorted(entry["file"] for entry in entries),
                         sorted(path.name for path in out.iterdir() if path.suffix != ".json"))

    def test_names_of_formats_are_case_insensitive(self):
        for number, (name, suffix) in enumerate((("jpeg", "jpg"), ("PNG", "png"), ("WebP", "webp"), ("JPG", "jpg"))):
            out = self.fresh(f"out-{number}")
            result = self.sample("a red circle", "--count", 1, "--format", name, "--grid", out / f"GRID.{name}", "--out", out,
                                 model=self.whole)
            self.assert_succeeds(result)
            self.assertTrue((out / f"GRID.{name}").is_file())
            self.assertTrue((out / f"a-red-circle-seed1-000.{suffix}").is_file())

    def test_unwritable_outputs_are_reported_before_images_are_generated(self):
        in_the_way = self.fresh("in-the-way")
        in_the_way.write_text("")
        folder = self.fresh("folder.png")
        folder.mkdir()
        captions = [f"caption {number}" for number in range(500)]
        for options, words in ((("--grid", self.fresh("grid.webp")), "16383"), (("--grid", in_the_way / "grid.png"), in_the_way),
                               (("--grid", folder), folder), (("--grid", "grid.gif"), ".png, .jpg or .webp"),
                               (("--grid", "grid"), ".png, .jpg or .webp"), (("--out", in_the_way / "out"), in_the_way)):
            out = self.fresh("out")
            result = self.sample(*captions, *(() if "--out" in options else ("--out", out)), *options, model=self.whole)
            self.assert_fails(result, 1, words)
            self.assertEqual(list(out.glob("*")), [], options)

    def test_a_full_disk_is_reported_and_written_images_stay_valid(self):
        out, faults = self.fresh("out"), self.compile_faults()
        result = self.sample("a red circle", "--count", 5, "--out", out, model=self.whole, LD_PRELOAD=str(faults), FAULT_KIND="full",
                             FAULT_RANK="0", FAULT_FOLDER=str(out), FAULT_CALL="20", FAULT_REPORT=str(self.fresh("report")))
        self.assert_fails(result, 1, out, "No space left on device")
        images = self.images(out)
        for content in images.values():
            png.pixels(content)
        described = json.loads((out / "a-red-circle-seed1.json").read_text())
        self.assertEqual([entry["file"] for entry in described], [*images][:len(described)])
        self.assertGreater(len(described), 0)

    def test_stopped_sampling_keeps_the_finished_images(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            out = self.fresh(f"out-{number}")
            process = subprocess.Popen(
                [BIN / "dalle-sample", "a red circle", "a blue star", "--count", "60000", "--device", "cpu", "--model", self.whole,
                 "--out", out], stderr=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"})
            while len(list(out.glob("*.png"))) < 24:
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            process.send_signal(number)
            errors = process.communicate(timeout=60)[1]
            self.assertEqual(process.returncode, 128 + number, errors)
            self.assertRegex(errors, r"stopped: \d+ of 120000 images are in ")
            images = self.images(out)
            for content in images.values():
                png.pixels(content)
            described = json.loads((out / "a-red-circle-seed1.json").read_text())
            self.assertEqual({entry["file"] for entry in described}, set(images))

    # ---- evaluation ----

    def test_evaluation_is_kept_and_completed(self):
        copy = self.copy_of_whole()
        self.assert_succeeds(run("dalle-eval", "--model", copy, "--suite", "codes", "--device", "cpu"))
        result = run("dalle-eval", "--model", copy, "--suite", "reconstruction", "codes", "likelihood", "--device", "cpu")
        self.assert_succeeds(result)
        self.assertIn("codes: already in", result.stderr)
        self.assertRegex(result.stdout, r"(?m)^reconstruction +psnr +[0-9.]+  \([0-9.]+ to [0-9.]+\)$")
        suites = json.loads((copy / "evaluation.json").read_text())["suites"]
        self.assertEqual(set(suites), {"codes", "reconstruction", "likelihood"})
        self.assertEqual(suites["codes"]["images"], 16)
        for path in newest_checkpoint(copy, "dalle"), copy / "checkpoints" / "dalle" / "latest", copy / "checkpoints":
            again = run("dalle-eval", "--model", path, "--suite", "codes", "--device", "cpu")
            self.assertIn("codes: already in", again.stderr)  # a checkpoint's results go to its run's file
            self.assertEqual(json.loads((copy / "evaluation.json").read_text())["suites"], suites)
        fewer = run("dalle-eval", "--model", copy, "--suite", "codes", "--limit", 5, "--device", "cpu")
        self.assertIn("it has been renamed to", fewer.stderr)
        self.assertEqual(json.loads((copy / "evaluation-1.json").read_text())["suites"], suites)
        self.assertEqual(json.loads((copy / "evaluation.json").read_text())["suites"]["codes"]["images"], 5)

    def test_evaluation_generates_images_with_the_given_settings(self):
        numbers = {}
        for options in (), ("--guidance", 3), ("--temperature", 0):
            out = self.fresh("numbers.json")
            result = run("dalle-eval", "--model", self.whole, "--suite", "shapes", "--device", "cpu", "--out", out, *options)
            self.assert_succeeds(result)
            self.assertEqual("caption_dropout" in result.stderr, "--guidance" in options)
            evaluation = json.loads(out.read_text())
            for name, value in zip(options[::2], options[1::2]):
                self.assertEqual(evaluation["model"]["sampling"][name.removeprefix("--")], value)
                self.assertRegex(evaluation["command"], rf"{name} {value}(\.0)? ")
            images = out.with_name(out.stem + "_images")
            numbers[options[:1]] = b"".join(path.read_bytes() for path in sorted(images.glob("*.png")))
        self.assertEqual(len(set(numbers.values())), 3)
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--top-p", 0, "--device", "cpu"), 2, "--top-p")

    def test_an_evaluation_has_a_report(self):
        copy = self.copy_of_whole()
        self.assertGreater(elements_of(copy / "report.html")["svg"], 5)  # the curves, since the end of the training
        self.assert_succeeds(run("dalle-eval", "--device", "cpu", DALLE_MODEL=str(copy)))
        suites = json.loads((copy / "evaluation.json").read_text())["suites"]
        self.assertEqual(set(suites), {"codes", "reconstruction", "likelihood", "ranking", "shapes", "completion", "frechet",
                                       "memorization"})
        report = copy / "report.html"
        elements, text = elements_of(report), report.read_text()
        pairs = suites["reconstruction"]["worst"] + suites["memorization"]["closest"]
        examples = suites["shapes"]["examples"] + suites["completion"]["examples"]
        self.assertEqual(elements["img"], 2 * len(pairs) + len(examples) +
                         len(STAGES) - sum(not list((copy / "samples" / stage).glob("*.png")) for stage in STAGES))
        self.assertIn(f"{suites['reconstruction']['psnr']['value']:.2f} dB", text)
        self.assertNotIn("image not found", text)
        command = shlex.split(json.loads((copy / "evaluation.json").read_text())["command"])
        self.assertIn("--device cpu", " ".join(command))
        again = self.fresh("again.json")
        command[command.index("--out") + 1] = again
        self.assert_succeeds(run(*command))
        self.assertEqual(json.loads(again.read_text())["suites"], suites)
        # Writing the report again needs no images of the data, only those that were stored.
        report.unlink()
        self.assert_succeeds(run("dalle-eval", "--model", copy, "--device", "cpu"))
        self.assertEqual(report.read_text(), text)

    def test_the_gain_from_the_best_of_several_images_is_measured(self):
        model = self.whole_with_clip()
        self.assert_succeeds(run("dalle-eval", "--model", model, "--suite", "best_of", "--device", "cpu"))
        numbers = json.loads((model / "evaluation.json").read_text())["suites"]["best_of"]
        self.assertEqual(numbers["images"], 16)
        self.assertIn("exact_of_64", numbers)
        report = (model / "report.html").read_text()
        self.assertIn("Best of several images", report)
        self.assertIn("exact, best of 64", report)
        # Another contrastive model makes other numbers; the same one does not.
        evaluate = ("dalle-eval", "--model", model, "--suite", "best_of", "--limit", 2, "--device", "cpu")
        self.assert_succeeds(run(*evaluate, "--restart"))
        self.assertIn("best_of: already in", run(*evaluate).stderr)
        self.assert_succeeds(train(model, *CLIP, "--stage", "clip", "--set", "clip.train.steps=25"))
        again = run(*evaluate)
        self.assert_succeeds(again)
        self.assertNotIn("best_of: already in", again.stderr)
        manifest = (newest_checkpoint(model, "clip") / "manifest.json").read_bytes()
        self.assertEqual(json.loads((model / "evaluation.json").read_text())["suites"]["best_of"]["reranker"],
                         hashlib.sha256(manifest).hexdigest())
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--suite", "best_of", "--device", "cpu"), 1,
                          "holds no contrastive model")
        missing = run("dalle-eval", "--model", self.whole, "--suite", "codes", "best_of", "--reranker", "nowhere", "--device", "cpu")
        self.assert_fails(missing, 1, "nowhere: no such reranker")
        self.assertNotIn("codes:", missing.stderr)
        # Another model may judge what is selected.
        other, large = self.fresh("other"), self.fresh("large")
        for stage in ("tokenizer", "clip"):
            self.assert_succeeds(train(other, *CLIP, "--set", "seed=2", "--stage", stage))
            self.assert_succeeds(train(large, *CLIP, "--set", "data.image_size=64", "--stage", stage))
        judged = self.work / "judged.json"
        self.assert_succeeds(run(*evaluate, "--extractor", other, "--out", judged))
        self.assertIn("retrieved_of_64", json.loads(judged.read_text())["suites"]["best_of"])
        self.assert_fails(run("dalle-eval", "--model", model, "--suite", "codes", "--extractor", model, "--device", "cpu"), 1,
                          "expected the suite frechet or memorization")
        self.assert_fails(run("dalle-eval", "--model", model, "--suite", "best_of", "--extractor", "nowhere", "--device", "cpu"), 1,
                          "or best_of, if the extractor is the folder of a contrastive model")
        for suite, option in (("best_of", "--reranker"), ("best_of", "--extractor"), ("frechet", "--extractor")):
            self.assert_fails(run("dalle-eval", "--model", model, "--suite", suite, option, large, "--device", "cpu"), 1,
                              "reads images of 64 x 64 pixels, expected at most the 32 x 32")

    def test_ranks_divide_an_evaluation_without_changing_it(self):
        model = self.whole_with_clip()
        found = []
        for ranks in 1, 2, 3:
            self.assert_succeeds(run("dalle-eval", "--model", model, "--limit", 6, "--ranks", ranks, "--device", "cpu",
                                     "--restart", OMP_NUM_THREADS=str(4 - ranks)))
            self.assertIn("best_of", json.loads((model / "evaluation.json").read_text())["suites"])
            files = sorted((model / "evaluation_images").iterdir()) + [model / "evaluation.json", model / "report.html"]
            found.append({file.name: file.read_bytes() for file in files})
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])

    def test_ranks_of_a_launcher_evaluate_together(self):
        copy, port = self.copy_of_whole(), free_port()
        processes = [start_rank(rank, 2, port, copy, tool="dalle-eval") for rank in (0, 1)]
        errors = [process.communicate(timeout=120)[1] for process in processes]
        self.assertEqual([process.returncode for process in processes], [0, 0], errors)
        self.assertIn("on 2 ranks", errors[0])
        self.assertEqual(errors[1], "")
        result = run("dalle-eval", "--model", copy, "--out", copy / "alone.json", "--device", "cpu")
        self.assert_succeeds(result)
        self.assertEqual(json.loads((copy / "alone.json").read_text())["suites"],
                         json.loads((copy / "evaluation.json").read_text())["suites"])

    def test_an_evaluation_that_is_stopped_within_a_suite_continues(self):
        model = self.whole_with_clip()
        evaluate = ["dalle-eval", "--model", model, "--suite", "codes", "best_of", "--device", "cpu"]
        self.assert_succeeds(run(*evaluate))
        whole = (model / "evaluation.json").read_bytes()
        (model / "evaluation.json").unlink()
        process = subprocess.Popen([BIN / evaluate[0], *evaluate[1:], "--ranks", "2"], stderr=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, text=True)
        while not list(model.glob("evaluation.partial/best_of/*/retrieval/*.cbor")):
            time.sleep(0.01)
            self.assertIsNone(process.poll())
        os.kill(ranks_of(process)[1], signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, errors)
        self.assertIn("run the same command to continue", errors)
        self.assertEqual(set(json.loads((model / "evaluation.json").read_text())["suites"]), {"codes"})
        again = run(*evaluate)
        self.assert_succeeds(again)
        self.assertIn("best_of: retrieval: resuming, ", again.stderr)
        self.assertEqual((model / "evaluation.json").read_bytes(), whole)
        self.assertFalse((model / "evaluation.partial").exists())

    def test_a_report_that_cannot_be_written_does_not_fail_the_training(self):
        folder = self.fresh("run")
        (folder / "report.html").mkdir(parents=True)
        result = train(folder)
        self.assert_succeeds(result)
        self.assertIn("cannot write the report of the run", result.stderr)
        self.assert_fails(run("dalle-eval", "--model", folder, "--suite", "codes", "--device", "cpu"), 1, "report.html")

    def test_evaluation_of_a_dvae_needs_no_transformer(self):
        copy = self.copy_of_whole()
        shutil.rmtree(copy / "checkpoints" / "dalle")
        result = run("dalle-eval", "--model", copy, "--device", "cpu")
        self.assert_succeeds(result)
        self.assertEqual(set(json.loads((copy / "evaluation.json").read_text())["suites"]), {"codes", "reconstruction"})
        newest = newest_checkpoint(copy, "dvae")
        for path in copy / "checkpoints", newest.parent, newest, newest.parent / "best":
            self.assertIn("codes: already in",
                          run("dalle-eval", "--model", path, "--suite", "codes", "--device", "cpu").stderr, path)
        self.assert_fails(run("dalle-eval", "--model", copy, "--suite", "likelihood", "--device", "cpu"), 1,
                          "contains a dVAE but no transformer")

    def test_invalid_evaluations_are_rejected(self):
        self.assert_fails(run("dalle-eval", "--model", self.work / "nothing", "--device", "cpu"), 1, "no such model")
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--suite", "beauty"), 2, "beauty")
        out = self.fresh("file")
        out.write_text("{}")
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--suite", "codes", "--out", out, "--device", "cpu"), 1,
                          out, "not a results file")
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--extractor", out, "--device", "cpu"), 1,
                          f"{out}: not a TorchScript file")
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--suite", "frechet", "--limit", 9, "--device", "cpu"), 1,
                          "found 9 validation images, expected at least 10")
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--ranks", 0), 2, "--ranks", "from 1 to 1024")
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--ranks", 3, "--limit", 2, "--device", "cpu"), 1,
                          "3 ranks: found 2 validation images, expected at least one for each rank")
        self.assert_fails(run("dalle-eval", "--model", self.work / "nothing", "--ranks", 2, "--device", "cpu"), 1, "no such model")

    # ---- import ----

    def imported_dvae(self, *options):
        folder = self.fresh("dvae")
        self.assert_succeeds(run("dalle-import", "openai-dvae", RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", folder,
                                 *options))
        return folder

    def test_the_released_dvae_is_imported_evaluated_and_trained_on(self):
        data = ("--set", "data.kind=shapes", "--set", "data.image_size=32", "--set", "data.shapes.samples=40",
                "--set", "data.shapes.validation_samples=4")
        dvae = self.imported_dvae(*data)
        self.assertEqual({path.name for path in dvae.iterdir()}, {"config.yaml", "ema.safetensors", "manifest.json"})
        self.assert_succeeds(run("dalle-eval", "--model", dvae, "--suite", "reconstruction", "--device", "cpu"))
        config = self.fresh("x.yaml")
        config.write_text("dvae: {checkpoint: %s}\n" % dvae + TINY.read_text().split("\ndvae:")[0].split("tokenizer:")[0] +
                          "tokenizer: {vocab_size: 300}\ndalle:" + TINY.read_text().split("\ndalle:")[1])
        folder = self.fresh("run")
        result = run("dalle-train", "--config", config, "--run-dir", folder, "--device", "cpu", *settings(["dalle"], steps=5),
                     "--set", "dalle.cache_codes=true", "--set", "dalle.crops_per_image=1")
        self.assert_succeeds(result)
        self.assertIn(f"dvae: skipped, since dvae.checkpoint names a trained one: {dvae}", result.stderr)
        self.assertIn("  vocab_size: 16\n", (folder / "config.yaml").read_text())
        self.assertEqual((newest_checkpoint(folder, "dalle") / "dvae.safetensors").read_bytes(),
                         (dvae / "ema.safetensors").read_bytes())

    def test_imports_are_reproducible_and_replace_nothing(self):
        others = self.fresh("dvae.part")
        others.mkdir()
        first = self.imported_dvae()
        self.assertEqual(list(first.parent.glob(f"{first.name}?*")), [others])
        manifest = (first / "manifest.json").read_bytes()
        arguments = ("openai-dvae", RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", first)
        self.assert_fails(run("dalle-import", *arguments), 1, first, "exists")
        shutil.rmtree(first)
        self.assert_succeeds(run("dalle-import", *arguments[:-1], f"{first}/"))
        self.assertEqual((first / "manifest.json").read_bytes(), manifest)

    def test_invalid_imports_are_rejected(self):
        out = self.fresh("dvae")
        hostile = self.fresh("hostile.pkl")
        ran = self.fresh("ran")
        hostile.write_bytes(pickle.dumps(Hostile(str(ran)), protocol=2))
        command = ("dalle-import", "openai-dvae")
        self.assert_fails(run(*command, hostile, "--out", out), 1, hostile, "posix.system")
        self.assertFalse(ran.exists())
        self.assert_fails(run(*command, RELEASED / "flava.bin", "--out", out), 1, "flava.bin", "encoder alone", "decoder.pkl")
        self.assert_fails(run(*command, self.work / "none.pkl", "--out", out), 1, "none.pkl", "No such file")
        self.assert_fails(run(*command, RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", out, "--set",
                              "dvae.model.hidden=8"), 1, "--set dvae.model.hidden: found 8, expected 4")
        self.assert_fails(run(*command, RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", out, "--set",
                              "dvae.checkpoint_sha256=x"), 1, "--set dvae.checkpoint_sha256: found x")
        self.assert_fails(run(*command, RELEASED / "encoder.pkl"), 2, "--out")
        self.assert_fails(run("dalle-import"), 2)
        self.assertFalse(out.exists())

    def imported_clip(self, *arguments):
        folder = self.fresh("clip")
        self.assert_succeeds(run("dalle-import", "clip", *(arguments or [RELEASED_CLIP / "model.safetensors"]), "--out", folder))
        return folder

    def test_an_imported_clip_model_ranks_and_measures_images(self):
        clip = self.imported_clip()
        self.assertEqual({path.name for path in clip.iterdir()},
                         {"config.yaml", "ema.safetensors", "manifest.json", "merges.txt", "vocab.json"})
        manifest = hashlib.sha256((clip / "manifest.json").read_bytes()).hexdigest()
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a Red, circle", "--best-of", 6, "--count", 2, "--reranker", clip, "--out", out, model=self.whole))
        self.assertEqual({png.texts(content)["ranked_by"] for content in self.images(out).values()}, {f"clip {manifest}"})
        model = self.copy_of_whole()
        command = ("dalle-eval", "--model", model, "--suite", "best_of", "frechet", "--limit", 10, "--device", "cpu")
        self.assert_succeeds(run(*command, "--reranker", clip, "--extractor", clip))
        suites = json.loads((model / "evaluation.json").read_text())["suites"]
        self.assertEqual(suites["best_of"]["reranker"], manifest)
        space = f"clip-{manifest[:12]}"
        self.assertEqual(suites["frechet"]["dimensions"][space], 16)
        for score in suites["best_of"]["clip_score"], suites["frechet"][f"{space}_clip_score"], suites["frechet"][f"{space}_clip_score_validation"]:
            self.assertTrue(-1 < score["low"] < score["value"] < score["high"] < 1, score)
        self.assertIn("CLIP score, validation images", (model / "report.html").read_text())
        self.assertIn("best_of: already in", run(*command, "--reranker", clip, "--extractor", clip).stderr)
        self.assert_fails(run("dalle-eval", "--model", model, "--suite", "codes", "--reranker", clip, "--device", "cpu"), 1,
                          "--reranker", "expected the suite best_of")

    def test_a_clip_model_is_the_same_under_both_naming_schemes(self):
        folder = self.fresh("files")
        folder.mkdir()
        shutil.copy(RELEASED_CLIP / "open_clip.bin", folder / "weights.bin")
        tokenizer = ("--vocab", RELEASED_CLIP / "vocab.json", "--merges", RELEASED_CLIP / "merges.txt")
        self.assert_fails(run("dalle-import", "clip", folder / "weights.bin", *tokenizer, "--out", self.fresh("clip")), 1,
                          "the image transformer has the width 32, expected a multiple of 64")
        config = {"quick_gelu": True, "vision_cfg": {"width": 32, "head_width": 8}, "text_cfg": {"heads": 2}}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        first, second = self.imported_clip(), self.imported_clip(folder / "weights.bin", *tokenizer)
        for name in "config.yaml", "ema.safetensors", "manifest.json":
            self.assertEqual((first / name).read_bytes(), (second / name).read_bytes(), name)
        # A config.json of another library does not hide OpenCLIP's.
        (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_clip_224"}))
        fourth = self.imported_clip(folder / "weights.bin", *tokenizer)
        self.assertEqual((first / "manifest.json").read_bytes(), (fourth / "manifest.json").read_bytes())
        third = self.imported_clip(folder / "weights.bin", *tokenizer, "--activation", "gelu")
        self.assertEqual((first / "config.yaml").read_text().replace("activation: quick_gelu", "activation: gelu"),
                         (third / "config.yaml").read_text())

    def test_keys_that_the_config_of_a_clip_model_lacks_have_the_defaults_of_its_library(self):
        folder = self.fresh("files")
        shutil.copytree(RELEASED_CLIP, folder)
        config = json.loads((folder / "config.json").read_text())
        del config["text_config"]["num_attention_heads"], config["text_config"]["hidden_act"]
        (folder / "config.json").write_text(json.dumps(config))
        text = (self.imported_clip(folder / "model.safetensors") / "config.yaml").read_text()
        self.assertIn("text_heads: 8", text)
        self.assertIn("activation: quick_gelu", text)
        (folder / "config.json").write_text(json.dumps(config).replace("quick_gelu", "gelu_new"))
        text = (self.imported_clip(folder / "model.safetensors", "--activation", "gelu") / "config.yaml").read_text()
        self.assertIn("activation: gelu\n", text)

    def test_what_no_config_says_of_a_clip_model_is_assumed_with_a_warning(self):
        def norm(name, width):
            return {f"{name}.weight": [width], f"{name}.bias": [width]}

        def linear(name, out, width):
            return {f"{name}weight": [out, width], f"{name}bias": [out]}

        def layer(name, width):
            return {**norm(f"{name}.ln_1", width), **linear(f"{name}.attn.in_proj_", 3 * width, width),
                    **linear(f"{name}.attn.out_proj.", width, width), **norm(f"{name}.ln_2", width),
                    **linear(f"{name}.mlp.c_fc.", 4 * width, width), **linear(f"{name}.mlp.c_proj.", width, 4 * width)}

        shapes = {"visual.conv1.weight": [64, 3, 14, 14], "visual.class_embedding": [64], "visual.positional_embedding": [10, 64],
                  **norm("visual.ln_pre", 64), **layer("visual.transformer.resblocks.0", 64), **norm("visual.ln_post", 64),
                  "visual.proj": [64, 8], "token_embedding.weight": [650, 128], "positional_embedding": [77, 128],
                  **layer("transformer.resblocks.0", 128), **norm("ln_final", 128), "text_projection": [128, 8], "logit_scale": []}
        header, size = {}, 0
        for name, shape in shapes.items():
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [size, size + 2 * math.prod(shape)]}
            size += 2 * math.prod(shape)
        text = json.dumps(header).encode()
        folder, out = self.fresh("files"), self.fresh("clip")
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
        result = run("dalle-import", "clip", folder / "weights.safetensors", "--vocab", RELEASED_CLIP / "vocab.json",
                     "--merges", RELEASED_CLIP / "merges.txt", "--out", out)
        self.assert_succeeds(result)
        for words in ("assuming gelu (override with --activation)", "heads of the image transformer; assuming 1,",
                      "heads of the text transformer; assuming 2,", "42 x 42 pixels"):
            self.assertIn(words, result.stderr)

    def test_invalid_clip_models_are_rejected(self):
        folder = self.fresh("files")
        shutil.copytree(RELEASED_CLIP, folder)
        out = self.fresh("clip")

        def assert_rejected(*words, status=1, options=()):
            self.assert_fails(run("dalle-import", "clip", folder / "model.safetensors", "--out", out, *options), status, *words)

        assert_rejected("--activation", status=2, options=("--activation", "relu"))
        assert_rejected("none.json", "No such file", options=("--vocab", folder / "none.json"))
        changes = (("config.json", "quick_gelu", "gelu_new", ("config.json: text_config.hidden_act", "gelu_new")),
                   ("config.json", '"num_attention_heads": 2', '"num_attention_heads": 0', ("config.json: text_config.num_attention_heads: found 0",)),
                   ("config.json", '"layer_norm_eps": 1e-05', '"layer_norm_eps": 1e-06', ("layer_norm_eps: found 1e-06",)),
                   ("config.json", "{", "[", ("config.json: not a JSON object",)),
                   ("merges.txt", "\nd o\n", "\nd zebra\n", ("vocab.json and ", "merges.txt: line ", "\"zebra\" is not in the vocabulary")),
                   ("vocab.json", '"<|endoftext|>": 649', '"<|endoftext|>": 7', ("vocab.json and ", "duplicate ID")))
        for name, old, new, words in changes:
            text = (folder / name).read_text()
            self.assertIn(old, text)
            (folder / name).write_text(text.replace(old, new))
            assert_rejected(*words)
            (folder / name).write_text(text)
        os.remove(folder / "config.json")
        for config, words in (({"quick_gelu": 1}, "open_clip_config.json: quick_gelu: found 1, expected true or false"),
                              ({"vision_cfg": {"width": 32, "head_width": 5}}, "open_clip_config.json: vision_cfg.head_width: found 5, expected")):
            (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
            assert_rejected(words)
        os.remove(folder / "open_clip_config.json")
        config = (RELEASED_CLIP / "config.json").read_text()
        (folder / "config.json").write_text(config)
        vocabulary = json.loads((folder / "vocab.json").read_text())
        last = max(vocabulary, key=lambda token: vocabulary[token] if token[:2] != "<|" else -1)
        del vocabulary[last]
        vocabulary.update({"<|startoftext|>": 647, "<|endoftext|>": 648})
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        assert_rejected("token_embedding.weight: found Half [650, 16], expected floating point [649, 16]")
        shutil.copy(RELEASED_CLIP / "vocab.json", folder)
        (folder / "model.safetensors").write_bytes((RELEASED_CLIP / "model.safetensors").read_bytes()[:-1])
        assert_rejected(folder / "model.safetensors")
        self.assertFalse(out.exists())

    # ---- fine-tuning ----

    def tune(self, folder, *arguments, source=None):
        """Trains the models of a run further, with its config."""
        return run("dalle-train", "--from", source or self.whole, "--run-dir", folder, "--device", "cpu", *arguments)

    def test_a_run_that_learns_nothing_is_its_source(self):
        source = self.whole_with_clip()
        folder = self.fresh("run")
        result = self.tune(folder, *settings(["dalle", "clip"], steps=10, learning_rate=0), source=source)
        self.assert_succeeds(result)
        self.assertIn(f"dvae: skipped: dvae.freeze is true, so the dVAE of {newest_checkpoint(source, 'dalle')} is used unchanged", result.stderr)
        for stage in ("dalle", "clip"):
            def evaluations(of):
                return [{name: value for name, value in line.items() if name not in ("step", "stage")}
                        for line in metrics(of, [stage]) if "validation" in line]
            self.assertEqual(evaluations(folder)[0], evaluations(source)[-1])
            before, after = newest_checkpoint(source, stage), newest_checkpoint(folder, stage)
            self.assertEqual(after.name, "step-00000010")
            for name in ("weights", "ema"):
                self.assertEqual((after / f"{name}.safetensors").read_bytes(), (before / "ema.safetensors").read_bytes())
            self.assertEqual((after / "tokenizer.model").read_bytes(), (before / "tokenizer.model").read_bytes())
        self.assertEqual((newest_checkpoint(folder, "dalle") / "dvae.safetensors").read_bytes(),
                         (newest_checkpoint(source, "dalle") / "dvae.safetensors").read_bytes())
        self.assertEqual((folder / "tokenizer.model").read_bytes(), (source / "tokenizer.model").read_bytes())

    def test_a_dvae_that_learns_nothing_is_its_source(self):
        folder = self.fresh("run")
        self.assert_succeeds(self.tune(folder, "--set", "dvae.freeze=false", *settings(["dvae"], steps=10, learning_rate=0),
                                       *settings(["dalle"], steps=10)))
        best = max(line["psnr_hard"] for line in metrics(self.whole, ["dvae"]) if "psnr_hard" in line)
        self.assertEqual([line["psnr_hard"] for line in metrics(folder, ["dvae"]) if "psnr_hard" in line], [best])
        dvae = (newest_checkpoint(self.whole, "dalle") / "dvae.safetensors").read_bytes()
        self.assertEqual((newest_checkpoint(folder, "dvae") / "weights.safetensors").read_bytes(), dvae)
        self.assertEqual((newest_checkpoint(folder, "dalle") / "dvae.safetensors").read_bytes(), dvae)

    def test_interrupted_fine_tuning_resumes_without_its_source(self):
        options = ("--set", "dvae.freeze=false", "--set", "distributed.bitwise=true", *settings(STAGES, steps=20))
        whole = self.fresh("whole")
        self.assert_succeeds(self.tune(whole, *options))
        self.assertNotEqual(metrics(whole)[-1], metrics(self.whole)[-1])
        source, folder = self.copy_of_whole("source"), self.fresh("run")
        arguments = ("--run-dir", folder, "--device", "cpu", *options)
        self.assert_succeeds(run("dalle-train", "--from", source, *arguments, "--stage", "tokenizer"))
        process = subprocess.Popen([BIN / "dalle-train", "--from", source, *arguments], stderr=subprocess.DEVNULL)
        while not list((folder / "checkpoints").glob("dvae/step-*")):
            self.assertIsNone(process.poll())
            time.sleep(0.02)
        process.kill()
        process.wait()
        shutil.rmtree(source)
        self.assert_fails(run("dalle-train", "--from", source, *arguments), 1, "--config RUN/config.yaml")
        config = self.fresh("config.yaml")
        shutil.copy(folder / "config.yaml", config)
        before = hashes_below(folder)
        self.assert_fails(run("dalle-train", "--config", config, *arguments, "--restart"), 1, "from.checkpoint: ",
                          "no such checkpoint", f"{folder}/from has a copy")
        self.assertEqual(hashes_below(folder), before)
        self.assert_succeeds(run("dalle-train", "--config", config, *arguments, "--ranks", 2))
        self.assertEqual(state_hashes(folder), state_hashes(whole))
        self.assertEqual(metrics(folder), metrics(whole))

    def test_ranks_begin_with_the_same_weights(self):
        options = ("--set", "distributed.bitwise=true", *settings(["dalle"], steps=10))
        folders = self.fresh("one"), self.fresh("two")
        for folder, ranks in zip(folders, (1, 2)):
            self.assert_succeeds(self.tune(folder, *options, "--ranks", ranks))
        self.assertEqual(state_hashes(folders[0], ["dalle"]), state_hashes(folders[1], ["dalle"]))

    def test_a_resumed_run_begins_with_nothing_else(self):
        folder = self.fresh("run")
        options = settings(["dalle"], steps=5)
        self.assert_succeeds(self.tune(folder, *options))
        self.assertIn("already finished", self.tune(folder, *options).stderr)
        shutil.rmtree(folder / "from")  # not needed once the stages have checkpoints
        self.assert_succeeds(self.tune(folder, *settings(["dalle"], steps=10)))
        options = settings(["dalle"], steps=10)
        other = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[0]
        for flags in ((), ("--allow-config-change",)):
            self.assert_fails(self.tune(folder, *options, *flags, source=other), 1, "from.checkpoint_sha256: ", "began with the weights")
            self.assert_fails(train(folder, *options, *flags), 1, "from.checkpoint_sha256: ", "began with the weights")
        self.assert_fails(self.tune(self.copy_of_whole(), *options), 1, "began with random weights")

    def test_fine_tuning_leaves_its_source_alone(self):
        before = hashes_below(self.whole)
        for flags in ((), ("--restart",)):
            self.assert_fails(self.tune(self.whole, *flags), 1, "contains the source checkpoint")
        self.assertEqual(hashes_below(self.whole), before)
        result = run("dalle-train", "--from", self.whole, "--device", "cpu", "--stage", "tokenizer", cwd=self.work)
        self.assert_succeeds(result)
        self.assertIn("name: tiny-tuned\n", (self.work / "runs" / "tiny-tuned" / "config.yaml").read_text())
        shutil.rmtree(self.work / "runs" / "tiny-tuned")
        self.assert_fails(self.tune(self.fresh("run"), "--stage", "dvae"), 1, "dvae.freeze")

    def test_a_dry_run_says_what_fine_tuning_begins_with(self):
        folder = self.fresh("run")
        result = self.tune(folder, "--dry-run")
        self.assert_succeeds(result)
        self.assertFalse(folder.exists())
        self.assertRegex(result.stdout, f"^initialized from {newest_checkpoint(self.whole, 'dalle')}\n  tokenizer +kept\n  dVAE +kept")

    def test_a_config_that_does_not_fit_the_weights_is_named_key_by_key(self):
        result = train(self.fresh("run"), "--from", self.whole, "--set", "dalle.model.width=64", "--set", "data.image_size=64",
                       "--set", "dvae.model.vocab_size=32", "--set", "dalle.model.attention=[column]")
        self.assert_fails(result, 1, "data.image_size: found 64, expected 32", "dvae.model.vocab_size: found 32, expected 16",
                          "dalle.model.width: found 64, expected 32", "dalle.model.attention: found [column], expected [row]")

    def test_a_corrupt_source_is_named(self):
        source = self.copy_of_whole("source")
        flip_a_bit(newest_checkpoint(source, "dalle") / "ema.safetensors")
        self.assert_fails(self.tune(self.fresh("run"), source=source), 1, newest_checkpoint(source, "dalle") / "ema.safetensors")

    # ---- serving ----

    @contextlib.contextmanager
    def serving(self, *arguments, model=None, **environment):
        """A server with its port and log; stopped by SIGTERM in the end, after which its status must be 0."""
        log = self.fresh("log.txt")
        with log.open("w") as file:
            process = subprocess.Popen([BIN / "dalle-serve", "--model", model or self.whole, "--port", "0", "--device", "cpu",
                                        *map(str, arguments)], stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
        try:
            while not (ready := re.search(r"^serving whole \(step 40\) at http://127.0.0.1:(\d+)$", log.read_text(), re.M)):
                self.assertIsNone(process.poll(), log.read_text())
                time.sleep(0.05)
            process.port, process.log = int(ready.group(1)), log
            yield process
            process.terminate()
            self.assertEqual(process.wait(60), 0, log.read_text())
        finally:
            process.kill()
            process.wait()

    def ask(self, server, path, body=None, **headers):
        """The status, headers and body of an answer."""
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            headers["content-type"] = "application/json"
        client.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        response = client.getresponse()
        result = response.status, response.headers, response.read()
        client.close()
        return result

    def test_a_server_generates_what_dalle_sample_does_and_logs_it(self):
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a red circle", "--count", 1, "--seed", 7, "--out", out, model=self.whole))
        sampled, = self.images(out).values()
        with self.serving() as server:
            self.assertEqual(self.ask(server, "/health")[0], 200)
            status, headers, body = self.ask(server, "/v1/images/generations", {"prompt": "a red circle", "seed": 7})
            self.assertEqual(status, 200, body)
            image = base64.b64decode(json.loads(body)["data"][0]["b64_json"])
            self.assertEqual(png.rgb_rows(image), png.rgb_rows(sampled))
            status, _, body = self.ask(server, "/v1/images/generations",
                                       {"prompt": "a red circle", "seed": 7, "response_format": "url"})
            url = json.loads(body)["data"][0]["url"]
            self.assertTrue(url.startswith(f"http://127.0.0.1:{server.port}/images/"), url)
            self.assertEqual(png.rgb_rows(self.ask(server, url.split(str(server.port))[1])[2]), png.rgb_rows(sampled))
            self.assertEqual(self.ask(server, "/v1/runs")[0], 200)
            self.assertEqual(self.ask(server, "/")[0], 200)
            self.assertEqual(self.ask(server, "/nothing")[0], 404)
        lines = server.log.read_text()
        self.assertRegex(lines, r"(?m)^GET /health 200 [0-9.]+ s from 127\.0\.0\.1, id [0-9a-f]{32}$")
        self.assertRegex(lines, rf"(?m)^POST /v1/images/generations 200 [0-9.]+ s \(queue .*, generate .*, decode .*, encode .*\) .* id {headers['x-request-id']}$")
        self.assertNotIn("red circle", lines)

    def test_a_server_for_other_machines_requires_a_key(self):
        serve = ("dalle-serve", "--model", self.whole, "--host", "0.0.0.0", "--port", "0")
        self.assert_fails(run(*serve, DALLE_API_KEY=""), 1, "--host 0.0.0.0: ", "--api-key-file", "DALLE_API_KEY")
        self.assert_fails(run(*serve, "--api-key-file", self.work / "none"), 1, self.work / "none")
        self.assert_fails(run(*serve, "--api-key", "secret"), 2, "--api-key")
        keys = self.fresh("keys")
        keys.write_text("first\nsecond\n")
        for options, environment in ((("--api-key-file", keys), {}), ((), {"DALLE_API_KEY": "first second"})):
            with self.serving(*options, **environment) as server:
                self.assertEqual(self.ask(server, "/health")[0], 200)
                self.assertEqual(self.ask(server, "/v1/models")[0], 401)
                self.assertEqual(self.ask(server, "/metrics", authorization="Bearer third")[0], 401)
                self.assertEqual(self.ask(server, "/v1/models", authorization="Bearer second")[0], 200)

    def test_a_server_refuses_foreign_pages_and_bad_options(self):
        with self.serving("--cors-origin", "https://lab.example") as server:
            self.assertEqual(self.ask(server, "/v1/models", host="evil.example")[0], 403)
            self.assertEqual(self.ask(server, "/v1/models", origin="https://evil.example")[0], 403)
            status, headers, _ = self.ask(server, "/v1/models", origin="https://lab.example")
            self.assertEqual((status, headers["access-control-allow-origin"]), (200, "https://lab.example"))
            port = server.port
            self.assert_fails(run("dalle-serve", "--model", self.whole, "--port", port), 1, f"127.0.0.1:{port}: cannot listen")
        self.assert_fails(run("dalle-serve", "--model", self.whole, "--cors-origin", "*"), 1, "--cors-origin *: expected http[s]://HOST[:PORT]")
        self.assert_fails(run("dalle-serve", "--model", self.work / "none"), 1, self.work / "none")
        self.assert_fails(run("dalle-serve", "--model", self.whole, "--model", f"{self.whole}/."), 1, "also named whole")

    def test_a_server_withstands_load_and_attacks(self):
        with self.serving() as server:
            result = subprocess.run([sys.executable, REPOSITORY / "tests" / "serve" / "load.py", "--port", str(server.port),
                                     "--pid", str(server.pid), "--clients", "8", "--seconds", "3", "--malformed", "400",
                                     "--more-mb", "300"],
                                    capture_output=True, text=True, timeout=300)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr + server.log.read_text()[-2000:])

    # ---- export ----

    def export(self, out, *arguments, model=None):
        return run("dalle-export", "--model", model or self.whole, "--out", out, *arguments)

    def test_an_exported_model_has_the_hubs_layout(self):
        out = self.fresh("out")
        self.assert_succeeds(self.export(f"{out}/", "--format", "hf"))
        self.assertEqual({path.name for path in out.iterdir()},
                         {"README.md", "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
                          "tokenizer.model", "tokenizer_config.json"})
        checkpoint = newest_checkpoint(self.whole, "dalle")
        self.assertEqual((out / "tokenizer.model").read_bytes(), (checkpoint / "tokenizer.model").read_bytes())
        exported = safetensors_of(out / "model.safetensors")
        for prefix, file in (("transformer.", "ema"), ("dvae.", "dvae")):
            for name, tensor in safetensors_of(checkpoint / f"{file}.safetensors").items():
                self.assertEqual(exported.pop(prefix + name), tensor)
        self.assertEqual(exported, {})
        config = json.loads((out / "config.json").read_text())
        self.assertEqual(config["transformer"]["attention"], ["row", "conv"])
        self.assertEqual((config["step"], config["dvae"]["image_size"]), (40, 32))
        self.assertEqual(json.loads((out / "generation_config.json").read_text())["max_new_tokens"], 64)
        self.assertEqual(json.loads((out / "preprocessor_config.json").read_text())["size"], {"height": 32, "width": 32})
        card = (out / "README.md").read_text()
        self.assertTrue(card.startswith("---\nlicense: other\n"), card)
        self.assertIn("| transformer, validation loss |", card)
        self.assertNotIn(str(self.work), card)
        again = self.fresh("again")
        again.mkdir()
        self.assert_succeeds(self.export(again, model=checkpoint))
        self.assertEqual(hashes_below(again), hashes_below(out))
        self.assert_fails(self.export(again), 1, again, "found a folder with 7 entries, expected a new or an empty folder")
        self.assert_fails(self.export("."), 1, "--out .: found ")
        link = self.fresh("link")
        link.symlink_to(self.fresh("target"))
        self.assert_fails(self.export(link), 1, "found a symbolic link")
        self.assert_fails(self.export(out / "README.md"), 1, "found a file")
        self.assertEqual([path.name for path in self.work.glob("*.part-*")], [])

    def test_large_weights_are_divided_into_files_with_an_index(self):
        folder, out = self.fresh("run"), self.fresh("out")
        self.assert_succeeds(train(folder, "--set", "dalle.model.width=128", *settings(STAGES, steps=5)))
        self.assert_succeeds(self.export(out, "--max-shard-mb", 1, model=folder))
        index = json.loads((out / "model.safetensors.index.json").read_text())
        files = sorted(out.glob("model-*.safetensors"))
        self.assertGreater(len(files), 1)
        self.assertEqual(files[0].name, f"model-00001-of-{len(files):05}.safetensors")
        tensors = {}
        for file in files:
            self.assertLess(file.stat().st_size, 1_010_000)
            for name, tensor in safetensors_of(file).items():
                self.assertEqual(index["weight_map"][name], file.name)
                tensors[name] = tensor
        self.assertEqual(tensors.keys(), index["weight_map"].keys())
        self.assertEqual(index["metadata"]["total_size"], sum(len(data) for _, data in tensors.values()))

    # ---- a trained dVAE ----

    def test_a_trained_dvae_is_as_good_as_its_stage(self):
        dvae = self.fresh("dvae")
        shutil.copytree(self.whole / "checkpoints" / "dvae", dvae)
        folder = self.fresh("run")
        result = train(folder, "--set", f"dvae.checkpoint={dvae}")
        self.assert_succeeds(result)
        self.assertIn("dvae: skipped", result.stderr)
        self.assertFalse((folder / "checkpoints" / "dvae").exists())
        self.assertEqual(state_hashes(folder, ["dalle"]), state_hashes(self.whole, ["dalle"]))
        # The path may change; the dVAE may not.
        result = train(folder, "--set", f"dvae.checkpoint={self.whole}")
        self.assert_succeeds(result)
        self.assertIn("dalle: already finished", result.stderr)
        other = self.fresh("other")
        shutil.copytree(newest_checkpoint(self.whole, "dvae"), other)
        best = (dvae / "best").read_text().strip()
        if best == newest_checkpoint(self.whole, "dvae").name:
            other = sorted(path for path in dvae.glob("step-*") if path.name != best)[0]
        for flags in ((), ("--allow-config-change",)):
            self.assert_fails(train(folder, "--set", f"dvae.checkpoint={other}", *flags), 1, "dvae.checkpoint_sha256: ", "use that one again")
            self.assert_fails(train(folder, *flags), 1, "dvae.checkpoint_sha256: ")
        # Its checkpoints need no other file.
        shutil.rmtree(dvae)
        self.assert_succeeds(run("dalle-sample", "a red circle", "--model", folder, "--count", 1, "--device", "cpu", "--out",
                                 self.fresh("samples")))

    def test_ranks_resume_without_the_dvae_that_they_began_with(self):
        source = self.fresh("source")
        source.mkdir()
        shutil.copytree(newest_checkpoint(self.whole, "dvae"), source / "dvae")
        folder = self.fresh("run")
        self.assert_succeeds(run("dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--ranks", 2, "--set",
                                 "dvae.checkpoint=dvae", *settings(["dalle"], steps=5), cwd=source))
        config = self.fresh("config.yaml")
        shutil.copy(folder / "config.yaml", config)
        self.assertIn("\n  checkpoint: dvae\n", config.read_text())
        shutil.rmtree(source)
        resume = ("dalle-train", "--config", config, "--device", "cpu", *settings(["dalle"], steps=10), "--run-dir")
        self.assert_succeeds(run(*resume, folder, "--ranks", 2, cwd=self.work))
        self.assertEqual(newest_checkpoint(folder, "dalle").name, "step-00000010")
        self.assert_fails(run(*resume, self.fresh("new"), cwd=self.work), 1, "dvae.checkpoint: dvae: ", "no copy of the dVAE yet")

    def test_a_dry_run_names_the_trained_dvae(self):
        result = train(self.fresh("run"), "--set", f"dvae.checkpoint={self.whole}", "--dry-run")
        self.assert_succeeds(result)
        self.assertIn(f"not trained: {self.whole}", result.stdout)

    def test_dvaes_that_do_not_fit_are_rejected(self):
        def assert_fails(checkpoint, *texts, options=()):
            folder = self.fresh("run")
            self.assert_fails(train(folder, "--set", f"dvae.checkpoint={checkpoint}", *options), 1, *texts)
            self.assertFalse(folder.exists())

        assert_fails(self.work / "none", "--set dvae.checkpoint=", "dvae.checkpoint: ", "no such checkpoint or run")
        assert_fails(RELEASED / "encoder.pkl", "found a file", "dalle-import")
        assert_fails(newest_checkpoint(self.whole, "dalle"), "a checkpoint of the dalle stage")
        assert_fails(self.work, "no checkpoint of the dvae stage")
        assert_fails(self.whole, "dvae.model.hidden: found 16, expected 8", options=("--set", "dvae.model.hidden=16"))
        unfinished = self.copy_of_whole()
        shutil.rmtree(newest_checkpoint(unfinished, "dvae"))
        assert_fails(unfinished, "the dVAE is at step ", " of 40", "give one of its checkpoints")
        self.assert_fails(train(self.fresh("run"), "--set", f"dvae.checkpoint={self.whole}", "--stage", "dvae"), 1,
                          "--stage dvae: nothing to train")
        assert_fails(self.whole, "data.image_size: found 38, expected a multiple of 4", "dvae.model",
                     options=("--set", "data.image_size=38"))
        assert_fails(self.whole, "dvae.checkpoint_sha256: found 12, expected ", options=("--set", "dvae.checkpoint_sha256=12"))
        copy = self.fresh("dvae")
        shutil.copytree(newest_checkpoint(self.whole, "dvae"), copy)
        flip_a_bit(copy / "ema.safetensors")
        assert_fails(copy, copy / "ema.safetensors", "corrupt")
        flip_a_bit(copy / "manifest.json")
        assert_fails(copy, copy / "manifest.json")

    # ---- benchmark ----

    def test_the_benchmark_reports_each_number_of_ranks(self):
        numbers = self.work / "bench.json"
        result = run("dalle-bench", "train", "--config", TINY, "--ranks", "1,2", "--steps", 4, "--device", "cpu", "--json", numbers)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(numbers.read_text())
        self.assertEqual([(line["ranks"], line["batch"]) for line in report["results"]], [(1, 4), (2, 8)])
        self.assertIn("comm_overlap", report["results"][1]["time"])
        self.assertEqual(len(result.stdout.splitlines()), 4)
        self.assert_fails(run("dalle-bench", "train", "--config", self.work / "none.yaml"), 1, "none.yaml")
        self.assert_fails(run("dalle-bench", "train"), 2, "--config")

    def test_the_benchmark_of_decoding_counts_passes(self):
        numbers = self.work / "bench.json"
        subject = ("--images", "1,3", "--windows", "1,4", "--repeat", 1, "--json", numbers)
        for model in (("--model", self.whole), ("--config", TINY)):
            self.assert_succeeds(run("dalle-bench", "decode", *model, *subject))
            report = json.loads(numbers.read_text())
            self.assertEqual([(line["images"], line["decode"]) for line in report["results"]],
                             [(images, mode) for images in (1, 3) for mode in ("sequential", "window 4", "auto")])
            sequential, parallel = report["results"][:2]
            self.assertEqual(sequential["rows_per_pass"], 1)
            self.assertLessEqual(parallel["passes"], sequential["passes"])
            self.assertGreater(report["bandwidth"], 0)
        self.assert_fails(run("dalle-bench", "decode"), 1, "--model", "--config")

    def test_the_benchmark_of_serving_compares_with_an_offline_batch(self):
        numbers = self.work / "bench.json"
        self.assert_succeeds(run("dalle-bench", "serve", "--model", self.whole, "--clients", 3, "--images", 2, "--repeat", 1, "--json", numbers))
        report = json.loads(numbers.read_text())
        self.assertEqual(list(report["results"]), ["offline, only codes", "offline, codes and pixels", "served", "served, 3 previews"])
        self.assertTrue(all(result["images_per_s"] > 0 for result in report["results"].values()))
        self.assertTrue(0 < report["first_preview"] < 1)
        self.assert_fails(run("dalle-bench", "serve"), 2, "--model")

    # ---- dalle-check ----

    def test_dalle_check_passes_on_the_cpu(self):
        numbers = self.work / "check.json"
        result = run("dalle-check", "--device", "cpu", "--json", numbers)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        report = json.loads(numbers.read_text())
        self.assertTrue(report["passed"])
        self.assertGreater(len([check for check in report["checks"] if check["result"] == "pass"]), 20)
        self.assertNotIn("FAIL", result.stdout)

    # ---- configs ----

    def test_a_printed_config_can_be_read_again(self):
        for config in (TINY, REPOSITORY / "configs" / "paper-12b.yaml", REPOSITORY / "configs" / "paper-dvae.yaml"):
            first = run("dalle-train", "--config", config, "--print-config")
            self.assert_succeeds(first)
            printed = self.work / f"printed-{config.name}"
            printed.write_text(first.stdout)
            again = run("dalle-train", "--config", printed, "--print-config")
            self.assert_succeeds(again)
            self.assertEqual(again.stdout, first.stdout)

    def test_every_section_is_described(self):
        sections = ("name", "seed", "from", "data", "tokenizer", "dvae", "dalle", "clip", "sample", "distributed")
        described = run("dalle-train", "--describe")
        self.assert_succeeds(described)
        printed = run("dalle-train", "--config", TINY, "--print-config").stdout
        schema = run("dalle-train", "--json-schema")
        self.assert_succeeds(schema)
        self.assertEqual(tuple(json.loads(schema.stdout)["properties"]), sections)
        self.assertEqual(tuple(re.findall(r"(?m)^(\w+):", printed)), sections)
        for section in sections:
            self.assertRegex(described.stdout, rf"(?m)^{section}[. ]")

    def test_a_dry_run_reports_the_cost_of_any_model(self):
        """For shipped configs, without data, in two seconds of CPU time: no model is allocated."""
        for name, parameters in (("paper-12b.yaml", "12,292,816,384"), ("paper-dvae.yaml", "97,616,006")):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = run("dalle-train", "--config", REPOSITORY / "configs" / name, "--dry-run")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.assert_succeeds(result)
            self.assertIn(parameters, result.stdout)
            self.assertLess(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)
        # Training, however, needs data.
        result = run("dalle-train", "--config", REPOSITORY / "configs" / "paper-dvae.yaml", "--run-dir", self.fresh("run"))
        self.assert_fails(result, 1, "data.path")

    # ---- output ----

    def test_output_that_cannot_be_written_is_an_error(self):
        for tool, options in (("dalle-train", ("--describe",)), ("dalle-train", ("--json-schema",)), ("dalle-train", ("--help",)),
                              ("dalle-train", ("--config", TINY, "--print-config")), ("dalle-sample", ("--help",)),
                              ("dalle-train", ("--config", TINY, "--dry-run"))):
            with open("/dev/full", "w") as full:
                result = subprocess.run([BIN / tool, *options], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            self.assert_fails(result, 1, "standard output: cannot write: No space left on device")
        result = subprocess.run(["sh", "-c", 'exec "$0" --describe >&-', BIN / "dalle-train"], stderr=subprocess.PIPE, text=True)
        self.assert_fails(result, 1, "standard output: cannot write")

    def test_a_closed_output_pipe_ends_quietly(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        result = subprocess.run([BIN / "dalle-train", "--describe"], stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60)
        os.close(write_end)
        self.assertEqual((result.returncode, result.stderr), (128 + signal.SIGPIPE, ""))

    def test_colors_are_for_terminals_and_can_be_disabled(self):
        def error_on_a_terminal(**environment):
            ours, theirs = pty.openpty()
            subprocess.run([BIN / "dalle-train"], stderr=theirs, timeout=60, env={**os.environ, "TERM": "xterm", **environment})
            os.close(theirs)
            text = os.read(ours, 1000)
            os.close(ours)
            self.assertIn(b"--config is required", text)
            return text

        self.assertIn(b"\x1b[", error_on_a_terminal(NO_COLOR=""))
        self.assertNotIn(b"\x1b[", error_on_a_terminal(NO_COLOR="1"))
        self.assertNotIn("\x1b[", run("dalle-train", TERM="xterm", NO_COLOR="").stderr)

    # ---- invalid input ----

    def test_wrong_usage_is_status_2(self):
        for tool, arguments in (("dalle-train", ()), ("dalle-train", ("--no-such-option",)), ("dalle-sample", ()),
                                ("dalle-sample", ("x", "--count", 0)), ("dalle-sample", ("x", "--format", "gif")),
                                ("dalle-bench", ()), ("dalle-check", ("--no-such-option",)),
                                ("dalle-train", ("--config", TINY, "--stage", "nonsense"))):
            self.assert_fails(run(tool, *arguments), 2)

    def test_numbers_in_options_are_parsed_like_those_in_a_config(self):
        for number, advice in (("010", "without leading zeros"), ("1_0", "without underscores"), ("99999999999999999999", "")):
            self.assert_fails(run("dalle-train", "--ranks", number), 2,
                              f"--ranks: found {number}, expected an integer from 1 to 1024", advice)
        self.assert_fails(run("dalle-train", "--ranks", "1e0"), 2, "--config is required")

    def test_empty_launcher_variables_count_as_unset(self):
        result = run("dalle-train", "--config", TINY, "--run-dir", self.fresh("run"), "--device", "cpu", "--stage", "tokenizer",
                     RANK="", WORLD_SIZE="", LOCAL_RANK="", MASTER_ADDR="")
        self.assert_succeeds(result)

    def test_a_config_from_a_pipe_reaches_every_rank(self):
        for number, option in enumerate((["--config", "/dev/stdin"], ["--config=/dev/fd/0"])):
            folder = self.fresh(f"run-{number}")
            result = subprocess.run([BIN / "dalle-train", *option, "--run-dir", folder, "--device", "cpu", "--stage", "tokenizer",
                                     "--ranks", "2"], input=TINY.read_text(), capture_output=True, text=True, timeout=60)
            self.assert_succeeds(result)
            self.assertEqual((folder / "config.yaml").read_text(), (self.whole / "config.yaml").read_text())

    def test_a_short_run_needs_only_fewer_steps(self):
        result = train(self.fresh("run"), "--stage", "dvae", "--set", "dvae.train.warmup_steps=100", "--set", "dvae.train.steps=2")
        self.assert_succeeds(result)
        self.assertIn("warning: dvae.train: the 2 steps end within the 100 warmup_steps", result.stderr)

    def test_help_is_not_an_error(self):
        for words in (("dalle-train",), ("dalle-sample",), ("dalle-eval",), ("dalle-bench", "train"), ("dalle-check",),
                      ("dalle-serve",)):
            result = run(*words, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertIn("--device", result.stdout)
            self.assertRegex(result.stdout, f"Examples:\n  {words[0]} ")

    def test_every_tool_prints_its_version(self):
        lines = {run(tool, "--version").stdout for tool in ("dalle-train", "dalle-sample", "dalle-eval", "dalle-import", "dalle-bench",
                                                             "dalle-export", "dalle-serve", "dalle-check")}
        line, = lines
        self.assertRegex(line, r"^dalle [0-9.]+ \(.+\), LibTorch [0-9.]+")

    def test_whole_numbers_are_decimal_and_in_range(self):
        for tool, option, value, words in (
                (("dalle-sample", "x"), "--seed", "-1", "found -1, expected an integer of at least 0"),
                (("dalle-sample", "x"), "--seed", "010", "found 010, expected an integer of at least 0, without leading zeros"),
                (("dalle-sample", "x"), "--seed", "0x10", "found 0x10, expected an integer of at least 0"),
                (("dalle-sample", "x"), "--seed", "99999999999999999999",
                 "expected an integer of at most 9223372036854775807"),
                (("dalle-sample", "x"), "--count", "1.5", "found 1.5, expected an integer from 1 to 100000"),
                (("dalle-sample", "x"), "--top-k", "-2", "found -2, expected an integer of at least 0"),
                (("dalle-train", "--config", TINY), "--ranks", "08", "found 08, expected an integer from 1 to 1024"),
                (("dalle-bench", "train", "--config", TINY), "--ranks", "1,0", "found 0, expected an integer from 1 to 1024"),
                (("dalle-bench", "train", "--config", TINY), "--steps", "1", "found 1, expected an integer from 2 to")):
            self.assert_fails(run(*tool, option, value), 2, f"{option}: ", words)
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a red circle", "--seed", "1e3", "--count", 1, "--out", out, model=self.whole))
        self.assertEqual([*self.images(out)], ["a-red-circle-seed1000-000.png"])

    def test_captions_are_checked_before_the_model_is_loaded(self):
        self.assert_fails(self.sample(model="nowhere"), 2, "no caption")
        self.assert_fails(self.sample("a red circle", " \t", model="nowhere"), 1, "caption", "empty")
        self.assert_fails(self.sample(b"\xff\xfe".decode("utf-8", "surrogateescape"), model="nowhere"), 1, "UTF-8")

    def test_unreadable_configs_are_rejected(self):
        bad = self.work / "bad.yaml"
        bad.write_text("name: [unclosed\n")
        empty = self.work / "empty.yaml"
        empty.write_text("# name: tiny\n")
        self.assert_fails(run("dalle-train", "--config", empty), 1, "empty.yaml: found no keys")
        wrong = self.work / "wrong.yaml"
        wrong.write_text("dvae:\n  train:\n    stepz: 3\n    batch_size: many\n")
        self.assert_fails(run("dalle-train", "--config", self.work / "none.yaml"), 1, "none.yaml")
        self.assert_fails(run("dalle-train", "--config", self.work), 1, self.work, "directory")
        self.assert_fails(run("dalle-train", "--config", bad), 1, "bad.yaml:")
        self.assert_fails(run("dalle-train", "--config", wrong), 1, "wrong.yaml:3:5: dvae.train.stepz", "steps", "wrong.yaml:4:")
        self.assert_fails(run("dalle-train", "--config", TINY, "--device", "tpu"), 1, "tpu")

    def test_missing_data_is_rejected(self):
        folder, empty = self.fresh("run"), self.work / "empty"
        empty.mkdir(exist_ok=True)
        for path in (self.work / "none", empty):
            result = train(folder, "--set", "data.kind=folder", "--set", f"data.path={path}")
            self.assert_fails(result, 1, path)

    def test_unwritable_folders_are_reported(self):
        in_the_way = self.work / "in-the-way"
        in_the_way.write_text("")
        self.assert_fails(train(in_the_way / "run"), 1, in_the_way)
        self.assert_fails(self.sample("x", "--out", in_the_way, model=self.whole), 1, in_the_way)

    def test_corrupt_models_are_rejected(self):
        newest = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[-1]

        def sample_changed(change):
            copy = self.fresh("model")
            shutil.copytree(newest, copy)
            change(copy)
            return self.sample("a red circle", "--out", self.fresh("out"), model=copy)

        def truncate(copy):
            os.truncate(copy / "ema.safetensors", 100)

        def claim_terabytes(copy):
            content = (copy / "ema.safetensors").read_bytes()
            (copy / "ema.safetensors").write_bytes((1 << 42).to_bytes(8, "little") + content[8:])

        self.assert_fails(sample_changed(truncate), 1, "ema.safetensors")
        self.assert_fails(sample_changed(claim_terabytes), 1, "ema.safetensors")
        self.assert_fails(sample_changed(lambda copy: (copy / "tokenizer.model").unlink()), 1, "tokenizer.model")
        self.assert_fails(sample_changed(lambda copy: (copy / "manifest.json").write_text("{")), 1, "manifest.json")
        self.assert_fails(self.sample("x", model=self.work / "none"), 1, "none")
        self.assert_fails(self.sample("x", model=TINY), 1, "tiny.yaml")

    def test_running_out_of_memory_is_reported_with_advice(self):
        def run_in_6_gb(tool, *arguments):
            limit = 6_000_000_000
            return subprocess.run([BIN / tool, *map(str, arguments), "--device", "cpu"], capture_output=True, text=True, timeout=120,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
                                  env={**os.environ, "OMP_NUM_THREADS": "1"})

        wide = ("--set", "dvae.model.hidden=65536")  # one of the tensors takes 36 GiB
        result = run_in_6_gb("dalle-train", "--config", TINY, *wide, "--run-dir", self.fresh("run"))
        self.assert_fails(result, 1, "out of memory: lower micro_batch_size")
        model = self.checkpoint_with(lambda config: re.sub(r"(?m)^(    width:) .*$", r"\1 65536", config))
        result = run_in_6_gb("dalle-sample", "a red circle", "--model", model, "--out", self.fresh("out"))
        self.assert_fails(result, 1, "out of memory: lower --batch-size")
        result = run_in_6_gb("dalle-bench", "train", "--config", TINY, *wide, "--stage", "dvae", "--ranks", 1, "--steps", 2)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("out of memory: lower micro_batch_size", result.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
