"""Writes the weights and the case that all peers compute with, then measures PyTorch on them.

torch_peer.py FOLDER REPEATS writes FOLDER/model.safetensors (a Duet checkpoint by the reference's names),
FOLDER/case.safetensors, FOLDER/unet.onnx, and prints JSON.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from unet import LEVELS, WIDTH, UNet

BATCH, SIDE, STEPS, CLASSES = 8, 28, 1000, 10
LEARNING_RATE = 1e-4
THREADS = 2


def model_file(unet, path):
    """A checkpoint of the whole joint model: Duet wants a classifier too, which noise prediction does not use."""
    tensors = {name: value.contiguous() for name, value in unet.state_dict().items()}
    features = unet.feature_channels + 1
    hidden = unet.feature_channels // 2
    for name, size in (("bn_1", features), ("bn_2", hidden)):
        for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            tensors[f"clasifier.{name}.{part}"] = torch.full((size,), float(value))
    for name, shape in (("fc_1", (hidden, features)), ("fc_2", (CLASSES, hidden))):
        tensors[f"clasifier.{name}.weight"] = torch.zeros(shape)
        tensors[f"clasifier.{name}.bias"] = torch.zeros(shape[0])
    config = {
        "format": 1,
        "model": {
            "image_size": SIDE, "num_channels": WIDTH, "num_res_blocks": 1, "channel_mult": LEVELS,
            "attention_resolutions": [], "num_classes": CLASSES,
        },
        "diffusion": {"diffusion_steps": STEPS},
        "ema": False,
    }  # fmt: skip
    save_file(tensors, path, metadata={"duet": json.dumps(config)})


def make_case():
    """Images, noise and timesteps, and the noised images by the linear schedule from 0.001 to 0.02."""
    x_start = torch.rand(BATCH, 1, SIDE, SIDE) * 2 - 1
    noise = torch.randn(BATCH, 1, SIDE, SIDE)
    t = torch.arange(BATCH) * STEPS // BATCH + 50
    kept = np.cumprod(1 - np.linspace(0.001, 0.02, STEPS))[t.numpy()].reshape(-1, 1, 1, 1)
    x_t = torch.from_numpy(np.sqrt(kept) * x_start.numpy() + np.sqrt(1 - kept) * noise.numpy())
    return {"x_start": x_start, "noise": noise, "t": t.float(), "x_t": x_t.float()}


def measure(repeats, call):
    """Seconds of wall time of each call after two that are not counted, of the first, and of processor time."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    call()
    seconds, processor = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    processor = (time.process_time() - processor) / repeats
    return {"first": first, "seconds": seconds, "processor": processor}


def main():
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    unet = UNet()
    model_file(unet, folder / "model.safetensors")
    case = make_case()
    x, noise, t = case["x_t"], case["noise"], case["t"]
    with torch.no_grad():
        case["eps"] = unet(x, t)
        save_file(case, folder / "case.safetensors")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                unet, (x, t), folder / "unet.onnx", input_names=["x", "t"], output_names=["eps"],
                dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
        forward = measure(repeats, lambda: unet(x, t))
    losses = []
    # The same AdamW for all: PyTorch's defaults but for the weight decay.
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, weight_decay=0)

    def step():
        loss = torch.nn.functional.mse_loss(unet(x, t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    train = measure(repeats, step)
    report = {
        "version": torch.__version__,
        "threads": THREADS,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "forward": {"times": forward},
        "train": {"times": train, "losses": losses},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
