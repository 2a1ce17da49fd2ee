//! What each case of a cohort is to be: the kind of tumour and its volumes, spread evenly over any run of indices.

use crate::noise::mix64;

/// Kinds of tumour by what enhances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No enhancing tumour: a non-enhancing core in oedema.
    NonEnhancing,
    /// Less than 2 ml of enhancing tumour.
    BarelyEnhancing,
    /// An enhancing rim around necrosis.
    Ring,
    /// Enhancing tumour with hardly any necrosis.
    Solid,
}

/// Target volumes of one case, ml.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) brain: f32,
    pub(crate) whole: f32,
    pub(crate) core: f32,
    pub(crate) enhancing: f32,
    /// Independent standard normal deviates that set the case apart: see [`Trait`].
    traits: [f32; 9],
}

/// What sets a case's contrasts apart from another's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trait {
    /// Free water in the core.
    Water,
    /// FLAIR contrast of the whole tumour.
    Flair,
    /// FLAIR of the core relative to oedema.
    CoreFlair,
    /// FLAIR of the rim relative to what core and oedema suggest.
    RimFlair,
    /// Contrast uptake.
    Uptake,
    /// T2 of oedema.
    OedemaT2,
    /// T1ce of the core.
    CoreT1ce,
    /// Age: caps, spots.
    Age,
    /// How far signal thins out towards the tumour's edge.
    Edge,
}

/// Deviate of the standard normal law at quantile `u` (Abramowitz and Stegun 26.2.23; error below 5e-4).
fn deviate(u: f32) -> f32 {
    let tail = u.min(1.0 - u).max(1e-6);
    let t = (-2.0 * tail.ln()).sqrt();
    let z = t
        - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    if u < 0.5 { -z } else { z }
}

/// The `index`-th value in \[0, 1) of an additive recurrence: any run of indices covers the interval evenly.
fn even(index: usize, seed: u64, stream: u64, step: f64) -> f32 {
    let start = (mix64(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F)) >> 11) as f64 / (1u64 << 53) as f64;
    // Only the fraction of the product matters; reducing the index first keeps its bits.
    let index = (index % (1 << 20)) as f64;
    ((start + index * step).fract() as f32).min(0.999_999)
}

impl Plan {
    /// The plan of case `index` of the cohort `seed`.
    pub(crate) fn new(index: usize, seed: u64) -> Self {
        // Steps: fractions of the golden ratio, sqrt 2, sqrt 3, the plastic number and sqrt 7.
        let kind = even(index, seed, 1, 0.618_033_988_75);
        let size = even(index, seed, 2, 0.414_213_562_37);
        let share = even(index, seed, 3, 0.732_050_807_57);
        let part = even(index, seed, 4, 0.324_717_957_24);
        let head = even(index, seed, 5, 0.645_751_311_06);
        let lerp = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let brain = lerp(1200.0, 1650.0, 0.5 * head + 0.5 * smooth_tail(head));
        let mut whole = lerp(34.0, 222.0, size);
        let (kind, core, enhancing) = if kind < 0.21 {
            whole = lerp(70.0, 222.0, size);
            (Kind::NonEnhancing, whole * lerp(0.35, 0.80, share), 0.0)
        } else if kind < 0.42 {
            whole = lerp(34.0, 125.0, size);
            let enhancing = lerp(0.4, 1.85, part);
            // Mostly a small core; now and then a large one that hardly enhances.
            let core = if share < 0.7 {
                enhancing * lerp(1.3, 2.6, share / 0.7)
            } else {
                lerp(8.0, 25.0, (share - 0.7) / 0.3)
            };
            (Kind::BarelyEnhancing, core, enhancing)
        } else if kind < 0.76 {
            let core = (whole * lerp(0.20, 0.68, share)).min(150.0);
            (Kind::Ring, core, core * lerp(0.40, 0.65, part))
        } else {
            let core = (whole * lerp(0.05, 0.40, share)).max(5.0);
            (Kind::Solid, core, core * lerp(0.86, 0.97, part))
        };
        // Fractional parts of square roots of primes.
        let steps =
            [0.316625, 0.605551, 0.358899, 0.795832, 0.385165, 0.567764, 0.403124, 0.557439, 0.855655];
        let mut traits = [0.0; 9];
        for (i, (value, step)) in traits.iter_mut().zip(steps).enumerate() {
            *value = deviate(even(index, seed, 10 + i as u64, step));
        }
        Self { kind, brain, whole, core, enhancing, traits }
    }

    /// The case's standard normal deviate for `what`.
    pub(crate) fn deviate(&self, what: Trait) -> f32 {
        self.traits[what as usize]
    }

    /// The case's quantile, 0 to 1, for `what`.
    pub(crate) fn quantile(&self, what: Trait) -> f32 {
        // A logistic curve within 0.01 of the normal distribution function.
        1.0 / (1.0 + (-1.702 * self.deviate(what)).exp())
    }
}

/// Pushes uniform values towards the middle of \[0, 1\].
fn smooth_tail(u: f32) -> f32 {
    0.5 + 4.0 * (u - 0.5).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_shares_in_every_run() {
        for seed in 0..20 {
            let count = |kind| (0..19).filter(|&i| Plan::new(i, seed).kind == kind).count();
            assert!((3..=5).contains(&count(Kind::NonEnhancing)), "seed {seed}");
            assert!((3..=5).contains(&count(Kind::BarelyEnhancing)), "seed {seed}");
            assert!(count(Kind::Ring) >= 5 && count(Kind::Solid) >= 3);
        }
    }

    #[test]
    fn volumes_are_ordered_and_in_range() {
        for i in 0..500 {
            let p = Plan::new(i, 9);
            assert!(p.enhancing <= p.core && p.core < 0.85 * p.whole, "{p:?}");
            assert!((30.0..=231.0).contains(&p.whole) && (1181.0..=1731.0).contains(&p.brain));
        }
    }
}
