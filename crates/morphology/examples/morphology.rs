//! A disc with a stalk: its core, skeleton, centre line and depth.

use ndarray::Array2;
use scribseg_morphology::{Error, distance_transform, erode, longest_path, skeletonize};

fn main() -> Result<(), Error> {
    let mask = Array2::from_shape_fn((24, 48), |(y, x)| {
        let (dy, dx) = (y as f64 - 12.0, x as f64 - 14.0);
        dy.hypot(dx) < 10.0 || (y.abs_diff(12) <= 2 && (14..44).contains(&x))
    });
    let core = erode(mask.view(), &[5, 5])?;
    let path = longest_path(skeletonize(mask.view()).view());
    let depth = distance_transform(mask.view(), &[1.0, 1.0])?;

    let mut picture = mask.mapv(|set| if set { '.' } else { ' ' });
    picture.zip_mut_with(&core, |symbol, &inside| {
        if inside {
            *symbol = 'o';
        }
    });
    for &pixel in &path {
        picture[pixel] = '#';
    }
    for row in picture.rows() {
        println!("{}", row.iter().collect::<String>());
    }
    println!("centre line: {} pixels", path.len());
    println!("greatest depth: {:.2}", depth.iter().copied().fold(0.0, f64::max));
    Ok(())
}
