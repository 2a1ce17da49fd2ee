"""The U-Net of the toolkit in PyTorch, for the benches that stand beside it: parameters in the same order, with the same shapes."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Sequential):
    """Two 3 × 3 convolutions without bias, each with batch norm and ReLU."""

    def __init__(self, inputs, outputs):
        layers = []
        for i in (inputs, outputs):
            layers += [nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    def __init__(self, inputs, outputs, width, depth):
        super().__init__()
        wide = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(Block(i, o) for i, o in zip([inputs, *wide], wide))
        self.up = nn.ModuleList(Block(3 * w, w) for w in reversed(wide[:-1]))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1))
        return self.head(x)
