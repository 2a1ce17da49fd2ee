#!/usr/bin/env python3
"""The peer of the bench (benches/predict.rs): a scan through both networks with nibabel, NumPy and PyTorch.

Needs: PyTorch, nibabel, NumPy and safetensors (`cargo xtask bench predict --peers` installs them beside itself).

Reads `MODELS CASE WIDTH THREADS` on a line, tab-separated: the folder of wt.safetensors and sub.safetensors, and that of the case. Prints its name.
Then reads one task a line: `read` (the four modalities, normalised and cropped), `networks SETTING` (both networks on what was read and the merge) or
`whole SETTING FILE` (all of it, and the labels into FILE, tab-separated); answers with the time in ms. A setting is some of `f32`, `bf16`, `last` (channels-last) and
`compiled`, joined by `-`.
"""

import pathlib
import sys
import time

import nibabel
import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "unet" / "benches"))
from network import UNet  # noqa: E402

SIDE, SLICES = 192, 8
models, case, width, threads = sys.stdin.readline().rstrip("\n").split("\t")
torch.set_num_threads(int(threads))
case = pathlib.Path(case)
print(f"PyTorch {torch.__version__}", flush=True)


def network(name, outputs):
    """Ours has names of blocks, PyTorch's a sequence of layers; both in the order of the blocks."""
    ours = load_file(pathlib.Path(models) / f"{name}.safetensors")
    net = UNet(4, outputs, int(width), 4)
    layers = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}
    state = {}
    for key, value in ours.items():
        block, *rest = key.split(".")
        if block.startswith("enc"):
            key = f"down.{block[3:]}.{layers[rest[0]]}.{rest[1]}"
        elif block.startswith("dec"):
            key = f"up.{3 - int(block[3:])}.{layers[rest[0]]}.{rest[1]}"
        state[key] = value
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(m.endswith("num_batches_tracked") for m in missing), (missing, unexpected)
    return net.eval()


class Scan:
    """A scan as the networks see it, slices first."""

    def __init__(self):
        files = [nibabel.load(case / f"{case.name}_{m}.nii.gz") for m in ("t1", "t1ce", "t2", "flair")]
        self.affine = files[0].affine
        image = np.stack([np.asanyarray(f.dataobj).astype(np.float32) for f in files])
        brain = (image != 0).any(0)
        for m in image:
            inside = m[brain].astype(np.float64)
            m[:] = np.where(brain, (m - inside.mean()) / inside.std(), 0)
        self.at = [(n - SIDE) // 2 for n in brain.shape[:2]]
        self.shape = brain.shape
        crop = lambda v: v[..., self.at[0] : self.at[0] + SIDE, self.at[1] : self.at[1] + SIDE, :]
        # [z, modality, y, x]
        self.image = torch.from_numpy(np.ascontiguousarray(crop(image).transpose(3, 0, 2, 1)))
        self.brain = torch.from_numpy(np.ascontiguousarray(crop(brain).transpose(2, 1, 0)))


class Setting:
    """Both networks in one setting."""

    def __init__(self, name):
        words = name.split("-")
        self.layout = torch.channels_last if "last" in words else torch.contiguous_format
        self.precision = torch.autocast("cpu", torch.bfloat16, enabled="bf16" in words)
        self.nets = [network(*which).to(memory_format=self.layout) for which in (("wt", 2), ("sub", 4))]
        compiled = torch.compile if "compiled" in words else lambda f: f
        self.classes = compiled(self._classes)

    def _classes(self, net, images):
        with self.precision:
            return net(images).argmax(1).to(torch.uint8)

    @torch.no_grad()
    def labels(self, scan):
        """0 background, 1 NCR/NET, 2 ED, 3 ET, [z, y, x]."""
        found = torch.zeros_like(scan.brain, dtype=torch.uint8)
        slices = scan.brain.any((1, 2)).nonzero()[:, 0]
        for group in slices.split(SLICES):
            images = scan.image[group].contiguous(memory_format=self.layout)
            tumour, own = (self.classes(net, images) for net in self.nets)
            merged = torch.where(tumour != 0, torch.where((own == 1) | (own == 3), own, 2), 0)
            found[group] = torch.where(scan.brain[group], merged, 0).to(torch.uint8)
        return found


settings, scan = {}, Scan()
for line in sys.stdin:
    what, *rest = line.rstrip("\n").split("\t")
    if rest and rest[0] not in settings:
        settings[rest[0]] = Setting(rest[0])
    start = time.perf_counter()
    if what != "networks":
        scan = Scan()
    if rest:
        labels = settings[rest[0]].labels(scan)
    if what == "whole":
        whole = np.zeros(scan.shape, np.uint8)
        whole[scan.at[0] : scan.at[0] + SIDE, scan.at[1] : scan.at[1] + SIDE] = labels.numpy().transpose(2, 1, 0)
        nibabel.save(nibabel.Nifti1Image(whole, scan.affine), rest[1])
    print(1e3 * (time.perf_counter() - start), flush=True)
