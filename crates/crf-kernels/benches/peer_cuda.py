#!/usr/bin/env python3
"""The peer of the bench on a CUDA device (benches/cuda.rs): MONAI's permutohedral filter alone, without loss or gradient.

Needs: PyTorch for CUDA, and MONAI built with its extensions (`BUILD_MONAI=1`, which takes a CUDA toolkit).

Reads `BATCH CHANNELS SIDE` on a line and the images as little-endian f32 from standard input; answers with the median time in
ms by the device's events, a tab and the name of the peer.
"""

import statistics
import sys

import numpy as np
import torch
import monai
from monai.networks.layers import PHLFilter

stdin = sys.stdin.buffer
batch, channels, side = (int(word) for word in stdin.readline().split())
images = np.frombuffer(stdin.read(), dtype="<f4").reshape(batch, channels, side, side)
place = np.broadcast_to(np.indices((side, side), dtype=np.float32) / 100, (batch, 2, side, side))
features = torch.from_numpy(np.concatenate([place, images / 15], axis=1).astype(np.float32)).cuda()
values = torch.rand(batch, 2, side, side, device="cuda")
times = []
for _ in range(23):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    PHLFilter.apply(values, features)
    end.record()
    torch.cuda.synchronize()
    times.append(start.elapsed_time(end))
print(statistics.median(times[3:]), f"MONAI {monai.__version__}", sep="\t")
