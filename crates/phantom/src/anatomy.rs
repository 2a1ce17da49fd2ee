//! The healthy head: a skull-stripped brain as smooth functions of world position.
//!
//! Shapes are unions of ellipsoids and capsules under a low-frequency warp. Sulci are the zero surfaces of a noise field
//! whose argument is drawn towards the hull, so that they run inwards from it; grey matter is a ribbon along the pial
//! surface. Right-handed world: x left, y posterior, z superior.

use crate::noise::{Noise, Point, inside, length, smoothstep, sub};
use rand::{Rng, RngExt};

/// What is at one position: shares of a voxel, and distances that other modules need.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tissue {
    /// Cerebrospinal fluid, ventricles included.
    pub(crate) csf: f32,
    /// Cortical grey matter.
    pub(crate) gm: f32,
    /// White matter.
    pub(crate) wm: f32,
    /// Deep grey matter (and brain stem in part).
    pub(crate) deep: f32,
    /// Depth below the brain's outer surface, mm.
    pub(crate) depth: f32,
    /// Distance outside the ventricles, mm; negative inside.
    pub(crate) ventricle: f32,
    /// Distance to the midline fissure, mm, where there is one.
    pub(crate) midline: f32,
    /// Distance to the nearest pial surface (hull, sulcus or fissure), mm.
    pub(crate) pial: f32,
}

/// Signed distances (mm, positive inside) to the parts of the brain.
#[derive(Clone, Copy, Debug)]
struct Hull {
    cerebrum: f32,
    cerebellum: f32,
    stem: f32,
}

impl Hull {
    fn depth(&self) -> f32 {
        self.cerebrum.max(self.cerebellum).max(self.stem)
    }
}

/// A world position as a head sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    p: Point,
    /// Depth below the outer surface, mm; negative outside the brain.
    pub(crate) depth: f32,
    q: Point,
    hull: Hull,
}

/// One person's head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    scale: f32,
    aspect: Point,
    warp: [Noise; 3],
    strip: Noise,
    folds: Noise,
    fine_folds: Noise,
    fold_warp: [Noise; 3],
    fold_depth: Noise,
    folia: Noise,
    sulcus_width: f32,
    ribbon: f32,
    ventricle_size: f32,
    voxel: f32,
}

/// First-order signed distance to an ellipsoid, positive inside.
fn ellipsoid(p: Point, centre: Point, radii: Point) -> f32 {
    let d = sub(p, centre);
    let a = [d[0] / radii[0], d[1] / radii[1], d[2] / radii[2]];
    let k = length(a);
    let g = length([a[0] / radii[0], a[1] / radii[1], a[2] / radii[2]]);
    if g < 1e-6 { radii[0].min(radii[1]).min(radii[2]) } else { k * (1.0 - k) / g }
}

/// Signed distance to a capsule whose radius runs from `ra` to `rb`, positive inside.
fn capsule(p: Point, a: Point, b: Point, ra: f32, rb: f32) -> f32 {
    let (ab, ap) = (sub(b, a), sub(p, a));
    let t = ((ab[0] * ap[0] + ab[1] * ap[1] + ab[2] * ap[2])
        / (ab[0] * ab[0] + ab[1] * ab[1] + ab[2] * ab[2]))
        .clamp(0.0, 1.0);
    let nearest = [a[0] + t * ab[0], a[1] + t * ab[1], a[2] + t * ab[2]];
    ra + t * (rb - ra) - length(sub(p, nearest))
}

/// Share of an interval of extent `v` around `d` that lies within `w` of 0: a thin sheet's part of a voxel.
fn sheet(d: f32, w: f32, v: f32) -> f32 {
    (((d + 0.5 * v).min(w) - (d - 0.5 * v).max(-w)) / v).clamp(0.0, 1.0)
}

impl Head {
    /// Draws a head whose brain has about `volume` ml, sampled at 2 mm.
    pub(crate) fn new(volume: f32, rng: &mut impl Rng) -> Self {
        let mut noise = |wavelength: f32| Noise::new(rng.random(), wavelength);
        let warp = [noise(75.0), noise(75.0), noise(75.0)];
        let fold_warp = [noise(21.0), noise(21.0), noise(21.0)];
        let (strip, folds, fine_folds) = (noise(9.0), noise(21.0), noise(13.5));
        let (fold_depth, folia) = (noise(30.0), noise(16.0));
        let mut head = Self {
            scale: 1.0,
            aspect: [rng.random_range(0.97..1.03), rng.random_range(0.97..1.03), 1.0],
            warp,
            strip,
            folds,
            fine_folds,
            fold_warp,
            fold_depth,
            folia,
            sulcus_width: rng.random_range(0.35..0.85),
            ribbon: rng.random_range(2.5..3.2),
            ventricle_size: rng.random_range(0.75..1.35),
            voxel: 2.0,
        };
        // The volume is a cubic function of the scale: measure once, on a coarse lattice of fixed world positions.
        let measured = lattice(4.0, 1.12).filter(|&p| head.place(p).depth > 0.0).count() as f32 * 0.064;
        head.scale = (volume / measured.max(1.0)).cbrt();
        head
    }

    /// The same head with the partial-volume edges of voxels of `voxel` mm.
    pub(crate) fn sampled_at(self, voxel: f32) -> Self {
        Self { voxel, ..self }
    }

    /// From world to the template the shapes are written in.
    fn template(&self, p: Point) -> Point {
        let s = 1.0 / self.scale;
        let a = self.aspect;
        let w = [self.warp[0].at(p), self.warp[1].at(p), self.warp[2].at(p)];
        // The midline bends less than the outside.
        let side = smoothstep(p[0].abs() / 40.0);
        [
            p[0] * s * a[0] + w[0] * (0.4 + 1.6 * side),
            p[1] * s * a[1] + 1.8 * w[1],
            p[2] * s * a[2] + 1.6 * w[2],
        ]
    }

    fn hull(&self, q: Point) -> Hull {
        let [x, y, z] = q;
        // Narrow in front, wide behind.
        let egg = 1.0 + 0.10 * ((y - 5.0) / 60.0).clamp(-0.7, 0.6);
        let e = [x / egg, y, z];
        let height = if z > 10.0 { 61.0 } else { 30.0 };
        let body = ellipsoid(e, [0.0, 0.0, 10.0], [67.0, 86.0, height]);
        let side = [x.abs(), y, z];
        let temporal = ellipsoid(side, [42.0, -10.0, -19.0], [23.0, 38.0, 21.0]);
        let cerebrum = body.max(temporal);
        let cerebellum = ellipsoid(q, [0.0, 46.0, -33.0], [50.0, 31.0, 25.0]);
        let stem = capsule(q, [0.0, 8.0, -12.0], [0.0, 22.0, -62.0], 16.0, 9.0);
        Hull { cerebrum, cerebellum, stem }
    }

    /// Finds `p` in this head.
    pub(crate) fn place(&self, p: Point) -> Place {
        let q = self.template(p);
        let hull = self.hull(q);
        let d = hull.depth() * self.scale;
        // Skull stripping leaves a slightly ragged surface.
        let depth = if d.abs() < 6.0 { d + 0.5 * self.strip.at(p) } else { d };
        Place { p, depth, q, hull }
    }

    /// Distance outside the ventricular system, in the template; negative inside.
    fn ventricles(&self, q: Point) -> f32 {
        if q[0].abs() > 60.0 || q[2].abs() > 55.0 || q[1].abs() > 90.0 {
            return 30.0;
        }
        let r = self.ventricle_size;
        let s = [q[0].abs(), q[1], q[2]];
        let frontal = [10.0, -34.0, 10.0];
        let body = [9.0, -8.0, 19.0];
        let back = [14.0, 16.0, 19.0];
        let atrium = [25.0, 33.0, 9.0];
        let occipital = [21.0, 58.0, 5.0];
        let temporal = [33.0, 2.0, -16.0];
        let d = capsule(s, frontal, body, 5.5 * r, 5.0 * r)
            .max(capsule(s, body, back, 5.0 * r, 5.5 * r))
            .max(capsule(s, back, atrium, 5.5 * r, 7.0 * r))
            .max(capsule(s, atrium, occipital, 6.5 * r, 2.0 * r))
            .max(capsule(s, atrium, temporal, 5.5 * r, 2.0 * r))
            .max(ellipsoid(q, [0.0, 4.0, 2.0], [2.4 * r, 14.0, 10.0]))
            .max(ellipsoid(q, [0.0, 30.0, -32.0], [7.0 * r, 5.0 * r, 9.0]));
        // The septum keeps the lateral ventricles apart.
        -d.min((q[0].abs() - 1.2).max(2.0 - q[2].max(0.0) * 0.2))
    }

    /// Distance (mm) to the fissure between the hemispheres, and to the Sylvian ones; large where there are none.
    fn fissures(&self, q: Point) -> (f32, f32) {
        let [x, y, z] = q;
        // Below this arch lie the corpus callosum and what it covers.
        let arch = 27.0 - 0.0125 * (y - 2.0) * (y - 2.0);
        let below = (arch - z).max(0.0);
        // In front of the genu and behind the splenium the arch reaches below the ventricles: the fissure is whole.
        let midline = (x * x + 0.5 * below * below).sqrt();
        let level = -9.0 - 0.30 * (y - 0.0);
        let inward = (31.0 - x.abs()).max(0.0);
        let behind = (y - 28.0).max(0.0) + (-34.0 - y).max(0.0);
        let dz = z - level + 3.0 * ((x.abs() - 45.0) / 15.0);
        (midline, (dz * dz + inward * inward + behind * behind).sqrt())
    }

    /// Tissue at a place whose inner anatomy is looked up at `inner` (displaced by a tumour's mass effect).
    pub(crate) fn tissue(&self, place: &Place, inner: Point) -> Tissue {
        let v = self.voxel;
        let depth = place.depth;
        let mut t = Tissue { depth, ventricle: 30.0, midline: 60.0, pial: depth, ..Tissue::default() };
        if depth <= 0.0 {
            return t;
        }
        let k = self.scale;
        let (q, hull) = if inner == place.p {
            (place.q, place.hull)
        } else {
            // The warp hardly changes over a displacement of millimetres.
            let shift = sub(inner, place.p);
            let q = [0, 1, 2].map(|i| place.q[i] + shift[i] * self.aspect[i] / k);
            (q, self.hull(q))
        };
        t.ventricle = self.ventricles(q) * k;
        if hull.cerebellum > hull.cerebrum && hull.cerebellum > hull.stem - 4.0 {
            self.cerebellum(&mut t, q, &hull, inner);
        } else if hull.stem > hull.cerebrum {
            t.pial = depth;
            let rim = inside(depth - 1.0, v);
            t.csf = 1.0 - rim;
            t.wm = 0.65 * rim;
            t.deep = 0.35 * rim;
        } else {
            self.cerebrum(&mut t, q, &hull, inner);
        }
        let fluid = inside(-t.ventricle, v);
        let rest = 1.0 - fluid;
        t.gm *= rest;
        t.wm *= rest;
        t.deep *= rest;
        t.csf = t.csf * rest + fluid;
        t
    }

    fn cerebellum(&self, t: &mut Tissue, q: Point, hull: &Hull, p: Point) {
        let v = self.voxel;
        // The tentorium: fluid where cerebrum and cerebellum meet.
        let seam = (hull.cerebellum - hull.cerebrum) * 0.5;
        t.pial = t.depth.min(seam);
        let core = smoothstep((hull.cerebellum - 9.0 + 3.0 * self.folia.at(p)) / 4.0);
        let phase = (q[2] + 0.5 * q[1] + 2.5 * self.folia.at(p)) * (std::f32::consts::TAU / 5.5);
        // Folia finer than the voxel average out.
        let leaf = 0.5 + 0.5 * phase.cos() * if v > 1.5 { 0.6 } else { 1.0 };
        let fluid = (1.0 - inside(t.pial - 1.1, v)).max(0.22 * (1.0 - leaf) * (1.0 - core));
        let solid = 1.0 - fluid;
        t.csf = fluid;
        t.wm = solid * core.max(0.35 * leaf);
        t.gm = solid - t.wm;
    }

    fn cerebrum(&self, t: &mut Tissue, q: Point, hull: &Hull, p: Point) {
        let v = self.voxel;
        let k = self.scale;
        let (midline, sylvian) = self.fissures(q);
        let (midline, sylvian) = (midline * k, sylvian * k);
        t.midline = midline;
        let seam = (hull.cerebrum - hull.cerebellum.max(hull.stem - 3.0)) * 0.5 * k;
        let outer = t.depth.min(if q[2] < 6.0 { seam } else { f32::MAX });
        let surface = outer.min(midline).min(sylvian);
        let mut sulcus = f32::MAX;
        if surface < 24.0 {
            // Drawn towards the hull, positions along one ray share their fold: sulci run inwards.
            let centre = [0.0, 0.0, 4.0];
            let d = sub(p, centre);
            let pull = (62.0 / length(d).max(8.0)).powf(0.7);
            let mut f = [d[0] * pull, d[1] * pull, d[2] * pull];
            for (value, warp) in f.iter_mut().zip(&self.fold_warp) {
                *value += 3.2 * warp.at(p);
            }
            let deepest = 15.0 + 4.5 * self.fold_depth.at(p);
            let over = (surface - deepest).max(0.0);
            let main = self.folds.zero_distance(f) / pull;
            let minor = self.fine_folds.zero_distance(f) / pull;
            let over_minor = (surface - 0.6 * deepest).max(0.0);
            sulcus = (main * main + over * over).sqrt().min((minor * minor + over_minor * over_minor).sqrt());
        }
        // Sulci gape at the surface and close inwards.
        let w = self.sulcus_width * (0.55 + 0.9 * (1.0 - surface / 14.0).clamp(0.0, 1.0));
        t.pial = surface.min(sulcus);
        let fluid = (1.0 - inside(outer - 0.7, v))
            .max(sheet(sulcus, w, v))
            .max(sheet(midline, 0.9, v))
            .max(sheet(sylvian, 1.3, v));
        let ribbon = self.ribbon;
        let to_grey = (outer - 0.7).min(sulcus - w).min(midline - 0.9).min(sylvian - 1.3);
        // The callosum crosses the midline as white matter.
        let crossing = if midline > 5.0 { 1.0 } else { smoothstep((midline - 1.0) / 2.0).max(0.0) };
        let grey =
            (1.0 - inside(to_grey - ribbon, v)) * if to_grey == midline - 0.9 { 1.0 } else { crossing };
        let side = [q[0].abs(), q[1], q[2]];
        let nuclei = ellipsoid(side, [24.0, -4.0, 5.0], [6.5, 17.0, 10.0])
            .max(ellipsoid(side, [10.0, 12.0, 8.0], [8.5, 14.0, 9.0]))
            .max(capsule(side, [15.5, -26.0, 10.0], [17.0, 4.0, 21.0], 5.5, 2.5));
        let deep = inside(nuclei * k, 1.5 * v);
        let solid = 1.0 - fluid;
        t.csf = fluid;
        t.gm = solid * grey;
        t.deep = (solid - t.gm) * deep;
        t.wm = solid - t.gm - t.deep;
    }
}

/// True where no brain of this crate reaches: saves looking.
pub(crate) fn out_of_reach(p: Point) -> bool {
    let [x, y, z] = [p[0] / 86.0, p[1] / 108.0, p[2] / 92.0];
    x * x + y * y + z * z > 1.0
}

/// Lattice of world positions covering `extent` times a brain, independent of the sampling.
pub(crate) fn lattice(step: f32, extent: f32) -> impl Iterator<Item = Point> {
    let n = |half: f32| (half * extent / step) as i32;
    let (nx, ny, nz) = (n(75.0), n(92.0), n(76.0));
    (-nz..=nz)
        .flat_map(move |z| {
            (-ny..=ny).flat_map(move |y| {
                (-nx..=nx).map(move |x| [x as f32 * step, y as f32 * step, z as f32 * step])
            })
        })
        .filter(|&p| !out_of_reach(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn volume_is_met_and_shares_sum_to_one() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let head = Head::new(1400.0, &mut rng);
        let mut count = 0;
        for p in lattice(3.0, 1.2) {
            let t = head.tissue(&head.place(p), p);
            if t.depth > 0.0 {
                count += 1;
                let sum = t.csf + t.gm + t.wm + t.deep;
                assert!((sum - 1.0).abs() < 1e-4, "{t:?} at {p:?}");
                assert!(t.csf >= 0.0 && t.gm >= -1e-6 && t.wm >= -1e-6 && t.deep >= 0.0);
            }
        }
        let volume = count as f32 * 0.027;
        assert!((volume / 1400.0 - 1.0).abs() < 0.05, "{volume}");
    }

    #[test]
    fn ellipsoid_distance_is_exact_on_a_sphere() {
        for r in [0.5f32, 3.0, 9.0] {
            let d = ellipsoid([r, 0.0, 0.0], [0.0; 3], [5.0; 3]);
            assert!((d - (5.0 - r)).abs() < 1e-4);
        }
    }

    #[test]
    fn a_thin_sheet_fills_its_share_of_a_voxel() {
        assert!((sheet(0.0, 0.25, 2.0) - 0.25).abs() < 1e-6);
        assert!((sheet(0.0, 3.0, 2.0) - 1.0).abs() < 1e-6);
        assert!(sheet(5.0, 3.0, 2.0) == 0.0);
    }
}
