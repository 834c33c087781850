#!/usr/bin/env python3
"""Injects random faults into training and checks that the result equals that of an undisturbed run, bit for bit.

Usage: chaos.py FOLDER_OF_THE_BINARIES [--events 300] [--seed 1] [--kinds "kill one" "freeze one"]

Runs the real dalle-train with 1, 2 or 4 ranks in exact mode. After each event it checks what the run left behind (exit
status, messages, processes, lock, checkpoints) and restarts it, often with a different number of ranks. A finished run must
have the weights, moments, EMA and metrics of an undisturbed one, bit for bit; then the next run begins, until all events
have happened. The same seed gives the same events, but what they hit depends on timing.
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
sys.path.append(str(HERE.parent / "tools"))
from processes import is_running, ranks_of  # noqa: E402
STAGES = ("dvae", "dalle")
STEPS = 120  # of each stage
SAVE_EVERY = 10
TIMEOUT_S = 2  # for a rank that sends no heartbeat
GRACE_S = 45  # for a run to end after an event; the launcher waits 30 s for ranks to follow a lost one
OPTIONS = ["--config", str(HERE.parent / "tools" / "tiny.yaml"), "--device", "cpu", "--set", "distributed.bitwise=true",
           "--set", f"distributed.timeout_s={TIMEOUT_S}"]
for stage in STAGES:
    OPTIONS += ["--set", f"{stage}.train.micro_batch_size=1", "--set", f"{stage}.train.steps={STEPS}",
                "--set", f"{stage}.train.save_every={SAVE_EVERY}", "--set", f"{stage}.train.eval_every=30",
                "--set", f"{stage}.train.log_every=1"]

STOPS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGUSR1": signal.SIGUSR1}
FAULTS = ("full", "readonly", "eio", "torn", "kill")
KINDS = ("kill all", "kill one", "stop all", "stop one", "freeze one", *FAULTS, "flip bit", "truncate")

PLACE = r"(startup|step \d+, [\w ]+(\([\w-]+\))?)"  # of a rank, as reported by the others
STEP_LINE = re.compile(r"^step \d+ \|", re.MULTILINE)  # in the log of training
STOPPED = re.compile(r"^(dvae|dalle): stopped at step (\d+) of", re.MULTILINE)
CAUSE = re.compile(r"cannot save the checkpoint|cannot write|No space left|Read-only|Input/output")  # in the error of a rank whose disk fails


class Failure(Exception):
    """A broken promise."""


def demand(condition, message):
    if not condition:
        raise Failure(message)


@dataclasses.dataclass
class Strike:
    """The output of a run when an event hit it: a signal or a disk fault."""
    event: "Event"
    text: str = ""
    time: float = 0.0

    def had_started(self):
        """Whether the first log line had been written: from then on signals stop training."""
        return " on cpu" in self.text

    def was_training(self):
        return STEP_LINE.search(self.text) is not None


@dataclasses.dataclass
class Event:
    """What will happen to the next run; all numbers are chosen in advance."""
    kind: str
    ranks: int
    victim: int  # rank
    delay: float  # fraction of the duration of an undisturbed run
    call: int  # for disk faults: index of the call that fails
    signal_name: str
    place: float  # position of the corrupted byte, as a fraction of the checkpoint's bytes

    @staticmethod
    def random(chance, kinds=KINDS):
        ranks = chance.choice((1, 2, 2, 4))
        return Event(kind=chance.choice(kinds), ranks=ranks, victim=chance.randrange(ranks), delay=chance.random(),
                     call=1 + int(400 * chance.random() ** 2), signal_name=chance.choice(sorted(STOPS)), place=chance.random())


class Training:
    """One process of dalle-train."""

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
        """The ranks' processes, by rank; empty until all have started."""
        if self.ranks == 1:
            return [self.process.pid]
        try:
            ranks = ranks_of(self.process)
        except FileNotFoundError:
            return []
        return ranks if len(ranks) == self.ranks else []

    def wait(self, seconds):
        """The exit status; None if training is still running."""
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
    """Processes, including zombies, that use a run folder."""
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
    """Whether a checkpoint's files match its manifest, checked independently of the trainer."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        return bool(manifest["files"]) and all(
            hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == digest["sha256"]
            for name, digest in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def reached(folder):
    """Stage and step of the last line of metrics."""
    path, last = folder / "metrics.jsonl", ("", 0)
    if path.exists():
        for line in path.read_text(errors="replace").splitlines(keepends=True):
            if line.endswith("\n"):
                values = json.loads(line)
                last = (values["stage"], values["step"])
    return last


def last_words(text):
    """The end of a log, without step lines."""
    return "\n".join([line for line in text.splitlines() if not STEP_LINE.match(line)][-20:])


def last_errors(text):
    """The last error line of each rank that has one, by rank."""
    errors = {}
    for line in text.splitlines():
        if error := re.match(r"(?:rank (\d+): )?error: (.*)", line):
            errors[int(error[1] or 0)] = error[2]
    return errors


def save_under_way(folder, stage):
    """Whether a process died while saving, which leaves unfinished files."""
    newest = max(map(step_of, checkpoints(folder, stage)), default=0)
    parts = (folder / "checkpoints" / stage).glob("step-[0-9]*[0-9].part")
    return any(step_of(part.with_suffix("")) > newest for part in parts)


def outcome(folder):
    """Hashes of the final state of both stages, and the metrics without times."""
    state = {}
    for stage in STAGES:
        newest = checkpoints(folder, stage)[0]
        demand(step_of(newest) == STEPS, f"{newest}: the run finished, but this is its newest checkpoint")
        for name in ("weights", "ema", "first_moment", "second_moment"):
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
        self.lost_steps = []  # by each restart, relative to the last reported step
        self.lost_with_saves = 0  # how many of those exceeded the save interval because a save was interrupted or failed
        self.lost_to_damage = []  # steps, when the newest checkpoint was also corrupted
        self.seconds_to_exit = []  # of the other ranks after one was killed or stopped
        self.deaths = self.deaths_named = 0  # of one rank while the others were training
        self.deaths_at_meeting = 0
        self.seconds_to_stop = []  # from a signal to the exit
        self.finished_runs = 0
        self.run_number = 0
        self.folder = None
        self.allowed_loss = None  # steps, of the next start
        self.reached = ("", 0)
        self.save_was_lost = False  # the last process ended during a save, or because of one
        self.saved_at_start = 0  # checkpoints of the first stage before the last start
        self.damaged = None  # the corrupted checkpoint that the next start must detect

    def measure(self):
        """Trains without any event, for the result that every other run must have."""
        begin = time.monotonic()
        training = Training(self.binary, self.work / "reference", 1)
        demand(training.wait(600) == 0, f"the undisturbed run failed:\n{training.text()}")
        self.reference = outcome(training.folder)
        self.duration = time.monotonic() - begin
        print(f"an undisturbed run takes {self.duration:.1f} s")
        self.begin_run()

    def begin_run(self):
        self.run_number += 1
        self.folder = self.work / f"run-{self.run_number}"
        self.allowed_loss, self.reached, self.save_was_lost, self.damaged = None, ("", 0), False, None

    # ---- what happens ----

    def happen(self, event):
        """Starts training and lets the event happen. Returns its effect, or None if it could not happen."""
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
            demand(status is not None, "training hangs")
            strike = Strike(event) if report.exists() else None
        else:
            status = training.wait(0.2 + event.delay * self.duration * (1 + event.ranks) / 4)
            strike = self.strike(event, training) if status is None else None
            limit = GRACE_S if strike else 20 * self.duration + GRACE_S
            status = training.wait(limit)
            demand(status is not None, f"still running after {limit:.0f} s")
            if strike and event.kind.startswith("stop"):
                self.seconds_to_stop.append(time.monotonic() - strike.time)
        self.check(strike, training, status)
        if status == 0:
            self.check_end()
        return f"status {status}" if strike else None

    def strike(self, event, training):
        """Sends the event's signals; None if the ranks have not started yet."""
        processes = training.processes()
        if not processes:
            return None
        number = STOPS[event.signal_name]
        strike = Strike(event, training.text(), time.monotonic())
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
        return strike

    def await_others(self, event, processes):
        begin = time.monotonic()
        while any(is_running(process) for rank, process in enumerate(processes) if rank != event.victim):
            demand(time.monotonic() - begin < TIMEOUT_S + 10, "a rank is gone, but the others did not exit in time")
            time.sleep(0.05)
        if event.ranks > 1:
            self.seconds_to_exit.append(time.monotonic() - begin)

    def damage(self, event):
        """Flips a bit in the newest checkpoint or truncates one of its files."""
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
        demand(not verifies(newest) or file.name == "manifest.json", f"{file}: the corruption is not detectable")
        self.allowed_loss = 3 * SAVE_EVERY
        self.damaged = newest
        return f"{newest.parent.name}/{newest.name}/{file.name} at {place}"

    # ---- what must hold ----

    def check(self, strike, training, status):
        """Checks what a run left behind, and how it resumed from what the previous one had left."""
        text = training.text()
        for words in ("frame #", "terminate called", "Segmentation", "Assertion"):
            demand(words not in text, f"{words!r} on standard error")
        self.check_status(strike, training.ranks, status, text)
        if strike is not None and strike.event.kind in ("kill one", "freeze one") and training.ranks > 1:
            self.check_death(strike, text)
        begin = time.monotonic()
        while left_over(self.folder) or not lock_is_free(self.folder):
            demand(time.monotonic() - begin < 10, f"left over: processes {left_over(self.folder)}, or the run's lock")
            time.sleep(0.05)
        for stage in STAGES:
            saved = checkpoints(self.folder, stage)
            demand(not saved or any(map(verifies, saved)), f"no checkpoint of {stage} verifies")
        self.check_resumption(text)
        self.reached = reached(self.folder)
        stop = STOPPED.search(text)
        if stop:
            step = int(stop[2])
            saved = self.folder / "checkpoints" / stop[1] / f"step-{step:08}"
            demand(step == 0 or verifies(saved), f"{saved}: stopped there, but this is not a valid checkpoint")
            demand(step == 0 or self.reached == (stop[1], step), f"stopped at step {step}, but the last one reported was {self.reached}")
            self.allowed_loss = 0
        elif STEP_LINE.search(text):  # otherwise it changed nothing, and the next start finds the same state
            self.allowed_loss = 2 * SAVE_EVERY
        self.save_was_lost = bool(CAUSE.search(text)) or save_under_way(self.folder, self.reached[0])

    @staticmethod
    def check_status(strike, ranks, status, text):
        if status == 0:
            demand("finished:" in text, "status 0, but training has not finished")
        kind = strike.event.kind if strike else None
        number = STOPS[strike.event.signal_name] if strike else 0
        if kind in ("stop all", "stop one") and strike.had_started() and "finished:" not in text:
            # A rank that hears of the signal from another one exits as after SIGTERM, and may be the first to exit.
            relayed = {128 + signal.SIGTERM} if kind == "stop one" and ranks > 1 else set()
            allowed = {128 + number, *relayed}
            demand(STOPPED.search(text) or "nothing to save" in text,
                   f"status {status}, but the saved step is not reported:\n{last_words(text)}")
        else:
            # Before the first log line or after the end, a signal may have its default effect.
            allowed = {"kill all": {0, -9}, "kill one": {0, -9, 137, 1, 3}, "stop all": {0, 128 + number, -number},
                       "stop one": {0, 128 + number, -number, 128 + signal.SIGTERM, 1, 3}, "freeze one": {0, -9, 137, 1, 3},
                       "torn": {-9, 137, 1, 3}, "kill": {-9, 137, 1, 3}, None: {0}}.get(kind, {0, 1, 3})
        demand(status in allowed, f"status {status}, expected one of {sorted(allowed)}")
        if status in (1, 3):
            demand("error: " in text, f"status {status} without an error line")
        if status in (1, 3) and kind in ("full", "readonly", "eio"):
            errors = last_errors(text)
            named = errors.get(strike.event.victim, "\n".join(errors.values()))
            demand(CAUSE.search(named),
                   f"rank {strike.event.victim} could not write, but its error does not say so:\n{last_words(text)}")

    def check_death(self, strike, text):
        """If the others were training, their errors must name the rank that is gone and what it did last."""
        victim = strike.event.victim
        name = rf": rank {victim} has sent no heartbeat for \d+ s; it was at {PLACE}"
        if victim == 0:  # which hosts the store
            name += rf"|: rank 0, or the launcher .* rank 0 was last at {PLACE}, this rank at {PLACE}"
        errors = last_errors(text)
        others = set(range(strike.event.ranks)) - {victim}
        named = {rank for rank in others if re.search(name, errors.get(rank, ""))}
        complain = {rank for rank in others if re.match(r"rank \d+ of \d+: ", errors.get(rank, ""))}
        finished = (self.folder / "checkpoints" / STAGES[-1] / f"step-{STEPS:08}").exists()
        if strike.was_training() and not finished:
            self.deaths += 1
            demand(named == others,
                   f"rank {victim} is gone, but the errors of ranks {sorted(others - named)} do not say so:\n{last_words(text)}")
            self.deaths_named += 1
        elif complain:
            demand(named or finished, f"rank {victim} is gone, but no rank says so:\n{last_words(text)}")
        elif "could not connect to the other ranks" in text:
            self.deaths_at_meeting += 1

    def check_resumption(self, text):
        """No more work is lost than what was not yet on the disk, and a damaged checkpoint is named."""
        was_damaged = self.damaged is not None
        if was_damaged and re.search(rf"^{self.damaged.parent.name}: (resuming|already finished)", text, re.MULTILINE):
            demand(str(self.damaged) in text, f"{self.damaged}: was damaged, and no one says so:\n{last_words(text)}")
            self.damaged = None
        stage, step = self.reached
        started_over = re.search(r"^step 1 \|", text, re.MULTILINE) and f"{stage or 'none'}: already finished" not in text
        resumed = re.search(rf"^{stage or 'none'}: resuming from step (\d+) of", text, re.MULTILINE)
        found = re.search(rf"^{STAGES[0]}: (resuming|already finished)", text, re.MULTILINE)
        demand(self.saved_at_start == 0 or not started_over or found, "the training started over although there was a checkpoint")
        if self.allowed_loss is None or not (resumed or started_over):
            return
        lost = max(0, step - (int(resumed[1]) if resumed else 0))
        demand(lost <= self.allowed_loss, f"{stage}: {lost} of {step} steps are lost, expected at most {self.allowed_loss}")
        (self.lost_to_damage if was_damaged else self.lost_steps).append(lost)
        self.lost_with_saves += not was_damaged and lost > SAVE_EVERY and self.save_was_lost

    def check_end(self):
        demand(outcome(self.folder) == self.reference, "the bits of the finished run differ from those of the undisturbed one")
        self.finished_runs += 1
        shutil.rmtree(self.folder)
        self.begin_run()

    def go(self, events, kinds):
        done = 0
        while done < events:
            event = Event.random(self.chance, kinds)
            began = time.monotonic()
            result = self.happen(event)
            if result is None:
                continue
            done += 1
            self.counts[event.kind] += 1
            stage, step = reached(self.folder)
            print(f"{done:4} {event.kind:10} ranks {event.ranks} {time.monotonic() - began:5.1f} s  {result}; "
                  f"run {self.run_number} at {stage or 'its start'} {step or ''}", flush=True)
        self.saved_at_start = len(checkpoints(self.folder, STAGES[0]))
        training = Training(self.binary, self.folder, 2)
        status = training.wait(20 * self.duration)
        self.check(None, training, status)
        self.check_end()


def report(chaos):
    """Prints which events happened and how close training came to the limits of its promises."""
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(chaos.counts.items())))
    if chaos.seconds_to_exit:
        print(f"{len(chaos.seconds_to_exit)} times a rank died while others were running, which exited within "
              f"{max(chaos.seconds_to_exit):.1f} s; in {chaos.deaths_named} of {chaos.deaths} deaths during training all "
              f"of them named it; {chaos.deaths_at_meeting} times they had not connected yet")
    if chaos.seconds_to_stop:
        print(f"{len(chaos.seconds_to_stop)} times it was asked to stop, and exited within {max(chaos.seconds_to_stop):.1f} s")
    more = sum(lost > SAVE_EVERY for lost in chaos.lost_steps)
    print(f"lost in {len(chaos.lost_steps)} resumptions: {sum(chaos.lost_steps)} steps, at most "
          f"{max(chaos.lost_steps, default=0)}; more than an interval of {SAVE_EVERY} {more} times, of which "
          f"{chaos.lost_with_saves} because a save was interrupted or failed")
    if chaos.lost_to_damage:
        print(f"lost in {len(chaos.lost_to_damage)} resumptions from the checkpoint before a corrupted one: "
              f"{sum(chaos.lost_to_damage)} steps, at most {max(chaos.lost_to_damage)}")


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
              f"run folder: {chaos.folder}, its log: {chaos.folder.with_suffix('.stderr')}")
        return 1
    report(chaos)
    print(f"pass: {arguments.events} events of seed {arguments.seed} in {time.monotonic() - begin:.0f} s; "
          f"{chaos.finished_runs} runs finished with the bits of the undisturbed one, including the metrics of every step")
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
