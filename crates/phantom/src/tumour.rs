//! The tumour: a lobed core with a broken rim, in oedema that follows white matter.
//!
//! Each part is a level set of a field in mm; its level is chosen so that the part has the planned volume on a lattice of
//! fixed world positions, whatever the sampling of the scan.

use crate::anatomy::{Head, Tissue, lattice};
use crate::noise::{Noise, Point, inside, length, smoothstep, sub};
use crate::plan::{Kind, Plan};
use rand::{Rng, RngExt};

/// Shares of a voxel that are tumour, and the expert's label.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    /// Necrosis or non-enhancing core.
    pub(crate) necrosis: f32,
    /// Oedema.
    pub(crate) oedema: f32,
    /// Enhancing tumour.
    pub(crate) enhancing: f32,
    /// Distance inside the whole tumour's edge, about mm.
    pub(crate) inward: f32,
    /// 0 background, 1 NCR/NET, 2 ED, 3 ET.
    pub(crate) label: u8,
}

/// One tumour.
#[derive(Clone, Debug)]
pub(crate) struct Tumour {
    centre: Point,
    radius: f32,
    lobes: Vec<(Point, f32)>,
    axis: Point,
    oedema_centre: Point,
    stretch: f32,
    push: f32,
    warp: [Noise; 3],
    rough: Noise,
    spread: [Noise; 2],
    rim: [Noise; 2],
    rim_swing: f32,
    rim_grain: f32,
    rim_weight: f32,
    blur: Noise,
    edge_blur: f32,
    core_blur: f32,
    core_level: f32,
    oedema_level: f32,
    rim_level: f32,
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// A uniformly distributed unit vector.
fn direction(rng: &mut impl Rng) -> Point {
    let z: f32 = rng.random_range(-1.0..1.0);
    let a: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    let r = (1.0 - z * z).sqrt();
    [r * a.cos(), r * a.sin(), z]
}

/// The level above which `count` of the values lie; above all of them if `count` is 0.
fn level(mut values: Vec<f32>, count: usize) -> f32 {
    if count == 0 || values.is_empty() {
        return f32::MAX;
    }
    let k = count.min(values.len()) - 1;
    let (_, v, _) = values.select_nth_unstable_by(k, |a, b| b.total_cmp(a));
    *v
}

impl Tumour {
    /// Grows a tumour in `head` to the planned volumes.
    pub(crate) fn grow(plan: &Plan, head: &Head, rng: &mut impl Rng) -> Self {
        const STEP: f32 = 4.0;
        let brain: Vec<Point> = lattice(STEP, 1.12).filter(|&p| head.place(p).depth > 0.0).collect();
        let centre = Self::seat(plan, head, &brain, rng);
        let radius = (plan.core * 1000.0 * 0.75 / std::f32::consts::PI).cbrt();
        let mut lobes = vec![(centre, radius)];
        for _ in 0..rng.random_range(1..=4) {
            let d = direction(rng);
            let r = radius * rng.random_range(0.35..0.75);
            let away = radius * rng.random_range(0.6..1.15);
            let inward = sub([0.0, 0.0, 8.0], centre);
            // Lobes rather grow into the brain than out of it.
            let turn = if dot(d, inward) < 0.0 { -1.0 } else { 1.0 };
            let keep = if rng.random_bool(0.7) { turn } else { 1.0 };
            let along = |i: usize| centre[i] + keep * d[i] * away;
            lobes.push(([along(0), along(1), along(2)], r));
        }
        let mut axis = direction(rng);
        axis = [axis[0] * 0.5, axis[1], axis[2]];
        let n = length(axis).max(1e-3);
        axis = axis.map(|v| v / n);
        let whole_radius = (plan.whole * 1000.0 * 0.75 / std::f32::consts::PI).cbrt();
        let away = 0.35 * (whole_radius - radius).max(0.0);
        let shift = direction(rng);
        let oedema_centre = [0, 1, 2].map(|i| centre[i] + shift[i] * away);
        let mut noise = |wavelength: f32| Noise::new(rng.random(), wavelength);
        let warp = [noise(17.0), noise(17.0), noise(17.0)];
        let (rough, spread) = (noise(8.0), [noise(27.0), noise(11.0)]);
        let (rim, blur) = ([noise(15.0), noise(7.0)], noise(22.0));
        let (rim_swing, rim_weight) = match plan.kind {
            Kind::Ring => (rng.random_range(1.6..3.2), 1.0),
            Kind::Solid => (2.6, 0.7),
            _ => (4.0, 0.4),
        };
        let mut tumour = Self {
            centre,
            radius,
            lobes,
            axis,
            oedema_centre,
            stretch: rng.random_range(1.2..1.7) + (60.0 - plan.whole).max(0.0) / 60.0,
            push: (0.22 * radius).min(5.5) * rng.random_range(0.5..1.2),
            warp,
            rough,
            spread,
            rim,
            rim_swing,
            rim_grain: if plan.kind == Kind::BarelyEnhancing { 0.15 } else { 0.45 },
            rim_weight,
            blur,
            edge_blur: rng.random_range(0.0..2.5),
            core_blur: if plan.kind == Kind::NonEnhancing { 2.5 } else { 1.0 },
            core_level: 0.0,
            oedema_level: 0.0,
            rim_level: 0.0,
        };
        tumour.calibrate(plan, head, &brain, STEP);
        tumour
    }

    /// A centre in white matter, deep enough for the tumour to fit in most directions.
    fn seat(plan: &Plan, head: &Head, brain: &[Point], rng: &mut impl Rng) -> Point {
        let radius = (plan.core * 1000.0 * 0.75 / std::f32::consts::PI).cbrt();
        let want = 12.0 + 0.45 * radius;
        let seats: Vec<Point> = brain
            .iter()
            .copied()
            .filter(|p| p[0].abs() > 14.0 && p[2] > -14.0 && p[2] < 46.0)
            .filter(|&p| {
                let t = head.tissue(&head.place(p), p);
                t.depth > want && t.wm > 0.6 && t.ventricle > 4.0 + 0.25 * radius
            })
            .collect();
        match seats.len() {
            0 => [28.0, 8.0, 22.0],
            n => seats[rng.random_range(0..n)],
        }
    }

    /// Sets the three levels so that the parts have their planned volumes.
    fn calibrate(&mut self, plan: &Plan, head: &Head, brain: &[Point], step: f32) {
        // The core and its rim, on a finer lattice around the centre.
        let fine = if self.radius < 11.0 { 1.0 } else { 2.0 };
        let n = ((2.3 * self.radius + 6.0) / fine) as i32;
        let mut near = Vec::new();
        for z in -n..=n {
            for y in -n..=n {
                for x in -n..=n {
                    let o = [x as f32 * fine, y as f32 * fine, z as f32 * fine];
                    let p = [self.centre[0] + o[0], self.centre[1] + o[1], self.centre[2] + o[2]];
                    let f = self.core_field(p);
                    if f > -8.0 {
                        let place = head.place(p);
                        let t = head.tissue(&place, self.inner(p, place.depth));
                        if t.depth > 0.5 && t.ventricle > 0.0 {
                            near.push((p, f + Self::core_bias(&t)));
                        }
                    }
                }
            }
        }
        let cell = fine * fine * fine / 1000.0;
        self.core_level = level(near.iter().map(|v| v.1).collect(), (plan.core / cell).round() as usize);
        let rim: Vec<f32> =
            near.iter().filter(|v| v.1 >= self.core_level).map(|&(p, f)| self.rim_field(p, f)).collect();
        self.rim_level = level(rim, (plan.enhancing / cell).round() as usize);
        // Oedema takes what the core leaves of the whole.
        let values: Vec<f32> = brain
            .iter()
            .filter_map(|&p| {
                let place = head.place(p);
                let t = head.tissue(&place, self.inner(p, place.depth));
                let core = self.core_field(p) + Self::core_bias(&t) >= self.core_level && t.ventricle > 0.0;
                (!core && t.depth > 0.5 && t.csf <= 0.6).then(|| self.oedema_field(p, &t))
            })
            .collect();
        let rest = (plan.whole - plan.core).max(1.0);
        self.oedema_level = level(values, (rest / (step * step * step / 1000.0)).round() as usize);
    }

    /// Where the anatomy now at `p` lay before the tumour pushed it away.
    pub(crate) fn inner(&self, p: Point, depth: f32) -> Point {
        let d = sub(p, self.centre);
        let r = length(d);
        let reach = 1.6 * self.radius + 8.0;
        if r > 3.0 * reach || r < 1e-3 {
            return p;
        }
        let shift =
            self.push * (r / 6.0).min(1.0) * (-(r / reach) * (r / reach)).exp() * smoothstep(depth / 14.0);
        let k = shift.min(0.6 * r) / r;
        [p[0] - d[0] * k, p[1] - d[1] * k, p[2] - d[2] * k]
    }

    /// Depth in the core's lobes, about mm; negative outside.
    fn core_field(&self, p: Point) -> f32 {
        let near = length(sub(p, self.centre)) < 2.6 * self.radius + 14.0;
        let (q, rough) = if near {
            let a = 0.12 * self.radius + 1.2;
            ([0, 1, 2].map(|i| p[i] + a * self.warp[i].at(p)), 0.9 * self.rough.at(p))
        } else {
            (p, 0.0)
        };
        let best = self.lobes.iter().map(|&(c, r)| r - length(sub(q, c))).fold(f32::MIN, f32::max);
        best + rough
    }

    /// The core stops at pial surfaces in part.
    fn core_bias(t: &Tissue) -> f32 {
        -1.5 * t.gm - 4.0 * t.csf
    }

    /// Preference for enhancement at `p`, where the core's field is `f`: highest at the rim.
    fn rim_field(&self, p: Point, f: f32) -> f32 {
        -self.rim_weight * (f - self.core_level)
            + self.rim_swing * (self.rim[0].at(p) + self.rim_grain * self.rim[1].at(p))
    }

    /// Preference for oedema, about mm.
    fn oedema_field(&self, p: Point, t: &Tissue) -> f32 {
        let d = sub(p, self.oedema_centre);
        let along = dot(d, self.axis);
        // Distances along the axis count less: oedema is drawn out.
        let squeezed = along * (1.0 - 1.0 / self.stretch);
        let e = [0, 1, 2].map(|i| d[i] - self.axis[i] * squeezed);
        let lobes =
            self.lobes.iter().map(|&(c, r)| r - length(sub(p, c))).fold(f32::MIN, f32::max) - self.radius;
        let far = -(0.45 * -lobes + 0.55 * length(e));
        let other_side = if p[0] * self.centre[0] < 0.0 { 5.0 + (0.6 * p[0].abs()).min(8.0) } else { 0.0 };
        far + 4.2 * self.spread[0].at(p) + 2.0 * self.spread[1].at(p)
            - 5.5 * t.gm
            - 3.0 * t.deep
            - 4.0 * t.csf
            - other_side
    }

    /// The tumour's shares of a voxel of extent `v` mm at `p`.
    pub(crate) fn at(&self, p: Point, t: &Tissue, v: f32) -> Parts {
        let d = length(sub(p, self.centre));
        if d > 110.0 {
            return Parts::default();
        }
        let field = self.core_field(p) + Self::core_bias(t);
        let dry = inside(t.ventricle, v) * inside(t.depth - 0.5, v);
        let depth = field - self.core_level;
        let core = inside(depth, v + self.core_blur) * dry;
        let rim = if depth > -3.0 { self.rim_field(p, field) - self.rim_level } else { f32::MIN };
        let spread = self.oedema_field(p, t) - self.oedema_level;
        let soft = v + self.edge_blur * (1.0 + 0.8 * self.blur.at(p).clamp(-1.0, 2.0));
        let whole = inside(spread, soft) * (1.0 - t.csf) * dry;
        let enhancing = core * if self.rim_level < f32::MAX { inside(rim / 1.3, v) } else { 0.0 };
        let oedema = (1.0 - core) * whole;
        let wet = t.ventricle <= 0.0 || t.depth <= 0.5;
        let label = match () {
            () if wet => 0,
            () if depth >= 0.0 && rim >= 0.0 && self.rim_level < f32::MAX => 3,
            () if depth >= 0.0 => 1,
            () if spread >= 0.0 && t.csf <= 0.6 => 2,
            () => 0,
        };
        Parts { necrosis: core - enhancing, oedema, enhancing, inward: spread.max(depth + 4.0), label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn level_leaves_the_wanted_count_above() {
        let v: Vec<f32> = (0..100).map(|i| ((i * 37) % 100) as f32).collect();
        assert_eq!(level(v.clone(), 10), 90.0);
        assert_eq!(level(v.clone(), 0), f32::MAX);
        assert_eq!(level(v, 1000), 0.0);
    }

    #[test]
    fn parts_have_their_planned_volumes() {
        for (index, seed) in [(0, 1), (1, 1), (2, 1), (3, 1)] {
            let plan = Plan::new(index, seed);
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(index as u64);
            let head = Head::new(plan.brain, &mut rng);
            let tumour = Tumour::grow(&plan, &head, &mut rng);
            let mut ml = [0.0f32; 4];
            for p in lattice(2.0, 1.1) {
                let place = head.place(p);
                let t = head.tissue(&place, tumour.inner(p, place.depth));
                ml[tumour.at(p, &t, 2.0).label as usize] += 0.008;
            }
            let whole = ml[1] + ml[2] + ml[3];
            assert!((whole / plan.whole - 1.0).abs() < 0.1, "{plan:?} {ml:?}");
            assert!((ml[1] + ml[3] - plan.core).abs() < 0.12 * plan.core + 0.3, "{plan:?} {ml:?}");
            assert!((ml[3] - plan.enhancing).abs() < 0.15 * plan.enhancing + 0.2, "{plan:?} {ml:?}");
        }
    }
}
