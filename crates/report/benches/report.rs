//! Times a figure of Table 1's size and a page around it, one JSON line a case.

use std::time::Instant;

use ndarray::Array2;
use scribseg_report::{Figure, FigureCase, FigureImage, FigureKind, Panel, ReportData, figure, html};

fn bench(name: &str, rounds: usize, mut run: impl FnMut()) {
    run();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{{\"bench\":\"report/{name}\",\"device\":\"cpu\",\"threads\":1,\"ours_ms\":{:.3},\"peer\":null,\"peer_ms\":null,\"ratio\":null}}",
        times[times.len() / 2]
    );
}

fn disc(centre: f32, radius: f32) -> Array2<u8> {
    Array2::from_shape_fn((192, 192), |(y, x)| {
        let d = (y as f32 - centre).hypot(x as f32 - centre);
        u8::from(d < radius) + u8::from(d < 0.7 * radius)
    })
}

fn main() -> Result<(), scribseg_report::Error> {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some();
    let (rows, rounds) = if quick { (1, 3) } else { (4, 9) };
    let image = Array2::from_shape_fn((192, 192), |(y, x)| {
        let inside = (y as f32 - 96.0).hypot(x as f32 - 96.0) < 80.0;
        if inside { 2.0 + (y as f32 / 7.0).sin() * (x as f32 / 5.0).cos() } else { 0.0 }
    });
    let case = |slice| FigureCase {
        id: "case".into(),
        slice,
        image: image.clone(),
        window: None,
        reference: disc(90.0, 30.0),
        panels: (0..5u8)
            .map(|m| Panel {
                method: format!("method {m}"),
                prediction: disc(90.0 + f32::from(m), 29.0),
                dice: 0.9,
            })
            .collect(),
    };
    let data = Figure {
        title: "Figure".into(),
        kind: FigureKind::Substructures,
        cases: (0..rows).map(case).collect(),
    };
    let png = figure(&data)?;
    bench(&format!("figure/{rows}x5"), rounds, || drop(std::hint::black_box(figure(&data))));
    let page = ReportData {
        figures: vec![FigureImage { title: "Figure".into(), png, ..FigureImage::default() }],
        ..ReportData::default()
    };
    bench("html/one-figure", rounds, || drop(std::hint::black_box(html(&page))));
    Ok(())
}
