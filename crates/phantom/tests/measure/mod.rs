//! Figures of a cohort: what the crate's tests hold it to, and what its example prints.

use ndarray::{Array4, Axis};
use scribseg_phantom::Case;

/// z-scores per modality over the brain (non-zero in any modality); 0 outside.
pub(crate) fn z_score(case: &Case) -> (Array4<f32>, Vec<bool>) {
    let n = case.labels.len();
    let mut brain = vec![false; n];
    for m in case.modalities.outer_iter() {
        brain.iter_mut().zip(&m).for_each(|(b, &v)| *b |= v != 0.0);
    }
    let mut z = case.modalities.clone();
    for mut m in z.axis_iter_mut(Axis(0)) {
        let inside: Vec<f64> = m.iter().zip(&brain).filter(|v| *v.1).map(|v| f64::from(*v.0)).collect();
        let (mean, sd) = moments(&inside);
        for (v, &b) in m.iter_mut().zip(&brain) {
            *v = if b { ((f64::from(*v) - mean) / sd) as f32 } else { 0.0 };
        }
    }
    (z, brain)
}

/// Mean and (population) standard deviation.
pub(crate) fn moments(v: &[f64]) -> (f64, f64) {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    (mean, (v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt())
}

/// One case's figures.
pub(crate) struct Figures {
    /// Volumes in ml: brain, NCR/NET, ED, ET.
    pub(crate) ml: [f64; 4],
    /// Extent of the tumour along z, mm.
    pub(crate) height: f64,
    /// Mean and standard deviation by label (0–3) and modality, where a label has 20 voxels.
    pub(crate) signal: [[Option<(f64, f64)>; 4]; 4],
    /// Whole-tumour Dice of FLAIR thresholds 0, 0.1, … 4.
    pub(crate) threshold: Vec<f64>,
    /// Best Dice of a T1ce threshold for ET inside the whole tumour.
    pub(crate) enhancing: Option<f64>,
}

/// Dice of `value ≥ t` for t = 0, 0.1, … 5 from (value, truth) pairs.
fn threshold_dice(pairs: impl Iterator<Item = (f32, bool)>, top: f32) -> Vec<f64> {
    let bins = (top * 10.0).round() as usize + 1;
    let (mut hit, mut all, mut positives) = (vec![0u64; bins + 1], vec![0u64; bins + 1], 0u64);
    for (v, truth) in pairs {
        positives += u64::from(truth);
        if v >= 0.0 {
            let b = ((v * 10.0).floor() as usize).min(bins);
            all[b] += 1;
            hit[b] += u64::from(truth);
        }
    }
    let (mut h, mut a) = (0, 0);
    let mut out = vec![0.0; bins];
    for b in (0..=bins).rev() {
        h += hit[b];
        a += all[b];
        if b < bins {
            out[b] = 2.0 * h as f64 / (a + positives) as f64;
        }
    }
    out
}

/// Measures one case.
pub(crate) fn measure(case: &Case) -> Figures {
    let (z, brain) = z_score(case);
    let labels: Vec<u8> = case.labels.iter().copied().collect();
    let cell = case.spacing.iter().product::<f64>() / 1000.0;
    let m: Vec<Vec<f32>> = z.outer_iter().map(|v| v.iter().copied().collect()).collect();
    let count = |l: u8| labels.iter().filter(|&&x| x == l).count() as f64 * cell;
    let ml = [brain.iter().filter(|&&b| b).count() as f64 * cell, count(1), count(2), count(3)];
    let tall = case.labels.outer_iter().filter(|s| s.iter().any(|&l| l > 0)).count();
    let mut signal = [[None; 4]; 4];
    for (l, row) in signal.iter_mut().enumerate() {
        for (k, out) in row.iter_mut().enumerate() {
            let v: Vec<f64> = (0..labels.len())
                .filter(|&i| brain[i] && labels[i] as usize == l)
                .map(|i| f64::from(m[k][i]))
                .collect();
            *out = (v.len() >= 20).then(|| moments(&v));
        }
    }
    let threshold =
        threshold_dice((0..labels.len()).filter(|&i| brain[i]).map(|i| (m[3][i], labels[i] > 0)), 4.0);
    let enhancing = (ml[3] > 0.0).then(|| {
        let inside = (0..labels.len()).filter(|&i| labels[i] > 0);
        threshold_dice(inside.map(|i| (m[1][i], labels[i] == 3)), 5.0).into_iter().fold(0.0, f64::max)
    });
    Figures { ml, height: tall as f64 * case.spacing[0], signal, threshold, enhancing }
}

/// A cohort's figures for one tissue and modality: mean of case means, their standard deviation, mean deviation within a case.
pub(crate) fn across(cohort: &[Figures], label: usize, modality: usize) -> (f64, f64, f64) {
    let found: Vec<(f64, f64)> = cohort.iter().filter_map(|f| f.signal[label][modality]).collect();
    let (mean, sd) = moments(&found.iter().map(|f| f.0).collect::<Vec<_>>());
    (mean, sd, moments(&found.iter().map(|f| f.1).collect::<Vec<_>>()).0)
}

/// Best single FLAIR threshold over a cohort and its mean whole-tumour Dice.
pub(crate) fn best_threshold(cohort: &[Figures]) -> (f64, f64) {
    let n = cohort[0].threshold.len();
    (0..n)
        .map(|t| (t as f64 / 10.0, cohort.iter().map(|f| f.threshold[t]).sum::<f64>() / cohort.len() as f64))
        .fold((0.0, 0.0), |best, x| if x.1 > best.1 { x } else { best })
}
