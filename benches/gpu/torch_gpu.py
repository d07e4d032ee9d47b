"""Measures PyTorch on the network of `duet bench --model 28x28-c32`: torch_gpu.py BATCH SECONDS [LIMIT] prints JSON.

The UNet is ../peers/unet.py; the classifier and the guided step (Algorithm 1) follow the reference. Steps run eagerly,
and on a GPU also as a CUDA graph; 32-bit floats without and with TF32, and bf16 autocast. With LIMIT they go through
`torch.compile` instead, and as a CUDA graph of what it made: it takes a minute for a step, and none is begun after LIMIT
seconds. What cannot be measured is said in `failed` and the rest goes on.
"""

import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
from unet import UNet  # noqa: E402

SIDE, CLASSES, LEARNING_RATE, ALPHA = 28, 10, 1e-4, 20.0


class Joint(nn.Module):
    """The UNet with the classifier on its pooled features, in evaluation mode as guided steps need it."""

    def __init__(self):
        super().__init__()
        self.unet = UNet()
        features = self.unet.feature_channels + 1
        hidden = self.unet.feature_channels // 2
        self.classifier = nn.Sequential(
            nn.BatchNorm1d(features), nn.Linear(features, hidden), nn.LeakyReLU(),
            nn.BatchNorm1d(hidden), nn.Linear(hidden, CLASSES),
        ).eval()  # fmt: skip

    def guided(self, x, t, target):
        """eps after the bottleneck and the skips moved along the gradient of the classifier's cross-entropy."""
        unet, maps = self.unet, []
        with torch.no_grad():
            emb = unet.time_embed(self.embedding(t))
            h = x
            for block in unet.input_blocks:
                h = block(h, emb)
                maps.append(h)
            maps.append(unet.middle_block(h, emb))
        maps = [m.detach().requires_grad_() for m in maps]
        pooled = [m.mean(dim=(2, 3)) for m in reversed(maps)]
        logits = self.classifier(torch.cat([*pooled, t[:, None]], dim=1))
        loss = F.cross_entropy(logits, target, reduction="sum")
        gradients = torch.autograd.grad(loss, maps)
        with torch.no_grad():
            *skips, h = [m - ALPHA * g for m, g in zip(maps, gradients)]
            for block in unet.output_blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
            return unet.out(h)

    def embedding(self, t):
        width = self.unet.time_embed[0].in_features
        frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, dtype=torch.float32) * 2 / width)
        angles = t[:, None] * frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=1)


def measure(call, cuda, seconds):
    """Shortest seconds of one call, and of the host's part of it, after three that are not counted."""

    def wait():
        if cuda:
            torch.cuda.synchronize()

    for _ in range(3):
        call()
    wait()
    best, host, begin, calls = float("inf"), float("inf"), time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        handed = time.perf_counter()
        wait()
        best, host = min(best, time.perf_counter() - start), min(host, handed - start)
        calls += 1
    return {"seconds": best, "host_seconds": host, "calls": calls}


def graph_of(call):
    """The call captured as a CUDA graph, after three runs on a side stream as capture demands."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def steps(batch, device, autocast, cuda, compiled):
    """The calls to measure, by the names of `duet bench`."""
    torch.manual_seed(0)
    model = Joint().to(device)
    if compiled:
        # What was compiled for another model counts against the limit beyond which calls run eagerly.
        torch.compiler.reset()
    made = torch.compile if compiled else lambda call: call
    unet, guided_of = made(model.unet), made(model.guided)
    x, noise = (torch.randn(batch, 1, SIDE, SIDE) for _ in range(2))
    t = (torch.arange(batch) * 1000 // batch).float()
    target = torch.arange(batch) % CLASSES
    # Capturable keeps the step's counter on the GPU, without which no graph can hold it.
    options = {"capturable": True} if cuda else {}
    optimizer = torch.optim.AdamW(model.unet.parameters(), lr=LEARNING_RATE, weight_decay=0, **options)

    def cast():
        # Without its cache of converted weights, which a captured graph would read after it is gone.
        return torch.autocast(device, dtype=torch.bfloat16, enabled=autocast, cache_enabled=False)

    def forward():
        with torch.no_grad(), cast():
            unet(x, t)

    def guided():
        with cast():
            guided_of(x, t, target)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = F.mse_loss(unet(x, t).float(), noise)
        loss.backward()
        optimizer.step()

    return {"eps": forward, "training step, noise only,": train, "guided step": guided}


def main():
    batch, seconds = int(sys.argv[1]), float(sys.argv[2])
    end = time.monotonic() + float(sys.argv[3]) if len(sys.argv) > 3 else None
    modes = ["eager", "graph"] if end is None else ["compiled", "compiled graph"]
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    if hasattr(torch, "set_default_device"):
        torch.set_default_device(device)
    report = {
        "version": torch.__version__, "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda, "batch": batch, "rows": [], "failed": [],
    }  # fmt: skip
    # TF32 is a matter of GPUs; a processor computes the same either way.
    for number in ["f32", "tf32", "bf16"] if cuda else ["f32", "bf16"]:
        torch.backends.cuda.matmul.allow_tf32 = number == "tf32"
        torch.backends.cudnn.allow_tf32 = number == "tf32"
        for mode in modes if cuda else modes[:1]:
            for name, call in steps(batch, device, number == "bf16", cuda, end is not None).items():
                row = {"step": name, "number": number, "mode": mode}
                try:
                    if end is not None and time.monotonic() > end:
                        raise TimeoutError("no time left")
                    times = measure(graph_of(call) if mode.endswith("graph") else call, cuda, seconds)
                    report["rows"].append({**row, **times})
                except Exception as error:  # one step that fails must not end the others
                    report["failed"].append({**row, "error": f"{type(error).__name__}: {error}"[:300]})
    print(json.dumps(report))


if __name__ == "__main__":
    main()
