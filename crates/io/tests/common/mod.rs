//! One cohort in five layouts, each on a grid along other axes, in other types and with its own label values.

// Shared by tests of several crates, none of which needs all of it; and a panic is how a test fails.
#![allow(dead_code, clippy::unwrap_used)]

use ndarray::{Array3, Array4, ArrayView3, Axis};
use scribseg_io::{Geometry, LabelScheme, Layout, write_image, write_image_i16, write_labels};
use std::path::{Path, PathBuf};

/// A case in memory: name, `[T1, T1ce, T2, FLAIR; z, y, x]` in whole numbers, and labels in internal codes.
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) images: Array4<f32>,
    pub(crate) labels: Option<Array3<u8>>,
    pub(crate) grid: Geometry,
}

/// The same voxels at the same places in a file whose axes i, j, k run along `letters`, such as `SAR`.
pub(crate) fn along(grid: &Geometry, letters: &str) -> Geometry {
    let canonical = grid.canonical_affine();
    let [z, y, x] = grid.shape();
    let (mut affine, mut shape) = ([[0.0; 4]; 4], [0; 3]);
    affine[3][3] = 1.0;
    for (row, from) in affine.iter_mut().zip(canonical).take(3) {
        row[3] = from[3];
    }
    for (axis, letter) in letters.chars().enumerate() {
        let (column, length, ahead) = match letter {
            'L' | 'R' => (0, x, letter == 'L'),
            'P' | 'A' => (1, y, letter == 'P'),
            _ => (2, z, letter == 'S'),
        };
        shape[axis] = length;
        for row in 0..3 {
            let step = canonical[row][column];
            affine[row][axis] = if ahead { step } else { -step };
            affine[row][3] += if ahead { 0.0 } else { step * (length - 1) as f64 };
        }
    }
    Geometry::from_affine(shape, &affine).unwrap()
}

/// Writes a 4-D file of 32-bit floats: the given 3-D images one after another.
pub(crate) fn write_stack(path: &Path, images: &[ArrayView3<'_, f32>], grid: &Geometry) {
    let one = path.with_extension("one.nii");
    let mut bytes = Vec::new();
    for image in images {
        write_image(&one, *image, grid).unwrap();
        let file = std::fs::read(&one).unwrap();
        bytes.extend_from_slice(&file[if bytes.is_empty() { 0 } else { 352 }..]);
    }
    std::fs::remove_file(one).unwrap();
    bytes[40..42].copy_from_slice(&4_i16.to_le_bytes());
    bytes[48..50].copy_from_slice(&(images.len() as i16).to_le_bytes());
    if path.to_string_lossy().ends_with(".gz") {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&bytes).unwrap();
        bytes = packed.finish().unwrap();
    }
    std::fs::write(path, bytes).unwrap();
}

fn folder(path: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// What MSD's Task01 comes with.
pub(crate) const MSD_JSON: &str = r#"{"name": "BRATS", "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}}"#;

/// An order of channels and values of labels that no other layout has.
pub(crate) const NNUNET_JSON: &str = r#"{"channel_names": {"0": "T2", "1": "FLAIR", "2": "T1", "3": "T1Gd"},
    "labels": {"background": 0, "ET": 1, "NCR": 2, "ED": 3}, "numTraining": 2, "file_ending": ".nii.gz"}"#;

/// A way to lay out a cohort: what to call it, what it is recognised as, and its label scheme.
pub(crate) struct Laid {
    pub(crate) root: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) scheme: LabelScheme,
    /// The axes of its files.
    pub(crate) axes: &'static str,
}

/// Writes `cases` under `root` in BraTS 2017, BraTS 2021, BraTS 2023, MSD and nnU-Net.
pub(crate) fn write_five(root: &Path, cases: &[Known]) -> Vec<Laid> {
    let laid =
        |name: &str, layout, scheme, axes| Laid { root: folder(root.join(name)), layout, scheme, axes };
    let all = vec![
        laid("brats2017", Layout::Brats2017, LabelScheme::Brats2017, "LPS"),
        laid("brats2021", Layout::Brats2017, LabelScheme::Brats2017, "RAS"),
        laid("brats2023", Layout::Brats2023, LabelScheme::Brats2023, "LAS"),
        laid("msd", Layout::Msd, LabelScheme::Msd, "PIR"),
        laid("nnunet", Layout::NnUnet, LabelScheme::declared(2, 3, 1).unwrap(), "SAR"),
    ];
    for (n, case) in cases.iter().enumerate() {
        for (way, laid) in all.iter().enumerate() {
            let (id, at, grid) = (&case.id, &laid.root, along(&case.grid, laid.axes));
            let image = |modality: usize| case.images.index_axis(Axis(0), modality);
            let seg = |path: PathBuf| {
                if let Some(labels) = &case.labels {
                    let values = laid.scheme.from_internal(labels.view()).unwrap();
                    write_labels(path, values.view(), &grid).unwrap();
                }
            };
            match way {
                0 | 1 => {
                    let grade = if n == 0 { "LGG" } else { "HGG" };
                    let own = folder(if way == 0 { at.join(grade).join(id) } else { at.join(id) });
                    for (m, suffix) in ["t1", "t1ce", "t2", "flair"].iter().enumerate() {
                        let ending = if way == 0 { "nii" } else { "nii.gz" };
                        write_image_i16(own.join(format!("{id}_{suffix}.{ending}")), image(m), &grid)
                            .unwrap();
                    }
                    seg(own.join(format!("{id}_seg.nii.gz")));
                }
                2 => {
                    let own = folder(at.join(id));
                    for (m, suffix) in ["t1n", "t1c", "t2w", "t2f"].iter().enumerate() {
                        write_image_i16(own.join(format!("{id}-{suffix}.nii.gz")), image(m), &grid).unwrap();
                    }
                    seg(own.join(format!("{id}-seg.nii.gz")));
                }
                3 => {
                    let stack = [3, 0, 1, 2].map(image);
                    write_stack(&folder(at.join("imagesTr")).join(format!("{id}.nii.gz")), &stack, &grid);
                    seg(folder(at.join("labelsTr")).join(format!("{id}.nii.gz")));
                    std::fs::write(at.join("dataset.json"), MSD_JSON).unwrap();
                }
                _ => {
                    for (channel, m) in [2, 3, 0, 1].into_iter().enumerate() {
                        let path = folder(at.join("imagesTr")).join(format!("{id}_{channel:04}.nii.gz"));
                        write_image(path, image(m), &grid).unwrap();
                    }
                    seg(folder(at.join("labelsTr")).join(format!("{id}.nii.gz")));
                    std::fs::write(at.join("dataset.json"), NNUNET_JSON).unwrap();
                }
            }
        }
    }
    all
}
