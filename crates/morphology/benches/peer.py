#!/usr/bin/env python3
"""The peers of the bench (benches/morphology.rs), which starts this script and says when to run what.

Needs: pip install numpy scipy scikit-image

Reads `DEPTH HEIGHT WIDTH` and the lengths of the mask's runs (background first) from standard input, then one case a
line; answers each with its time in ms and the name of the peer, or `none` for a case without peer.
"""

import sys
import time

import numpy as np
import scipy
import skimage
from scipy import ndimage
from skimage.morphology import skeletonize

dim = tuple(int(number) for number in sys.stdin.readline().split())
# Lengths of the runs, background first.
runs = np.array(sys.stdin.readline().split(), dtype=np.int64)
mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(dim)
full = ndimage.generate_binary_structure(3, 3)
by_scipy, by_skimage = f"scipy {scipy.__version__}", f"scikit-image {skimage.__version__}"
cases = {
    "erode3": (by_scipy, lambda: ndimage.binary_erosion(mask, np.ones((3, 3, 3)))),
    "erode30": (by_scipy, lambda: ndimage.minimum_filter(mask, (1, 30, 30), mode="constant", cval=0)),
    "dilate3": (by_scipy, lambda: ndimage.binary_dilation(mask, np.ones((3, 3, 3)))),
    "edt": (by_scipy, lambda: ndimage.distance_transform_edt(mask, sampling=(1.0, 1.0, 1.0))),
    "label": (by_scipy, lambda: ndimage.label(mask, structure=full)),
    "skeleton": (by_skimage, lambda: [skeletonize(slice) for slice in mask]),
}
for line in sys.stdin:
    peer, work = cases.get(line.strip(), (None, None))
    if peer is None:
        print("none", flush=True)
        continue
    start = time.perf_counter()
    work()
    print(1e3 * (time.perf_counter() - start), peer, sep="\t", flush=True)
