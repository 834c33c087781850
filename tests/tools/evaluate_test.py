#!/usr/bin/env python3
"""dalle-eval and its report.

Usage: evaluate_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import collections
import html.parser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time

from processes import ranks_of
from tool_case import BIN, STAGES, ToolCase, main, free_port, newest_checkpoint, run, start_rank, train


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


class EvaluateTest(ToolCase):
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
        self.assertIn("run the same command to resume", errors)
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


if __name__ == "__main__":
    main()
