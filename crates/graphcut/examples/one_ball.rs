//! A made-up brain with one bright ball, a stroke on the ball and one on the rest: prints what the cut finds.

use ndarray::{Array3, Array4, s};
use scribseg_graphcut::{Error, HEALTHY, Params, TUMOUR, propagate};

fn main() -> Result<(), Error> {
    let shape = (48, 80, 72);
    let within = |at: [usize; 3], centre: [f64; 3], radius: [f64; 3]| {
        (0..3).map(|a| ((at[a] as f64 - centre[a]) / radius[a]).powi(2)).sum::<f64>() <= 1.0
    };
    let brain =
        Array3::from_shape_fn(shape, |(z, y, x)| within([z, y, x], [24.0, 40.0, 36.0], [22.0, 38.0, 34.0]));
    let ball =
        Array3::from_shape_fn(shape, |(z, y, x)| within([z, y, x], [26.0, 50.0, 46.0], [10.0, 12.0, 9.0]));
    // A cheap, repeatable texture stands in for noise.
    let image = Array4::from_shape_fn((1, shape.0, shape.1, shape.2), |(_, z, y, x)| {
        let hash = (z * 73_856_093) ^ (y * 19_349_663) ^ (x * 83_492_791);
        let noise = (hash % 1000) as f32 / 500.0 - 1.0;
        if brain[[z, y, x]] { noise + if ball[[z, y, x]] { 2.0 } else { 0.0 } } else { 0.0 }
    });
    let mut scribble = Array3::zeros(shape);
    scribble.slice_mut(s![26, 49..52, 42..50]).fill(TUMOUR);
    scribble.slice_mut(s![26, 20..60, 16..19]).fill(HEALTHY);

    let found = propagate(image.view(), brain.view(), scribble.view(), [1.0; 3], &Params::default())?;
    let both = found.cut.iter().zip(&ball).filter(|(c, b)| **c == TUMOUR && **b).count();
    let cut = found.cut.iter().filter(|c| **c == TUMOUR).count();
    let true_size = ball.iter().filter(|b| **b).count();
    println!("{} supervoxels, energies {:.0?}", found.supervoxels, found.energies);
    println!("Dice of the cut: {:.3}", 2.0 * both as f64 / (cut + true_size) as f64);
    for (class, name) in [(TUMOUR, "tumour"), (HEALTHY, "healthy")] {
        println!("weak {name}: {} voxels", found.weak.iter().filter(|w| **w == class).count());
    }
    Ok(())
}
