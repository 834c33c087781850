#!/usr/bin/env python3
"""dalle-train --from, and on a dVAE that is trained already.

Usage: fine_tuning_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import shutil
import subprocess
import time

from tool_case import (
    BIN, RELEASED, STAGES, TINY, ToolCase, main, flip_a_bit, hashes_below, metrics, newest_checkpoint, run, settings,
    state_hashes, train)


class FineTuningTest(ToolCase):
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


if __name__ == "__main__":
    main()
