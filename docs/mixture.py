"""Draws mixture.png of the guide from a phantom cohort and what two clusterings made of it.

    scribseg phantom --out cohort --cases 20 --seed 9001 --size half
    for method in kmeans mixture; do scribseg cluster cohort --masks reference --method $method --out $method; done
    python docs/mixture.py cohort kmeans mixture docs/src/mixture.png      (numpy, nibabel, pillow)
"""

import pathlib
import sys

import nibabel
import numpy as np
from PIL import Image

COLOURS = {1: (213, 60, 50), 2: (60, 160, 75), 4: (60, 110, 220)}


def read(path):
    return np.asarray(nibabel.load(path).dataobj)


def grey(slice_, window):
    low, high = window
    return np.repeat((np.clip((slice_ - low) / (high - low), 0, 1) * 255).astype(np.uint8)[..., None], 3, 2)


def dice(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def main(cohort, kmeans, mixture, out):
    scored = []
    for case in sorted(p for p in pathlib.Path(cohort).iterdir() if p.is_dir()):
        name = case.name
        truth = read(next(case.glob("*_seg.nii*")))
        found = [read(pathlib.Path(folder) / f"{name}_seg.nii.gz") for folder in (kmeans, mixture)]
        core = [np.isin(v, (1, 4)) for v in (truth, *found)]
        scored.append((dice(core[2], core[0]), dice(core[1], core[0]), case, truth, found))
    # The two it gains most on, and its two worst.
    by_gain = sorted(scored, key=lambda s: s[1] - s[0])[:2]
    worst = sorted(scored, key=lambda s: s[0])[:2]
    rows = []
    for new, old, case, truth, found in by_gain + worst:
        print(f"{case.name}: core {old:.2f} by k-means, {new:.2f} by the mixture")
        z = (truth > 0).sum((0, 1)).argmax()
        t1ce, flair = (read(next(case.glob(f"*_{m}.nii*"))).astype(float) for m in ("t1ce", "flair"))
        brain = flair > 0
        panels = [grey(v[..., z], np.percentile(v[brain], [1, 99.7])) for v in (t1ce, flair)]
        for labels in (truth, *found):
            panel = panels[0].copy() // 2 + 40 * (brain[..., z, None])
            for value, colour in COLOURS.items():
                panel[labels[..., z] == value] = colour
            panels.append(panel.astype(np.uint8))
        rows.append(np.concatenate([p.transpose(1, 0, 2) for p in panels], 1))
    picture = np.concatenate(rows, 0)
    Image.fromarray(picture).resize((picture.shape[1] * 2, picture.shape[0] * 2), Image.NEAREST).save(out, optimize=True)


main(*sys.argv[1:])
