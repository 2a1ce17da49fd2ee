//! Where a scan's voxels lie in the patient, and the way to canonical axes and back.
//!
//! The world is NIfTI's: millimetres, x to the patient's Right, y to Anterior, z to Superior (RAS). In memory every
//! array is `[z, y, x]` in *LPS* orientation: x grows to the Left, y to Posterior, z to Superior. A [`Geometry`]
//! remembers the file's own axes, so that a result goes back to the very grid that the scan came on.
//! Lengths are taken to be millimetres, whatever `xyzt_units` says, as nibabel does.

// Matrices are written as in the equations, by row and column.
#![allow(clippy::needless_range_loop)]

use ndarray::{Array3, ArrayView3};

/// A 4 × 4 matrix, row by row, from voxel indices to millimetres in RAS.
pub type Affine = [[f64; 4]; 4];

/// Two entries of an affine may differ by this much: mm for an origin, mm a voxel for a step. Looser than what a qform
/// and an sform of the same grid differ by after rounding, far below a voxel.
pub const TOLERANCE_MM: f64 = 1e-3;

/// Edges of a voxel that a scan of a head can have, with a wide margin. Beyond it the header is in metres or
/// micrometres, or at fault, and what is counted in mm (crop, scribbles) would grow past all memory.
pub const PLAUSIBLE_MM: std::ops::RangeInclusive<f64> = 0.1..=20.0;

/// Which part of the header the affine was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffineSource {
    /// `srow_x`, `srow_y`, `srow_z`, as `sform_code` is above 0.
    Sform,
    /// The quaternion, as only `qform_code` is above 0.
    Qform,
    /// Neither code is set: voxel sizes only. Position and handedness are then a convention (first axis to the Left,
    /// origin at the centre, as nibabel has it), not something that the file says.
    Pixdim,
}

/// The first difference found between two grids.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// Which axis or entry of the affine, in words.
    pub entry: String,
    /// The value on the grid compared with.
    pub expected: f64,
    /// The value found.
    pub found: f64,
}

/// The orientation fields of a NIfTI header, kept so that they can be written back: bit for bit where they were 32 bits wide.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forms {
    pub(crate) pixdim: [f64; 4],
    pub(crate) xyzt_units: u8,
    pub(crate) qform_code: i32,
    pub(crate) sform_code: i32,
    /// b, c, d, then the three offsets.
    pub(crate) quaternion: [f64; 6],
    pub(crate) srow: [[f64; 4]; 3],
    /// How far apart the numbers of the header's width lie at 1: rounding leaves errors of that size.
    pub(crate) epsilon: f64,
}

/// A scan's grid: shape, spacing, place in the patient, and the order of axes in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    file_shape: [usize; 3],
    affine: Affine,
    source: AffineSource,
    /// The file axis (0 = i, 1 = j, 2 = k) behind each canonical axis z, y, x.
    order: [usize; 3],
    /// Whether that axis runs the other way in the file.
    flip: [bool; 3],
    forms: Forms,
}

pub(crate) type Matrix = [[f64; 3]; 3];

/// What is wrong with a header's orientation: field, what it should be, what it is.
pub(crate) type Complaint = (&'static str, String, String);

impl Geometry {
    /// The grid that a header describes; `file_shape` is (i, j, k).
    pub(crate) fn from_forms(file_shape: [usize; 3], forms: Forms) -> Result<Self, Complaint> {
        let (affine, source) = if forms.sform_code > 0 {
            let [x, y, z] = forms.srow;
            ([x, y, z, [0.0, 0.0, 0.0, 1.0]], AffineSource::Sform)
        } else {
            let mut size = [0.0; 3];
            for (axis, size) in size.iter_mut().enumerate() {
                *size = forms.pixdim[axis + 1].abs();
                if !(size.is_finite() && *size > 0.0) {
                    let found = format!("pixdim[{}] = {}", axis + 1, forms.pixdim[axis + 1]);
                    return Err(("pixdim", "with three voxel sizes above 0 mm".into(), found));
                }
            }
            if forms.qform_code > 0 {
                (quaternion_affine(&forms, size)?, AffineSource::Qform)
            } else {
                let centre = |axis: usize| (file_shape[axis] as f64 - 1.0) / 2.0 * size[axis];
                let affine = [
                    [-size[0], 0.0, 0.0, centre(0)],
                    [0.0, size[1], 0.0, -centre(1)],
                    [0.0, 0.0, size[2], -centre(2)],
                    [0.0, 0.0, 0.0, 1.0],
                ];
                (affine, AffineSource::Pixdim)
            }
        };
        let field = match source {
            AffineSource::Sform => "sform",
            AffineSource::Qform => "qform",
            AffineSource::Pixdim => "pixdim",
        };
        if affine.iter().flatten().any(|v| !v.is_finite()) {
            return Err((field, "of finite numbers".into(), format!("{affine:?}")));
        }
        let edges: [f64; 3] =
            std::array::from_fn(|c| (0..3).map(|r| affine[r][c].powi(2)).sum::<f64>().sqrt());
        if edges.iter().any(|edge| !PLAUSIBLE_MM.contains(edge)) {
            let (low, high) = (PLAUSIBLE_MM.start(), PLAUSIBLE_MM.end());
            let expected = format!("with voxels of {low} to {high} mm");
            return Err((field, expected, format!("{} × {} × {} mm", edges[0], edges[1], edges[2])));
        }
        let Some((axes, backward)) = closest_axes(&affine) else {
            return Err((field, "with three independent axes".into(), format!("{affine:?}")));
        };
        // axes[f] is the world axis behind file axis f, 0 = R-L, 1 = A-P, 2 = S-I. LPS runs against R and A.
        let mut order = [0; 3];
        let mut flip = [false; 3];
        for (file_axis, (&world, &backward)) in axes.iter().zip(&backward).enumerate() {
            let canonical = 2 - world;
            order[canonical] = file_axis;
            flip[canonical] = if world == 2 { backward } else { !backward };
        }
        Ok(Self { file_shape, affine, source, order, flip, forms })
    }

    /// A grid with an affine of one's own: `file_shape` is (i, j, k), the fastest axis first, `affine` leads from
    /// (i, j, k) to mm in RAS. Written files carry it as an sform (rounded to f32), code 1; `None` when an entry is not finite or the axes are
    /// not independent.
    pub fn from_affine(file_shape: [usize; 3], affine: &Affine) -> Option<Self> {
        let rounded = |v: f64| f64::from(v as f32);
        let mut srow = [[0.0; 4]; 3];
        for (to, from) in srow.iter_mut().zip(affine) {
            *to = from.map(rounded);
        }
        let norm = |c: usize| rounded((0..3).map(|r| affine[r][c].powi(2)).sum::<f64>().sqrt());
        let pixdim = [1.0, norm(0), norm(1), norm(2)];
        let epsilon = f32::EPSILON.into();
        let quaternion = [0.0; 6];
        let forms = Forms { pixdim, xyzt_units: 2, qform_code: 0, sform_code: 1, quaternion, srow, epsilon };
        Self::from_forms(file_shape, forms).ok()
    }

    /// An upright LPS grid of shape and spacing `[z, y, x]` (mm) with voxel 0 at the origin, as BraTS has it; `None`
    /// when a spacing is not above 0.
    pub fn from_spacing(shape: [usize; 3], spacing: [f64; 3]) -> Option<Self> {
        let [z, y, x] = spacing.map(|v| f64::from(v as f32));
        let srow = [[-x, 0.0, 0.0, 0.0], [0.0, -y, 0.0, 0.0], [0.0, 0.0, z, 0.0]];
        let quaternion = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let pixdim = [1.0, x, y, z];
        if spacing.iter().any(|v| !(v.is_finite() && *v > 0.0)) {
            return None;
        }
        let epsilon = f32::EPSILON.into();
        let forms = Forms { pixdim, xyzt_units: 2, qform_code: 1, sform_code: 1, quaternion, srow, epsilon };
        Self::from_forms([shape[2], shape[1], shape[0]], forms).ok()
    }

    /// Canonical shape `[z, y, x]`.
    pub fn shape(&self) -> [usize; 3] {
        self.order.map(|axis| self.file_shape[axis])
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.file_shape.iter().product()
    }

    /// Voxel size in mm, canonical `[z, y, x]`: the lengths of the affine's columns.
    pub fn spacing(&self) -> [f64; 3] {
        self.order.map(|axis| self.column(axis).iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// The file's shape (i, j, k), fastest axis first.
    pub fn file_shape(&self) -> [usize; 3] {
        self.file_shape
    }

    /// From the file's (i, j, k) to mm in RAS.
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// Where the affine came from.
    pub fn source(&self) -> AffineSource {
        self.source
    }

    /// From canonical (x, y, z) indices, in this order, to mm in RAS.
    pub fn canonical_affine(&self) -> Affine {
        let mut out = [[0.0; 4]; 4];
        out[3][3] = 1.0;
        for row in 0..3 {
            out[row][3] = self.affine[row][3];
        }
        for canonical in 0..3 {
            let axis = self.order[canonical];
            let last = self.file_shape[axis].saturating_sub(1) as f64;
            for (row, step) in self.column(axis).into_iter().enumerate() {
                if self.flip[canonical] {
                    out[row][2 - canonical] = -step;
                    out[row][3] += step * last;
                } else {
                    out[row][2 - canonical] = step;
                }
            }
        }
        out
    }

    /// Where each of the file's axes i, j, k leads, as three letters: `LPS`, `RAS`, `PIR`, …
    pub fn orientation(&self) -> String {
        let mut letters = ['?'; 3];
        for canonical in 0..3 {
            let ahead = ['S', 'P', 'L'][canonical];
            let behind = ['I', 'A', 'R'][canonical];
            letters[self.order[canonical]] = if self.flip[canonical] { behind } else { ahead };
        }
        letters.iter().collect()
    }

    /// Whether `other` has the same voxels at the same places, whatever the order of axes in either file: shapes equal,
    /// entries of the affines within [`TOLERANCE_MM`] when `other`'s axes are taken in the order of this grid's. The error
    /// names the first difference.
    pub fn same_grid(&self, other: &Geometry) -> Result<(), Mismatch> {
        let other = other.along(self);
        let (ours, theirs) = (self.shape(), other.shape());
        for (axis, name) in ["z", "y", "x"].into_iter().enumerate() {
            if ours[axis] != theirs[axis] {
                let entry = format!("number of voxels along {name}");
                return Err(Mismatch { entry, expected: ours[axis] as f64, found: theirs[axis] as f64 });
            }
        }
        let (ours, theirs) = (self.canonical_affine(), other.canonical_affine());
        for column in [0, 1, 2, 3] {
            for row in 0..3 {
                let (expected, found) = (ours[row][column], theirs[row][column]);
                if (expected - found).abs() > TOLERANCE_MM {
                    let world = ["left-right", "posterior-anterior", "inferior-superior"][row];
                    let entry = match column {
                        3 => format!("affine entry [{row}, 3] (origin, {world}, mm)"),
                        c => format!(
                            "affine entry [{row}, {c}] (step along {}, {world}, mm)",
                            ["x", "y", "z"][c]
                        ),
                    };
                    return Err(Mismatch { entry, expected, found });
                }
            }
        }
        Ok(())
    }

    /// This grid with the canonical axes of `reference`: for each of them the axis of the file that runs along it, and in which
    /// direction. The closest anatomical axis alone would not do: halfway between two of them the same grid, stored along other axes,
    /// may be taken for another. Itself when the two do not lie along each other.
    pub(crate) fn along(&self, reference: &Geometry) -> Geometry {
        let theirs = reference.canonical_affine();
        let matrix = |affine: &Affine| -> Matrix { std::array::from_fn(|r| [0, 1, 2].map(|c| affine[r][c])) };
        let mut out = self.clone();
        let (mut order, mut flip, mut taken) = ([0; 3], [false; 3], [false; 3]);
        let Some(inverse) = inverse(&matrix(&theirs)) else { return out };
        for file_axis in 0..3 {
            let step = self.column(file_axis);
            // One step along the file's axis, in steps along the reference's x, y, z.
            let steps: [f64; 3] = std::array::from_fn(|r| (0..3).map(|c| inverse[r][c] * step[c]).sum());
            let large = |&axis: &usize| steps[axis].abs() > 0.5;
            let mut along = (0..3).filter(large);
            let (Some(axis), None) = (along.next(), along.next()) else { return out };
            let canonical = 2 - axis;
            if std::mem::replace(&mut taken[canonical], true) {
                return out;
            }
            order[canonical] = file_axis;
            flip[canonical] = steps[axis] < 0.0;
        }
        (out.order, out.flip) = (order, flip);
        out
    }

    /// Puts `values`, voxels in file order from the `first` on, to their places in a canonical array.
    pub(crate) fn scatter<T: Copy>(&self, first: usize, values: &[T], out: &mut [T]) {
        let [_, y, x] = self.shape();
        let mut base = 0_isize;
        let mut strides = [0_isize; 3];
        for (canonical, length) in [y * x, x, 1].into_iter().enumerate() {
            let axis = self.order[canonical];
            let stride = length as isize;
            strides[axis] = if self.flip[canonical] { -stride } else { stride };
            if self.flip[canonical] {
                base += stride * (self.file_shape[axis] as isize - 1);
            }
        }
        let [i, j, _] = self.file_shape;
        let (mut at, mut rest) = (first, values);
        while !rest.is_empty() && i > 0 {
            let (column, row) = (at % i, at / i);
            let start = base
                + column as isize * strides[0]
                + (row % j) as isize * strides[1]
                + (row / j) as isize * strides[2];
            let (run, after) = rest.split_at(rest.len().min(i - column));
            // A row of the file is a row of the array, or every so many-th voxel of it.
            let last = start + (run.len() as isize - 1) * strides[0];
            let (low, step) = (start.min(last) as usize, strides[0].unsigned_abs());
            let places = out.iter_mut().skip(low).step_by(step.max(1)).take(run.len());
            if strides[0] > 0 {
                places.zip(run).for_each(|(to, from)| *to = *from);
            } else {
                places.zip(run.iter().rev()).for_each(|(to, from)| *to = *from);
            }
            at += run.len();
            rest = after;
        }
    }

    pub(crate) fn forms(&self) -> &Forms {
        &self.forms
    }

    /// Whether the file's order is the canonical one.
    pub(crate) fn is_canonical(&self) -> bool {
        self.order == [2, 1, 0] && self.flip == [false; 3]
    }

    /// Voxels in file order (i fastest) as a canonical array; `None` when their number is not the grid's.
    pub fn to_canonical<T: Copy>(&self, file: Vec<T>) -> Option<Array3<T>> {
        if file.len() != self.voxels() {
            return None;
        }
        if self.is_canonical() {
            return Array3::from_shape_vec(self.shape(), file).ok();
        }
        let mut out = file.clone();
        self.scatter(0, &file, &mut out);
        Array3::from_shape_vec(self.shape(), out).ok()
    }

    /// A canonical array in the file's own order (i fastest), the exact inverse of [`Geometry::to_canonical`]; `None`
    /// when its shape is not the grid's.
    pub fn to_file_order<T: Copy>(&self, canonical: ArrayView3<'_, T>) -> Option<Vec<T>> {
        if canonical.shape() != self.shape() {
            return None;
        }
        let mut view = canonical;
        for (axis, &flip) in self.flip.iter().enumerate() {
            if flip {
                view.invert_axis(ndarray::Axis(axis));
            }
        }
        let mut back = [0; 3];
        for (canonical, &axis) in self.order.iter().enumerate() {
            back[2 - axis] = canonical;
        }
        Some(view.permuted_axes(back).iter().copied().collect())
    }

    fn column(&self, axis: usize) -> [f64; 3] {
        [self.affine[0][axis], self.affine[1][axis], self.affine[2][axis]]
    }
}

/// NIfTI's "method 2": rotation from the unit quaternion, times voxel sizes, the third with the sign of `pixdim[0]`.
fn quaternion_affine(forms: &Forms, size: [f64; 3]) -> Result<Affine, Complaint> {
    let [b, c, d, x, y, z] = forms.quaternion;
    let squared = b * b + c * c + d * d;
    if !squared.is_finite() || squared > 1.0 + 1e-3 {
        let found = format!("(b, c, d) = ({b}, {c}, {d})");
        return Err(("quatern", "with b² + c² + d² no greater than 1".into(), found));
    }
    // Rounding leaves b² + c² + d² a little off 1 in a half turn: a is 0 then, and the rest is made a unit again.
    let rest = 1.0 - squared;
    let (a, scale) =
        if rest < 3.0 * forms.epsilon { (0.0, squared.sqrt().recip()) } else { (rest.sqrt(), 1.0) };
    let (b, c, d) = (b * scale, c * scale, d * scale);
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    let handed = if forms.pixdim[0] == -1.0 { -1.0 } else { 1.0 };
    let offset = [x, y, z];
    let mut affine = [[0.0; 4]; 4];
    affine[3][3] = 1.0;
    for row in 0..3 {
        affine[row] = [
            rotation[row][0] * size[0],
            rotation[row][1] * size[1],
            rotation[row][2] * size[2] * handed,
            offset[row],
        ];
    }
    Ok(affine)
}

/// The world axis closest to each file axis, and whether it runs backward. Columns are made unit, shear is taken out by
/// the polar decomposition, then the most clearly aligned axis chooses first. `None` when the axes are not independent.
fn closest_axes(affine: &Affine) -> Option<([usize; 3], [bool; 3])> {
    let mut m: Matrix = [[0.0; 3]; 3];
    for c in 0..3 {
        let norm = (0..3).map(|r| affine[r][c].powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 || !norm.is_finite() {
            return None;
        }
        for r in 0..3 {
            m[r][c] = affine[r][c] / norm;
        }
    }
    let m = polar(m)?;
    let strength = |c: usize| (0..3).map(|r| m[r][c].abs()).fold(0.0, f64::max);
    let mut by_strength = [0, 1, 2];
    // Rounded, so that equal alignments keep their order in spite of rounding errors.
    by_strength.sort_by_key(|&c| std::cmp::Reverse((strength(c) * 1e9).round() as i64));
    let (mut axes, mut backward, mut taken) = ([0; 3], [false; 3], [false; 3]);
    for c in by_strength {
        let mut best: Option<usize> = None;
        for r in (0..3).filter(|&r| !taken[r]) {
            if best.is_none_or(|b| m[r][c].abs() > m[b][c].abs()) {
                best = Some(r);
            }
        }
        let best = best?;
        taken[best] = true;
        axes[c] = best;
        backward[c] = m[best][c] < 0.0;
    }
    Some((axes, backward))
}

fn cofactors(m: &Matrix) -> Matrix {
    let mut out = [[0.0; 3]; 3];
    for r in 0..3 {
        for c in 0..3 {
            let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
            out[r][c] = m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1];
        }
    }
    out
}

/// `None` when the determinant is 0.
pub(crate) fn inverse(m: &Matrix) -> Option<Matrix> {
    let cofactors = cofactors(m);
    let det: f64 = (0..3).map(|c| m[0][c] * cofactors[0][c]).sum();
    (det.is_finite() && det != 0.0)
        .then(|| std::array::from_fn(|r| std::array::from_fn(|c| cofactors[c][r] / det)))
}

/// The orthogonal factor of a matrix, by Newton's iteration M ← (M + M⁻ᵀ) / 2.
fn polar(mut m: Matrix) -> Option<Matrix> {
    for step in 0..50 {
        let cofactors = cofactors(&m);
        let det: f64 = (0..3).map(|c| m[0][c] * cofactors[0][c]).sum();
        // The columns come in as unit vectors: a volume this small means that two of them all but coincide.
        if !det.is_finite() || (step == 0 && det.abs() < 1e-6) || det == 0.0 {
            return None;
        }
        let mut change = 0.0_f64;
        for r in 0..3 {
            for c in 0..3 {
                let next = (m[r][c] + cofactors[r][c] / det) / 2.0;
                change = change.max((next - m[r][c]).abs());
                m[r][c] = next;
            }
        }
        if change < 1e-14 {
            break;
        }
    }
    Some(m)
}
