//! Draws Figures 2 and 3 of made-up brains into the folder given (default: the current one).

use ndarray::Array2;
use scribseg_report::{Figure, FigureCase, FigureKind, Panel, figure};

/// A disc-shaped brain with some texture, 0 outside.
fn brain(seed: f32) -> Array2<f32> {
    Array2::from_shape_fn((192, 192), |(y, x)| {
        let (u, v) = ((x as f32 - 96.0) / 62.0, (y as f32 - 96.0) / 78.0);
        let radius = u.hypot(v);
        if radius > 1.0 {
            return 0.0;
        }
        let folds = (9.0 * u + 3.0 * (5.0 * v + seed).sin()).sin() * (8.0 * v + 2.0 * (6.0 * u).cos()).cos();
        let ventricle = f32::from(u8::from((u.abs() - 0.12).hypot(0.6 * v) < 0.12));
        1.0 + 0.25 * folds - 0.5 * ventricle + 0.3 * radius.powi(6)
    })
}

/// Nested blobs of oedema (2), enhancing rim (3) and necrosis (1).
fn tumour(centre: [f32; 2], size: f32, wobble: f32) -> Array2<u8> {
    Array2::from_shape_fn((192, 192), |(y, x)| {
        let (dy, dx) = (y as f32 - centre[0], x as f32 - centre[1]);
        let angle = dy.atan2(dx);
        let radius =
            dy.hypot(dx) / (size * (1.0 + 0.18 * (3.0 * angle + wobble).sin() + 0.08 * (7.0 * angle).cos()));
        match radius {
            r if r < 0.3 => 1,
            r if r < 0.55 => 3,
            r if r < 1.0 => 2,
            _ => 0,
        }
    })
}

fn dice(a: &Array2<u8>, b: &Array2<u8>, inside: impl Fn(u8) -> bool) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| inside(**a) && inside(**b)).count();
    let each = a.iter().chain(b).filter(|v| inside(**v)).count();
    2.0 * both as f64 / each as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let whole = ["Full", "SC", "SC+CRF", "SC+GC", "SC+GC+CRF"];
    let parts = ["Full", "KM", "KM+SC+CRF"];
    let draw = |kind, title: &str, methods: &[&str]| {
        let cases = (0..3u8).map(|i| {
            let t = f32::from(i);
            let centre = [80.0 + 14.0 * t, 118.0 - 20.0 * t];
            let reference = tumour(centre, 26.0 + 5.0 * t, t);
            let mut image = brain(t);
            image.zip_mut_with(&reference, |v, label| *v += [0.0, -0.2, 0.5, 0.9][usize::from(*label)]);
            let panels = methods.iter().enumerate().map(|(m, method)| {
                let off = m as f32;
                let prediction =
                    tumour([centre[0] + off, centre[1] - 1.5 * off], 26.0 + 5.0 * t - off, t + 0.3 * off);
                let dice = dice(&reference, &prediction, |v| v > 0);
                Panel { method: (*method).into(), prediction, dice }
            });
            let id = format!("phantom-{:03}", 7 * i + 1);
            let panels = panels.collect();
            FigureCase { id, slice: 70 + usize::from(i), image, window: None, reference, panels }
        });
        figure(&Figure { title: title.into(), kind, cases: cases.collect() })
    };
    let second = draw(FigureKind::WholeTumour, "Figure 2: whole tumour by training method", &whole)?;
    let third = draw(FigureKind::Substructures, "Figure 3: sub-structures by training method", &parts)?;
    for (name, png) in [("fig2.png", second), ("fig3.png", third)] {
        let path = std::path::Path::new(&folder).join(name);
        std::fs::write(&path, &png)?;
        println!("{} ({} kB)", path.display(), png.len() / 1024);
    }
    Ok(())
}
