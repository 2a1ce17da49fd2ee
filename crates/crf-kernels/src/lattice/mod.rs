//! The permutohedral lattice of Adams, Baek and Davis (2010): W ≈ slice · blur · splat, linear in the number of pixels.
//!
//! Each pixel lies in a simplex of d + 1 vertices of the lattice A*_d; its value is splatted to them with barycentric
//! weights, blurred by (½, 1, ½) along the d + 1 lattice directions, and read back with the same weights. Blurring
//! direction after direction on the truncated lattice is not symmetric in the order of directions; the mean of the
//! forward and the reverse order is, because each single blur is: so W = Wᵀ, and the usual gradient is the true one.

mod embed;
mod filter;
mod table;

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use crate::CpuPath;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::kernel::{PairwiseKernel, Within, check_lengths};
pub(crate) use embed::MAX_DIMENSIONS;
use embed::{Block, LANES};
use filter::{MOST, Workspace};
use table::{Packing, Point, Table};

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// How closely a lattice follows the exact sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Quality {
    /// One round of blurs on the vertices that pixels touch: 53–65 % of the exact mass on slices of MRI, and after
    /// normalisation within 1.3–3.4 % of the exact result. Scattered pixels, with more than two vertices each, get a ring of
    /// vertices around those, where its keys have room for them.
    #[default]
    Standard,
    /// Two rounds on a finer lattice, with two rings of vertices around those that pixels touch (three for scattered pixels), so
    /// that little is cut off, and the mass brought to the exact one at 64 pixels: on slices of MRI within 6 % of the exact result
    /// without normalisation, its gradient through a softmax within 7 %. A lattice of some thirty times as many vertices.
    High,
}

impl Quality {
    fn rounds(self) -> usize {
        match self {
            Self::Standard => 1,
            Self::High => 2,
        }
    }

    fn rings(self) -> usize {
        match self {
            Self::Standard => 0,
            Self::High => 2,
        }
    }
}

/// A slice's or volume's place on the lattice; 16 bytes a pixel in five dimensions.
pub struct Lattice {
    pub(crate) pixels: usize,
    pub(crate) corners: usize,
    pub(crate) rounds: usize,
    /// What the filtered values are multiplied by.
    pub(crate) scale: f32,
    /// The simplex of each pixel.
    pub(crate) simplex: Vec<u32>,
    /// Barycentric weights `[pixel][corner]`, fractions of [`embed::ONE`].
    pub(crate) weight: Vec<u16>,
    /// The vertices of each simplex, `[simplex][corner]`.
    pub(crate) corner: Vec<u32>,
    /// `[direction][vertex]`, both neighbours; `vertices` where there is none.
    pub(crate) neighbours: Vec<[u32; 2]>,
    pub(crate) vertices: usize,
    /// W·1, once somebody asked for it.
    mass: OnceLock<Vec<f32>>,
    within: Within,
    path: CpuPath,
}

impl Lattice {
    /// Builds the lattice of an image's features.
    ///
    /// # Errors
    /// [`Error::Dimensions`] beyond 15 features, [`Error::Range`] when they span too many bandwidths, [`Error::Vertices`] when
    /// they are too scattered for a lattice, [`Error::CpuPath`] if `SCRIBSEG_CPU` names instructions that are not there.
    pub fn build(features: &Features) -> Result<Self> {
        Self::build_with(features, Quality::Standard, CpuPath::detect()?)
    }

    /// [`build`](Self::build) with a quality and instructions of one's own choice.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(features: &Features, quality: Quality, path: CpuPath) -> Result<Self> {
        if !path.is_available() {
            return Err(Error::CpuPath { found: format!("{path:?}") });
        }
        let (n, d) = (features.pixels(), features.dimensions());
        if d > MAX_DIMENSIONS {
            return Err(Error::Dimensions { limit: MAX_DIMENSIONS, found: d });
        }
        let corners = d + 1;
        let rounds = quality.rounds();
        // Along each axis a round of blurs has variance (d + 1)²/2, splat and slice together (d + 1)²/6.
        let deviation = (rounds as f64 / 2.0 + 1.0 / 6.0).sqrt() * corners as f64;
        let scale: Vec<f32> =
            (0..d).map(|i| (deviation / (((i + 1) * (i + 2)) as f64).sqrt()) as f32).collect();
        let packing = Packing::new(d);
        let mut places = Places::new(packing, n);
        let limit = packing.limit(quality.rings());
        let too_many = || Error::Vertices { limit: MOST_VERTICES, pixels: n, features: d };
        let mut reach = 0.0f32;
        let mut block = Block::new();
        let mut lanes = vec![[0.0f32; LANES]; d];
        for (index, pixels) in features.values.chunks(LANES * d).enumerate() {
            let count = pixels.len() / d;
            for (l, pixel) in pixels.chunks_exact(d).enumerate() {
                for (lanes, &feature) in lanes.iter_mut().zip(pixel) {
                    lanes[l] = feature;
                }
            }
            embed::embed(path, &lanes, &scale, packing, &mut block);
            if let Some(l) = block.reach[..count].iter().position(|&r| r.is_nan() || r >= limit as f32) {
                return Err(Error::Range { pixel: index * LANES + l, found: block.reach[l], limit });
            }
            reach = block.reach[..count].iter().fold(reach, |a, &b| a.max(b));
            for l in 0..count {
                places.add([block.point[0][l], block.point[1][l], block.rank[l]]);
                places.weight.extend(block.weight[..corners].iter().map(|w| w[l]));
            }
            if places.vertices.keys.len() > MOST_VERTICES {
                return Err(too_many());
            }
        }
        let Places { mut vertices, simplex, corner, weight, .. } = places;
        // Where pixels share next to no vertices, what joins them passes through vertices that none of them touches.
        let sparse = vertices.keys.len() > SPARSE * n;
        let room = reach < packing.limit(quality.rings() + 1) as f32;
        let rings = quality.rings() + usize::from(sparse && room);
        if !grow(&mut vertices, packing, rings, MOST_VERTICES) {
            return Err(too_many());
        }
        let neighbours = neighbours(&vertices, packing);
        let count = vertices.keys.len();
        drop(vertices);
        // Adams et al.: the weight that a blurred simplex keeps.
        let scale = 1.0 / ((1.0 + 0.5f64.powi(d as i32)) * 2.0f64.powi(((rounds - 1) * corners) as i32));
        let scale = scale as f32;
        let mut lattice = Self {
            pixels: n,
            corners,
            rounds,
            scale,
            simplex,
            weight,
            corner,
            neighbours,
            vertices: count,
            mass: OnceLock::new(),
            within: Within::default(),
            path,
        };
        if quality == Quality::High {
            lattice.scale *= calibration(features, &lattice.apply(&vec![1.0; n]));
        }
        Ok(lattice)
    }

    /// W·v, one channel.
    fn apply(&self, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.pixels];
        if self.pixels > 0 {
            WORKSPACE.with_borrow_mut(|workspace| {
                filter::filter4(self.path, self, values, &mut out, workspace);
            });
        }
        out
    }

    /// Number of lattice vertices.
    pub fn vertices(&self) -> usize {
        self.vertices
    }
}

/// Vertices a pixel beyond which a lattice gets one more ring; slices of MRI have one vertex to four pixels or fewer, noise in
/// three channels three vertices a pixel.
const SPARSE: usize = 2;
/// Most vertices of a lattice: 6 to 10 GB of them in five dimensions, while values are filtered.
const MOST_VERTICES: usize = 1 << 26;

/// Adds the neighbours of every vertex, `rings` times; false when that makes more than `most` vertices.
fn grow(vertices: &mut Table<2>, packing: Packing, rings: usize, most: usize) -> bool {
    for _ in 0..rings {
        for number in 0..vertices.keys.len() {
            for direction in 0..=packing.dimensions {
                let (point, vector) = (vertices.keys[number], packing.direction(direction));
                vertices.insert(table::moved(point, vector));
                vertices.insert(table::moved_back(point, vector));
            }
            if vertices.keys.len() > most {
                return false;
            }
        }
    }
    vertices.keys.len() <= most
}

/// Pixels whose exact mass is summed to calibrate a lattice.
const SAMPLES: usize = 64;

/// The factor that brings a lattice's mass closest to the exact one, in the least-squares sense, at [`SAMPLES`] pixels
/// spread evenly over the image.
fn calibration(features: &Features, mass: &[f32]) -> f32 {
    let d = features.dimensions();
    let samples = SAMPLES.min(mass.len());
    let (mut product, mut square) = (0.0f64, 0.0f64);
    for s in 0..samples {
        let p = (2 * s + 1) * mass.len() / (2 * samples);
        let own = &features.values[p * d..][..d];
        let exact: f64 = features
            .values
            .chunks_exact(d)
            .map(|f| {
                let distance: f32 = f.iter().zip(own).map(|(a, b)| (a - b) * (a - b)).sum();
                f64::from((-0.5 * distance).exp())
            })
            .sum();
        let found = f64::from(mass[p]);
        product += exact * found;
        square += found * found;
    }
    if square > 0.0 { (product / square) as f32 } else { 1.0 }
}

/// Pixels' simplices and simplices' vertices, while a lattice is built.
struct Places {
    packing: Packing,
    vertices: Table<2>,
    simplices: Table<3>,
    simplex: Vec<u32>,
    corner: Vec<u32>,
    weight: Vec<u16>,
    last: Option<([u64; 3], u32)>,
}

impl Places {
    fn new(packing: Packing, pixels: usize) -> Self {
        Self {
            packing,
            vertices: Table::new(),
            simplices: Table::new(),
            simplex: Vec::with_capacity(pixels),
            corner: Vec::new(),
            weight: Vec::with_capacity(pixels * (packing.dimensions + 1)),
            last: None,
        }
    }

    /// The next pixel, in the simplex of a point and ranks.
    fn add(&mut self, key: [u64; 3]) {
        let number = match self.last {
            // In even tissue the pixel before has the same.
            Some((last, number)) if last == key => number,
            _ => {
                let (number, new) = self.simplices.insert(key);
                if new {
                    self.add_corners(key);
                }
                self.last = Some((key, number));
                number
            }
        };
        self.simplex.push(number);
    }

    /// The vertices of a simplex: corner c has the remainder c, so c is added to every coordinate and d + 1 taken from
    /// those of the c highest ranks.
    fn add_corners(&mut self, [low, high, ranks]: [u64; 3]) {
        let d = self.packing.dimensions;
        let ones = self.packing.ones();
        for corner in 0..=d {
            let shift = |word: usize| ones[word].wrapping_mul(corner as u64);
            let mut point: Point = [low.wrapping_add(shift(0)), high.wrapping_add(shift(1))];
            for i in 0..d {
                let rank = (ranks >> (4 * (d - 1 - i)) & 15) as usize;
                if rank + corner > d {
                    let (word, unit) = self.packing.unit(i);
                    point[word] = point[word].wrapping_sub(unit.wrapping_mul(d as u64 + 1));
                }
            }
            self.corner.push(self.vertices.insert(point).0);
        }
    }
}

/// Both neighbours of every vertex along every direction.
fn neighbours(vertices: &Table<2>, packing: Packing) -> Vec<[u32; 2]> {
    let count = vertices.keys.len();
    let nobody = count as u32;
    let mut pairs = vec![[nobody; 2]; count * (packing.dimensions + 1)];
    for (direction, pairs) in pairs.chunks_exact_mut(count.max(1)).enumerate() {
        let vector = packing.direction(direction);
        for (number, &point) in vertices.keys.iter().enumerate() {
            // Found once, known to both.
            if let Some(next) = vertices.get(&table::moved(point, vector)) {
                pairs[number][0] = next;
                pairs[next as usize][1] = number as u32;
            }
        }
    }
    pairs
}

impl PairwiseKernel for Lattice {
    fn pixels(&self) -> usize {
        self.pixels
    }

    fn filter(&self, channels: usize, values: &[f32], out: &mut [f32]) -> Result<()> {
        check_lengths(self.pixels, channels, values, out)?;
        if self.pixels == 0 {
            return Ok(());
        }
        WORKSPACE.with_borrow_mut(|workspace| {
            let size = MOST * self.pixels;
            for (values, out) in values.chunks(size).zip(out.chunks_mut(size)) {
                if values.len() <= 4 * self.pixels {
                    filter::filter4(self.path, self, values, out, workspace);
                } else {
                    filter::filter8(self.path, self, values, out, workspace);
                }
            }
        });
        Ok(())
    }

    fn mass(&self) -> &[f32] {
        self.mass.get_or_init(|| self.apply(&vec![1.0; self.pixels]))
    }

    fn mass_within(&self, region: &[f32]) -> Result<Arc<[f32]>> {
        self.within.mass(region, |mass| self.filter(1, region, mass))
    }

    fn bytes(&self) -> usize {
        4 * (self.simplex.len() + self.corner.len() + self.pixels)
            + 2 * self.weight.len()
            + 8 * self.neighbours.len()
            + Within::bytes(self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vertices of one simplex in `dimensions`, as a single pixel touches them.
    fn simplex(dimensions: usize) -> (Table<2>, Packing) {
        let packing = Packing::new(dimensions);
        let bias = packing.ones().map(|ones| ones.wrapping_mul(packing.bias() as u64));
        let mut places = Places::new(packing, 1);
        let ranks = (0..dimensions as u64).fold(0, |word, rank| word << 4 | rank);
        places.add([bias[0], bias[1], ranks]);
        (places.vertices, packing)
    }

    #[test]
    fn a_ring_is_every_neighbour_and_the_limit_holds() {
        let (mut vertices, packing) = simplex(2);
        // A triangle of the hexagonal lattice: 3 vertices, 9 around them, 15 around those.
        assert_eq!(vertices.keys.len(), 3);
        assert!(grow(&mut vertices, packing, 0, 3) && grow(&mut vertices, packing, 1, 12));
        assert_eq!(vertices.keys.len(), 12);
        assert!(!grow(&mut vertices, packing, 1, 20), "27 vertices are more than 20");
        assert!(vertices.keys.len() < 27 && !grow(&mut vertices, packing, 0, 20));
    }

    #[test]
    fn only_scattered_pixels_get_the_ring() {
        // Two pixels a hundred bandwidths apart in each feature, and many in one place.
        let lattice = |values: &[f32]| {
            let values = values.iter().flat_map(|&v| [v; 4]).collect();
            Lattice::build(&Features::new(values, 4).unwrap()).unwrap()
        };
        let (far, near) = (lattice(&[0.1, 100.3]), lattice(&[0.1; 3]));
        assert!(far.vertices() > 2 * near.vertices(), "{} {}", far.vertices(), near.vertices());
        assert_eq!(near.vertices(), 5);
    }
}
