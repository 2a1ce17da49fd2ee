//! A lattice, or an image's features, as the words that `kernels.cu` reads: one buffer an image, its header first.

use std::cmp::Reverse;

use crate::error::{Error, Result};
use crate::features::Features;
use crate::kernel::PairwiseKernel;
use crate::lattice::Lattice;

/// Words of the header, `Header` in `kernels.cu`.
#[derive(Clone, Copy)]
enum Field {
    Vertices,
    Corners,
    Chunks,
    Rounds,
    Scale,
    Simplex,
    Weight,
    Corner,
    Neighbours,
    EntryPixel,
    EntryWeight,
    Group,
    Length,
    Slot,
    First,
    Mass,
    Coordinates,
    Expanded,
    Norm,
    /// How many there are.
    End,
}

/// Entries of the splat that one thread sums at most: some vertices have thousands, most a handful.
const CHUNK: usize = 64;
/// Chunks side by side, one a thread of a warp.
const GROUP: usize = 32;

/// −½‖a − b‖² may be taken apart while ½‖a‖² is at most this: f32 then errs by some 1e-4 in a pair and less in a sum.
const EXPANDABLE: f64 = 400.0;

/// One image's words.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) words: Vec<u32>,
    /// Vertices with room for their values, for each channel: the lattice's part of shared memory or of the workspace.
    pub(crate) room: usize,
}

/// A buffer with its header under construction.
struct Writer {
    words: Vec<u32>,
}

impl Writer {
    fn new() -> Self {
        Self { words: vec![0; Field::End as usize] }
    }

    fn set(&mut self, field: Field, value: u32) {
        self.words[field as usize] = value;
    }

    fn add(&mut self, field: Field, values: impl IntoIterator<Item = u32>) {
        // Checked as a whole by `finish`: an offset that was cut short belongs to a buffer that is refused.
        self.words[field as usize] = self.words.len() as u32;
        self.words.extend(values);
    }

    fn add_floats(&mut self, field: Field, values: &[f32]) {
        self.add(field, values.iter().map(|v| v.to_bits()));
    }

    /// Two to a word, the first in the lower half.
    fn add_halves(&mut self, field: Field, values: &[u16]) {
        let pair = |pair: &[u16]| u32::from(pair[0]) | pair.get(1).copied().map_or(0, u32::from) << 16;
        self.add(field, values.chunks(2).map(pair));
    }

    fn finish(self) -> Result<Vec<u32>> {
        if self.words.len() > u32::MAX as usize {
            let (expected, found) = (u32::MAX as usize, self.words.len());
            return Err(Error::Length { what: "words of a packed image", expected, found });
        }
        Ok(self.words)
    }
}

impl Packed {
    /// A lattice, with its splat turned round: for each vertex the pixels that reach it, in chunks of at most [`CHUNK`],
    /// chunks of like length side by side so that threads of a warp read neighbouring words.
    pub(crate) fn lattice(lattice: &Lattice) -> Result<Self> {
        let corners = lattice.corners;
        let reached = |p: usize| {
            let simplex = lattice.simplex[p] as usize;
            let weights = &lattice.weight[p * corners..][..corners];
            lattice.corner[simplex * corners..][..corners].iter().zip(weights).filter(|(_, w)| **w > 0)
        };
        let mut start = vec![0usize; lattice.vertices + 1];
        for p in 0..lattice.pixels {
            for (&v, _) in reached(p) {
                start[v as usize + 1] += 1;
            }
        }
        for v in 0..lattice.vertices {
            start[v + 1] += start[v];
        }
        let mut entries = vec![(0u32, 0u16); start[lattice.vertices]];
        let mut next = start.clone();
        for p in 0..lattice.pixels {
            for (&v, &w) in reached(p) {
                entries[next[v as usize]] = (p as u32, w);
                next[v as usize] += 1;
            }
        }
        let mut first = Vec::with_capacity(lattice.vertices + 1);
        let mut chunks = Vec::new();
        for v in 0..lattice.vertices {
            first.push(chunks.len() as u32);
            let own = &entries[start[v]..start[v + 1]];
            chunks.extend(own.chunks(CHUNK).enumerate().map(|(i, c)| (start[v] + i * CHUNK, c.len())));
        }
        first.push(chunks.len() as u32);
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.sort_by_key(|&c| Reverse(chunks[c].1));
        let (mut group, mut pixel, mut weight) = (Vec::new(), Vec::new(), Vec::new());
        for chunks_of_group in order.chunks(GROUP) {
            let from = pixel.len();
            group.push(from as u32);
            // The first is the longest.
            let longest = chunks[chunks_of_group[0]].1;
            pixel.resize(from + longest * GROUP, 0);
            weight.resize(from + longest * GROUP, 0);
            for (lane, &c) in chunks_of_group.iter().enumerate() {
                let (begin, length) = chunks[c];
                for (i, &(p, w)) in entries[begin..begin + length].iter().enumerate() {
                    pixel[from + i * GROUP + lane] = p;
                    weight[from + i * GROUP + lane] = w;
                }
            }
        }
        let mut writer = Writer::new();
        writer.set(Field::Vertices, lattice.vertices as u32);
        writer.set(Field::Corners, corners as u32);
        writer.set(Field::Chunks, chunks.len() as u32);
        writer.set(Field::Rounds, lattice.rounds as u32);
        writer.set(Field::Scale, lattice.scale.to_bits());
        writer.add(Field::Simplex, lattice.simplex.iter().copied());
        writer.add_halves(Field::Weight, &lattice.weight);
        writer.add(Field::Corner, lattice.corner.iter().copied());
        writer.add(Field::Neighbours, lattice.neighbours.iter().flatten().copied());
        writer.add(Field::EntryPixel, pixel);
        writer.add_halves(Field::EntryWeight, &weight);
        writer.add(Field::Group, group);
        writer.add(Field::Length, order.iter().map(|&c| chunks[c].1 as u32));
        writer.add(Field::Slot, order.iter().map(|&c| c as u32));
        writer.add(Field::First, first);
        writer.add_floats(Field::Mass, lattice.mass());
        let vertices = lattice.vertices + 1;
        let room = (3 * vertices).max(vertices + chunks.len());
        Ok(Self { words: writer.finish()?, room })
    }

    /// Features for the exact kernel, with their mass or, while that is not known, zeros in its place.
    pub(crate) fn exact(features: &Features, mass: Option<&[f32]>) -> Result<Self> {
        let (n, d) = (features.pixels(), features.dimensions);
        let mut ends = vec![[f64::INFINITY, f64::NEG_INFINITY]; d];
        for pixel in features.values.chunks_exact(d) {
            for ([low, high], &f) in ends.iter_mut().zip(pixel) {
                (*low, *high) = (low.min(f64::from(f)), high.max(f64::from(f)));
            }
        }
        // exp(−½‖a − b‖²) = 2^(−½‖a' − b'‖²) with a' = √log₂e · (a − middle).
        let factor = std::f64::consts::LOG2_E.sqrt();
        let moved = |i: usize, f: f32| factor * (f64::from(f) - 0.5 * (ends[i][0] + ends[i][1]));
        let square = |pixel: &[f32]| -> f64 {
            pixel.iter().enumerate().map(|(i, &f)| f64::from(moved(i, f) as f32).powi(2)).sum()
        };
        let norm: Vec<f32> = features.values.chunks_exact(d).map(|p| (0.5 * square(p)) as f32).collect();
        // A NaN, of coordinates beyond f32, is not below.
        let expanded = norm.iter().all(|&norm| f64::from(norm) <= EXPANDABLE);
        let mut coordinates = vec![0.0f32; n * d];
        for (p, pixel) in features.values.chunks_exact(d).enumerate() {
            for (i, &f) in pixel.iter().enumerate() {
                // Far apart, differences are exact only between the features themselves.
                coordinates[i * n + p] = if expanded { moved(i, f) as f32 } else { f };
            }
        }
        let mut writer = Writer::new();
        writer.set(Field::Expanded, u32::from(expanded));
        let unknown = vec![0.0; n];
        writer.add_floats(Field::Mass, mass.unwrap_or(&unknown));
        writer.add_floats(Field::Coordinates, &coordinates);
        writer.add_floats(Field::Norm, &norm);
        Ok(Self { words: writer.finish()?, room: 0 })
    }

    /// The word at which the mass begins.
    #[cfg(feature = "cuda")]
    pub(crate) fn mass_at(&self) -> usize {
        self.words[Field::Mass as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a panic is how a test fails

    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Whatever an image holds, every weight of its splat comes back once, and the sums have their places.
    #[test]
    fn the_splat_is_turned_round_without_loss() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for case in 0..300 {
            let (n, d) = (rng.random_range(0..200), rng.random_range(1..9));
            let spread = [0.0, 1.0, 40.0, 3e4, 3e38][case % 5];
            let values = (0..n * d).map(|_| spread * rng.random_range(-1.0f32..1.0)).collect();
            let features = Features::new(values, d).unwrap();
            assert!(Packed::exact(&features, None).is_ok());
            let Ok(lattice) = Lattice::build(&features) else { continue };
            let words = Packed::lattice(&lattice).unwrap().words;
            let at = |field: Field| words[field as usize] as usize;
            let half = |i: usize| words[at(Field::EntryWeight) + i / 2] >> (16 * (i % 2)) & 0xffff;
            let (chunks, mut splat) = (at(Field::Chunks), Vec::new());
            for chunk in 0..chunks {
                let slot = words[at(Field::Slot) + chunk];
                let first = &words[at(Field::First)..][..lattice.vertices + 1];
                let vertex = first.partition_point(|&f| f <= slot) - 1;
                let from = words[at(Field::Group) + chunk / GROUP] as usize + chunk % GROUP;
                for i in 0..words[at(Field::Length) + chunk] as usize {
                    let entry = from + i * GROUP;
                    splat.push((words[at(Field::EntryPixel) + entry] as usize, vertex as u32, half(entry)));
                }
            }
            let mut expected = Vec::new();
            for p in 0..n {
                for corner in 0..lattice.corners {
                    let v = lattice.corner[lattice.simplex[p] as usize * lattice.corners + corner];
                    expected.push((p, v, u32::from(lattice.weight[p * lattice.corners + corner])));
                }
            }
            expected.retain(|(_, _, w)| *w > 0);
            expected.sort_unstable();
            splat.sort_unstable();
            assert_eq!(splat, expected, "case {case}");
        }
    }
}
