#!/usr/bin/env python3
"""The peer of the bench (benches/unet.rs): the same network and loss in PyTorch, in each setting a user would try.

Needs: PyTorch (`cargo xtask bench unet --peers` installs it beside itself), and a C++ compiler for its own one.

Reads `WIDTH BATCH SIDE THREADS` on a line, then one case a line: `step SETTING` (a training step: forward, partial cross-entropy on
scribbles and weak labels, backward, SGD with momentum) or `predict SETTING` (the most probable class). Answers the first line with the
number of trained parameters and the version, every other with the time in ms. A setting is some of `f32`, `bf16`, `last`
(channels-last) and `compiled`, joined by `-`.
"""

import sys
import time

import torch
from network import UNet
from torch.nn import functional as F


width, batch, side, threads = (int(word) for word in sys.stdin.readline().split())
torch.set_num_threads(threads)
torch.manual_seed(1)
images = torch.randn(batch, 4, side, side)
labels = torch.randint(0, 2, (2, batch, side, side))
known = torch.rand(labels.shape) < torch.tensor([0.02, 0.9])[:, None, None, None]
scribble, weak = torch.where(known, labels, 255)


class Setting:
    """The network, its optimiser and its input in one setting."""

    def __init__(self, name):
        words = name.split("-")
        layout = torch.channels_last if "last" in words else torch.contiguous_format
        self.precision = torch.autocast("cpu", torch.bfloat16, enabled="bf16" in words)
        self.net = UNet(4, 2, width, 4).to(memory_format=layout)
        self.x = images.contiguous(memory_format=layout)
        self.sgd = torch.optim.SGD(self.net.parameters(), 0.01, 0.9, fused=True)
        compiled = torch.compile if "compiled" in words else lambda f: f
        self.loss, self.classes = compiled(self._loss), compiled(self._classes)

    def _loss(self):
        with self.precision:
            logits = self.net(self.x)
            cross_entropy = lambda labels: F.cross_entropy(logits, labels, ignore_index=255)
            return cross_entropy(scribble) + 0.8 * cross_entropy(weak)

    def _classes(self):
        with self.precision:
            return self.net(self.x).argmax(1).to(torch.uint8)

    def step(self):
        self.net.train()
        self.sgd.zero_grad(set_to_none=True)
        self.loss().backward()
        self.sgd.step()

    def predict(self):
        self.net.eval()
        with torch.no_grad():
            self.classes()


count = sum(p.numel() for p in UNet(4, 2, width, 4).parameters())
print(count, f"PyTorch {torch.__version__}", sep="\t", flush=True)
settings = {}
for line in sys.stdin:
    what, name = line.split()
    if name not in settings:
        settings[name] = Setting(name)
    start = time.perf_counter()
    getattr(settings[name], what)()
    print(1e3 * (time.perf_counter() - start), flush=True)
