#!/usr/bin/env python3
"""dalle-train: run folders, signals, resuming, stages.

Usage: train_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

from processes import is_running, ranks_of
from tool_case import (
    BIN, CLIP, TINY, ToolCase, main, flip_a_bit, metrics, newest_checkpoint, start_training, state_hashes, train)


@contextlib.contextmanager
def hang_ups(action):
    """Sets what SIGHUP does in processes started meanwhile, independently of how the tests were started."""
    previous = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


class TrainTest(ToolCase):
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
            time.sleep(1.5)
            self.assertIsNone(process.poll(), "the first signal must wait for the checkpoint, which takes a minute")
            process.send_signal(second)
            self.assertEqual(process.wait(timeout=2), 128 + second)
            self.assertEqual([rank for rank in processes if is_running(rank)], [])
            result = train(folder, "--ranks", ranks, *(() if ranks == 1 else ("--stage", "dvae")))
            self.assert_succeeds(result)
            self.assertIn("dvae: resuming from step 5 of 40", result.stderr)
            if ranks == 1:
                self.assertEqual(state_hashes(folder), state_hashes(self.whole))
                self.assertEqual(metrics(folder), metrics(self.whole))

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


if __name__ == "__main__":
    main()
