#!/usr/bin/env python3
"""What all tools have in common: configs, options, output, errors.

Usage: usage_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import json
import os
import pty
import re
import resource
import signal
import subprocess

from tool_case import BIN, REPOSITORY, TINY, ToolCase, main, run, train


class UsageTest(ToolCase):
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
            self.assertIn(b"--config or --from is required", text)
            return text

        self.assertIn(b"\x1b[", error_on_a_terminal(NO_COLOR=""))
        self.assertNotIn(b"\x1b[", error_on_a_terminal(NO_COLOR="1"))
        self.assertNotIn("\x1b[", run("dalle-train", TERM="xterm", NO_COLOR="").stderr)

    # ---- invalid input ----

    def test_wrong_usage_is_status_2(self):
        for tool, arguments in (("dalle-train", ()), ("dalle-train", ("--no-such-option",)), ("dalle-sample", ()),
                                ("dalle-sample", ("x", "--count", 0)), ("dalle-sample", ("x", "--format", "gif")),
                                ("dalle-bench", ()), ("dalle-train", ("--config", TINY, "--stage", "nonsense"))):
            self.assert_fails(run(tool, *arguments), 2)

    def test_numbers_in_options_are_parsed_like_those_in_a_config(self):
        for number, advice in (("010", "without leading zeros"), ("1_0", "without underscores"), ("99999999999999999999", "")):
            self.assert_fails(run("dalle-train", "--ranks", number), 2,
                              f"--ranks: found {number}, expected an integer from 1 to 1024", advice)
        self.assert_fails(run("dalle-train", "--ranks", "1e0"), 2, "--config or --from is required")

    def test_a_short_run_needs_only_fewer_steps(self):
        result = train(self.fresh("run"), "--stage", "dvae", "--set", "dvae.train.warmup_steps=100", "--set", "dvae.train.steps=2")
        self.assert_succeeds(result)
        self.assertIn("warning: dvae.train: the 2 steps end within the 100 warmup_steps", result.stderr)

    def test_help_is_not_an_error(self):
        for words in (("dalle-train",), ("dalle-sample",), ("dalle-eval",), ("dalle-bench", "train"), ("dalle-serve",)):
            result = run(*words, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertIn("--device", result.stdout)
            self.assertRegex(result.stdout, f"Examples:\n  {words[0]} ")

    def test_every_tool_prints_its_version(self):
        lines = {run(tool, "--version").stdout for tool in ("dalle-train", "dalle-sample", "dalle-eval", "dalle-import", "dalle-bench",
                                                             "dalle-export", "dalle-serve")}
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

    def test_unwritable_folders_are_reported(self):
        in_the_way = self.work / "in-the-way"
        in_the_way.write_text("")
        self.assert_fails(train(in_the_way / "run"), 1, in_the_way)
        self.assert_fails(self.sample("x", "--out", in_the_way, model=self.whole), 1, in_the_way)

    def test_running_out_of_memory_is_reported_with_advice(self):
        def run_in_6_gb(tool, *arguments):
            limit = 6_000_000_000
            return subprocess.run([BIN / tool, *map(str, arguments), "--device", "cpu"], capture_output=True, text=True, timeout=120,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
                                  env={**os.environ, "OMP_NUM_THREADS": "1"})

        wide = ("--set", "dvae.model.hidden=32768")  # one of the tensors takes 9 GiB
        result = run_in_6_gb("dalle-train", "--config", TINY, *wide, "--run-dir", self.fresh("run"))
        self.assert_fails(result, 1, "out of memory: lower micro_batch_size")
        model = self.checkpoint_with(lambda config: re.sub(r"(?m)^(    width:) .*$", r"\1 65536", config))
        result = run_in_6_gb("dalle-sample", "a red circle", "--model", model, "--out", self.fresh("out"))
        self.assert_fails(result, 1, "out of memory: lower --batch-size")
        result = run_in_6_gb("dalle-bench", "train", "--config", TINY, *wide, "--stage", "dvae", "--ranks", 1, "--steps", 2)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("out of memory: lower micro_batch_size", result.stderr)


if __name__ == "__main__":
    main()
