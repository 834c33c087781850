#!/usr/bin/env python3
"""Drives the real binaries: training that is killed and resumed, sampling, and every kind of bad input.

Usage: tools_test.py FOLDER_OF_THE_BINARIES
"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(sys.argv[1]).resolve()
TINY = pathlib.Path(__file__).with_name("tiny.yaml").resolve()
STATE = ("weights", "average", "first_moment", "second_moment")


def run(tool, *arguments, cwd=None, **environment):
    """The finished process of a tool, with its output as text."""
    return subprocess.run([BIN / tool, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def train(folder, *arguments):
    return run("dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", *arguments)


def start_training(folder, *arguments):
    return subprocess.Popen([BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", *arguments],
                            stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def start_rank(rank, ranks, port, folder, *arguments):
    """A rank as torchrun starts it."""
    variables = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return subprocess.Popen([BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", *arguments],
                            stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **{name: str(value) for name, value in variables.items()}})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ranks_of(process):
    """The processes that a launcher with --ranks has started, by rank."""
    return list(map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def state_hashes(folder):
    """Hashes of weights, average and moments of the newest checkpoint of both stages."""
    hashes = {}
    for stage in ("dvae", "dalle"):
        newest = sorted((pathlib.Path(folder) / "checkpoints" / stage).glob("step-*"))[-1]
        for name in STATE:
            hashes[stage, name] = hashlib.sha256((newest / f"{name}.safetensors").read_bytes()).hexdigest()
    return hashes


def metrics(folder):
    """The lines of metrics.jsonl without the times, which differ from run to run."""
    lines = []
    for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        values.pop("time", None)
        lines.append(values)
    return lines


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

    def copy_of_whole(self):
        path = self.fresh("copy")
        shutil.copytree(self.whole, path)
        return path

    def assert_fails(self, result, status, *texts):
        """The tool ended with `status` and one clear line, without a backtrace."""
        self.assertEqual(result.returncode, status, result.stderr)
        for text in texts:
            self.assertIn(str(text), result.stderr)
        last = result.stderr.rstrip("\n").splitlines()
        errors = [line for line in last if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        self.assertNotIn("frame #", result.stderr)

    # ---- training ----

    def test_a_run_folder_holds_what_it_promises(self):
        for name in ("config.yaml", "versions.json", "metrics.jsonl", "tokenizer.model", "log.txt"):
            self.assertTrue((self.whole / name).is_file(), name)
        self.assertTrue(list(self.whole.glob("tensorboard/*/*")))
        self.assertTrue(list(self.whole.glob("samples/**/*.png")))
        stages = [(line["stage"], line["step"]) for line in metrics(self.whole)]
        self.assertIn(("dvae", 40), stages)
        self.assertIn(("dalle", 40), stages)

    def test_killed_at_random_moments_it_ends_with_the_same_bits(self):
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

    def test_asked_to_stop_it_saves_its_step_and_says_so(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            folder = self.fresh(f"run-{number}")
            process = start_training(folder, "--set", "dvae.train.steps=100000", "--set", "dvae.train.save_every=100000")
            while not (folder / "metrics.jsonl").is_file() or not metrics(folder):
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=60), 128 + number)
            self.assertEqual(len(list((folder / "checkpoints" / "dvae").glob("step-*"))), 1)

    def assert_same_within_rounding(self, lines, expected):
        """The same lines of metrics.jsonl, but that the sums were done in another order."""
        self.assertEqual(len(lines), len(expected))
        for line, other in zip(lines, expected):
            self.assertEqual(line.keys(), other.keys())
            for key, value in line.items():
                if isinstance(value, float):
                    self.assertAlmostEqual(value, other[key], delta=2e-3 * max(1, abs(other[key])), msg=f"{key}: {line}")
                else:
                    self.assertEqual(value, other[key], f"{key}: {line}")

    def test_two_ranks_train_as_one_does(self):
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

    def test_exact_training_gives_the_same_bits_on_any_number_of_ranks(self):
        exact = ("--set", "distributed.exact=true", "--set", "dvae.train.micro_batch_size=1", "--set",
                 "dalle.train.micro_batch_size=1")
        one = self.fresh("one")
        result = train(one, *exact)
        self.assertEqual(result.returncode, 0, result.stderr)
        for ranks, shard in ((2, "true"), (4, "false")):
            folder = self.fresh(f"ranks_{ranks}")
            result = train(folder, *exact, "--set", f"distributed.shard_optimizer={shard}", "--ranks", ranks)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(state_hashes(folder), state_hashes(one), f"{ranks} ranks")
            self.assertEqual(metrics(folder), metrics(one), f"{ranks} ranks")

    def ranks_that_train_on(self, folder):
        """Two ranks that would train for hours, once they have begun, and the process that started them."""
        process = subprocess.Popen(
            [BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--ranks", "2", "--set",
             "dvae.train.steps=100000", "--set", "distributed.timeout_s=2"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not (folder / "metrics.jsonl").is_file() or not metrics(folder):
            time.sleep(0.05)
            self.assertIsNone(process.poll())
        return process, ranks_of(process)

    def test_when_a_rank_is_stopped_the_others_name_it_and_end(self):
        for stopped, words in ((1, "rank 1 has given no sign of life for"), (0, "rank 0")):
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

    def test_when_one_rank_dies_the_others_say_so_and_end(self):
        folder = self.fresh("run")
        process, ranks = self.ranks_that_train_on(folder)
        os.kill(ranks[1], signal.SIGKILL)
        errors = process.communicate(timeout=60)[1]
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(errors, r"rank 0 of 2: .*rank 1 has given no sign of life for .*; it was at step \d+, ")
        # What it leaves behind resumes.
        self.assertEqual(train(folder, "--allow-config-change").returncode, 0)

    def test_ranks_of_a_launcher_must_run_the_same_experiment(self):
        folder, port = self.fresh("run"), free_port()
        for process in [start_rank(rank, 2, port, folder, "--set", f"seed={3 + rank}") for rank in (0, 1)]:
            errors = process.communicate(timeout=60)[1]
            self.assertNotEqual(process.returncode, 0)
            self.assertIn('rank 1 has another config than rank 0: "seed: 4" instead of "seed: 3"', errors)

    def test_ranks_need_one_run_folder(self):
        port, folders = free_port(), [self.fresh(f"run-{rank}") for rank in (0, 1)]
        for folder in folders:
            folder.mkdir()
        for process in [start_rank(rank, 2, port, folders[rank]) for rank in (0, 1)]:
            errors = process.communicate(timeout=60)[1]
            self.assertNotEqual(process.returncode, 0)
            self.assertIn("rank 1 does not see there what rank 0 writes", errors)

    def test_a_rank_asked_to_stop_ends_the_first_ranks_evaluation_too(self):
        for asked in (0, 1):
            folder = self.fresh(f"run-{asked}")
            process = subprocess.Popen(
                [BIN / "dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--ranks", "2", "--stage", "dvae",
                 "--set", "data.shapes.validation_samples=1000000", "--set", "dvae.train.eval_samples=1000000"],
                stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while not (folder / "checkpoints" / "dvae" / "step-00000005").exists():
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            time.sleep(1)  # into the evaluation after step 10, which would take hours
            os.kill(ranks_of(process)[asked], signal.SIGTERM)
            errors = process.communicate(timeout=60)[1]
            self.assertIn("stopped at step 10 of 40", errors)
            self.assertTrue((folder / "checkpoints" / "dvae" / "step-00000010").is_dir())

    def test_every_rank_needs_a_sample(self):
        result = train(self.fresh("run"), "--ranks", "3", "--set", "dvae.train.batch_size=2")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("dvae.train.batch_size", result.stderr)
        self.assertIn("3 ranks", result.stderr)

    def test_a_finished_run_is_not_done_again(self):
        folder = self.copy_of_whole()
        before = state_hashes(folder)
        result = train(folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(folder), before)
        self.assertEqual(metrics(folder), metrics(self.whole))

    def test_another_number_of_workers_changes_nothing(self):
        folder = self.fresh("run")
        result = train(folder, "--set", "data.workers=5", "--set", "data.prefetch=1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(folder), state_hashes(self.whole))

    def test_cached_codes_train_as_codes_on_the_fly_do(self):
        crops = ("--set", "dalle.crops_per_picture=2")
        fly, cached = self.copy_of_whole(), self.fresh("cached")
        shutil.copytree(fly, cached)
        for folder, extra in ((fly, ()), (cached, ("--set", "dalle.cache_codes=true"))):
            shutil.rmtree(folder / "checkpoints" / "dalle")
            result = train(folder, *crops, *extra)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(state_hashes(fly), state_hashes(cached))

    def test_stages_run_alone_and_say_what_they_lack(self):
        folder = self.fresh("run")
        self.assert_fails(train(folder, "--stage", "dalle"), 1, "tokenizer")
        self.assertEqual(train(folder, "--stage", "tokenizer").returncode, 0)
        self.assert_fails(train(folder, "--stage", "dalle"), 1, "dvae")
        self.assertEqual(train(folder, "--stage", "dvae").returncode, 0)
        self.assertEqual(train(folder, "--stage", "dalle").returncode, 0)
        self.assertEqual(state_hashes(folder), state_hashes(self.whole))

    def test_a_changed_config_is_refused_with_its_keys(self):
        folder = self.copy_of_whole()
        change = ("--set", "dalle.train.learning_rate=2e-3")
        self.assert_fails(train(folder, *change), 1, "dalle.train.learning_rate: 0.001 -> 0.002", "--allow-config-change")
        self.assertEqual(train(folder, *change, "--allow-config-change").returncode, 0)

    def test_restart_moves_the_old_run_aside(self):
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

    # ---- sampling ----

    def sample(self, *arguments, model=None, **environment):
        return run("dalle-sample", *arguments, "--device", "cpu", *(("--model", model) if model else ()), cwd=self.work, **environment)

    def pictures(self, folder):
        return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.png"))}

    def test_it_finds_the_newest_finished_run_and_says_which(self):
        out = self.fresh("out")
        result = self.sample("a red circle", "--out", out, "--count", 2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("runs/whole", result.stderr)
        self.assertEqual(len(self.pictures(out)), 2)

    def test_picture_i_of_a_seed_is_the_same_whatever_else_is_drawn(self):
        one, many = self.fresh("one"), self.fresh("many")
        self.sample("a red circle", "--out", one, "--count", 3, "--batch-size", 1, "--seed", 5, model=self.whole)
        self.sample("a blue star", "a red circle", "--out", many, "--count", 5, "--batch-size", 4, "--seed", 5, model=self.whole)
        few, more = self.pictures(one), self.pictures(many)
        self.assertEqual(len(few), 3)
        for name, content in few.items():
            self.assertEqual(content, more[name], name)

    def test_a_copied_checkpoint_samples_by_itself(self):
        newest = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[-1]
        alone = self.fresh("alone")
        shutil.copytree(newest, alone)
        out, reference = self.fresh("out"), self.fresh("reference")
        self.assertEqual(self.sample("a red circle", "--out", out, model=alone).returncode, 0)
        self.sample("a red circle", "--out", reference, model=self.whole)
        self.assertEqual(self.pictures(out), self.pictures(reference))

    def test_the_environment_names_the_model(self):
        result = self.sample("a red circle", "--out", self.fresh("out"), DALLE_MODEL="nowhere")
        self.assert_fails(result, 1, "nowhere")

    def test_formats_grid_and_description(self):
        for suffix, magic in (("png", b"\x89PNG"), ("jpg", b"\xff\xd8"), ("webp", b"RIFF")):
            out = self.fresh(suffix)
            result = self.sample("a red circle", "--format", suffix, "--out", out, "--grid", out / "grid.png", "--count", 2, model=self.whole)
            self.assertEqual(result.returncode, 0, result.stderr)
            files = sorted(out.glob(f"a-red-circle-*.{suffix}"))
            self.assertEqual(len(files), 2)
            self.assertTrue(files[0].read_bytes().startswith(magic))
            self.assertTrue((out / "grid.png").read_bytes().startswith(b"\x89PNG"))
            made = json.loads(next(out.glob("*.json")).read_text())
            self.assertEqual([entry["file"] for entry in made], [path.name for path in files])
            self.assertEqual(made[0]["caption"], "a red circle")
            self.assertEqual(len(made[0]["model"]), 64)

    def test_captions_of_any_kind(self):
        for caption in ("word " * 10_000, "ein grüner Würfel 立方体", "/etc/passwd", "."):
            result = self.sample(caption, "--out", self.fresh("out"), "--count", 1, model=self.whole)
            self.assertEqual(result.returncode, 0, result.stderr)
            if caption.startswith("word"):
                self.assertIn("tokens, of which the model reads the first 15", result.stderr)
        self.assert_fails(self.sample("", "--out", self.fresh("out"), model=self.whole), 1, "caption", "empty")
        self.assert_fails(self.sample(b"\xff\xfe".decode("utf-8", "surrogateescape"), model=self.whole), 1, "UTF-8")

    def test_captions_that_look_alike_have_files_of_their_own(self):
        out = self.fresh("out")
        captions = ("a red circle", "a red circle!", "A red, circle", "a-red-circle", "long " * 30 + "a", "long " * 30 + "b", "...")
        self.assertEqual(self.sample(*captions, "--out", out, "--count", 1, model=self.whole).returncode, 0)
        self.assertEqual(len(list(out.glob("*.png"))), len(captions))
        made = {json.loads(path.read_text())[0]["caption"] for path in out.glob("*.json")}
        self.assertEqual(made, set(captions))
        self.assertTrue((out / "a-red-circle-seed1-000.png").exists())

    # ---- benchmark ----

    def test_the_benchmark_reports_each_number_of_ranks(self):
        numbers = self.work / "bench.json"
        result = run("dalle-bench", "train", "--config", TINY, "--ranks", "1,2", "--steps", 4, "--device", "cpu", "--json", numbers)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(numbers.read_text())
        self.assertEqual([(line["ranks"], line["batch"]) for line in report["results"]], [(1, 4), (2, 8)])
        self.assertIn("sync_hidden", report["results"][1]["time"])
        self.assertEqual(len(result.stdout.splitlines()), 4)
        self.assert_fails(run("dalle-bench", "train", "--config", self.work / "none.yaml"), 1, "none.yaml")
        self.assert_fails(run("dalle-bench", "train"), 2, "--config")

    # ---- the check of a device ----

    def test_the_check_of_a_device_passes_on_the_cpu_against_itself(self):
        numbers = self.work / "check.json"
        result = run("dalle-check", "--device", "cpu", "--json", numbers)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        report = json.loads(numbers.read_text())
        self.assertTrue(report["passed"])
        self.assertGreater(len([check for check in report["checks"] if check["result"] == "pass"]), 20)
        self.assertNotIn("FAIL", result.stdout)

    # ---- bad input ----

    def test_wrong_usage_is_status_2(self):
        for tool, arguments in (("dalle-train", ()), ("dalle-train", ("--no-such-option",)), ("dalle-sample", ()),
                                ("dalle-sample", ("x", "--count", 0)), ("dalle-sample", ("x", "--format", "gif")),
                                ("dalle-sample", ("x", "--top-p", 2))):
            self.assert_fails(run(tool, *arguments), 2)

    def test_help_is_no_error(self):
        for tool in ("dalle-train", "dalle-sample"):
            result = run(tool, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertIn("--device", result.stdout)

    def test_configs_that_cannot_be_read(self):
        bad = self.work / "bad.yaml"
        bad.write_text("name: [unclosed\n")
        wrong = self.work / "wrong.yaml"
        wrong.write_text("dvae:\n  train:\n    stepz: 3\n    batch_size: many\n")
        self.assert_fails(run("dalle-train", "--config", self.work / "none.yaml"), 1, "none.yaml")
        self.assert_fails(run("dalle-train", "--config", self.work), 1, self.work, "directory")
        self.assert_fails(run("dalle-train", "--config", bad), 1, "bad.yaml:")
        self.assert_fails(run("dalle-train", "--config", wrong), 1, "wrong.yaml:3:5: dvae.train.stepz", "steps", "wrong.yaml:4:")
        self.assert_fails(run("dalle-train", "--config", TINY, "--stage", "nonsense"), 1, "nonsense")
        self.assert_fails(run("dalle-train", "--config", TINY, "--device", "tpu"), 1, "tpu")

    def test_data_that_is_not_there(self):
        folder, empty = self.fresh("run"), self.work / "empty"
        empty.mkdir(exist_ok=True)
        for path in (self.work / "none", empty):
            result = train(folder, "--set", "data.kind=folder", "--set", f"data.path={path}")
            self.assert_fails(result, 1, path)

    def test_a_folder_that_cannot_be_written(self):
        in_the_way = self.work / "in-the-way"
        in_the_way.write_text("")
        self.assert_fails(train(in_the_way / "run"), 1, in_the_way)
        self.assert_fails(self.sample("x", "--out", in_the_way, model=self.whole), 1, in_the_way)

    def test_damaged_models_are_named(self):
        newest = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[-1]

        def damaged(change):
            copy = self.fresh("model")
            shutil.copytree(newest, copy)
            change(copy)
            return self.sample("a red circle", "--out", self.fresh("out"), model=copy)

        def truncate(copy):
            os.truncate(copy / "average.safetensors", 100)

        def claim_terabytes(copy):
            content = (copy / "average.safetensors").read_bytes()
            (copy / "average.safetensors").write_bytes((1 << 42).to_bytes(8, "little") + content[8:])

        self.assert_fails(damaged(truncate), 1, "average.safetensors")
        self.assert_fails(damaged(claim_terabytes), 1, "average.safetensors")
        self.assert_fails(damaged(lambda copy: (copy / "tokenizer.model").unlink()), 1, "tokenizer.model")
        self.assert_fails(damaged(lambda copy: (copy / "manifest.json").write_text("{")), 1, "manifest.json")
        self.assert_fails(self.sample("x", model=self.work / "none"), 1, "none")
        self.assert_fails(self.sample("x", model=TINY), 1, "tiny.yaml")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
