//! Measures two predictions of made-up tumours, compares them, and prints `metrics.json` and `metrics.csv`.

use ndarray::Array3;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scribseg_metrics::{EmptyPolicy, evaluate_case, summarise};

/// A ball of oedema with an enhancing core, around `[z, y, x]` in mm.
fn tumour(centre: [f64; 3], radius: f64) -> Array3<u8> {
    Array3::from_shape_fn((40, 64, 64), |(z, y, x)| {
        let d = ((2.0 * z as f64 - centre[0]).powi(2)
            + (y as f64 - centre[1]).powi(2)
            + (x as f64 - centre[2]).powi(2))
        .sqrt();
        if d < radius / 2.0 {
            3
        } else if d < radius {
            2
        } else {
            0
        }
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spacing = [2.0, 1.0, 1.0];
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    // Tumours of rising size, each predicted a little aside and a little small.
    let (mut moved, mut shrunk) = (Vec::new(), Vec::new());
    for (scan, radius) in [10.0, 13.0, 16.0, 19.0].into_iter().enumerate() {
        let reference = tumour([40.0, 30.0, 30.0], radius);
        let measure = |prediction: Array3<u8>| {
            Ok::<_, scribseg_metrics::Error>(
                evaluate_case(reference.view(), prediction.view(), spacing)?.named(format!("scan-{scan}")),
            )
        };
        moved.push(measure(tumour([40.0, 33.0, 30.0], radius))?);
        shrunk.push(measure(tumour([40.0, 30.0, 30.0], radius - 1.5))?);
    }
    let shrunk = summarise(&shrunk, EmptyPolicy::Brats, "internal");
    let mut moved = summarise(&moved, EmptyPolicy::Brats, "internal").with_intervals(1, &mut generator);
    moved.comparison = Some(moved.compared_with(&shrunk, "shrunk", &mut generator));
    println!("{}", serde_json::to_string_pretty(&moved)?);
    println!("{}", moved.to_csv());
    Ok(())
}
