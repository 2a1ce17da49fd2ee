//! Seeded smooth noise and hashing: pure functions of a world position, so both sampling sizes see the same fields.
//!
//! The smooth field is gradient noise (Perlin, "Improving noise", 2002) with a quintic fade, scaled to unit variance.

#[cfg(target_arch = "x86_64")]
use crate::corners;

/// A position in millimetres, `[x, y, z]` (left, posterior, superior), origin at the centre of the field of view.
pub(crate) type Point = [f32; 3];

/// Difference of two points.
pub(crate) fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// Euclidean length.
pub(crate) fn length(a: Point) -> f32 {
    (a[0] * a[0] + a[1] * a[1] + a[2] * a[2]).sqrt()
}

/// Cubic step from 0 to 1 as `t` runs over \[0, 1\].
pub(crate) fn smoothstep(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Share of a voxel of extent `v` centred at signed depth `d` that lies at positive depth.
pub(crate) fn inside(d: f32, v: f32) -> f32 {
    (d / v + 0.5).clamp(0.0, 1.0)
}

/// Mixes 32 bits well (a finaliser with two multiplications).
#[inline(always)]
fn scramble(mut h: u32) -> u32 {
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// Largest whole number not above `v`, without a call into the mathematical library.
#[inline(always)]
fn floor(v: f32) -> i32 {
    let i = v as i32;
    i - i32::from((i as f32) > v)
}

/// Quintic fade.
#[inline(always)]
fn fade(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

/// Interpolates eight corner values, x fastest.
#[inline(always)]
fn trilinear(v: &[f32; 8], w: [f32; 3]) -> f32 {
    let x = |k: usize| v[k] + w[0] * (v[k + 1] - v[k]);
    let y = |k: usize| x(k) + w[1] * (x(k + 2) - x(k));
    y(0) + w[2] * (y(4) - y(0))
}

/// A well-mixed 64-bit hash (the finaliser of SplitMix64).
pub(crate) fn mix64(mut h: u64) -> u64 {
    h = h.wrapping_add(0x9E37_79B9_7F4A_7C15);
    h = (h ^ (h >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    h ^ (h >> 31)
}

/// A standard normal deviate of a counter: a binomial of 64 bits, made continuous by a uniform one.
/// Tails end at ±8 standard deviations; the kurtosis differs from the normal's by 1/32.
#[inline]
pub(crate) fn gauss(counter: u64) -> f32 {
    let h = mix64(counter);
    let u = (h.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40) as f32 / 16_777_216.0;
    (h.count_ones() as f32 - 32.0 + u - 0.5) / 4.0104
}

/// Gradients of the lattice points: the twelve edge directions of a cube, four of them twice.
pub(crate) const GRADIENTS: [[f32; 3]; 16] = [
    [1.0, 1.0, 0.0],
    [-1.0, 1.0, 0.0],
    [1.0, -1.0, 0.0],
    [-1.0, -1.0, 0.0],
    [1.0, 0.0, 1.0],
    [-1.0, 0.0, 1.0],
    [1.0, 0.0, -1.0],
    [-1.0, 0.0, -1.0],
    [0.0, 1.0, 1.0],
    [0.0, -1.0, 1.0],
    [0.0, 1.0, -1.0],
    [0.0, -1.0, -1.0],
    [1.0, 1.0, 0.0],
    [0.0, -1.0, 1.0],
    [-1.0, 1.0, 0.0],
    [0.0, -1.0, -1.0],
];

/// Reciprocal of the plain field's standard deviation.
pub(crate) const UNIT: f32 = 3.66;

/// What the coordinates of lattice points are multiplied by before they are mixed.
pub(crate) const PRIMES: [u32; 3] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D];

/// A smooth random field with unit variance and one wavelength.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    seed: u32,
    frequency: f32,
}

impl Noise {
    /// A field whose features are about `wavelength` mm apart.
    pub(crate) fn new(seed: u32, wavelength: f32) -> Self {
        Self { seed, frequency: 1.0 / wavelength }
    }

    /// The lattice cell of `p`: the eight corners' ramps and the position within the cell.
    ///
    /// Corners are ordered x fastest.
    #[inline(always)]
    fn cell(&self, p: Point) -> ([[f32; 3]; 8], [f32; 8], Point) {
        let f = self.frequency;
        // An offset keeps the lattice planes, where the field is flat, away from the midline.
        let q = [p[0] * f + 0.37, p[1] * f + 0.61, p[2] * f + 0.23];
        let i = q.map(floor);
        let t = [q[0] - i[0] as f32, q[1] - i[1] as f32, q[2] - i[2] as f32];
        let key = |i: i32, prime: u32| {
            [(i as u32).wrapping_mul(prime), (i as u32).wrapping_add(1).wrapping_mul(prime)]
        };
        let (kx, ky, kz) = (key(i[0], PRIMES[0]), key(i[1], PRIMES[1]), key(i[2], PRIMES[2]));
        let (mut g, mut ramp) = ([[0.0; 3]; 8], [0.0; 8]);
        for c in 0..8 {
            let (cx, cy, cz) = (c & 1, (c >> 1) & 1, c >> 2);
            g[c] = GRADIENTS[(scramble(self.seed ^ kx[cx] ^ ky[cy] ^ kz[cz]) & 15) as usize];
            ramp[c] =
                g[c][0] * (t[0] - cx as f32) + g[c][1] * (t[1] - cy as f32) + g[c][2] * (t[2] - cz as f32);
        }
        (g, ramp, t)
    }

    /// Value at `p`; mean 0, standard deviation 1 over space. The same bits with and without AVX2.
    #[inline]
    pub(crate) fn at(&self, p: Point) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as was just found.
            return unsafe { corners::value(self.seed, self.frequency, p) };
        }
        self.value(p)
    }

    /// Value and gradient (per mm) at `p`, in the same way.
    #[inline]
    pub(crate) fn with_gradient(&self, p: Point) -> (f32, Point) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { corners::value_and_gradient(self.seed, self.frequency, p) };
        }
        self.value_and_gradient(p)
    }

    fn value(&self, p: Point) -> f32 {
        let (_, r, t) = self.cell(p);
        let w = t.map(fade);
        UNIT * trilinear(&r, w)
    }

    fn value_and_gradient(&self, p: Point) -> (f32, Point) {
        let (g, r, t) = self.cell(p);
        let w = t.map(fade);
        let slope = |t: f32| 30.0 * t * t * (t * (t - 2.0) + 1.0);
        let d = t.map(slope);
        // Differences along each axis, interpolated over the other two.
        let across = |a: usize, b: usize, c: usize, u: f32, v: f32| {
            let e = |k: usize| r[k + a] - r[k];
            let low = e(0) + u * (e(b) - e(0));
            let high = e(c) + u * (e(b + c) - e(c));
            low + v * (high - low)
        };
        let k = UNIT * self.frequency;
        let part = |axis: usize| trilinear(&[0, 1, 2, 3, 4, 5, 6, 7].map(|c: usize| g[c][axis]), w);
        let gradient = [
            k * (part(0) + d[0] * across(1, 2, 4, w[1], w[2])),
            k * (part(1) + d[1] * across(2, 1, 4, w[0], w[2])),
            k * (part(2) + d[2] * across(4, 1, 2, w[0], w[1])),
        ];
        (UNIT * trilinear(&r, w), gradient)
    }

    /// First-order distance (mm) from `p` to the field's zero surface.
    pub(crate) fn zero_distance(&self, p: Point) -> f32 {
        let (v, g) = self.with_gradient(p);
        v.abs() / length(g).max(1e-3)
    }
}

/// Octaves of noise summed to unit variance: correlated texture.
#[derive(Clone, Debug)]
pub(crate) struct Texture {
    octaves: Vec<(Noise, f32)>,
}

impl Texture {
    /// One octave per wavelength (mm), with the given relative amplitudes.
    pub(crate) fn new(seed: u32, octaves: &[(f32, f32)]) -> Self {
        let norm = octaves.iter().map(|o| o.1 * o.1).sum::<f32>().sqrt();
        let octaves = octaves
            .iter()
            .enumerate()
            .map(|(i, &(wavelength, a))| {
                (Noise::new(seed ^ (i as u32 + 1).wrapping_mul(0x51ED_270B), wavelength), a / norm)
            })
            .collect();
        Self { octaves }
    }

    /// Value at `p`; mean 0, standard deviation 1 over space.
    pub(crate) fn at(&self, p: Point) -> f32 {
        self.octaves.iter().map(|(n, a)| a * n.at(p)).sum()
    }
}

/// Round spots scattered on a jittered lattice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spots {
    seed: u32,
    /// Lattice constant, mm.
    pub(crate) pitch: f32,
    /// Share of lattice cells that hold a spot.
    pub(crate) density: f32,
    /// Smallest and largest radius, mm; at most half the pitch counts in full.
    pub(crate) radius: [f32; 2],
}

impl Spots {
    /// A field of spots.
    pub(crate) fn new(seed: u32, pitch: f32, density: f32, radius: [f32; 2]) -> Self {
        Self { seed, pitch, density, radius }
    }

    /// Membership in a spot, 0 to 1, with an edge of `edge` mm.
    pub(crate) fn at(&self, p: Point, edge: f32) -> f32 {
        let cell = p.map(|v| floor(v / self.pitch));
        let key = |i: usize, prime: u32| (cell[i] as u32).wrapping_mul(prime);
        let h = scramble(self.seed ^ key(0, PRIMES[0]) ^ key(1, PRIMES[1]) ^ key(2, PRIMES[2]));
        let unit = |shift: u32| ((mix64(u64::from(h) << 8 | u64::from(shift)) >> 40) as f32) / 16_777_216.0;
        if unit(0) >= self.density {
            return 0.0;
        }
        let radius = self.radius[0] + (self.radius[1] - self.radius[0]) * unit(1) * unit(1);
        let margin = (radius / self.pitch).min(0.5);
        let centre = |axis: usize| {
            (cell[axis] as f32 + margin + (1.0 - 2.0 * margin) * unit(2 + axis as u32)) * self.pitch
        };
        let d = length(sub(p, [centre(0), centre(1), centre(2)]));
        smoothstep((radius - d) / edge + 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize) -> impl Iterator<Item = Point> {
        (0..n).map(|i| {
            let u = |k: u64| (mix64(i as u64 * 3 + k) >> 40) as f32 / 16_777_216.0 * 400.0 - 200.0;
            [u(0), u(1), u(2)]
        })
    }

    #[test]
    fn with_and_without_vectors_of_the_processor_the_bits_are_the_same() {
        for (seed, wavelength) in [(11, 9.0), (0xdead_beef, 75.0)] {
            let noise = Noise::new(seed, wavelength);
            // Lattice points too, where gradients alone are not zero.
            let points = sample(20_000).chain((-9..9).map(|i| [(i as f32 - 0.37) * wavelength, 0.0, 1.0]));
            for p in points {
                assert_eq!(noise.at(p).to_bits(), noise.value(p).to_bits());
                let bits = |(v, g): (f32, Point)| [v, g[0], g[1], g[2]].map(f32::to_bits);
                assert_eq!(bits(noise.with_gradient(p)), bits(noise.value_and_gradient(p)));
            }
        }
    }

    #[test]
    fn noise_has_zero_mean_and_unit_variance() {
        let noise = Noise::new(7, 11.0);
        let (mut s, mut ss) = (0.0f64, 0.0f64);
        let n = 60_000;
        for p in sample(n) {
            let v = f64::from(noise.at(p));
            s += v;
            ss += v * v;
        }
        let (mean, var) = (s / n as f64, ss / n as f64);
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((var - 1.0).abs() < 0.05, "{var}");
    }

    #[test]
    fn gradient_agrees_with_differences() {
        let noise = Noise::new(3, 9.0);
        for p in sample(300) {
            let g = noise.with_gradient(p).1;
            for axis in 0..3 {
                let (mut a, mut b) = (p, p);
                a[axis] += 0.05;
                b[axis] -= 0.05;
                let d = (noise.at(a) - noise.at(b)) / (a[axis] - b[axis]);
                assert!((d - g[axis]).abs() < 0.02, "{d} {}", g[axis]);
            }
        }
    }

    #[test]
    fn deviates_are_standard_normal() {
        let n = 200_000u64;
        let v: Vec<f64> = (0..n).map(|i| f64::from(gauss(i))).collect();
        let mean = v.iter().sum::<f64>() / n as f64;
        let var = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        let beyond = v.iter().filter(|x| x.abs() > 1.959_96).count() as f64 / n as f64;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
        assert!((beyond - 0.05).abs() < 0.004, "{beyond}");
    }

    #[test]
    fn spots_fill_about_their_share() {
        let spots = Spots::new(5, 12.0, 0.5, [3.0, 3.0]);
        let share = sample(100_000).map(|p| spots.at(p, 0.5)).sum::<f32>() / 1e5;
        let expected = 0.5 * 4.0 / 3.0 * std::f32::consts::PI * 27.0 / 1728.0;
        assert!((share / expected - 1.0).abs() < 0.1, "{share} {expected}");
    }
}
