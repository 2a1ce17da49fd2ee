#!/usr/bin/env python3
"""The peer of the bench (benches/io.rs): nibabel, which reads the same files when told to.

Needs: numpy and nibabel (`cargo xtask bench io --peers` installs them beside itself).

Prints its name. Reads one line a case, tab-separated paths, of which those that end in `_seg.nii.gz` are labels; loads each file, images as
f32, and answers `done`.
"""

import sys

import nibabel
import numpy as np

print(f"nibabel {nibabel.__version__}", flush=True)
for line in sys.stdin:
    volumes = []
    for path in line.rstrip("\n").split("\t"):
        volume = np.asanyarray(nibabel.load(path).dataobj)
        volumes.append(volume if path.endswith("_seg.nii.gz") else volume.astype(np.float32))
    print("done", flush=True)
