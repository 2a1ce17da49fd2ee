//! The images of the benches.

/// Rows and columns.
pub(crate) const SIDE: usize = 192;

/// Tissue, a lesion and a little noise, three channels on a 0–255 scale.
pub(crate) fn image(seed: usize) -> Vec<f32> {
    (0..3 * SIDE * SIDE)
        .map(|i| {
            let (c, p) = (i / (SIDE * SIDE), i % (SIDE * SIDE));
            let (y, x) = ((p / SIDE) as f32 - 96.0, (p % SIDE) as f32 - 96.0);
            let tissue = if (x / 13.0 + seed as f32).sin() + (y / 17.0).cos() > 0.2 {
                150.0
            } else {
                110.0 - 20.0 * c as f32
            };
            let lesion = if y.hypot(x - 30.0) < 25.0 { 60.0 } else { 0.0 };
            let noise = ((i * 2_654_435_761) >> 7 & 15) as f32 - 7.5;
            if y.hypot(x) < 85.0 { tissue + lesion + noise } else { 0.0 }
        })
        .collect()
}
