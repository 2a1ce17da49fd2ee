//! `table1.json`, `table1.md` and the reading of `metrics.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use scribseg_report::{Figures, Metrics, PAPER, Row, Table1, table1_markdown};

fn table() -> Table1 {
    let (wt, tc, et) = (Some(Figures::dice(0.8)), Some(Figures::dice(0.6)), Some(Figures::dice(f64::NAN)));
    Table1 {
        preset: "phantom".into(),
        cohort: "48 | synthetic scans".into(),
        rows: vec![
            Row {
                phase: 1,
                method: "SC+GC+CRF".into(),
                wt: Some(Figures::pooled(0.87, 0.93, 0.91)),
                seconds: Some(12.5),
                ..Row::default()
            },
            Row { phase: 2, method: "KM".into(), wt, tc, et, seconds: Some(3.0) },
            Row { phase: 2, method: "own".into(), wt, tc: None, et: None, seconds: None },
        ],
    }
}

#[test]
fn table1_json_has_the_declared_shape() {
    let text = serde_json::to_string(&table()).unwrap();
    assert_eq!(
        text,
        r#"{"preset":"phantom","cohort":"48 | synthetic scans","rows":[{"phase":1,"method":"SC+GC+CRF","WT":{"dice":0.87,"recall":0.93,"precision":0.91},"seconds":12.5},{"phase":2,"method":"KM","WT":{"dice":0.8},"TC":{"dice":0.6},"ET":{"dice":null},"seconds":3.0},{"phase":2,"method":"own","WT":{"dice":0.8},"seconds":null}]}"#
    );
    assert_eq!(serde_json::from_str::<Table1>(&text).unwrap(), table());
}

#[test]
fn markdown_prints_ours_beside_the_papers() {
    let text = table1_markdown(&table());
    assert!(
        text.contains("| SC+GC+CRF | 0.8700 | 0.8823 | 0.9300 | 0.9443 | 0.9100 | 0.9338 | 12 |"),
        "{text}"
    );
    assert!(text.contains("| KM | 0.8000 | 0.8516 | 0.6000 | 0.6015 | – | 0.6502 | 3 |"), "{text}");
    assert!(text.contains("| own | 0.8000 | – | – | – | – | – | – |"), "{text}");
    assert!(text.contains("| Full | – | 0.9008 | – | 0.8063 | – | 0.8305 | – |"), "{text}");
    assert!(text.contains("48 \\| synthetic"));
    // Each table row has as many cells as its heading.
    for row in text.lines().filter(|l| l.starts_with('|')) {
        assert_eq!(row.matches('|').count(), 9, "{row}");
    }
    assert_eq!(text.lines().filter(|l| l.starts_with('|')).count(), 2 * 2 + PAPER.len() + 1);
}

#[test]
fn the_papers_rows_are_complete() {
    let phase = |n: u8| PAPER.iter().filter(move |r| r.phase == n);
    assert_eq!(
        phase(1).map(|r| r.method).collect::<Vec<_>>(),
        ["Full", "SC", "SC+CRF", "SC+GC", "SC+GC+CRF"]
    );
    assert_eq!(
        phase(2).map(|r| r.method).collect::<Vec<_>>(),
        ["Full", "TrueSC+CRF", "KM", "KM+SC", "KM+SC+CRF"]
    );
    assert!(
        phase(1).all(|r| r.recall.is_some() && r.precision.is_some() && r.tc.is_none() && r.et.is_none())
    );
    assert!(
        phase(2).all(|r| r.recall.is_none() && r.precision.is_none() && r.tc.is_some() && r.et.is_some())
    );
    let sum: f64 = PAPER.iter().map(|r| r.wt).sum();
    assert!((sum - 8.7170).abs() < 1e-9, "{sum}");
}

#[test]
fn metrics_json_is_read() {
    let d = r#"{"mean":0.5,"median":0.5,"std":null,"n":1,"empty":1}"#;
    let region = format!(r#"{{"dice":{d},"precision":null,"recall":0.25,"hd95":{d},"lesion_dice":{d}}}"#);
    let scores =
        r#"{"dice":0.5,"hd95":null,"lesion_hd95":3.0,"confusion":{"true_positive":1},"empty":"prediction"}"#;
    let text = format!(
        r#"{{"label_scheme":"BraTS 2017","empty_policy":"skip","regions":{{"WT":{region},"TC":{region},"ET":{region}}},"cases":[{{"id":"a","WT":{scores},"TC":{scores},"ET":{scores}}}]}}"#
    );
    let metrics: Metrics = serde_json::from_str(&text).unwrap();
    assert_eq!(metrics.regions.tc.recall, Some(0.25));
    assert_eq!(metrics.regions.et.dice.std, None);
    assert_eq!(metrics.cases[0].regions.wt.empty.as_deref(), Some("prediction"));
}
