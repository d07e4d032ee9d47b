"""table.py RESULTS: the tables of a run of run.sh, for people."""

import json
import sys


def milliseconds(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.3f}"


def table(title, head, rows):
    """Left-aligned first column, right-aligned others."""
    print(f"\n{title}")
    if not rows:
        print("  nothing was measured")
        return
    cells = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        first, *others = [cell.rjust(width) for cell, width in zip(row, widths)]
        print("  " + "  ".join([first.strip().ljust(widths[0]), *others]).rstrip())


def steps(results):
    """Whole steps: the whole, the device's kernels alone, the host's part."""
    kernels = {
        profile["name"]: profile["seconds"]
        for name, report in results.items()
        if name.startswith("profile-")
        for profile in report["profiles"]
    }
    rows = []
    for name, report in results.items():
        if not name.startswith("bench-"):
            continue
        for line in report["lines"]:
            if line["kind"] != "step":
                continue
            whole, host, gpu = line["seconds"], line.get("host_seconds"), kernels.get(line["name"])
            waits = "-" if gpu is None or host is None else "device" if host > gpu else "host"
            rows.append([
                line["name"], milliseconds(whole), milliseconds(gpu), milliseconds(host), waits,
                f"{line['images_per_second']:.1f}", f"{line['gflops']:.1f}", line["dispatches"],
            ])  # fmt: skip
    head = ["whole steps", "ms", "kernels ms", "host ms", "who waits", "images/s", "GFLOP/s", "dispatches"]
    table("Whole steps (shortest times; kernels: the sum of the device's own times)", head, rows)


def start_ups(results):
    rows = [
        [line["name"], f"{line['seconds']:.2f}", line["pipelines"]]
        for name, report in results.items()
        if name.startswith("bench-")
        for line in report["lines"]
        if line["kind"] == "start_up" and line["pipelines"]
    ]
    table("Start-up", ["start-up", "s", "pipelines"], [[row[0].removeprefix("start-up: "), *row[1:]] for row in rows])


def kernels(results):
    """Where the time of training steps goes."""
    rows = []
    for name, report in results.items():
        if name.startswith("profile-"):
            for profile in report["profiles"]:
                if profile["name"].startswith("training step, both"):
                    for row in profile["by_kernel"][:6]:
                        rows.append([
                            profile["name"], row["kernel"], row["calls"], f"{100 * row['share']:.1f}",
                            milliseconds(row["seconds"]), f"{row['gflops']:.1f}", f"{row['gigabytes_per_second']:.1f}",
                        ])  # fmt: skip
    head = ["training steps by kernel", "kernel", "calls", "%", "ms", "GFLOP/s", "GB/s"]
    table("The six longest kernels of each", head, rows)


def tuned(results):
    rows = []
    for name, report in results.items():
        if not name.startswith("tune-"):
            continue
        choices = report.get("choices", [])
        families = [choice["family"] for choice in choices]
        counts = ", ".join(f"{family} {families.count(family)}" for family in sorted(set(families)))
        rows.append([name.removeprefix("tune-"), len(choices), counts])
    table("Tuning", ["model", "shapes", "fastest family"], rows)


def beside_torch(results):
    """Ours over PyTorch's: below 1 is faster than PyTorch."""
    ours = {
        (report["batch"], line["name"].split(" 28x28-c32")[0]): line["seconds"]
        for name, report in results.items()
        if name.startswith("bench-28x28-c32-")
        for line in report["lines"]
        if line["kind"] == "step"
    }
    rows = []
    for name, report in results.items():
        if not name.startswith("torch-"):
            continue
        for row in report["rows"]:
            own = ours.get((report["batch"], row["step"]))
            ratio = "-" if own is None else f"{own / row['seconds']:.2f}"
            rows.append([
                f"{row['step']} b{report['batch']}", row["number"], row["mode"], milliseconds(row["seconds"]),
                milliseconds(own), ratio,
            ])  # fmt: skip
        for row in report["failed"]:
            rows.append([
                f"{row['step']} b{report['batch']}", row["number"], row["mode"], "failed", "-", row["error"][:60],
            ])  # fmt: skip
    table("Beside PyTorch, 28x28-c32", ["step", "numbers", "mode", "PyTorch ms", "Duet ms", "ratio"], rows)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    results = report["results"]
    adapter = results.get("check", {})
    name = adapter.get("adapter", "unknown adapter (the check did not pass)")
    print(f"{name}, {adapter.get('driver', '-')}, {report['machine']}")
    tiny = ", tiny sizes: no figure here says anything about a GPU" if report["tiny"] else ""
    print(f"revision {report['revision']}, {report['seconds']} s of {report['minutes']} minutes{tiny}")
    head = ["part", "state", "s", "of at most s", "remark"]
    table("Parts", head, [[p["name"], p["state"], p["seconds"], p["share"], p["remark"]] for p in report["parts"]])
    for part in (steps, start_ups, kernels, tuned, beside_torch):
        part(results)
    for name in ("train", "train-larger"):
        if name in results:
            print(f"\n{name}: step {results[name]['step']} after {results[name]['seconds']} s")


if __name__ == "__main__":
    main()
