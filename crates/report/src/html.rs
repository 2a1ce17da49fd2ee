//! The report: one HTML file that needs nothing but itself.

use crate::data::ReportData;
use crate::markup::escape;
use crate::{Error, sections, viewer};

const STYLE: &str = "
:root { color-scheme: light dark; --page: #fff; --ink: #1c1e22; --soft: #5b626c; --rule: #d7dbe0; --tint: #f4f6f8; --accent: #00679e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --ink: #e6e8eb; --soft: #a0a8b2; --rule: #363b42; --tint: #1f2226; --accent: #6cbdf0; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem 1.2rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.35rem; margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.08rem; margin: 1.6rem 0 .4rem; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--page); padding: .3rem .6rem; }
nav ul { list-style: none; padding: 0; margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; min-width: 50%; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { text-align: left; padding: .32rem .75rem; border-bottom: 1px solid var(--rule); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; font-size: .86rem; vertical-align: bottom; border-bottom-width: 2px; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr:hover { background: var(--tint); }
.n { text-align: right; white-space: nowrap; }
.aside { color: var(--soft); }
.marked { font-weight: 700; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .7rem 1.4rem; }
dl div { background: var(--tint); padding: .5rem .8rem; border-radius: .4rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: .6rem 0 1.2rem; }
figcaption, .note { color: var(--soft); font-size: .9rem; }
img { max-width: 100%; min-width: 40rem; height: auto; border-radius: .3rem; background: #fff; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0 1.4rem; }
svg { width: 100%; height: auto; }
svg text { font-size: 13px; fill: var(--soft); }
.grid { stroke: var(--rule); fill: none; }
.line { stroke: var(--accent); stroke-width: 2; fill: none; stroke-linejoin: round; stroke-linecap: round; }
pre { background: var(--tint); padding: 1rem; border-radius: .4rem; font-size: .87rem; line-height: 1.45; margin: 0; min-width: max-content; }
td, code { overflow-wrap: anywhere; }
summary { cursor: pointer; }
footer { margin-top: 3rem; color: var(--soft); font-size: .88rem; }
@media print { nav, .skip { display: none; } .scroll { overflow: visible; } }
";

/// Lays the data out as one HTML page.
///
/// Everything is in the file: pictures as base64, curves and outlines as SVG, no font and no address to fetch from. Nothing needs the
/// page's script, which turns slices and sorts tables. All
/// text that is handed in is escaped. The same data give the same text: a time is printed only if one is given.
///
/// # Errors
/// Slices whose parts do not fit each other.
pub fn html(data: &ReportData) -> Result<String, Error> {
    let title = if data.title.is_empty() { "scribseg report" } else { data.title.as_str() };
    let sections = sections(data)?;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the content</a>\n<header>\n<h1>{0}</h1>\n",
        escape(title),
        viewer::STYLE
    );
    if !data.summary.is_empty() {
        out.push_str(&format!("<p>{}</p>\n", escape(&data.summary)));
    }
    out.push_str("</header>\n");
    if sections.len() > 1 {
        let links: String = sections
            .iter()
            .map(|(id, heading, _)| format!("<li><a href=\"#{id}\">{}</a></li>\n", escape(heading)))
            .collect();
        out.push_str(&format!("<nav aria-label=\"Contents\">\n<ul>\n{links}</ul>\n</nav>\n"));
    }
    out.push_str("<main id=\"main\">\n");
    for (id, heading, body) in &sections {
        out.push_str(&format!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{}</h2>\n{body}</section>\n",
            escape(heading)
        ));
    }
    out.push_str("</main>\n<footer>\n<p>Made with scribseg. For research; not a medical device.");
    if let Some(generated) = &data.generated {
        out.push_str(&format!(" {}", escape(generated)));
    }
    out.push_str("</p>\n</footer>\n");
    if !sections.is_empty() {
        out.push_str(&format!("<script>{}</script>\n", viewer::SCRIPT));
    }
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

/// Anchor, heading and content of every part there is.
fn sections(data: &ReportData) -> Result<Vec<(&'static str, &'static str, String)>, Error> {
    let mut out = Vec::new();
    if !data.facts.is_empty() {
        out.push(("summary", "Summary", sections::facts(&data.facts)));
    }
    if !data.notes.is_empty() {
        out.push(("notes", "What to bear in mind", sections::notes(&data.notes)));
    }
    if let Some(table) = &data.table1 {
        out.push(("table1", "Table 1 beside the paper's", sections::table1(table)));
    }
    if let Some(metrics) = &data.metrics {
        out.push(("metrics", "Metrics by region", sections::metrics(metrics)));
        if !metrics.cases.is_empty() {
            out.push(("scans", "Metrics by scan", sections::cases(metrics)));
        }
    }
    if data.slices.iter().any(|scan| !scan.slices.is_empty()) {
        out.push(("slices", "Slices", viewer::section(&data.slices)?));
    }
    if !data.figures.is_empty() {
        out.push(("figures", "Figures", sections::figures(&data.figures)));
    }
    if !data.stages.is_empty() {
        out.push(("training", "Training", sections::stages(&data.stages)));
    }
    if let Some(config) = &data.config {
        out.push(("configuration", "Configuration in force", sections::config(config)));
    }
    if !data.presets.is_empty() {
        out.push(("presets", "Presets side by side", sections::presets(&data.presets)));
    }
    if let Some(scheme) = &data.label_scheme {
        out.push(("labels", "Label scheme", sections::labels(scheme)));
    }
    if !data.hashes.is_empty() {
        out.push(("hashes", "Hashes", sections::hashes(&data.hashes, &data.inputs)));
    }
    Ok(out)
}
