//! Prints one line a case: grid, spacing, orientation, brain and tumour volume. Without an argument it writes a tiny
//! cohort to a temporary folder first and summarises that.

use ndarray::{Array3, Array4};
use scribseg_io::{Cohort, Geometry, Presence, check, read_geometry, write_case};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let made = std::env::temp_dir().join(format!("scribseg-summary-{}", std::process::id()));
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => folder.into(),
        None => {
            let grid = Geometry::from_spacing([12, 16, 16], [1.0; 3]).ok_or("spacing")?;
            let labels =
                Array3::from_shape_fn((12, 16, 16), |(z, y, x)| u8::from(z > 4 && y > 8 && x > 8) * 2);
            let images = Array4::from_shape_fn((4, 12, 16, 16), |(c, z, _, x)| (x + z + 10 * c) as f32);
            write_case(&made, "example_001", images.view(), Some(labels.view()), &grid)?;
            made.clone()
        }
    };
    let cohort = Cohort::open(&folder, None)?;
    println!(
        "{}: {} cases, layout {}, labels {}",
        folder.display(),
        cohort.cases.len(),
        cohort.layout,
        cohort.scheme.describe()
    );
    for case in &cohort.cases {
        let loaded = case.load()?;
        let millilitres = loaded.geometry.spacing().iter().product::<f64>() / 1000.0;
        let brain = loaded.brain.iter().filter(|&&inside| inside).count() as f64 * millilitres;
        print!(
            "{} shape {:?} spacing {:?} mm, file axes {}, brain {brain:.1} ml",
            case.id,
            loaded.geometry.shape(),
            loaded.geometry.spacing(),
            read_geometry(&case.paths[0])?.orientation(),
        );
        if let Some(labels) = &loaded.reference {
            let tumour = labels.iter().filter(|&&code| code > 0).count() as f64 * millilitres;
            print!(", tumour {tumour:.1} ml, {:?}", Presence::from_labels(labels.view()));
        }
        println!();
    }
    println!("{} faults", check(&cohort).len());
    if made.exists() {
        std::fs::remove_dir_all(&made)?;
    }
    Ok(())
}
