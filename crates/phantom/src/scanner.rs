//! The scanner: a scale and offset of its own per scan and modality, a smooth bias field, Rician noise, whole numbers.

use crate::noise::{Noise, Point, gauss, mix64};
use crate::signal::Signal;
use rand::{Rng, RngExt};

/// Mean over standard deviation of a healthy brain, by modality: how far the signal lies above zero.
const OFFSET: [[f32; 2]; 4] = [[4.2, 6.5], [3.4, 5.6], [2.2, 4.0], [3.9, 6.0]];

/// One scan's acquisition.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    scale: Signal,
    offset: Signal,
    bias: [Noise; 4],
    bias_strength: Signal,
    noise: Signal,
    seed: u64,
}

impl Scanner {
    /// Draws an acquisition; noise falls with the voxel's extent (mm), as averaging does.
    pub(crate) fn new(spacing: f32, rng: &mut impl Rng) -> Self {
        let modality = [0, 1, 2, 3];
        let offset = modality.map(|m: usize| rng.random_range(OFFSET[m][0]..OFFSET[m][1]));
        // Interpolated scans have correlated noise: doubling the voxel halves it, not an eighth's root.
        let noise = modality.map(|_| rng.random_range(0.10..0.24) / spacing);
        Self {
            scale: modality.map(|_| 10f32.powf(rng.random_range(1.7..2.9))),
            bias: modality.map(|_| Noise::new(rng.random(), 95.0)),
            bias_strength: modality.map(|m: usize| rng.random_range(0.10..0.34) / offset[m]),
            offset,
            noise,
            seed: rng.random(),
        }
    }

    /// Raw scanner units of voxel number `voxel` at `p`; at least 1, as 0 means outside the brain.
    pub(crate) fn measure(&self, p: Point, voxel: u64, signal: Signal) -> Signal {
        let mut out = [0.0; 4];
        for m in 0..4 {
            let gain = (self.bias_strength[m] * self.bias[m].at(p)).exp();
            let real = ((self.offset[m] + signal[m]).max(0.02)) * gain;
            let counter = mix64(self.seed ^ (voxel * 8 + m as u64 * 2));
            let a = real + self.noise[m] * gauss(counter);
            let b = self.noise[m] * gauss(counter ^ 0x5555_5555_5555_5555);
            out[m] = (self.scale[m] * (a * a + b * b).sqrt()).round().max(1.0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn noise_is_rician() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let mut s = Scanner::new(1.0, &mut rng);
        s.scale = [1e5; 4];
        s.bias_strength = [0.0; 4];
        // A signal that the offset cancels leaves the Rayleigh law: mean σ·sqrt(π/2).
        let none = s.offset.map(|o| 0.02 - o);
        let n = 40_000;
        let mean = (0..n).map(|v| f64::from(s.measure([0.0; 3], v, none)[1])).sum::<f64>() / n as f64;
        let sigma = f64::from(s.noise[1]);
        let rayleigh = sigma * (std::f64::consts::PI / 2.0).sqrt() * 1e5;
        assert!((mean / rayleigh - 1.0).abs() < 0.03, "{mean} {rayleigh}");
        // Far above the noise it is nearly normal: mean sqrt(ν² + σ²).
        let high = s.offset.map(|o| 3.0 - o);
        let mean = (0..n).map(|v| f64::from(s.measure([0.0; 3], v, high)[1])).sum::<f64>() / n as f64;
        assert!((mean / 1e5 - (9.0 + sigma * sigma).sqrt()).abs() < 0.01, "{mean}");
    }
}
