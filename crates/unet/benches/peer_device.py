#!/usr/bin/env python3
"""The peer of the bench on a CUDA device (benches/device.rs): the same network and loss in PyTorch, in each setting a user would try.

Needs: PyTorch for CUDA.

Reads `WIDTH BATCH SIDE STEPS` on a line, then one case a line: `train-step SETTING` (forward, partial cross-entropy on scribbles and
weak labels, backward, SGD with momentum) or `predict SETTING` (the most probable class). Answers the first line with the number of
trained parameters and the version, every other with the time of a step in ms by the device's events: the mean of STEPS that follow one
another, after as many to warm up where the setting is new. A setting is some of `tf32`, `bf16`, `last` (channels-last) and
`compiled`, joined by `-`.
"""

import sys

import torch
from network import UNet
from torch.nn import functional as F

width, batch, side, steps = (int(word) for word in sys.stdin.readline().split())
torch.manual_seed(1)
torch.backends.cudnn.benchmark = True
torch.set_float32_matmul_precision("high")
torch.backends.cudnn.allow_tf32 = True
images = torch.randn(batch, 4, side, side, device="cuda")
labels = torch.randint(0, 2, (2, batch, side, side), device="cuda")
known = torch.rand(labels.shape, device="cuda") < torch.tensor([0.02, 0.9], device="cuda")[:, None, None, None]
scribble, weak = torch.where(known, labels, 255)


class Setting:
    """The network, its optimiser and its input in one setting."""

    def __init__(self, name):
        words = name.split("-")
        layout = torch.channels_last if "last" in words else torch.contiguous_format
        self.precision = torch.autocast("cuda", torch.bfloat16, enabled="bf16" in words)
        self.net = UNet(4, 2, width, 4).cuda().to(memory_format=layout)
        self.x = images.contiguous(memory_format=layout)
        self.sgd = torch.optim.SGD(self.net.parameters(), 0.01, 0.9, fused=True)
        compiled = torch.compile if "compiled" in words else lambda f: f
        self.loss, self.classes = compiled(self._loss), compiled(self._classes)
        self.warm = set()

    def _loss(self):
        with self.precision:
            logits = self.net(self.x)
            cross_entropy = lambda labels: F.cross_entropy(logits, labels, ignore_index=255)
            return cross_entropy(scribble) + 0.8 * cross_entropy(weak)

    def _classes(self):
        with self.precision:
            return self.net(self.x).argmax(1).to(torch.uint8)

    def run(self, what):
        if what == "predict":
            self.net.eval()
            with torch.no_grad():
                self.classes()
            return
        self.net.train()
        self.sgd.zero_grad(set_to_none=True)
        self.loss().backward()
        self.sgd.step()

    def time(self, what):
        for _ in range(0 if what in self.warm else steps):
            self.run(what)
        self.warm.add(what)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(steps):
            self.run(what)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / steps


count = sum(p.numel() for p in UNet(4, 2, width, 4).parameters())
print(count, f"PyTorch {torch.__version__}", sep="\t", flush=True)
settings = {}
for line in sys.stdin:
    what, name = line.split()
    if name not in settings:
        settings[name] = Setting(name)
    print(settings[name].time(what), flush=True)
