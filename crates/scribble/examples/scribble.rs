//! Draws the scribbles of one slice: tumour `o`, healthy brain `.`, scribbles `#` and `+`.

use ndarray::Array3;
use scribseg_scribble::{Error, HEALTHY, Params, TUMOUR, labelled_fraction, simulate};

fn main() -> Result<(), Error> {
    let inside = |y: usize, x: usize, centre: (f64, f64), radii: (f64, f64)| {
        ((y as f64 - centre.0) / radii.0).hypot((x as f64 - centre.1) / radii.1) < 1.0
    };
    // Voxels are 2 mm high and 1 mm wide, which also suits a terminal's characters.
    let brain = Array3::from_shape_fn((1, 60, 110), |(_, y, x)| inside(y, x, (30.0, 55.0), (29.0, 52.0)));
    let tumour = Array3::from_shape_fn((1, 60, 110), |(_, y, x)| inside(y, x, (20.0, 38.0), (9.0, 24.0)));
    let scribbles = simulate(tumour.view(), brain.view(), [1.0, 2.0, 1.0], &Params::default(), 5)?;
    for y in 0..60 {
        let line: String = (0..110)
            .map(|x| match (scribbles[[0, y, x]], tumour[[0, y, x]], brain[[0, y, x]]) {
                (TUMOUR, _, _) => '#',
                (HEALTHY, _, _) => '+',
                (_, true, _) => 'o',
                (_, _, true) => '.',
                _ => ' ',
            })
            .collect();
        println!("{}", line.trim_end());
    }
    for (name, region) in [("tumour", &tumour), ("brain", &brain)] {
        if let Some(share) = labelled_fraction(scribbles.view(), region.view())? {
            println!("marked of the {name}: {:.1} %", 100.0 * share);
        }
    }
    Ok(())
}
