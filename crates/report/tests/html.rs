//! The report: well-formed, self-contained, escaped, complete.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use ndarray::arr2;
use scribseg_report::{
    CaseRow, Curve, Distribution, FigureImage, Figures, LabelScheme, Metrics, Preset, RegionFigures,
    ReportData, Row, ScanSlices, Slice, Stage, Table1, html,
};

const EVIL: &str = "<script src=\"http://evil\">'&\"</script>";

fn slice(z: usize) -> Slice {
    Slice {
        z,
        images: [EVIL, "T1ce"].map(|name| (name.into(), arr2(&[[0, 90, 255], [z as u8, 1, 2]]))).into(),
        reference: Some(arr2(&[[1, 2, 3], [0, 0, 0]])),
        prediction: arr2(&[[0, 2, 2], [0, 2, 0]]),
    }
}

fn full() -> ReportData {
    let wt = Some(Figures::pooled(0.87, 0.93, 0.91));
    let row = Row { phase: 1, method: format!("SC{EVIL}"), wt, seconds: Some(12.0), ..Row::default() };
    let mut metrics =
        Metrics { label_scheme: EVIL.into(), empty_policy: "brats".into(), ..Metrics::default() };
    metrics.regions.et = RegionFigures {
        dice: Distribution {
            mean: Some(0.4321),
            median: Some(0.5),
            std: None,
            n: 9,
            empty: 4,
            ci95: Some([0.25, 0.625]),
        },
        ..RegionFigures::default()
    };
    metrics.cases = vec![CaseRow { id: EVIL.into(), ..CaseRow::default() }];
    let points = (0..500).map(|i| [f64::from(i), (-f64::from(i) / 100.0).exp()]).collect();
    let hole = vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, 0.5]];
    let settings =
        |value: &str| [("crf.alpha".to_owned(), value.to_owned()), (EVIL.to_owned(), EVIL.to_owned())].into();
    ReportData {
        title: EVIL.into(),
        summary: EVIL.into(),
        facts: vec![("device".into(), "cpu".into()), (EVIL.into(), EVIL.into())],
        generated: Some(EVIL.into()),
        table1: Some(Table1 { preset: EVIL.into(), cohort: EVIL.into(), rows: vec![row] }),
        metrics: Some(metrics),
        figures: vec![FigureImage {
            title: EVIL.into(),
            caption: EVIL.into(),
            alt: EVIL.into(),
            png: b"foobar".to_vec(),
        }],
        slices: vec![ScanSlices { id: EVIL.into(), note: EVIL.into(), slices: [70, 75].map(slice).into() }],
        stages: vec![Stage {
            name: EVIL.into(),
            curves: vec![
                Curve { name: "loss".into(), points },
                Curve { name: EVIL.into(), points: hole },
                Curve { name: "nothing".into(), points: vec![[0.0, f64::NAN]] },
            ],
        }],
        config: Some(format!("[train]\nlr = 0.011 # {EVIL}\n")),
        presets: vec![
            Preset { name: "smoke".into(), settings: settings("0") },
            Preset { name: EVIL.into(), settings: settings("1e-8") },
        ],
        label_scheme: Some(LabelScheme { name: EVIL.into(), values: vec![(4, EVIL.into())] }),
        hashes: vec![(EVIL.into(), EVIL.into())],
        inputs: vec![(EVIL.into(), EVIL.into())],
        notes: vec![EVIL.into()],
    }
}

/// Every tag as (name, attributes), with a check that tags nest and close.
fn tags(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let page = page.strip_prefix("<!doctype html>\n").expect("a document type first");
    let (mut open, mut found, mut rest) = (Vec::<String>::new(), Vec::new(), page);
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a stray > in {:?}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag that ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closing tag out of place");
            continue;
        }
        let closed = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut pairs = Vec::new();
        while let Some((key, after)) = attributes.trim_start().split_once("=\"") {
            let (value, after) = after.split_once('"').expect("a quoted attribute that ends");
            pairs.push((key.to_owned(), value.to_owned()));
            attributes = after;
        }
        assert!(attributes.trim().is_empty(), "attribute without quotes: {attributes:?} in {tag:?}");
        if let "style" | "script" = name {
            let close = format!("</{name}>");
            rest = rest.split_once(&close).unwrap().1;
        } else if !closed && !["meta", "img", "br", "hr", "link", "input"].contains(&name) {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), pairs));
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    found
}

fn check(page: &str) {
    let tags = tags(page);
    let mut ids = BTreeSet::new();
    for (_, attributes) in &tags {
        for (key, value) in attributes {
            if key == "id" {
                assert!(ids.insert(value.clone()), "id {value} twice");
            }
        }
    }
    let (mut headings, mut last) = (0, 0);
    for (name, attributes) in &tags {
        assert!(!["link", "iframe", "object", "embed", "base"].contains(&name.as_str()), "a {name}");
        assert!(name != "script" || attributes.is_empty(), "a script from elsewhere: {attributes:?}");
        if let Some(level) = name.strip_prefix('h').and_then(|n| n.parse::<u32>().ok()) {
            headings += u32::from(level == 1);
            assert!(level <= last + 1, "heading level {level} after {last}");
            last = level;
        }
        for (key, value) in attributes {
            match key.as_str() {
                "src" => assert!(value.starts_with("data:image/png;base64,"), "{value}"),
                "href" if name == "image" => assert!(value.starts_with("data:image/png;base64,"), "{value}"),
                "href" => assert!(value.strip_prefix('#').is_some_and(|id| ids.contains(id)), "{value}"),
                "aria-labelledby" => assert!(ids.contains(value), "{value}"),
                _ => assert!(!key.starts_with("on"), "{key}"),
            }
        }
        if name == "img" {
            assert!(attributes.iter().any(|(key, value)| key == "alt" && !value.is_empty()));
        }
        if name == "th" {
            assert!(attributes.iter().any(|(key, _)| key == "scope"));
        }
    }
    assert_eq!(headings, 1);
    let count = |wanted: &str| tags.iter().filter(|(name, _)| name == wanted).count();
    assert_eq!(count("table"), count("caption"));
    // The style's and the script's too.
    for fetches in ["@import", "url(", "fetch(", "import(", "XMLHttpRequest", "http:", "https:"] {
        let own = page.replace("http://evil", "").replace("http://www.w3.org/", "");
        assert!(!own.contains(fetches), "{fetches}");
    }
}

#[test]
fn a_full_report_is_well_formed_and_fetches_nothing() {
    let page = html(&full()).unwrap();
    check(&page);
    for id in [
        "summary",
        "notes",
        "table1",
        "metrics",
        "scans",
        "slices",
        "figures",
        "training",
        "configuration",
        "presets",
        "labels",
        "hashes",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    assert!(page.contains("data:image/png;base64,Zm9vYmFy\""));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("name=\"viewport\""));
}

#[test]
fn user_text_is_escaped_everywhere() {
    let page = html(&full()).unwrap();
    // The one script is the page's own, whatever the data are.
    assert!(
        page.matches("<script").count() == 1 && !page.contains("<script src") && !page.contains("evil\">")
    );
    let script = |page: &str| page.split_once("<script>").unwrap().1.to_owned();
    let other = ReportData { config: Some("a = 1".into()), ..ReportData::default() };
    assert_eq!(script(&page), script(&html(&other).unwrap()));
    assert!(
        page.matches("&lt;script src=&quot;http://evil&quot;&gt;&#39;&amp;&quot;&lt;/script&gt;").count()
            >= 20
    );
}

#[test]
fn absent_parts_have_no_section() {
    let page = html(&ReportData::default()).unwrap();
    check(&page);
    assert!(!page.contains("<section") && !page.contains("<nav"));
    let page = html(&ReportData { config: Some("a = 1".into()), ..ReportData::default() }).unwrap();
    check(&page);
    assert_eq!(page.matches("<section").count(), 1);
}

#[test]
fn figures_come_with_their_policy_and_counts() {
    let page = html(&full()).unwrap();
    assert!(
        page.contains("Empty policy: <strong>brats</strong> (where reference and prediction are both empty")
    );
    assert!(page.contains(
        "<th scope=\"row\">ET, enhancing tumour</th><td class=\"n\">0.4321</td><td class=\"n\">0.2500 to 0.6250</td><td class=\"n\">0.5000</td><td class=\"n\">–</td><td class=\"n\">9</td><td class=\"n\">4</td>"
    ));
    // Ours, then the paper's.
    assert!(
        page.contains("<th scope=\"row\">SC</th><td class=\"n\">–</td><td class=\"n aside\">0.8487</td>")
    );
    // A preset's setting that differs stands out, one that does not, not.
    assert!(page.contains(
        "<th scope=\"row\">crf.alpha</th><td class=\"marked\">0</td><td class=\"marked\">1e-8</td>"
    ));
}

#[test]
fn curves_are_told_as_well_as_drawn() {
    let page = html(&full()).unwrap();
    assert_eq!(page.matches("<svg").count() - page.matches("<svg class=\"slice\"").count(), 2);
    assert!(
        page.contains("loss over 500 recorded iterations: 1 at 0, 0.0068 at 499; lowest 0.0068, highest 1.")
    );
    assert!(page.contains("nothing: no finite value was recorded."));
    let (body, _) = page.split_once("<script>").unwrap();
    assert!(!body.contains("NaN") && !body.contains("inf "));
    // The gap breaks the line.
    let gap = page.rsplit("class=\"line\" d=\"").next().unwrap().split('"').next().unwrap();
    assert_eq!(gap.matches('M').count(), 2, "{gap}");
}

#[test]
fn the_same_data_give_the_same_page_and_no_clock_is_read() {
    assert_eq!(html(&full()).unwrap(), html(&full()).unwrap());
    let with = html(&ReportData { generated: Some("14 October".into()), ..ReportData::default() }).unwrap();
    assert!(with.contains("14 October"));
    assert_eq!(with.replace(" 14 October", ""), html(&ReportData::default()).unwrap());
}
