//! Measures two predictions of a made-up tumour and prints `metrics.json` and `metrics.csv`.

use ndarray::Array3;
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
    let reference = tumour([40.0, 30.0, 30.0], 18.0);
    let spacing = [2.0, 1.0, 1.0];
    let moved =
        evaluate_case(reference.view(), tumour([40.0, 33.0, 30.0], 18.0).view(), spacing)?.named("moved");
    let shrunk =
        evaluate_case(reference.view(), tumour([40.0, 30.0, 30.0], 14.0).view(), spacing)?.named("shrunk");
    let evaluation = summarise(&[moved, shrunk], EmptyPolicy::Brats, "internal");
    println!("{}", serde_json::to_string_pretty(&evaluation)?);
    println!("{}", evaluation.to_csv());
    Ok(())
}
