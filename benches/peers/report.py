"""Makes a table of what the peers printed: report.py FOLDER writes results.md and results.json beside this file.

FOLDER holds one JSON file a peer (burn and meganeura: one a process). A peer that is not there was not asked for; one that failed says
how.
"""

import json
import platform
import statistics
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {
    "torch": "PyTorch, CPU",
    "duet": "Duet, native",
    "burn": "burn, wgpu",
    "burn-late": "burn, loss read after the step",
    "meganeura": "meganeura, blade",
    "duet-web": "Duet, browser",
    "ort-web": "ONNX Runtime Web, WebGPU",
}
# Measured by one process for each of `WORDS`.
PROCESSES = ("burn", "meganeura")
# One run on the same kind of machine (2 cores, lavapipe); 0.21 has another interface and is not built here.
BURN_0_21_STEP = 21.4
# Faster than (peer, factor), or at most so many times a peer's time.
BARS = [
    ("train", "duet", "burn", "faster", 6),
    ("train", "duet", "torch", "slower", 5),
    ("forward", "duet", "burn", "faster", 5),
    ("forward", "duet", "torch", "slower", 5),
    ("train", "duet", "meganeura", "faster", 1),
    ("forward", "duet", "meganeura", "faster", 1),
    ("forward", "duet-web", "ort-web", "faster", 15),
]
WORDS = {"train": "training step", "forward": "forward"}


def best(peer, what):
    return min(peer[what]["times"]["seconds"]) if what in peer else None


def processor(peer, what):
    return peer[what]["times"]["processor"] if what in peer else None


def time(seconds):
    if seconds is None:
        return "–"
    return f"{1000 * seconds:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def cell(peer, what):
    if what not in peer:
        return "–"
    times = peer[what]["times"]
    middle = statistics.median(times["seconds"])
    return f"**{time(best(peer, what))}** ({time(middle)}; {time(times['processor'])})"


def agreement(peer, name, torch):
    """How far eps and losses are from PyTorch's, and whether the losses fall."""
    parts = []
    deviation = peer.get("forward", {}).get("max_deviation")
    if deviation is not None:
        parts.append(f"eps within {deviation:.0e}")
    losses = peer.get("train", {}).get("losses")
    if losses:
        falls = all(b < a for a, b in zip(losses, losses[1:]))
        text = f"losses {losses[0]:.4f} → {losses[-1]:.4f} in {len(losses)} steps"
        text += "" if falls else ", **not falling**"
        if name != "torch" and torch:
            pairs = list(zip(losses, torch["train"]["losses"]))
            apart = max(abs(a - b) / b for a, b in pairs)
            text += f", within {apart:.0e} of PyTorch's" if apart < 1e-2 else f", **{apart:.0%} off PyTorch's**"
        parts.append(text)
    return "; ".join(parts) or "–"


def table(peers):
    head = [
        "", "version", "forward: least (median; processor)", "training step: the same", "first forward",
        "first step", "agreement",
    ]  # fmt: skip
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for name, peer in peers.items():
        version = peer.get("version") or "–"
        if "failed" in peer:
            version += f"; **failed** ({peer['failed']})"
        first = {what: peer[what]["times"]["first"] if what in peer else None for what in WORDS}
        if "forward" in peer:
            # A browser's session is made before its first call, a native library's within it.
            first["forward"] += peer["forward"]["times"].get("load", 0)
        row = [
            PEERS[name], version, cell(peer, "forward"), cell(peer, "train"),
            time(first["forward"]), time(first["train"]), agreement(peer, name, peers.get("torch")),
        ]  # fmt: skip
        yield "| " + " | ".join(row) + " |"


def bars(peers):
    """Each bar with its ratio of least times, and that of processor times."""
    for what, ours, theirs, kind, factor in BARS:
        a, b = peers.get(ours, {}), peers.get(theirs, {})
        wanted = f"{WORDS[what]}: {PEERS[ours]}"
        wanted += f" ≥ {factor}× faster than " if kind == "faster" else f" ≤ {factor}× the time of "
        wanted += PEERS[theirs]
        if what not in a or what not in b:
            yield {"bar": wanted, "ratio": None, "processor_ratio": None, "met": None}
            continue

        def ratio(times):
            return times(b, what) / times(a, what) if kind == "faster" else times(a, what) / times(b, what)

        value = ratio(best)
        met = value >= factor if kind == "faster" else value <= factor
        yield {"bar": wanted, "ratio": value, "processor_ratio": ratio(processor), "met": met}
    step = best(peers.get("duet", {}), "train")
    wanted = f"training step: Duet, native ≥ 30× faster than burn 0.21 ({time(BURN_0_21_STEP)} in an earlier run)"
    value = BURN_0_21_STEP / step if step else None
    yield {"bar": wanted, "ratio": value, "processor_ratio": None, "met": step and value >= 30}


def bar_lines(rows):
    yield "| bar | ratio | of processor time | |"
    yield "|---|---|---|---|"
    for row in rows:
        ratios = [f"{v:.2f}" if v else "–" for v in (row["ratio"], row["processor_ratio"])]
        verdict = {None: "not measured", True: "met", False: "**not met**"}[row["met"]]
        yield f"| {row['bar']} | {ratios[0]} | {ratios[1]} | {verdict} |"


def machine():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    memory = int(open("/proc/meminfo").readline().split()[1]) / 2**20
    return f"{len(names)} × {names[0]}, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}"


def read(folder, name):
    file = folder / f"{name}.json"
    if not file.exists():
        return None
    text = file.read_text().strip()
    return json.loads(text.splitlines()[-1]) if text else {"failed": "printed nothing"}


def read_all(folder):
    peers = {}
    for name in PEERS:
        if name in PROCESSES or name == "burn-late":
            files = {"train": name} if name == "burn-late" else {what: f"{name}-{what}" for what in WORDS}
            parts = {what: read(folder, file) for what, file in files.items()}
            if any(parts.values()):
                peers[name] = {what: part for what, part in parts.items() if part and "failed" not in part}
                peers[name]["version"] = (folder / f"{name.split('-')[0]}-version").read_text().strip()
                failed = [f"{what}: {p['failed']}" for what, p in parts.items() if p and "failed" in p]
                if failed:
                    peers[name]["failed"] = ", ".join(failed)
        elif peer := read(folder, name):
            peers[name] = peer
    if "version" in peers.get("duet", {}) and "duet-web" in peers:
        peers["duet-web"]["version"] = peers["duet"]["version"]
    return peers


def main():
    folder = Path(sys.argv[1])
    peers = read_all(folder)
    load = (folder / "load").read_text().split()[0]
    whole = (folder / "run").read_text().strip() == "whole"
    rows = list(bars(peers))
    devices = []
    if "simd" in peers.get("torch", {}):
        devices.append("PyTorch: {simd}, {threads} threads".format(**peers["torch"]))
    if "device" in peers.get("duet", {}):
        devices.append("native: {name}, {driver}".format(**peers["duet"]["device"]))
    for name in ("duet-web", "ort-web"):
        if "adapter" in peers.get(name, {}):
            devices.append(f"browser: Chromium {peers[name]['browser']}, {peers[name]['adapter']}")
            break
    lines = [
        "# One run of `make peers`" if whole else "# Parts of it measured again: not one run", "",
        f"{date.today()}. {machine()}; load before the run {load} (above 0.5 another program was running: "
        "then compare processor times).", "",
        *(f"- {device}" for device in devices), "",
        *table(peers), "",
        *bar_lines(rows), "",
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    (HERE / "results.md").write_text(text)
    report = {"date": str(date.today()), "machine": machine(), "one_run": whole, "load": float(load), "peers": peers, "bars": rows}
    (HERE / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any("failed" in peer for peer in peers.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
