//! What a case promises whatever its contents.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use ndarray::s;
use scribseg_phantom::{Size, generate_case};

#[test]
fn the_same_bytes_at_any_thread_count() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generate_case(5, 77, Size::Half))
    };
    let (a, b) = (on(1), on(3));
    assert_eq!(a.modalities, b.modalities);
    assert_eq!(a.labels, b.labels);
    assert_eq!(a.id, "phantom_0005");
}

#[test]
fn index_and_seed_both_matter() {
    let base = generate_case(0, 1, Size::Half);
    assert_ne!(base.labels, generate_case(1, 1, Size::Half).labels);
    assert_ne!(base.labels, generate_case(0, 2, Size::Half).labels);
}

#[test]
fn zero_outside_the_brain_and_positive_inside() {
    let case = generate_case(2, 5, Size::Half);
    for (index, &label) in case.labels.indexed_iter() {
        let v: Vec<f32> = (0..4).map(|m| case.modalities[[m, index.0, index.1, index.2]]).collect();
        let inside = v[0] > 0.0;
        assert!(v.iter().all(|&x| if inside {
            x >= 1.0 && x.fract() == 0.0 && x < 32_767.0
        } else {
            x == 0.0
        }));
        assert!(label <= 3 && (label == 0 || inside));
    }
    // Nothing touches the border of the field of view.
    let m = case.modalities.slice(s![0, .., .., ..]);
    let [nz, ny, nx] = Size::Half.shape();
    assert!(m.slice(s![.., 0, ..]).iter().chain(m.slice(s![.., ny - 1, ..])).all(|&v| v == 0.0));
    assert!(m.slice(s![.., .., 0]).iter().chain(m.slice(s![.., .., nx - 1])).all(|&v| v == 0.0));
    assert!(m.slice(s![nz - 1, .., ..]).iter().all(|&v| v == 0.0));
}

/// The two indices of `Full` that index `i` of `Half` covers.
fn pair(i: usize) -> std::ops::Range<usize> {
    2 * i..2 * i + 2
}

#[test]
fn half_is_the_same_anatomy_at_two_millimetres() {
    let half = generate_case(2, 1, Size::Half);
    let full = generate_case(2, 1, Size::Full);
    assert_eq!(full.labels.shape(), Size::Full.shape());
    let scale = |m: usize| {
        let mean = |v: ndarray::ArrayView3<f32>| {
            let (n, s) =
                v.iter().filter(|&&x| x > 0.0).fold((0.0, 0.0), |(n, s), &x| (n + 1.0, s + f64::from(x)));
            (s / n, n)
        };
        let ((a, na), (b, nb)) =
            (mean(full.modalities.slice(s![m, .., .., ..])), mean(half.modalities.slice(s![m, .., .., ..])));
        (b / a, nb * 8.0 / na)
    };
    for m in 0..4 {
        let (mean, volume) = scale(m);
        assert!((mean - 1.0).abs() < 0.03, "mean of modality {m}: {mean}");
        assert!((volume - 1.0).abs() < 0.02, "brain: {volume}");
    }
    // Labels: blocks of eight against one voxel.
    for label in 1..=3u8 {
        let (mut both, mut sum) = (0.0, 0.0);
        for ((z, y, x), &l) in half.labels.indexed_iter() {
            let block = full.labels.slice(s![pair(z), pair(y), pair(x)]);
            let share = block.iter().filter(|&&v| v == label).count() as f64 / 8.0;
            let here = f64::from(u8::from(l == label));
            both += share.min(here);
            sum += share + here;
        }
        let dice = 2.0 * both / sum;
        assert!(dice > 0.85, "label {label}: {dice}");
    }
    // Intensities: block means against one voxel, by their correlation inside the brain.
    for m in 0..4 {
        let (mut n, mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0f64);
        for ((z, y, x), &b) in half.modalities.slice(s![m, .., .., ..]).indexed_iter() {
            let block = full.modalities.slice(s![m, pair(z), pair(y), pair(x)]);
            if b > 0.0 && block.iter().all(|&v| v > 0.0) {
                let (a, b) = (f64::from(block.sum()) / 8.0, f64::from(b));
                n += 1.0;
                sa += a;
                sb += b;
                saa += a * a;
                sbb += b * b;
                sab += a * b;
            }
        }
        let r = (sab - sa * sb / n) / ((saa - sa * sa / n) * (sbb - sb * sb / n)).sqrt();
        assert!(r > 0.85, "modality {m}: {r}");
    }
}
