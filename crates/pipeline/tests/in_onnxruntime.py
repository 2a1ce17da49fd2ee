#!/usr/bin/env python3
"""Holds what `scribseg export --onnx` wrote against scribseg's own prediction, in onnxruntime.

Needs: NumPy, onnx, onnxruntime, nibabel and safetensors (`cargo xtask onnx` installs them beside itself, and runs this).

`in_onnxruntime.py MODELS SCANS PREDICTIONS PROBABILITIES`: the folder of the export; a cohort named as BraTS 2017 is; what `scribseg predict` wrote of it; and what the
example `probabilities` of scribseg-pipeline wrote of it. Everything about a scan is read off the JSON beside each model, nothing is known beforehand.

Prints one JSON line a scan. Exit status 1 if a probability differs by more than 1e-4, or a label of a voxel whose classes are further apart than that.
"""

import json
import pathlib
import sys

import nibabel
import numpy as np
import onnx
import onnxruntime
from nibabel import orientations
from safetensors.numpy import load_file

TOLERANCE = 1e-4
SLICES = 7  # not what ours takes at a time: any number will do


def lps(path):
    """A volume as [z, y, x] in LPS orientation."""
    file = nibabel.load(path)
    turn = orientations.ornt_transform(orientations.io_orientation(file.affine), orientations.axcodes2ornt("LPS"))
    return np.ascontiguousarray(orientations.apply_orientation(np.asanyarray(file.dataobj), turn).T)


class Model:
    def __init__(self, folder, name):
        path = folder / f"{name}.onnx"
        file = onnx.load(path)
        onnx.checker.check_model(file, full_check=True)
        self.about = json.loads((folder / f"{name}.json").read_text())
        inside = {entry.key: entry.value for entry in file.metadata_props}
        assert json.loads(inside["scribseg"]) == self.about, f"{path}: metadata and JSON differ"
        assert file.ir_version == self.about["ir_version"], path
        assert [o.version for o in file.opset_import if not o.domain] == [self.about["opset"]], path
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for ports, found in ((self.about["inputs"], self.session.get_inputs()), (self.about["outputs"], self.session.get_outputs())):
            assert [(p["name"], p["shape"]) for p in ports] == [(f.name, f.shape) for f in found], path
        self.input, self.output = self.about["inputs"][0]["name"], self.about["outputs"][0]["name"]

    def __call__(self, x):
        return self.session.run([self.output], {self.input: x})[0]


def normalised(image, about):
    """z-scores over the brain, and the brain."""
    rule = about["normalisation"]
    assert (rule["kind"], rule["deviation"]) == ("z-score", "population"), rule
    brain = (image != 0).any(0)
    out = np.full(image.shape, rule["background"], np.float32)
    for channel, values in zip(out, image):
        inside = values[brain].astype(np.float64)
        channel[brain] = (inside - inside.mean()) / inside.std()
    return out, brain


class Crop:
    """The axial centre crop, and the way back."""

    def __init__(self, about, shape):
        assert about["crop"]["kind"] == "axial centre", about
        self.to, self.of = [], []
        for size, pixels in zip(shape[-2:], about["crop"]["pixels"]):
            offset = (size - pixels) // 2
            start, stop = max(offset, 0), min(offset + pixels, size)
            self.of.append(slice(start, stop))
            self.to.append(slice(start - offset, stop - offset))
        self.pixels, self.pad = tuple(about["crop"]["pixels"]), about["crop"]["pad"]

    def cut(self, volume):
        out = np.full(volume.shape[:-2] + self.pixels, self.pad, volume.dtype)
        out[..., self.to[0], self.to[1]] = volume[..., self.of[0], self.of[1]]
        return out

    def back(self, volume, shape):
        out = np.zeros(volume.shape[:-2] + tuple(shape[-2:]), volume.dtype)
        out[..., self.of[0], self.of[1]] = volume[..., self.to[0], self.to[1]]
        return out


def margin(probabilities):
    """How far the two most probable classes are apart."""
    two = np.sort(probabilities, 1)[:, -2:]
    return two[:, 1] - two[:, 0]


def check(case, models, predictions, ours):
    wt, sub, scan = models
    files = [next(case.glob(f"{case.name}_{channel}.nii*")) for channel in wt.about["channels"]]
    image = np.stack([lps(file) for file in files]).astype(np.float32)
    score, brain = normalised(image, wt.about)
    crop = Crop(wt.about, brain.shape)
    images, inside = crop.cut(score).transpose(1, 0, 2, 3), crop.cut(brain)
    report = {"case": case.name, "images": float(np.abs(images - ours["images"]).max())}
    classes, near = {}, np.zeros(inside.shape, bool)
    for name, model in (("wt", wt), ("sub", sub)):
        parts = [model(np.ascontiguousarray(images[z : z + SLICES])) for z in range(0, len(images), SLICES)]
        found = np.concatenate(parts)
        report[name] = float(np.abs(found - ours[name]).max())
        classes[name] = found.argmax(1)
        near |= margin(found) < 2 * TOLERANCE
    # "where wt says tumour, NCR/NET and ET of sub, all else ED"
    names = sub.about["outputs"][0]["classes"]
    values = {entry["class"]: entry["value"] for entry in sub.about["labels"]}
    merged = np.full(inside.shape, values["ED"], np.uint8)
    for kept in ("NCR/NET", "ET"):
        merged[classes["sub"] == names.index(kept)] = values[kept]
    tumour = classes["wt"] == wt.about["outputs"][0]["classes"].index("tumour")
    merged[~(tumour & inside)] = values["background"]
    merged, near = crop.back(merged, brain.shape), crop.back(near, brain.shape)
    predicted = lps(next(predictions.glob(f"{case.name}_seg.nii*")))
    whole = scan(np.ascontiguousarray(image))
    report["labelled"] = int((predicted != 0).sum())
    for name, labels in (("merged", merged), ("scan", whole)):
        differs = labels != predicted
        report[f"{name}_differing"] = int(differs.sum())
        report[f"{name}_wrong"] = int((differs & ~near).sum())
    return report


def main():
    models, scans, predictions, probabilities = map(pathlib.Path, sys.argv[1:])
    models = [Model(models, name) for name in ("wt", "sub", "scan")]
    about = models[0].about
    print(f"onnxruntime {onnxruntime.__version__}, opset {about['opset']}, IR version {about['ir_version']}", file=sys.stderr)
    # Height and width are free, by steps.
    step = about["inputs"][0]["multiple_of"]
    odd = models[0](np.zeros((1, len(about["channels"]), 3 * step, 2 * step), np.float32))
    assert odd.shape[2:] == (3 * step, 2 * step), odd.shape
    cases = sorted(folder for folder in scans.iterdir() if (probabilities / f"{folder.name}.safetensors").is_file())
    assert cases, f"{scans}: expected folders of cases, found none"
    reports = []
    for case in cases:
        reports.append(check(case, models, predictions, load_file(probabilities / f"{case.name}.safetensors")))
        print(json.dumps(reports[-1]), flush=True)
    worst = {key: max(r[key] for r in reports) for key in ("images", "wt", "sub", "merged_wrong", "scan_wrong")}
    # With no voxel labelled at all nothing would have been compared.
    labelled = sum(r["labelled"] for r in reports)
    good = labelled > 0 and max(worst["images"], worst["wt"], worst["sub"]) <= TOLERANCE and worst["merged_wrong"] == worst["scan_wrong"] == 0
    print(f"{'equal' if good else 'DIFFERENT'}: {len(reports)} scans, {labelled} voxels labelled, largest differences {worst}", file=sys.stderr)
    sys.exit(0 if good else 1)


main()
