//! Writes a report of made-up results, `report.html`, into the folder given (default: the current one).

use scribseg_report::{
    CaseRow, Curve, Distribution, Figure, FigureCase, FigureImage, FigureKind, Figures, LabelScheme, Metrics,
    PAPER, Panel, Pooled, Preset, RegionFigures, RegionScores, RegionTable, ReportData, Row, ScanSlices,
    Slice, Stage, Table1, figure, html,
};

fn region(mean: f64, empty: usize) -> RegionFigures {
    let around = |mean: f64, std| Distribution {
        mean: Some(mean),
        median: Some(mean * 1.02),
        std: Some(std),
        n: 12,
        empty,
        ci95: Some([mean * 0.94, mean * 1.05]),
    };
    RegionFigures {
        dice: around(mean, 0.08),
        precision: Some(mean + 0.05),
        recall: Some(mean - 0.02),
        hd95: around(9.0 / mean, 4.2),
        lesion_dice: around(mean - 0.1, 0.15),
        lesion_hd95: around(14.0 / mean, 20.0),
        volume_error_ml: around(-4.2, 9.0),
        pooled: Pooled { dice: Some(mean + 0.01) },
    }
}

fn table() -> Table1 {
    let rows = PAPER.iter().map(|paper| {
        let lower = |v: f64| v - 0.02;
        let wt = match (paper.recall, paper.precision) {
            (Some(recall), Some(precision)) => {
                Figures::pooled(lower(paper.wt), lower(recall), lower(precision))
            }
            _ => Figures::dice(lower(paper.wt)),
        };
        let dice = |v: Option<f64>| v.map(|v| Figures::dice(lower(v)));
        let (tc, et) = (dice(paper.tc), dice(paper.et));
        Row {
            phase: paper.phase,
            method: paper.method.into(),
            wt: Some(wt),
            tc,
            et,
            seconds: Some(1000.0 * paper.wt),
        }
    });
    Table1 { preset: "phantom".into(), cohort: "48 made-up scans".into(), rows: rows.collect() }
}

fn cases() -> Vec<CaseRow> {
    let scores = |dice: f64| RegionScores {
        dice: Some(dice),
        precision: Some(dice + 0.04),
        recall: Some(dice - 0.03),
        hd95: Some(7.5),
        lesion_dice: Some(dice - 0.1),
        lesion_hd95: Some(9.5),
        reference_ml: Some(88.2),
        prediction_ml: Some(91.0),
        empty: None,
    };
    let missed =
        RegionScores { dice: Some(0.0), empty: Some("prediction".into()), ..RegionScores::default() };
    (0..12)
        .map(|i| {
            let et = if i == 5 { missed.clone() } else { scores(0.7) };
            let regions = RegionTable { wt: scores(0.9 - 0.01 * f64::from(i)), tc: scores(0.75), et };
            CaseRow { id: format!("phantom-{i:03}"), regions }
        })
        .collect()
}

fn slice(i: u8) -> Slice {
    let disc = |radius: f32| {
        ndarray::Array2::from_shape_fn((120, 120), |(y, x)| {
            let from = (y as f32 - 60.0).hypot(x as f32 - 50.0);
            if from < radius / 2.0 { 3 } else { u8::from(from < radius) * 2 }
        })
    };
    Slice {
        z: 66 + 2 * usize::from(i),
        images: vec![(
            "FLAIR".into(),
            ndarray::Array2::from_shape_fn((120, 120), |(y, x)| ((y * x) % 97) as u8),
        )],
        reference: Some(disc(20.0 + 3.0 * f32::from(i))),
        prediction: disc(19.0 + 3.1 * f32::from(i)),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let disc = |radius: f32| {
        ndarray::Array2::from_shape_fn((120, 120), |(y, x)| {
            u8::from((y as f32 - 60.0).hypot(x as f32 - 50.0) < radius)
        })
    };
    let picture = figure(&Figure {
        title: "Figure 2".into(),
        kind: FigureKind::WholeTumour,
        cases: vec![FigureCase {
            id: "phantom-003".into(),
            slice: 71,
            image: ndarray::Array2::from_shape_fn((120, 120), |(y, x)| ((y * x) % 97) as f32),
            window: None,
            reference: disc(30.0),
            panels: vec![Panel { method: "SC+GC+CRF".into(), prediction: disc(27.0), dice: 0.895 }],
        }],
    })?;
    let curve = |name: &str, f: fn(f64) -> f64| Curve {
        name: name.into(),
        points: (0..2000).map(|i| f64::from(i) * 5.0).map(|i| [i, f(i)]).collect(),
    };
    let settings =
        |steps: &str| [("train.iterations", steps), ("train.batch", "32")].map(|(k, v)| (k.into(), v.into()));
    let preset = |name: &str, steps: &str| Preset { name: name.into(), settings: settings(steps).into() };
    let data = ReportData {
        title: "Reproduction with the phantom preset".into(),
        summary: "All ten rows of Table 1 on a synthetic cohort.".into(),
        facts: [
            ("Cohort", "48 scans, 36 to train"),
            ("Device", "cpu, 2 threads"),
            ("Seed", "2019"),
            ("Time", "31 min"),
        ]
        .map(|(k, v)| (k.into(), v.into()))
        .into(),
        table1: Some(table()),
        metrics: Some(Metrics {
            label_scheme: "BraTS 2017".into(),
            empty_policy: "brats".into(),
            regions: RegionTable { wt: region(0.88, 0), tc: region(0.7, 0), et: region(0.65, 3) },
            cases: cases(),
        }),
        figures: vec![FigureImage {
            title: "Figure 2: whole tumour".into(),
            caption: "Reference in green, prediction in yellow.".into(),
            alt: "A slice with the reference's contour, then the prediction's, Dice 0.895.".into(),
            png: picture,
        }],
        slices: vec![ScanSlices {
            id: "phantom-003".into(),
            note: "Dice over the whole scan: WT 0.8950.".into(),
            slices: (0..5_u8).map(slice).collect(),
        }],
        stages: vec![Stage {
            name: "Unet-WT, partial cross-entropy".into(),
            curves: vec![
                curve("loss", |i| 0.7 * (-i / 1500.0).exp() + 0.05 + 0.02 * (i / 9.0).sin()),
                curve("learning rate", |i| 0.011 * (1.0 - i / 1e4)),
            ],
        }],
        config: Some("seed = 2019\n\n[train]\nbatch = 32\niterations = 10000\n".into()),
        presets: vec![preset("smoke", "20"), preset("phantom", "1000"), preset("paper", "10000")],
        label_scheme: Some(LabelScheme {
            name: "BraTS 2017".into(),
            values: vec![(1, "NCR/NET".into()), (2, "ED".into()), (4, "ET".into())],
        }),
        hashes: vec![("config.toml".into(), "0f343b0931126a20f133d67c2b018a3b".into())],
        inputs: vec![("flair of phantom-003".into(), "85a766fae9c3611e".into())],
        notes: vec!["Made-up figures: they show the layout, nothing else.".into()],
        generated: None,
    };
    let path = std::path::Path::new(&folder).join("report.html");
    std::fs::write(&path, html(&data)?)?;
    println!("{}", path.display());
    Ok(())
}
