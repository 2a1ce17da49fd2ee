//! From scribbles to weak masks: supervoxels, an energy over them, alternate minimisation, erosion.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Axis, s};

use crate::energy::{Problem, Volume};
use crate::model::Binning;
use crate::region::{components, faces};
use crate::slic::{check_grid, position, slic};
use crate::{Error, Params};

/// Value of tumour in scribbles and masks.
pub const TUMOUR: u8 = 1;
/// Value of healthy tissue in scribbles and masks.
pub const HEALTHY: u8 = 2;

/// What [`propagate`] finds.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The weak mask `G`, `[z, y, x]`: 1 tumour, 2 healthy, 0 unknown, which is the eroded rim, everything outside the
    /// brain and every scribbled voxel.
    pub weak: Array3<u8>,
    /// The cut itself, `[z, y, x]`: 0 outside the brain, 1 tumour, 2 healthy. It agrees with every scribble.
    pub cut: Array3<u8>,
    /// The energy after each round, in mm³ of log-likelihood: it never rises.
    pub energies: Vec<f64>,
    /// Number of supervoxels that the cut ran on.
    pub supervoxels: usize,
}

/// Spreads scribbles over the brain by iterated min cuts and erodes the result.
///
/// `image` is `[channel, z, y, x]`, any scale (each channel is brought to a robust scale over the brain first);
/// `scribble` holds 0 unknown, 1 tumour, 2 healthy; `spacing` is in mm, `[z, y, x]`. The brain is cut whole, in three
/// dimensions.
///
/// Scribbles are hard: a supervoxel that holds a scribble has its class. One that holds both kinds is first split, each of
/// its voxels going to the kind of scribble that is nearer inside it, so every scribbled voxel keeps its class. Scribbles
/// outside the brain mask are ignored.
///
/// # Errors
/// On parameters out of range, arrays on different grids, intensities that are not finite inside the brain, scribble
/// values other than 0, 1, 2, an empty brain, or when either kind of scribble is missing inside the brain.
pub fn propagate(
    image: ArrayView4<'_, f32>,
    brain: ArrayView3<'_, bool>,
    scribble: ArrayView3<'_, u8>,
    spacing: [f64; 3],
    params: &Params,
) -> Result<Outcome, Error> {
    params.validate(image.dim().0)?;
    check_grid(image, brain, spacing)?;
    let window = bounding_box(brain).ok_or(Error::EmptyBrain)?;
    check_scribble(brain, scribble)?;
    let [z, y, x] = window.clone();
    let inside = brain.slice(s![z.clone(), y.clone(), x.clone()]).as_standard_layout().into_owned();
    let scribbles = scribble.slice(s![z.clone(), y.clone(), x.clone()]).as_standard_layout().into_owned();
    let image = image.slice(s![.., z.clone(), y.clone(), x.clone()]);

    let (labels, problem) = prepare(image, &inside, &scribbles, spacing, params)
        .map_err(|error| at_origin(error, [z.start, y.start, x.start]))?;
    let (classes, energies) = problem.minimise(params)?;

    let mut labels = labels.into_iter();
    let inside_cut = Array3::from_shape_simple_fn(inside.dim(), || match labels.next() {
        None | Some(0) => 0,
        Some(label) => classes[label as usize - 1],
    });
    let inside_weak = weak_mask(&inside_cut, &scribbles, spacing, params.rim_mm)?;
    let (mut cut, mut weak) = (Array3::zeros(brain.dim()), Array3::zeros(brain.dim()));
    cut.slice_mut(s![z.clone(), y.clone(), x.clone()]).assign(&inside_cut);
    weak.slice_mut(s![z, y, x]).assign(&inside_weak);
    Ok(Outcome { weak, cut, energies, supervoxels: classes.len() })
}

// Supervoxels that respect the scribbles, and the energy over them. All arrays are in standard layout but the image.
fn prepare(
    image: ArrayView4<'_, f32>,
    inside: &Array3<bool>,
    scribbles: &Array3<u8>,
    spacing: [f64; 3],
    params: &Params,
) -> Result<(Vec<u32>, Problem), Error> {
    let (depth, height, width) = inside.dim();
    let shape = [depth, height, width];
    let mask = inside.as_slice().unwrap_or_default();
    let scribbles = scribbles.as_slice().unwrap_or_default();

    let [slic_channels, model_channels] = params.channels(image.dim().0);
    let mut features = Array4::zeros((slic_channels.len(), depth, height, width));
    for (&channel, mut feature) in slic_channels.iter().zip(features.outer_iter_mut()) {
        let (values, scale) = channel_of(image, mask, shape, channel)?;
        let scaled = values.iter().zip(mask).map(|(&v, &inside)| if inside { scale.apply(v) } else { 0.0 });
        feature.iter_mut().zip(scaled).for_each(|(f, v)| *f = v);
    }
    let supervoxels = slic(features.view(), inside.view(), spacing, &params.slic)?;
    let labels = supervoxels.labels.into_raw_vec_and_offset().0;
    let (labels, count) = split_mixed(shape, labels, scribbles);

    let binning = Binning::new(params.bins, model_channels.len(), params.smoothing);
    let mut codes = vec![0u32; labels.len()];
    for &channel in &model_channels {
        let (values, scale) = channel_of(image, mask, shape, channel)?;
        for (code, &value) in codes.iter_mut().zip(&values) {
            *code = *code * params.bins as u32 + binning.cell(value, scale.ends) as u32;
        }
    }
    let features = features.as_slice().unwrap_or_default();
    let volume = Volume { shape, spacing, labels: &labels, count, features, codes: &codes, scribbles };
    let problem = Problem::new(&volume, binning, params);
    Ok((labels, problem))
}

// One channel's values, checked inside the brain, and its scale.
fn channel_of(
    image: ArrayView4<'_, f32>,
    inside: &[bool],
    shape: [usize; 3],
    channel: usize,
) -> Result<(Vec<f32>, Scale), Error> {
    let values: Vec<f32> = image.index_axis(Axis(0), channel).iter().copied().collect();
    let bad = |(v, b): (&f32, &bool)| *b && !v.is_finite();
    if let Some(i) = values.iter().zip(inside).position(bad) {
        return Err(Error::NotFinite { channel, voxel: position(shape, i), value: values[i] });
    }
    let brain = values.iter().zip(inside).filter(|(_, b)| **b).map(|(v, _)| *v).collect();
    Ok((values, Scale::new(brain)))
}

// The brain's scale of one channel: robust centre and spread, and the ends of the histogram's axis.
struct Scale {
    centre: f32,
    spread: f32,
    ends: (f32, f32),
}

impl Scale {
    fn new(mut values: Vec<f32>) -> Self {
        let mut quantile = |q: f64| {
            let last = values.len().saturating_sub(1);
            let (_, value, _) =
                values.select_nth_unstable_by((q * last as f64).round() as usize, f32::total_cmp);
            *value
        };
        let (centre, low, high) = (quantile(0.5), quantile(0.16), quantile(0.84));
        let ends = (quantile(0.002), quantile(0.998));
        // A channel without contrast says nothing; any spread does.
        let spread = if high > low { 0.5 * (high - low) } else { 1.0 };
        Self { centre, spread, ends }
    }

    fn apply(&self, value: f32) -> f32 {
        // Beyond this an intensity is an outlier of the scanner, not tissue.
        ((value - self.centre) / self.spread).clamp(-5.0, 5.0)
    }
}

// Positions inside the brain's bounding box, told in those of the scan.
fn at_origin(error: Error, start: [usize; 3]) -> Error {
    match error {
        Error::NotFinite { channel, voxel, value } => {
            Error::NotFinite { channel, voxel: [0, 1, 2].map(|a| voxel[a] + start[a]), value }
        }
        other => other,
    }
}

fn check_scribble(brain: ArrayView3<'_, bool>, scribble: ArrayView3<'_, u8>) -> Result<(), Error> {
    if scribble.dim() != brain.dim() {
        let ((z, y, x), found) = (brain.dim(), scribble.dim());
        return Err(Error::Shape {
            what: "scribble",
            expected: [z, y, x],
            found: [found.0, found.1, found.2],
        });
    }
    let mut seen = [false; 3];
    for (i, (&value, &inside)) in scribble.iter().zip(brain.iter()).enumerate() {
        match seen.get_mut(value as usize) {
            Some(seen) => *seen |= inside,
            None => {
                let (z, y, x) = brain.dim();
                return Err(Error::ScribbleValue { value, voxel: position([z, y, x], i) });
            }
        }
    }
    for (class, value) in [("tumour", TUMOUR), ("healthy", HEALTHY)] {
        if !seen[value as usize] {
            return Err(Error::MissingScribble { class, value });
        }
    }
    Ok(())
}

fn bounding_box(brain: ArrayView3<'_, bool>) -> Option<[std::ops::Range<usize>; 3]> {
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for (z, slice) in brain.outer_iter().enumerate() {
        for (y, line) in slice.outer_iter().enumerate() {
            let Some(first) = line.iter().position(|&b| b) else { continue };
            let last = line.iter().rposition(|&b| b).unwrap_or(first);
            for (axis, (from, to)) in [(z, z), (y, y), (first, last)].into_iter().enumerate() {
                low[axis] = low[axis].min(from);
                high[axis] = high[axis].max(to + 1);
            }
        }
    }
    (high[0] > 0).then(|| [0, 1, 2].map(|axis| low[axis]..high[axis]))
}

fn weak_mask(
    cut: &Array3<u8>,
    scribble: &Array3<u8>,
    spacing: [f64; 3],
    rim_mm: f64,
) -> Result<Array3<u8>, Error> {
    let size = spacing.map(|s| 2 * (rim_mm / s).round() as usize + 1);
    let mut weak = Array3::zeros(cut.dim());
    for class in [TUMOUR, HEALTHY] {
        let kept = scribseg_morphology::erode(cut.mapv(|c| c == class).view(), &size)?;
        weak.zip_mut_with(&kept, |out, &kept| {
            if kept {
                *out = class;
            }
        });
    }
    weak.zip_mut_with(scribble, |out, &s| {
        if s != 0 {
            *out = 0;
        }
    });
    Ok(weak)
}

// Splits each supervoxel that holds both kinds of scribble by the nearer kind, counted in steps inside it.
fn split_mixed(shape: [usize; 3], mut labels: Vec<u32>, scribbles: &[u8]) -> (Vec<u32>, usize) {
    let count = labels.iter().copied().max().unwrap_or(0);
    let mut kinds = vec![0u8; count as usize + 1];
    for (&label, &scribble) in labels.iter().zip(scribbles) {
        kinds[label as usize] |= scribble;
    }
    kinds[0] = 0;
    if !kinds.contains(&(TUMOUR | HEALTHY)) {
        return (labels, count as usize);
    }
    let (plane, nx) = (shape[1] * shape[2], shape[2]);
    let mixed = |label: u32| kinds[label as usize] == TUMOUR | HEALTHY;
    let mut side: Vec<u8> =
        labels.iter().zip(scribbles).map(|(&label, &s)| if mixed(label) { s } else { 0 }).collect();
    let mut queue: std::collections::VecDeque<usize> = (0..labels.len()).filter(|&i| side[i] != 0).collect();
    while let Some(at) = queue.pop_front() {
        for next in faces(shape, at, plane, nx) {
            if labels[next] == labels[at] && side[next] == 0 {
                side[next] = side[at];
                queue.push_back(next);
            }
        }
    }
    for (label, &side) in labels.iter_mut().zip(&side) {
        if side == HEALTHY {
            *label += count;
        }
    }
    // A part may lie in several pieces: each becomes a supervoxel.
    components(shape, &labels)
}
