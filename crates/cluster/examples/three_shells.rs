//! A made-up tumour of three shells with noise: prints how much of each shell k-means finds.

use ndarray::{Array3, Array4};
use scribseg_cluster::{ED, ET, Error, NCR, Params, Presence, kmeans};

fn main() -> Result<(), Error> {
    let depth = |z: usize, y: usize, x: usize| {
        [z, y, x].iter().map(|&p| (p as f64 - 24.0).powi(2)).sum::<f64>().sqrt()
    };
    let truth = Array3::from_shape_fn((49, 49, 49), |(z, y, x)| match depth(z, y, x) {
        d if d < 8.0 => NCR,
        d if d < 12.0 => ET,
        d if d < 22.0 => ED,
        _ => 0,
    });
    // A cheap, repeatable texture stands in for noise.
    let modalities = Array4::from_shape_fn((4, 49, 49, 49), |(m, z, y, x)| {
        let hash = (z * 73_856_093) ^ (y * 19_349_663) ^ (x * 83_492_791) ^ (m * 2_654_435_761);
        let noise = (hash % 1000) as f32 / 500.0 - 1.0;
        let means = match truth[[z, y, x]] {
            NCR => [-0.2, -0.1, 1.8, 1.9],
            ET => [0.4, 2.6, 1.3, 2.1],
            _ => [0.2, 0.1, 0.9, 1.8],
        };
        means[m] + noise
    });
    let wt = truth.mapv(|label| label != 0);
    let presence = Presence { ncr: Some(true), ed: Some(true), et: Some(true) };
    let found = kmeans(modalities.view(), wt.view(), presence, [1.0; 3], &Params::default(), 1)?;
    println!("{} clusters, inertia {:.0}", found.k, found.inertia);
    for (label, name) in [(NCR, "NCR/NET"), (ED, "ED"), (ET, "ET")] {
        let count = |a: &Array3<u8>| a.iter().filter(|l| **l == label).count();
        let both = found.labels.iter().zip(&truth).filter(|(f, t)| **f == label && **t == label).count();
        println!(
            "{name}: Dice {:.3}",
            2.0 * both as f64 / (count(&found.labels) + count(&truth)).max(1) as f64
        );
    }
    Ok(())
}
