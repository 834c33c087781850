"""What Linux says about the processes that a test started."""
import pathlib


def ranks_of(process):
    """The processes started with --ranks, by rank."""
    return list(map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def is_running(process):
    """Whether a process, given by its number, exists and is not a zombie."""
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
