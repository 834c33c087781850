#!/usr/bin/env python3
"""Kills, stops, starves and damages a training at random, and demands the bits of one that was left alone.

Usage: chaos.py FOLDER_OF_THE_BINARIES [--events 300] [--seed 1] [--kinds "kill one" "freeze one"]

Drives the real dalle-train with 1, 2 or 4 ranks in exact mode. After each event it checks what the run has left behind
(exit status, messages, processes, lock, checkpoints) and starts it again, often with another number of ranks. A run that
gets to its end must have the weights, moments, averages and metrics of an uninterrupted one, bit for bit; then the next
run begins, until all events have happened. The same seed gives the same events; what they hit depends on the clock.
"""
import argparse
import collections
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
STAGES = ("dvae", "dalle")
SAVE_EVERY = 10
TIMEOUT_S = 2  # of a rank that gives no sign of life
GRACE_S = 45  # for a run to end after an event; the launcher waits 30 s for ranks to follow a lost one
OPTIONS = ["--config", str(HERE.parent / "tools" / "tiny.yaml"), "--device", "cpu", "--set", "distributed.exact=true",
           "--set", f"distributed.timeout_s={TIMEOUT_S}"]
for stage in STAGES:
    OPTIONS += ["--set", f"{stage}.train.micro_batch_size=1", "--set", f"{stage}.train.steps=120",
                "--set", f"{stage}.train.save_every={SAVE_EVERY}", "--set", f"{stage}.train.eval_every=30"]

STOPS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGUSR1": signal.SIGUSR1}
FAULTS = ("full", "readonly", "eio", "torn", "kill")
KINDS = ("kill all", "kill one", "stop all", "stop one", "freeze one", *FAULTS, "flip bit", "truncate")


PLACE = r"(its start|step \d+, [\w ]+(\(\w+\))?)"  # of a rank, as the others know it


class Failure(Exception):
    """A promise that was not kept."""


def demand(condition, message):
    if not condition:
        raise Failure(message)


@dataclasses.dataclass
class Event:
    """What is to happen to the next start of the training; every number is drawn beforehand."""
    kind: str
    ranks: int
    victim: int  # rank
    delay: float  # share of the time that a whole training takes
    call: int  # of the calls that change the disk, for faults
    signal_name: str
    place: float  # of the damaged byte, as a share of all bytes of a checkpoint

    @staticmethod
    def draw(chance, kinds=KINDS):
        ranks = chance.choice((1, 2, 2, 4))
        return Event(kind=chance.choice(kinds), ranks=ranks, victim=chance.randrange(ranks), delay=chance.random(),
                     call=1 + int(400 * chance.random() ** 2), signal_name=chance.choice(sorted(STOPS)), place=chance.random())


class Training:
    """dalle-train, started once."""

    def __init__(self, binary, folder, ranks, variables=None):
        self.folder = folder
        self.ranks = ranks
        self.log = folder.with_suffix(".stderr")
        self.begin = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, *OPTIONS, "--run-dir", folder, "--ranks", str(ranks)], stderr=log, stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})})

    def processes(self):
        """The ranks' processes, by rank; empty before they are there."""
        if self.ranks == 1:
            return [self.process.pid]
        try:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except FileNotFoundError:
            return []
        return list(map(int, children)) if len(children) == self.ranks else []

    def wait(self, seconds):
        """The exit status; None if the training goes on."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def text(self):
        return self.log.read_text(errors="replace")


def send(processes, number):
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass


def left_over(folder):
    """Processes, zombies too, that work on a run folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def lock_is_free(folder):
    path = folder / "run.lock"
    if not path.exists():
        return True
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False


def checkpoints(folder, stage):
    """Folders of a stage's checkpoints, newest first."""
    return sorted((folder / "checkpoints" / stage).glob("step-[0-9]*[0-9]"), reverse=True)


def step_of(checkpoint):
    return int(checkpoint.name.split("-")[1])


def verifies(checkpoint):
    """Whether a checkpoint's files are what its manifest says; an opinion of its own, not the trainer's."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        return bool(manifest["files"]) and all(
            hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == digest["sha256"]
            for name, digest in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def reached(folder):
    """Stage and step of the last report."""
    path, last = folder / "metrics.jsonl", ("", 0)
    if path.exists():
        for line in path.read_text(errors="replace").splitlines(keepends=True):
            if line.endswith("\n"):
                values = json.loads(line)
                last = (values["stage"], values["step"])
    return last


def outcome(folder):
    """Hashes of the final state of both stages, and the metrics without times."""
    state = {}
    for stage in STAGES:
        newest = checkpoints(folder, stage)[0]
        demand(step_of(newest) == 120, f"{newest}: the run ended, but this is its newest checkpoint")
        for name in ("weights", "average", "first_moment", "second_moment"):
            state[stage, name] = hashlib.sha256((newest / f"{name}.safetensors").read_bytes()).hexdigest()
    lines = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        values.pop("time", None)
        lines.append(values)
    return state, lines


class Chaos:
    def __init__(self, binary, work, faults, seed):
        self.binary, self.work, self.faults, self.chance = binary, work, faults, random.Random(seed)
        self.counts = collections.Counter()
        self.lost_steps = []
        self.seconds_to_exit = []  # of the other ranks, after one was killed or stopped
        self.deaths_named = self.deaths_at_meeting = 0
        self.finished_runs = 0
        self.run_number = 0
        self.folder = None
        self.allowed_loss = None  # steps, of the next start
        self.reached = ("", 0)
        self.saved_at_start = 0  # checkpoints of the first stage, before the last start
        self.damaged = None  # the checkpoint that the next start has to find out about

    def measure(self):
        """Trains without any event: what every other run must come to."""
        begin = time.monotonic()
        training = Training(self.binary, self.work / "reference", 1)
        demand(training.wait(600) == 0, f"the uninterrupted run failed:\n{training.text()}")
        self.reference = outcome(training.folder)
        self.duration = time.monotonic() - begin
        print(f"an uninterrupted run takes {self.duration:.1f} s")
        self.begin_run()

    def begin_run(self):
        self.run_number += 1
        self.folder = self.work / f"run-{self.run_number}"
        self.allowed_loss, self.reached, self.damaged = None, ("", 0), None

    # ---- what happens ----

    def happen(self, event):
        """Starts the training and lets the event happen. Returns what became of it; None if nothing could happen."""
        if event.kind in ("flip bit", "truncate"):
            return self.damage(event)
        report = self.work / "fault"
        report.unlink(missing_ok=True)
        variables = {}
        if event.kind in FAULTS:
            variables = {"LD_PRELOAD": str(self.faults), "FAULT_KIND": event.kind, "FAULT_CALL": str(event.call),
                         "FAULT_FOLDER": str(self.folder), "FAULT_RANK": str(event.victim), "FAULT_REPORT": str(report)}
        self.saved_at_start = len(checkpoints(self.folder, STAGES[0]))
        training = Training(self.binary, self.folder, event.ranks, variables)
        if event.kind in FAULTS:
            status = training.wait(20 * self.duration + GRACE_S)
            demand(status is not None, "the training hangs")
            happened = report.exists()
        else:
            status = training.wait(0.2 + event.delay * self.duration * (1 + event.ranks) / 4)
            happened = status is None and self.strike(event, training)
            limit = GRACE_S if happened else 20 * self.duration + GRACE_S
            status = training.wait(limit)
            demand(status is not None, f"still there after {limit:.0f} s")
        self.check(event if happened else None, training, status)
        if status == 0:
            self.check_end()
        return f"status {status}" if happened else None

    def strike(self, event, training):
        processes = training.processes()
        if not processes:
            return False
        number = STOPS[event.signal_name]
        if event.kind == "kill all":
            send([*processes, training.process.pid], signal.SIGKILL)
        elif event.kind == "kill one":
            send([processes[event.victim]], signal.SIGKILL)
            self.await_others(event, processes)
        elif event.kind == "stop all":
            send([training.process.pid], number)
        elif event.kind == "stop one":
            send([processes[event.victim]], number)
        elif event.kind == "freeze one":
            send([processes[event.victim]], signal.SIGSTOP)
            self.await_others(event, processes)
            send([processes[event.victim]], signal.SIGKILL)
        return True

    def await_others(self, event, processes):
        begin = time.monotonic()
        while any(self.is_running(process) for rank, process in enumerate(processes) if rank != event.victim):
            demand(time.monotonic() - begin < TIMEOUT_S + 10, "a rank is gone, and the others did not end in time")
            time.sleep(0.05)
        if event.ranks > 1:
            self.seconds_to_exit.append(time.monotonic() - begin)

    @staticmethod
    def is_running(process):
        try:
            return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def damage(self, event):
        """Changes a bit of the newest checkpoint, or cuts one of its files short."""
        candidates = [checkpoints(self.folder, stage) for stage in STAGES if checkpoints(self.folder, stage)]
        if not candidates or len(candidates[-1]) < 2 or sum(map(verifies, candidates[-1])) < 2:
            return None  # nothing to fall back to
        newest = candidates[-1][0]
        files = sorted(newest.iterdir())
        place = int(event.place * sum(file.stat().st_size for file in files))
        for file in files:
            size = file.stat().st_size
            if place < size:
                break
            place -= size
        if event.kind == "truncate":
            os.truncate(file, place)
        else:
            content = bytearray(file.read_bytes())
            content[place] ^= 1 << (event.call % 8)
            file.write_bytes(content)
        demand(not verifies(newest) or file.name == "manifest.json", f"{file}: the damage does not show")
        self.allowed_loss = 3 * SAVE_EVERY
        self.damaged = newest
        return f"{newest.parent.name}/{newest.name}/{file.name} at {place}"

    # ---- what must hold ----

    def check(self, event, training, status):
        """Everything that a run leaves behind, and how it went on from what the one before had left."""
        text = training.text()
        for words in ("frame #", "terminate called", "Segmentation", "Assertion"):
            demand(words not in text, f"{words!r} on standard error")
        self.check_status(event, status, text)
        if event is not None and event.kind in ("kill one", "freeze one"):
            self.check_death(event, text)
        begin = time.monotonic()
        while left_over(self.folder) or not lock_is_free(self.folder):
            demand(time.monotonic() - begin < 10, f"left over: processes {left_over(self.folder)}, or the run's lock")
            time.sleep(0.05)
        for stage in STAGES:
            saved = checkpoints(self.folder, stage)
            demand(not saved or any(map(verifies, saved)), f"no checkpoint of {stage} verifies")
        self.check_resumption(text)
        stop = re.search(r"(dvae|dalle): stopped at step (\d+) of", text)
        if stop:
            saved = self.folder / "checkpoints" / stop[1] / f"step-{int(stop[2]):08}"
            demand(verifies(saved), f"{saved}: stopped there, but this is no checkpoint")
        self.reached = reached(self.folder)
        self.allowed_loss = 0 if stop else 2 * SAVE_EVERY

    @staticmethod
    def check_status(event, status, text):
        allowed = {0}
        if event is not None:
            number = STOPS[event.signal_name]
            # A signal may come before its handler is there, and then does what it does to any process.
            allowed = {"kill all": {-9}, "kill one": {-9, 137, 1, 3}, "stop all": {0, 128 + number, -number},
                       "stop one": {0, 128 + number, -number, 128 + signal.SIGTERM, 1, 3}, "freeze one": {-9, 137, 1, 3},
                       "torn": {-9, 137, 1, 3}, "kill": {-9, 137, 1, 3}}.get(event.kind, {0, 1, 3})
        demand(status in allowed, f"status {status}, expected one of {sorted(allowed)}")
        if status in (1, 3):
            demand("error: " in text, f"status {status} without an error's line")

    def check_death(self, event, text):
        """Whoever complains says which rank is gone and what it did last."""
        complaints = re.findall(r"error: (rank \d+ of \d+: .*)", text)
        if complaints:
            name = re.compile(rf": rank {event.victim} has given no sign of life for \d+ s; it was at {PLACE}")
            if event.victim == 0:
                name = re.compile(rf"{name.pattern}|: rank 0, or the launcher .* rank 0 was last at {PLACE}, this one at {PLACE}")
            demand(any(map(name.search, complaints)), f"rank {event.victim} is gone, and no one says so:\n{text}")
            self.deaths_named += 1
        elif "could not meet the others" in text:
            self.deaths_at_meeting += 1

    def check_resumption(self, text):
        """No more work is lost than what was not yet on the disk, and a damaged checkpoint is named."""
        if self.damaged is not None and "going on" in text:
            demand(str(self.damaged) in text, f"{self.damaged}: was damaged, and no one says so:\n{text}")
            self.damaged = None
        stage, step = self.reached
        resumed = re.search(rf"{stage or 'none'}: going on from step (\d+) of", text)
        if self.allowed_loss is None or not resumed:
            demand(self.saved_at_start == 0 or not re.search(r"^step [1-5] \|", text, re.MULTILINE) or "going on" in text
                   or "done before" in text, "the training began anew although there was a checkpoint")
            return
        lost = step - int(resumed[1])
        demand(lost <= self.allowed_loss, f"{stage}: {lost} of {step} steps are lost, expected at most {self.allowed_loss}")
        self.lost_steps.append(max(0, lost))

    def check_end(self):
        demand(outcome(self.folder) == self.reference, "the run has ended with other bits than the uninterrupted one")
        self.finished_runs += 1
        shutil.rmtree(self.folder)
        self.begin_run()

    def go(self, events, kinds):
        done = 0
        while done < events:
            event = Event.draw(self.chance, kinds)
            began = time.monotonic()
            result = self.happen(event)
            if result is None:
                continue
            done += 1
            self.counts[event.kind] += 1
            stage, step = reached(self.folder)
            print(f"{done:4} {event.kind:10} ranks {event.ranks} {time.monotonic() - began:5.1f} s  {result}; "
                  f"run {self.run_number} at {stage or 'its beginning'} {step or ''}", flush=True)
        self.saved_at_start = len(checkpoints(self.folder, STAGES[0]))
        training = Training(self.binary, self.folder, 2)
        status = training.wait(20 * self.duration)
        self.check(None, training, status)
        self.check_end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binaries", type=pathlib.Path, help="folder with dalle-train")
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="only these events")
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="dalle-chaos-"))
    faults = work / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", faults, HERE / "faults.c", "-ldl"], check=True)
    print(f"seed {arguments.seed}, {arguments.events} events, in {work}", flush=True)
    chaos = Chaos(arguments.binaries.resolve() / "dalle-train", work, faults, arguments.seed)
    begin = time.monotonic()
    try:
        chaos.measure()
        chaos.go(arguments.events, arguments.kinds)
    except Failure as failure:
        print(f"FAIL after {sum(chaos.counts.values())} events of seed {arguments.seed}: {failure}\n"
              f"the run: {chaos.folder}, its last words: {chaos.folder.with_suffix('.stderr')}")
        return 1
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(chaos.counts.items())))
    if chaos.seconds_to_exit:
        print(f"{len(chaos.seconds_to_exit)} times a rank died beside others, {chaos.deaths_named} times they named it, "
              f"{chaos.deaths_at_meeting} times they had not met yet; they were gone within {max(chaos.seconds_to_exit):.1f} s")
    lost = chaos.lost_steps or [0]
    print(f"pass: {arguments.events} events in {time.monotonic() - begin:.0f} s; {chaos.finished_runs} runs ended with the "
          f"bits of the uninterrupted one; lost {sum(lost)} steps in {len(lost)} resumptions, at most {max(lost)}")
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
