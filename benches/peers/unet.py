"""The UNet in PyTorch, parameters named as in the reference's state_dict."""

import math

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, LEVELS, HEADS, GROUPS, EMB = 32, (1, 2, 2), 4, 32, 128


class ResBlock(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(EMB, 2 * c_out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, c_out), nn.SiLU(), nn.Identity(), nn.Conv2d(c_out, c_out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, emb):
        h = self.in_layers(x)
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, emb):
        n, c, height, width = x.shape
        flat = x.reshape(n, c, height * width)
        head = c // HEADS
        q, k, v = self.qkv(self.norm(flat)).reshape(n, HEADS, 3 * head, -1).split(head, dim=2)
        weight = torch.softmax(q.transpose(2, 3) @ k / math.sqrt(head), dim=-1)
        h = (v @ weight.transpose(2, 3)).reshape(n, c, -1)
        return (flat + self.proj_out(h)).reshape(n, c, height, width)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, emb):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, emb):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, emb):
        return super().forward(x)


class Block(nn.ModuleList):
    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb)
        return x


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(WIDTH, EMB), nn.SiLU(), nn.Linear(EMB, EMB))
        channels, skips = WIDTH, [WIDTH]
        self.input_blocks = nn.ModuleList([Block([First(1, WIDTH, 3, padding=1)])])
        for level, mult in enumerate(LEVELS):
            self.input_blocks.append(Block([ResBlock(channels, mult * WIDTH)]))
            channels = mult * WIDTH
            skips.append(channels)
            if level + 1 < len(LEVELS):
                self.input_blocks.append(Block([Down(channels)]))
                skips.append(channels)
        self.middle_block = Block(
            [ResBlock(channels, channels), Attention(channels), ResBlock(channels, channels)]
        )
        # What the classifier head of the joint model pools.
        self.feature_channels = channels + sum(skips)
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(LEVELS))):
            for i in range(2):
                block = [ResBlock(channels + skips.pop(), mult * WIDTH)]
                channels = mult * WIDTH
                if level > 0 and i == 1:
                    block.append(Up(channels))
                self.output_blocks.append(Block(block))
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, 1, 3, padding=1)
        )

    def forward(self, x, t):
        half = WIDTH // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = t[:, None] * frequencies
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        h, skips = x, []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)
