#!/usr/bin/env python3
"""The peer of the bench (benches/crf.rs), which starts this script and says when to run what.

Needs: numpy and pydensecrf2, pydensecrf for today's Python (`cargo xtask bench crf --peers` installs them beside itself).

Reads `BATCH CHANNELS SIDE` on a line and the images as little-endian f32 from standard input, then one case a line:
`build N` (construction of N images' lattices), `filter` (one mean-field step of the first image, K = 2) or `loss N`
(construction and one step of N images). Answers with the time in ms and the name of the peer. One thread.
"""

import sys
import time
from importlib.metadata import version

import numpy as np
import pydensecrf.densecrf as dcrf

stdin = sys.stdin.buffer
batch, channels, side = (int(word) for word in stdin.readline().split())
size = channels * side * side
images = np.frombuffer(stdin.read(4 * batch * size), dtype="<f4").reshape(batch, channels, side * side)
y, x = np.divmod(np.arange(side * side, dtype=np.float32), np.float32(side))
features = [np.ascontiguousarray(np.vstack([y / 100, x / 100, image / 15]).astype(np.float32)) for image in images]
unary = np.full((2, side * side), np.log(2), dtype=np.float32)
name = f"pydensecrf2 {version('pydensecrf2')}"


def build(feature):
    crf = dcrf.DenseCRF(side * side, 2)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(feature, compat=1, kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NO_NORMALIZATION)
    return crf


def step(crf):
    q, t1, t2 = crf.startInference()
    crf.stepInference(q, t1, t2)


kept = build(features[0])
state = kept.startInference()
for line in stdin:
    word, *count = line.decode().split()
    count = int(count[0]) if count else 1
    start = time.perf_counter()
    if word == "filter":
        kept.stepInference(*state)
    else:
        for feature in features[:count]:
            crf = build(feature)
            if word == "loss":
                step(crf)
    print(1e3 * (time.perf_counter() - start), name, sep="\t", flush=True)
