//! Tissue to signal: what each modality shows, in units of the healthy brain's standard deviation.
//!
//! Means and spreads follow measurements on real glioma scans. The numbers differ from case to case as they do there; within a case they
//! carry spatially correlated texture, so that no threshold separates the tissues.

use crate::anatomy::Tissue;
use crate::noise::{Noise, Point, Spots, Texture, smoothstep};
use crate::plan::{Kind, Plan, Trait};
use crate::tumour::Parts;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

/// One value per modality: T1, T1ce, T2, FLAIR.
pub(crate) type Signal = [f32; 4];

const T1: usize = 0;
const T1CE: usize = 1;
const T2: usize = 2;
const FLAIR: usize = 3;

/// One case's contrasts, textures and look-alikes.
#[derive(Clone, Debug)]
pub(crate) struct Contrast {
    csf: Signal,
    gm: Signal,
    wm: Signal,
    deep: Signal,
    necrosis: Signal,
    oedema: Signal,
    enhancing: Signal,
    necrosis_spread: Signal,
    oedema_spread: Signal,
    enhancing_spread: Signal,
    healthy: [Texture; 2],
    healthy_spread: Signal,
    tumour: [Texture; 4],
    vessels: [Noise; 2],
    vessel_gain: f32,
    plexus: Noise,
    caps: f32,
    patches: Noise,
    spots: Spots,
    spot_gain: f32,
    cortex: Noise,
    bleed: Option<Spots>,
    thin: f32,
    spacing: f32,
}

/// A normal deviate.
fn normal(rng: &mut impl Rng, mean: f32, sd: f32) -> f32 {
    let z: f32 = StandardNormal.sample(rng);
    mean + sd * z
}

impl Contrast {
    /// Draws a case's contrasts; `spacing` (mm) only narrows what a thin vessel can show.
    pub(crate) fn new(plan: &Plan, spacing: f32, rng: &mut impl Rng) -> Self {
        let r = &mut *rng;
        let mut around = |means: Signal, sd: f32| means.map(|m| normal(r, m, sd));
        let csf = around([-2.8, -2.2, 2.8, -2.6], 0.25);
        let gm = around([-0.10, 0.22, -0.45, 0.35], 0.12);
        let wm = around([1.17, 0.87, -1.25, -0.05], 0.12);
        let deep = around([0.60, 0.55, -0.88, 0.20], 0.12);

        // A watery core is bright on T2 and dark on T1, before and after contrast.
        let water = plan.deviate(Trait::Water).clamp(-2.0, 1.8);
        let t2_core = 1.95 * (0.55 * water).exp();
        let flair = (2.55 * (0.52 * plan.deviate(Trait::Flair)).exp()).clamp(1.0, 5.0);
        // Free fluid is attenuated on FLAIR: some cores are as bright as oedema, some far darker.
        let cyst = plan.kind == Kind::NonEnhancing && water > 0.8;
        let ratio = if cyst { normal(rng, 0.35, 0.2) } else { 0.90 + 0.50 * plan.deviate(Trait::CoreFlair) }
            .clamp(0.15, 2.1);
        let flair_core = (flair * ratio).min(5.8);
        let flair_rim =
            flair * (1.0 + 0.6 * (ratio - 1.0) + 0.25 * plan.deviate(Trait::RimFlair)).clamp(0.5, 1.8);
        let uptake = (if plan.kind == Kind::BarelyEnhancing { 2.7 } else { 3.3 }
            * (0.28 * plan.deviate(Trait::Uptake)).exp())
        .clamp(1.3, 5.0);
        let t2_oedema = (1.10 + 0.45 * plan.deviate(Trait::OedemaT2)).clamp(0.4, 2.0);
        let necrosis = [
            normal(rng, -0.56 - 0.35 * water, 0.45).clamp(-1.4, 0.9),
            (-0.28 - 0.35 * water + 0.45 * plan.deviate(Trait::CoreT1ce)).clamp(-1.6, 1.2),
            t2_core,
            flair_core,
        ];
        let oedema = [normal(rng, 0.20, 0.22), normal(rng, 0.08, 0.28), t2_oedema, flair];
        let enhancing = [
            normal(rng, 0.20, 0.40),
            uptake,
            (0.25 + 0.3 * t2_oedema + 0.42 * t2_core.min(3.2) + normal(rng, 0.0, 0.4)).max(0.4),
            flair_rim,
        ];
        let mut texture = |octaves: &[(f32, f32)]| Texture::new(rng.random(), octaves);
        let coarse = [(26.0, 1.0), (13.0, 0.9), (6.5, 0.75), (3.4, 0.5)];
        let healthy = [texture(&[(22.0, 1.0), (7.0, 0.9)]), texture(&[(22.0, 1.0), (7.0, 0.9)])];
        let tumour = [texture(&coarse), texture(&coarse), texture(&coarse), texture(&coarse)];
        let mut noise = |wavelength: f32| Noise::new(rng.random(), wavelength);
        let vessels = [noise(24.0), noise(24.0)];
        let (plexus, patches, cortex) = (noise(7.0), noise(24.0), noise(34.0));
        let age = plan.quantile(Trait::Age);
        Self {
            csf,
            gm,
            wm,
            deep,
            necrosis,
            oedema,
            enhancing,
            necrosis_spread: [0.56, 0.45, 0.35 + 0.16 * t2_core, 0.45 + 0.12 * flair_core],
            oedema_spread: [0.47, 0.38, 0.72, 0.22 * flair],
            enhancing_spread: [
                0.48,
                uptake * if plan.kind == Kind::BarelyEnhancing { 0.36 } else { 0.50 },
                0.55,
                0.35 + 0.14 * flair,
            ],
            healthy,
            healthy_spread: [0.26, 0.24, 0.2, 0.3],
            tumour,
            vessels,
            vessel_gain: rng.random_range(2.0..6.0),
            plexus,
            caps: 3.4 * age * age + 0.8,
            patches,
            spots: Spots::new(rng.random(), 12.0, 0.06 + 0.34 * age * age, [1.6, 6.0]),
            spot_gain: rng.random_range(1.5..3.2),
            cortex,
            bleed: rng.random_bool(0.2).then(|| Spots::new(rng.random(), 18.0, 0.35, [2.0, 6.0])),
            thin: 0.35 + 0.6 * plan.quantile(Trait::Edge),
            spacing,
        }
    }

    /// Signal of a voxel at `p` made of tissue `t` (before the tumour) and tumour `parts`.
    pub(crate) fn at(&self, p: Point, t: &Tissue, parts: &Parts) -> Signal {
        let tumour = parts.necrosis + parts.enhancing + parts.oedema;
        let mut out = [0.0; 4];
        let background = 1.0 - tumour;
        if background > 0.0 {
            let healthy = self.healthy(p, t);
            for (o, h) in out.iter_mut().zip(healthy) {
                *o = background * h;
            }
        }
        if tumour > 0.0 {
            // Modalities share a part of their texture; T1 runs against T2.
            let own = [0, 1, 2, 3].map(|m: usize| self.tumour[m].at(p));
            let texture = [
                0.9 * own[T1] - 0.436 * own[T2],
                0.85 * own[T1CE] + 0.527 * own[T1],
                own[T2],
                0.85 * own[FLAIR] + 0.527 * own[T2],
            ];
            // Infiltration thins out towards the edge; sulci and cortex shine through.
            let thin = self.thin + (1.0 - self.thin) * smoothstep(parts.inward / 9.0);
            let bleed = self.bleed.map_or(0.0, |s| s.at(p, 2.0)) * (parts.necrosis + parts.enhancing);
            for m in 0..4 {
                let anatomy = t.gm * (self.gm[m] - self.wm[m]) + t.deep * (self.deep[m] - self.wm[m]);
                let edge = if m == FLAIR || m == T2 { thin } else { 1.0 };
                let oedema = self.oedema[m] * edge + 0.35 * anatomy + self.oedema_spread[m] * texture[m];
                let necrosis = self.necrosis[m] + self.necrosis_spread[m] * texture[m];
                // Uptake is skewed: most of the rim is moderate, parts are very bright.
                let skewed = if m == T1CE {
                    (texture[m] + 0.12 * (texture[m] * texture[m] - 1.0)) * 0.98
                } else {
                    texture[m]
                };
                let mut enhancing = self.enhancing[m] + self.enhancing_spread[m] * skewed;
                if m == T1CE {
                    enhancing = enhancing.max(0.38 * self.enhancing[m]);
                }
                out[m] += parts.oedema * oedema + parts.necrosis * necrosis + parts.enhancing * enhancing;
            }
            out[T1] += 2.2 * bleed;
            out[T1CE] += 1.6 * bleed;
            out[T2] -= 1.0 * bleed;
        }
        out
    }

    fn healthy(&self, p: Point, t: &Tissue) -> Signal {
        let solid = 1.0 - t.csf;
        let texture = [self.healthy[0].at(p), self.healthy[1].at(p)];
        let share = 0.3 + 0.7 * solid;
        let mut out = [0, 1, 2, 3].map(|m: usize| {
            let mixed = if m < T2 { texture[0] } else { texture[1] };
            let pure = t.csf * self.csf[m] + t.gm * self.gm[m] + t.wm * self.wm[m] + t.deep * self.deep[m];
            pure + self.healthy_spread[m] * mixed * share
        });
        // Limbic cortex is brighter on FLAIR.
        out[FLAIR] += 0.35 * t.gm * self.cortex.at(p);
        // Caps and bands along the ventricles, and white-matter lesions.
        let reach = 2.5 + 2.4 * self.caps;
        if t.ventricle > -2.0 && t.ventricle < reach && t.pial > 3.0 {
            let horn = 0.35 + 0.65 * smoothstep((p[1] - 4.0).abs() / 36.0);
            let patch = (0.7 + 0.5 * self.patches.at(p)).clamp(0.0, 1.4);
            let cap = solid * self.caps * horn * patch * smoothstep(1.0 - t.ventricle / reach);
            out[FLAIR] += 1.2 * cap;
            out[T2] += 0.45 * cap;
            out[T1] -= 0.2 * cap;
        }
        if t.wm > 0.3 {
            // Not quite round.
            let bent = [p[0] + 1.8 * texture[0], p[1] + 1.8 * texture[1], p[2] - 1.2 * texture[0]];
            let spot = self.spots.at(bent, 2.0) * t.wm * self.spot_gain;
            out[FLAIR] += spot;
            out[T2] += 0.5 * spot;
            out[T1] -= 0.3 * spot;
            out[T1CE] -= 0.25 * spot;
        }
        // Skull-base and pole artefacts on FLAIR.
        if t.depth < 14.0 && p[2] < -8.0 {
            out[FLAIR] += 1.9 * (self.patches.at(p) - 0.5).clamp(0.0, 1.2) * solid;
        }
        self.blood(p, t, &mut out);
        out
    }

    /// Vessels, sinus and choroid plexus: bright after contrast.
    fn blood(&self, p: Point, t: &Tissue, out: &mut Signal) {
        if t.pial < 7.0 {
            let a = self.vessels[0].zero_distance(p);
            if a < 2.5 {
                let b = self.vessels[1].zero_distance(p);
                let thick = 1.3 - 0.12 * t.pial;
                let share = (((thick - (a * a + b * b).sqrt()) / self.spacing) + 0.4).clamp(0.0, 1.0);
                out[T1CE] += self.vessel_gain * share;
                out[T2] -= 0.9 * share;
                out[FLAIR] -= 0.4 * share;
            }
        }
        if t.midline < 4.0 && t.depth < 6.5 && p[2] > -5.0 {
            let share = smoothstep((3.4 - t.midline) / 2.0) * smoothstep((6.0 - t.depth) / 3.0);
            out[T1CE] += 1.1 * self.vessel_gain * share;
            out[T2] -= 1.5 * share;
        }
        if t.ventricle < 1.0 && p[1] > 14.0 {
            let share = smoothstep((self.plexus.at(p) - 0.7) / 0.5) * t.csf;
            out[T1CE] += (1.5 + 0.8 * self.vessel_gain) * share;
            out[T1] += 1.6 * share;
            out[FLAIR] += 2.0 * share;
            out[T2] -= 1.2 * share;
        }
    }
}
