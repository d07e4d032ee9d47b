"""Measures Duet on several Vulkan drivers beside PyTorch, in turns, and prints a table in Markdown.

drivers.py FOLDER NAME=ICD.json ...: FOLDER holds the case of torch_peer.py. Of each driver: the forward pass and the training
step of the peers' network (`peers`), and `duet classify` and `duet check` as whole processes with empty shader caches. Wall time
and, in brackets, processor time of all threads: the least of ROUNDS (3).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
DEMO = ROOT / "web/demo/public"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
REPEATS = "10"
COLD = {
    "classify": ["classify", "--model", DEMO / "model.safetensors", DEMO / "images/00000.png"],
    "check": ["check"],
}


def run(command, environment):
    """What the command prints, its wall and its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    made = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return made.stdout, (wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def peer(text):
    """Least wall time and processor time of the forward pass and of the training step."""
    peers = json.loads(text)
    return {
        what: (min(peers[what]["times"]["seconds"]), peers[what]["times"]["processor"])
        for what in ("forward", "train")
    }


def least(old, new):
    return new if old is None else tuple(map(min, zip(old, new)))


def cell(times):
    if times is None:
        return "–"
    wall, processor = (f"{t:.1f} s" if t >= 1 else f"{1000 * t:.0f} ms" for t in times)
    return f"{wall} ({processor})"


def main():
    folder, drivers = Path(sys.argv[1]), dict(part.split("=", 1) for part in sys.argv[2:])
    rows = {name: {} for name in ["PyTorch", *drivers]}

    def note(name, what, times):
        rows[name][what] = least(rows[name].get(what), times)

    for _ in range(ROUNDS):
        text, _ = run([sys.executable, HERE / "torch_peer.py", folder, REPEATS], os.environ)
        for what, times in peer(text).items():
            note("PyTorch", what, times)
        for name, icd in drivers.items():
            environment = {**os.environ, "VK_ICD_FILENAMES": icd, "VK_DRIVER_FILES": icd}
            for what, times in peer(run([BUILT / "examples/peers", folder, REPEATS], environment)[0]).items():
                note(name, what, times)
            for what, arguments in COLD.items():
                with tempfile.TemporaryDirectory() as home:
                    empty = {**environment, "HOME": home, "XDG_CACHE_HOME": home, "MESA_SHADER_CACHE_DIR": home}
                    note(name, what, run([BUILT / "duet", *arguments], empty)[1])
    print("| | forward | training step | of PyTorch's | `duet classify`, cold | `duet check`, cold |")
    print("|---|---|---|---|---|---|")
    torch = rows["PyTorch"]
    for name, row in rows.items():
        ratios = [f"{a / b:.1f}" for a, b in zip(row["train"], torch["train"])]
        share = "" if name == "PyTorch" else f"{ratios[0]} ({ratios[1]})"
        cells = [cell(row.get(what)) for what in ("forward", "train")] + [share]
        print("|", " | ".join([name, *cells, *(cell(row.get(what)) for what in COLD)]), "|")


if __name__ == "__main__":
    main()
