//! Slices of a scan to leaf through: the picture, and the outlines of reference and prediction over it.

use ndarray::{Array2, ArrayView2};

use crate::Error;
use crate::markup::{base64, escape};

/// One axial slice of a scan; all on one grid `[row, column]`, codes 0 background, 1 NCR/NET, 2 ED, 3 ET.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Its place along the scan's axis, from 0.
    pub z: usize,
    /// Pictures by the name of what they show, for example "FLAIR"; grey values of 0 to 255.
    pub images: Vec<(String, Array2<u8>)>,
    /// What is there, if that is known.
    pub reference: Option<Array2<u8>>,
    /// What was found.
    pub prediction: Array2<u8>,
}

/// Slices of one scan, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScanSlices {
    /// The scan's name.
    pub id: String,
    /// A sentence about it, for example its Dice.
    pub note: String,
    /// The slices; their pictures have the same names.
    pub slices: Vec<Slice>,
}

/// What is outlined: a class for the style, what it is called, the codes.
const REGIONS: [(&str, &str, &[u8]); 3] =
    [("wt", "whole tumour", &[1, 2, 3]), ("tc", "tumour core", &[1, 3]), ("et", "enhancing tumour", &[3])];

/// The outline of the pixels that have one of the codes, along their edges, as an SVG path in units of pixels: every edge between a pixel
/// inside and one outside (or the picture's rim) is drawn once, runs of them as one line.
pub(crate) fn outline(mask: ArrayView2<'_, u8>, codes: &[u8]) -> String {
    let (height, width) = mask.dim();
    let inside = |y: usize, x: usize| {
        // One row and column of background around everything.
        (1..=height).contains(&y) && (1..=width).contains(&x) && codes.contains(&mask[[y - 1, x - 1]])
    };
    let mut path = String::new();
    let mut runs = |lines: usize, length: usize, edge: &dyn Fn(usize, usize) -> bool, across: bool| {
        for line in 0..lines {
            let mut at = 0;
            while at < length {
                if !edge(line, at) {
                    at += 1;
                    continue;
                }
                let start = at;
                while at < length && edge(line, at) {
                    at += 1;
                }
                let run = at - start;
                path.push_str(&match across {
                    true => format!("M{start} {line}h{run}"),
                    false => format!("M{line} {start}v{run}"),
                });
            }
        }
    };
    runs(height + 1, width, &|y, x| inside(y, x + 1) != inside(y + 1, x + 1), true);
    runs(width + 1, height, &|x, y| inside(y + 1, x) != inside(y + 1, x + 1), false);
    path
}

/// A picture of grey values as a PNG file.
fn grey_png(image: &Array2<u8>) -> Result<Vec<u8>, Error> {
    let (height, width) = image.dim();
    let fail = |source| Error::Png { width, height, source };
    let mut out = Vec::new();
    let side = |n: usize| u32::try_from(n).unwrap_or(0);
    let mut encoder = png::Encoder::new(&mut out, side(width), side(height));
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().map_err(fail)?;
    let values: Vec<u8> = image.iter().copied().collect();
    writer.write_image_data(&values).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(out)
}

fn checked(scan: &ScanSlices, slice: &Slice) -> Result<[usize; 2], Error> {
    let (height, width) = slice.prediction.dim();
    let expected = [height, width];
    if height == 0 || width == 0 || height > 4096 || width > 4096 {
        return Err(Error::Size { case: scan.id.clone(), found: expected });
    }
    let all = slice.images.iter().map(|(name, image)| (name.as_str(), image));
    for (what, array) in all.chain(slice.reference.iter().map(|r| ("reference", r))) {
        let found = [array.nrows(), array.ncols()];
        if found != expected {
            return Err(Error::Shape { case: scan.id.clone(), what: what.to_owned(), expected, found });
        }
    }
    Ok(expected)
}

/// Whether a slice shows any of the tumour.
fn area(mask: &Array2<u8>) -> usize {
    mask.iter().filter(|&&code| code != 0).count()
}

/// One scan. Without a script the slice with the largest tumour is shown alone; with one the others can be turned to.
fn scan(index: usize, scan: &ScanSlices) -> Result<String, Error> {
    let shown = scan.slices.iter().enumerate().max_by_key(|(i, slice)| {
        (area(slice.reference.as_ref().unwrap_or(&slice.prediction)), std::cmp::Reverse(*i))
    });
    let shown = shown.map_or(0, |(i, _)| i);
    let (id, count) = (escape(&scan.id), scan.slices.len());
    let mut out = format!(
        "<article class=\"viewer\" aria-labelledby=\"scan-{index}\">\n<h3 id=\"scan-{index}\">{id}</h3>\n<p>{}</p>\n<div class=\"stack\">\n",
        escape(&scan.note)
    );
    for (i, slice) in scan.slices.iter().enumerate() {
        let [height, width] = checked(scan, slice)?;
        let hidden = if i == shown { "" } else { " hidden=\"\"" };
        out.push_str(&format!(
            "<svg class=\"slice\" data-z=\"{}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{id}, axial slice z = {0}: {} pixels of tumour predicted{}\"{hidden}>\n",
            slice.z,
            area(&slice.prediction),
            slice.reference.as_ref().map_or_else(String::new, |r| format!(", {} in the reference", area(r)))
        ));
        for (k, (name, image)) in slice.images.iter().enumerate() {
            let class = if k == 0 { "" } else { " style=\"display:none\"" };
            out.push_str(&format!(
                "<image data-image=\"{}\" width=\"{width}\" height=\"{height}\"{class} href=\"data:image/png;base64,{}\"/>\n",
                escape(name),
                base64(&grey_png(image)?)
            ));
        }
        let masks = slice.reference.iter().map(|mask| ("reference", mask));
        for (what, mask) in masks.chain([("prediction", &slice.prediction)]) {
            for (class, _, codes) in REGIONS {
                let path = outline(mask.view(), codes);
                if !path.is_empty() {
                    out.push_str(&format!("<path class=\"{what} {class}\" d=\"{path}\"/>\n"));
                }
            }
        }
        out.push_str("</svg>\n");
    }
    let here = |i: usize| {
        let z = scan.slices.get(i).map_or(0, |slice| slice.z);
        format!("Slice {} of {count}, z = {z}", i + 1)
    };
    out.push_str(&format!(
        "</div>\n<p class=\"place\" role=\"status\">{}</p>\n<form class=\"controls\" hidden=\"\">\n<label>Slice <input type=\"range\" name=\"slice\" min=\"1\" max=\"{count}\" value=\"{}\" aria-valuetext=\"{0}\"></label>\n",
        here(shown),
        shown + 1
    ));
    let known = scan.slices.iter().any(|slice| slice.reference.is_some());
    for (what, there) in [("reference", known), ("prediction", true)] {
        if there {
            out.push_str(&format!(
                "<label><input type=\"checkbox\" name=\"{what}\" checked=\"\"> {what}</label>\n"
            ));
        }
    }
    let images: Vec<&str> =
        scan.slices.first().map_or_else(Vec::new, |s| s.images.iter().map(|(n, _)| n.as_str()).collect());
    if images.len() > 1 {
        let options: String =
            images.iter().map(|name| format!("<option>{}</option>", escape(name))).collect();
        out.push_str(&format!("<label>Image <select name=\"image\">{options}</select></label>\n"));
    }
    out.push_str("</form>\n</article>\n");
    Ok(out)
}

/// All scans, below a legend.
///
/// # Errors
/// Slices whose parts do not fit each other.
pub(crate) fn section(scans: &[ScanSlices]) -> Result<String, Error> {
    let legend: String = REGIONS
        .iter()
        .map(|(class, name, _)| format!("<li><span class=\"key {class}\"></span>{name}</li>"))
        .collect();
    let mut out = format!(
        "<p>Held-out scans with the outlines of the <strong>reference (dashed)</strong> and of the <strong>prediction (solid)</strong>. The patient faces up and is seen from the feet: left is on the right.</p>\n<ul class=\"legend\">{legend}</ul>\n"
    );
    out.push_str("<div class=\"viewers\">\n");
    for (index, slices) in scans.iter().filter(|s| !s.slices.is_empty()).enumerate() {
        out.push_str(&scan(index, slices)?);
    }
    out.push_str("</div>\n");
    Ok(out)
}

pub(crate) const STYLE: &str = "
.viewers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem 2rem; }
.stack { background: #000; border-radius: .4rem; overflow: hidden; }
.stack svg { display: block; width: 100%; max-height: 70vh; }
.stack svg[hidden] { display: none; }
.stack image { image-rendering: pixelated; }
.stack path { fill: none; vector-effect: non-scaling-stroke; stroke-width: 1.6; }
.stack path.reference { stroke-dasharray: 4 3; }
.wt { stroke: #5ad1ff; background: #5ad1ff; } .tc { stroke: #ffc24d; background: #ffc24d; } .et { stroke: #ff6f91; background: #ff6f91; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
.key { display: inline-block; width: 1.2rem; height: .3rem; margin-right: .5rem; vertical-align: middle; }
.place { margin: .4rem 0; font-variant-numeric: tabular-nums; }
.controls { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; }
.controls[hidden] { display: none; }
.controls label:first-child { flex: 1 1 100%; display: flex; gap: .6rem; align-items: center; }
.controls input[type=range] { flex: 1; min-width: 0; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-align: inherit; }
th[aria-sort=ascending] button::after { content: ' \\2191'; } th[aria-sort=descending] button::after { content: ' \\2193'; }
";

/// Turns the slices, shows and hides outlines, sorts tables. Nothing on the page needs it.
pub(crate) const SCRIPT: &str = "
'use strict';
for (const viewer of document.querySelectorAll('.viewer')) {
  const slices = [...viewer.querySelectorAll('.slice')], form = viewer.querySelector('form'), place = viewer.querySelector('.place');
  const range = form.elements.slice;
  const turn = () => {
    const at = range.value - 1;
    slices.forEach((slice, i) => { slice.toggleAttribute('hidden', i !== at); });
    place.textContent = `Slice ${at + 1} of ${slices.length}, z = ${slices[at].dataset.z}`;
    range.setAttribute('aria-valuetext', place.textContent);
  };
  range.addEventListener('input', turn);
  for (const name of ['reference', 'prediction']) {
    form.elements[name]?.addEventListener('change', (event) => {
      for (const path of viewer.querySelectorAll('path.' + name)) path.style.display = event.target.checked ? '' : 'none';
    });
  }
  form.elements.image?.addEventListener('change', (event) => {
    for (const image of viewer.querySelectorAll('image')) image.style.display = image.dataset.image === event.target.value ? '' : 'none';
  });
  form.addEventListener('submit', (event) => event.preventDefault());
  form.reset();
  form.hidden = false;
  turn();
}
for (const table of document.querySelectorAll('table[data-sortable]')) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const text = (row) => row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [text(a), text(b)], [p, q] = [parseFloat(x), parseFloat(y)];
        if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1;
        const less = isNaN(p) ? x.localeCompare(y) : p - q;
        return down ? -less : less;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
";

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;
    use std::collections::BTreeSet;

    /// The unit edges that a path draws: (across, row, column).
    fn edges(path: &str) -> Vec<(bool, usize, usize)> {
        let mut found = Vec::new();
        for run in path.split('M').skip(1) {
            let across = run.contains('h');
            let (start, length) = run.split_once(['h', 'v']).unwrap();
            let (x, y) = start.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            for k in 0..length.parse().unwrap() {
                found.push(if across { (true, y, x + k) } else { (false, y + k, x) });
            }
        }
        found
    }

    #[test]
    fn an_outline_is_every_edge_between_inside_and_outside() {
        let mut state = 7u32;
        for (height, width) in [(1, 1), (1, 9), (8, 1), (13, 11)] {
            let mask = Array2::from_shape_fn((height, width), |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 30) as u8
            });
            for (_, _, codes) in REGIONS {
                let at = |y: isize, x: isize| {
                    let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
                    inside && codes.contains(&mask[[y as usize, x as usize]])
                };
                let mut expected = BTreeSet::new();
                for y in 0..=height {
                    for x in 0..=width {
                        let (row, column) = (y as isize, x as isize);
                        if at(row, column) != at(row - 1, column) {
                            expected.insert((true, y, x));
                        }
                        if at(row, column) != at(row, column - 1) {
                            expected.insert((false, y, x));
                        }
                    }
                }
                let found = edges(&outline(mask.view(), codes));
                assert_eq!(found.len(), expected.len(), "each edge once");
                assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
            }
        }
    }

    fn some() -> ScanSlices {
        let slice = |z: usize, reference| Slice {
            z,
            images: vec![
                ("FLAIR".into(), arr2(&[[0, 255], [9, 30]])),
                ("T1ce".into(), arr2(&[[1, 2], [3, 4]])),
            ],
            reference,
            prediction: arr2(&[[0, 3], [2, 0]]),
        };
        let slices = vec![slice(4, None), slice(6, Some(arr2(&[[1, 1], [1, 0]]))), slice(9, None)];
        ScanSlices { id: "<scan>".into(), note: "Dice & more".into(), slices }
    }

    #[test]
    fn one_slice_is_shown_without_a_script_and_text_is_escaped() {
        let page = section(&[some()]).unwrap();
        assert_eq!(page.matches("class=\"slice\"").count(), 3);
        assert_eq!(page.matches(" hidden=\"\">\n<image").count(), 2);
        assert!(
            page.contains("Slice 2 of 3, z = 6") && page.contains("&lt;scan&gt;") && !page.contains("<scan>")
        );
        assert!(page.contains("Dice &amp; more") && page.contains("<form class=\"controls\" hidden=\"\">"));
        assert_eq!(page, section(&[some()]).unwrap());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let mut scan = some();
        scan.slices[0].reference = Some(arr2(&[[1, 2, 3]]));
        assert!(matches!(section(&[scan]), Err(Error::Shape { .. })));
        let mut scan = some();
        scan.slices[0].prediction = Array2::zeros((0, 3));
        assert!(matches!(section(&[scan]), Err(Error::Size { .. })));
    }

    #[test]
    fn a_picture_is_a_png_of_its_values() {
        let image = arr2(&[[0, 100], [200, 255], [7, 8]]);
        let bytes = grey_png(&image).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut values = vec![0; 6];
        let info = reader.next_frame(&mut values).unwrap();
        assert_eq!((info.width, info.height), (2, 3));
        assert_eq!(values, [0, 100, 200, 255, 7, 8]);
    }
}
