#!/usr/bin/env python3
"""Checks a machine with a GPU: compares its results with the CPU's, measures its speed, and runs real training on it, which is
also killed and resumed. Takes at most ten minutes.

    scripts/gpu_check.py                  the binaries in build/release/bin or, in an unpacked bundle, in bin
    scripts/gpu_check.py FOLDER           other binaries
    scripts/gpu_check.py --device cpu     the same on the CPU, to test this script

Prints a table, writes gpu_check.json to the current folder, and exits with status 1 if anything failed. Needs Python 3.8 or later.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing

from compare_runs import Difference, close, same_bits, same_images

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = ROOT / "tests/tools/tiny.yaml"
TOOLS = ("device_test", "dalle-bench", "dalle-train", "dalle-sample")

# Seconds that each block of checks may take, together less than ten minutes, and a single program of it.
TESTS_S, SPEED_S, TRAINING_S, IMAGES_S = 150, 170, 200, 50
BENCHMARK_S, RUN_S = 60, 60


def settings(**sections):
    """Options that set keys: settings(data={"kind": "shapes"}) is --set data.kind=shapes."""
    return [word for section, keys in sections.items() for key, value in keys.items()
            for word in ("--set", f"{section}.{key}={value}")]


# Eight micro-batches, so that up to eight ranks have one each and bitwise training adds them in a fixed order.
EIGHT = {"train.batch_size": 8, "train.micro_batch_size": 1}
PLAIN = settings(dvae=EIGHT, dalle=EIGHT)
BITWISE = PLAIN + settings(distributed={"bitwise": "true"})

# What is measured on a GPU: the name, the config, the stage, its precision and the samples of a step; the headline first.
# Larger models are left out because saving their checkpoints would take longer than the steps. NO_KERNELS runs LibTorch's
# operations instead of our kernels, for the ratio.
NO_KERNELS = ", no kernels"
BENCHMARKS = (
    ("dalle-120m bfloat16", "dalle-120m", "dalle", "bfloat16", 32),
    ("dalle-120m bfloat16" + NO_KERNELS, "dalle-120m", "dalle", "bfloat16", 32),
    ("dvae 64 px float32", "shapes-64", "dvae", "float32", 16),
    ("dvae 64 px bfloat16", "shapes-64", "dvae", "bfloat16", 16),
    ("dvae 256 px float32", "dalle-50m", "dvae", "float32", 32),
    ("dvae 256 px bfloat16", "dalle-50m", "dvae", "bfloat16", 32),
    ("dalle-50m float32", "dalle-50m", "dalle", "float32", 32),
    ("dalle-50m bfloat16", "dalle-50m", "dalle", "bfloat16", 32),
)


class CheckFailed(Exception):
    """Says what was found instead of what a check expects."""


class CheckSkipped(Exception):
    """Says why a check does not apply to this machine."""


def fail(message):
    sys.exit(f"gpu_check: error: {message}")


# Programs


class TimeLimit:
    """The end of a block of checks."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.end - time.monotonic())


def start(command, log, **options):
    """Starts a program in a session of its own; its output is added to the file `log`."""
    with log.open("ab") as file:
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                start_new_session=True, **options)


def stop(process):
    """Kills what start() has started, if it still runs, with the ranks: they have process groups of their own, so they are
    found by their session."""
    if process.poll() is not None:
        return
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            session = int(stat.read_text(errors="replace").rpartition(")")[2].split()[3])
            if session == process.pid:
                os.kill(int(stat.parent.name), signal.SIGKILL)
        except OSError:  # it has ended
            pass
    process.wait()


def last_line(log):
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def run(command, log, limit_s, **options):
    """Runs a program to its end. Raises CheckFailed with the last line of its output if it fails or takes too long."""
    name = pathlib.Path(command[0]).name
    if limit_s <= 0:
        raise CheckFailed(f"{name} was not started: no time is left for this block of checks")
    process = start(command, log, **options)
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"{name} was stopped after {limit_s:.0f} s: {last_line(log)}") from None
    finally:  # also if this script is interrupted
        stop(process)
    if status != 0:
        raise CheckFailed(f"{name}: status {status}: {last_line(log)}")


# The report


class Report:
    """The table on standard output, and its rows for gpu_check.json."""

    def __init__(self):
        self.rows = []
        print(f"{'check':<37} {'result':<9} {'ms':>8}  found")

    def add(self, name, result, seconds, found):
        print(f"{name:<37} {result:<9} {1e3 * seconds:>8.0f}  {found}", flush=True)
        self.rows.append({"name": name, "result": result, "ms": round(1e3 * seconds), "found": found})

    def check(self, name, action, success="pass"):
        """Adds a row with what an action returns, or raises: any exception but CheckSkipped is a failure of this check only."""
        begin = time.monotonic()
        try:
            result, found = success, action()
        except CheckSkipped as reason:
            result, found = "skipped", str(reason)
        except (CheckFailed, Difference) as error:
            result, found = "FAIL", str(error)
        except Exception as error:  # so that the next checks run
            result, found = "FAIL", f"{type(error).__name__}: {error}"
        self.add(name, result, time.monotonic() - begin, found)

    def passed(self):
        return all(row["result"] != "FAIL" for row in self.rows)


class Setup(typing.NamedTuple):
    binaries: pathlib.Path
    device: str  # cuda or cpu
    ranks: int  # that the machine has a device for, at most eight
    work: pathlib.Path  # a temporary folder


# The tests of the device


def check_device_tests(setup, report):
    """Adds a row for all tests and one for each that failed. Returns googletest's report, empty if there is none."""
    path, log = setup.work / "device_test.json", setup.work / "device_test.log"
    document, failed = {}, []

    def action():
        error = None
        try:  # in the folder that contains configs/
            run([setup.binaries / "device_test", f"--gtest_output=json:{path}"], log, TESTS_S, cwd=str(ROOT),
                env={**os.environ, "DALLE_TEST_DEVICE": setup.device})
        except CheckFailed as status:
            if not path.is_file():  # it crashed or took too long
                raise
            error = status
        document.update(json.loads(path.read_text()))
        tests = [test for suite in document["testsuites"] for test in suite["testsuite"]]
        failed.extend(test for test in tests if "failures" in test)
        skipped = sum(test["result"] == "SKIPPED" for test in tests)
        found = f"{len(tests)} tests: {len(failed)} failed, {skipped} skipped"
        if error:
            raise CheckFailed(found if failed else str(error))
        return found

    report.check("device tests", action)
    for test in failed:
        message = " ".join(test["failures"][0]["failure"].splitlines()[1:])[:300]  # without its place in the source
        report.add(f"{test['classname']}.{test['name']}", "FAIL", float(test["time"].rstrip("s")), message)
    return document


# Speed


def describe_training(result):
    times = result["time"]
    return (f"{times['step_ms']:.1f} ms per step of {result['batch']}, {times['samples_per_s']:.1f} images/s, "
            f"{times['gflops'] / 1e3:.2f} TFLOP/s, {times['matmul_utilization']:.1f}% of the matmul peak, "
            f"{times['data_wait']:.0f}% of the time waiting for data")


def describe_decoding(result):
    return f"{result['tokens_per_s']:.0f} tokens/s, {result['ms_per_image']:.1f} ms per image"


def benchmarks_of(device):
    """Yields a name, the arguments of dalle-bench and a function that describes its last result."""
    if device == "cpu":
        for stage in ("dvae", "dalle"):
            yield (f"tiny {stage}", ["train", "--config", TINY, "--stage", stage, "--ranks", 1, "--steps", 20, "--device", "cpu"],
                   describe_training)
        yield ("tiny decoding", ["decode", "--config", TINY, "--images", 1, "--windows", 1, "--repeat", 1], describe_decoding)
        return
    for name, config, stage, precision, batch in BENCHMARKS:
        keys = settings(data={"kind": "shapes", "shapes.samples": 2000, "shapes.validation_samples": 8},
                        **{stage: {"train.precision": precision, "train.batch_size": batch, "train.micro_batch_size": batch}})
        yield (name, ["train", "--config", ROOT / f"configs/{config}.yaml", "--stage", stage, "--ranks", 1, "--steps", 20,
                      "--device", device, *keys], describe_training)
    yield ("generating dalle-50m", ["decode", "--config", ROOT / "configs/dalle-50m.yaml", "--images", 12, "--repeat", 1,
                                    "--device", device], describe_decoding)


def measure_speed(setup, report):
    """Returns the last result of each benchmark, by name."""
    limit, results = TimeLimit(SPEED_S), {}

    def measure(name, arguments, describe):
        if limit.left() < BENCHMARK_S:
            raise CheckSkipped("too little time is left for this block of checks")
        path, log = setup.work / f"{name}.json", setup.work / f"{name}.log"
        without_kernels = name.endswith(NO_KERNELS)
        try:  # with temporary files that this script removes, even if it stops the program
            run([setup.binaries / "dalle-bench", *arguments, "--json", path], log, BENCHMARK_S,
                env={**os.environ, "TMPDIR": str(setup.work), **({"DALLE_GPU_KERNELS": "0"} if without_kernels else {})})
        except CheckFailed:
            if "out of memory" in log.read_text(errors="replace"):
                raise CheckSkipped("does not fit into memory") from None
            raise
        results[name] = json.loads(path.read_text())["results"][-1]
        found = describe(results[name])
        kernels = results.get(name[:-len(NO_KERNELS)])
        if without_kernels and kernels:
            found += f"; with kernels {results[name]['time']['step_ms'] / kernels['time']['step_ms']:.2f} times as fast"
        return found

    for benchmark in benchmarks_of(setup.device):
        report.check(f"speed {benchmark[0]}", lambda: measure(*benchmark), success="measured")
    return results


# Training and sampling


class Trainings:
    """Runs of tiny.yaml, each in the folder of its name in setup.work."""

    def __init__(self, setup):
        self.setup = setup
        self.limit = TimeLimit(TRAINING_S)

    def command(self, name, options, device):
        return [self.setup.binaries / "dalle-train", "--config", TINY, "--run-dir", self.setup.work / name,
                "--device", device or self.setup.device, *options]

    def log(self, name):
        return self.setup.work / f"{name}.log"

    def train(self, name, options, device=None):
        """Trains, or resumes a run that was killed. Returns its folder."""
        run(self.command(name, options, device), self.log(name), min(RUN_S, self.limit.left()))
        return self.setup.work / name

    def train_killed(self, name, options):
        """The same for a run that is killed as soon as its second stage has saved a checkpoint, and then resumed."""
        checkpoints = self.setup.work / name / "checkpoints/dalle"
        end = time.monotonic() + min(RUN_S, self.limit.left())
        process = start(self.command(name, options, None), self.log(name))
        try:
            while not any(checkpoints.glob("step-*")) and process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            stop(process)
        if process.returncode != -signal.SIGKILL:
            raise CheckFailed(f"the run ended before it could be killed: {last_line(self.log(name))}")
        if not any(checkpoints.glob("step-*")):
            raise CheckFailed(f"the run saved no checkpoint in time: {last_line(self.log(name))}")
        return self.train(name, options)

    def last_loss(self, name):
        lines = [line for line in self.log(name).read_text(errors="replace").splitlines() if "| loss" in line]
        if not lines:
            raise CheckFailed("the run logged no loss")
        return lines[-1]


def check_training(setup, report):
    trainings = Trainings(setup)
    plain, bitwise = setup.work / "plain", setup.work / "bitwise"

    def train_plain():
        trainings.train("plain", PLAIN)
        return trainings.last_loss("plain")

    report.check("training", train_plain)
    report.check("training bitwise", lambda: close(trainings.train("bitwise", BITWISE), plain))
    report.check("training bitwise, --ranks 1",
                 lambda: same_bits(trainings.train("one-rank", [*BITWISE, "--ranks", 1]), bitwise))
    report.check("training bitwise, killed and resumed", lambda: same_bits(trainings.train_killed("killed", BITWISE), bitwise))
    report.check("training bitwise, on the CPU", lambda: close(bitwise, trainings.train("cpu", BITWISE, "cpu")))
    if setup.ranks == 1:
        report.add("training on several ranks", "skipped", 0, "found only one GPU")
        return
    power_of_two = 1 << (setup.ranks.bit_length() - 1)
    several = [*BITWISE, "--ranks", power_of_two]
    sharded = several + settings(distributed={"shard_optimizer": "true"})
    report.check(f"training --ranks {setup.ranks}",
                 lambda: close(trainings.train("ranks", [*PLAIN, "--ranks", setup.ranks]), plain))
    report.check(f"training bitwise, --ranks {power_of_two}",
                 lambda: same_bits(trainings.train("bitwise-ranks", several), bitwise))
    report.check(f"training sharded, --ranks {power_of_two}", lambda: same_bits(trainings.train("sharded", sharded), bitwise))


def check_images(setup, report):
    limit = TimeLimit(IMAGES_S)

    def sample(device, name):
        run([setup.binaries / "dalle-sample", "--model", setup.work / "bitwise", "--device", device, "--out", setup.work / name,
             "--count", 12, "--seed", 5, "a red circle"], setup.work / f"{name}.log", limit.left())
        return setup.work / name

    report.check("images, on the CPU", lambda: same_images(sample(setup.device, "images"), sample("cpu", "cpu-images")))


# The machine


def find_gpus():
    if not shutil.which("nvidia-smi"):
        fail("nvidia-smi not found; is the NVIDIA driver installed? (--device cpu tests this script on the CPU)")
    result = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False)
    if result.returncode != 0:
        fail(f"nvidia-smi: {result.stdout.strip()}")
    gpus = [dict(zip(("name", "driver", "memory"), line.split(", "))) for line in result.stdout.splitlines() if line]
    if not gpus:
        fail("nvidia-smi finds no GPU")
    return gpus


def check_binaries(folder):
    """Ends this script if a program is missing or does not start. Returns what dalle-train --version prints."""
    for tool in TOOLS:
        if not os.access(folder / tool, os.X_OK):
            fail(f"{folder / tool}: not found; build it, or pass the folder of the binaries")
        if subprocess.run([folder / tool, "--help"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            fail(f"{folder / tool} does not start")
    version = subprocess.run([folder / "dalle-train", "--version"], stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return version.stdout.strip()


def main():
    is_bundle = (ROOT / "libexec").is_dir()  # of scripts/bundle.sh
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="?", metavar="FOLDER", default=ROOT / ("bin" if is_bundle else "build/release/bin"),
                        help="the folder of the binaries")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="what to check; default: cuda")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that programs in sessions of their own are stopped
        signal.signal(number, lambda caught, frame: sys.exit(128 + caught))

    gpus, ranks = [], 2
    if arguments.device == "cuda":
        gpus = find_gpus()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        ranks = len(visible.split(",")) if visible else len(gpus)
    binaries = pathlib.Path(arguments.binaries).resolve()
    build = check_binaries(binaries)
    if not os.access(".", os.W_OK):
        fail(f"{pathlib.Path.cwd()}: cannot write gpu_check.json here")

    report = Report()
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as work:
        setup = Setup(binaries, arguments.device, min(ranks, 8), pathlib.Path(work))
        tests = check_device_tests(setup, report)
        speeds = measure_speed(setup, report)
        check_training(setup, report)
        check_images(setup, report)
    result = {"passed": report.passed(), "device": arguments.device, "build": build, "gpus": gpus, "checks": report.rows,
              "speed": speeds, "device_test": tests or None}
    pathlib.Path("gpu_check.json").write_text(json.dumps(result, indent=2) + "\n")
    if not report.passed():
        fail("some checks failed; see the lines with FAIL and gpu_check.json")
    print("gpu_check: ok")


if __name__ == "__main__":
    main()
