#!/usr/bin/env python3
"""dalle-train and dalle-eval on several ranks.

Usage: ranks_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import os
import pty
import random
import shlex
import shutil
import signal
import subprocess
import time

from processes import is_running, ranks_of
from tool_case import (
    BIN, CLIP, TINY, ToolCase, main, free_port, metrics, on_images, run, settings, start_rank, start_training,
    state_hashes, train)


class RanksTest(ToolCase):
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

    def test_ranks_divide_the_computation_of_the_code_cache(self):
        codes = []
        for ranks in (1, 2):
            folder = self.copy_of_whole(f"{ranks}-ranks")
            shutil.rmtree(folder / "checkpoints" / "dalle")
            self.assert_succeeds(train(folder, "--ranks", ranks, "--set", "dalle.cache_codes=true", "--set", "dalle.crops_per_image=2",
                                       *settings(("dalle",), steps=5)))
            codes.append((folder / "codes.bin").read_bytes())
        self.assertEqual(*codes)

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
        """Weights, average and moments after 60 steps; also when the world changes half way."""
        exact = ("--set", "distributed.bitwise=true", "--set", "dalle.train.sample_every=30",
                 *settings(batch_size=8, micro_batch_size=1, eval_every=30, save_every=30))

        def train_exactly(name, ranks, dvae_steps, dalle_steps=0, shard="false"):
            folder = self.work / f"exact-{name}"
            stages = (*settings(["dvae"], steps=dvae_steps),
                      *(settings(["dalle"], steps=dalle_steps) if dalle_steps else ("--stage", "dvae")))
            result = train(folder, *exact, *stages, "--ranks", ranks, "--set", f"distributed.shard_optimizer={shard}")
            self.assert_succeeds(result)
            return folder

        one = train_exactly("one", 1, 60, 60)
        for ranks, shard in ((2, "false"), (4, "true"), (8, "false")):
            folder = train_exactly(f"{ranks}-ranks", ranks, 60, shard=shard)
            self.assertEqual(state_hashes(folder, ["dvae"]), state_hashes(one, ["dvae"]), f"{ranks} ranks")
            self.assertEqual(metrics(folder, ["dvae"]), metrics(one, ["dvae"]), f"{ranks} ranks")
        train_exactly("changing", 1, 30)
        train_exactly("changing", 2, 60, 30, shard="true")
        changing = train_exactly("changing", 4, 60, 60)
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
            while is_running(ranks[1 - stopped]) and time.monotonic() - begin < 60:
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
        self.assertIn('rank 1: config differs from that of rank 0: found "seed: 4", expected "seed: 3"', errors)

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

    def test_a_signal_to_all_processes_at_once_is_one_request(self):
        # Like pkill or systemd: each rank gets it directly, and again from the launcher.
        folder = self.fresh("run")
        process, ranks = self.ranks_that_train_on(folder)
        for pid in (*ranks, process.pid):
            os.kill(pid, signal.SIGTERM)
        self.assertIn("dvae: stopped at step", process.communicate(timeout=60)[1])
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertTrue(any((folder / "checkpoints" / "dvae").glob("step-*")))

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

    def test_a_restarted_job_resumes_despite_restart(self):
        folder = self.fresh("run")
        for attempt, steps in ((0, 4), (1, 8)):
            result = run("dalle-train", "--config", TINY, "--run-dir", folder, "--device", "cpu", "--ranks", "2", "--restart",
                         "--stage", "dvae", "--set", f"dvae.train.steps={steps}", RANK="0", WORLD_SIZE="1", LOCAL_RANK="0",
                         LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="1", TORCHELASTIC_RESTART_COUNT=str(attempt))
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("dvae: resuming from step 4 of 8", result.stderr)

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


if __name__ == "__main__":
    main()
