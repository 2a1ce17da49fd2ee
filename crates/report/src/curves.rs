//! Training curves as inline SVG.

use std::fmt::Write as _;

use crate::data::Curve;
use crate::markup::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Points a curve is thinned to: about one for each two pixels of a wide screen.
const POINTS: usize = 320;

/// A curve with axes, or a sentence where there is nothing to draw. `id` has to be unique on the page.
pub(crate) fn svg(curve: &Curve, id: &str) -> String {
    let name = escape(&curve.name);
    let points: Vec<[f64; 2]> =
        curve.points.iter().copied().filter(|p| p.iter().all(|v| v.is_finite())).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return format!("<p>{name}: no finite value was recorded.</p>\n");
    };
    let range = |axis: usize| {
        points
            .iter()
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], p| [low.min(p[axis]), high.max(p[axis])])
    };
    let ([x0, x1], [low, high]) = (range(0), range(1));
    let (x_ticks, y_ticks) = (ticks(x0, x1, 6), ticks(low, high, 4));
    // The vertical axis ends on its outer ticks, the horizontal one with the data.
    let y0 = y_ticks.first().copied().unwrap_or(low).min(low);
    let y1 = y_ticks.last().copied().unwrap_or(high).max(high);
    let across = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * if x1 > x0 { (x - x0) / (x1 - x0) } else { 0.5 };
    let up =
        |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * if y1 > y0 { (y - y0) / (y1 - y0) } else { 0.5 };

    let told = format!(
        "{} over {} recorded iterations: {} at {}, {} at {}; lowest {}, highest {}.",
        name,
        points.len(),
        short(first[1]),
        short(first[0]),
        short(last[1]),
        short(last[0]),
        short(low),
        short(high)
    );
    let mut out = format!(
        "<figure class=\"curve\">\n<figcaption>{name}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}\">\n<title id=\"{id}\">{told}</title>\n"
    );
    // Writing to a String cannot fail.
    for tick in y_ticks {
        let y = up(tick);
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            short(tick)
        );
    }
    for tick in x_ticks.into_iter().filter(|t| (x0..=x1).contains(t)) {
        let x = across(tick);
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{x:.1} {:.1}v5\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 19.0,
            short(tick)
        );
    }
    let mut path = String::new();
    for part in parts(&curve.points) {
        for (i, [x, y]) in part.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, across(*x), up(*y));
        }
        if part.len() == 1 {
            // A lone point would not show.
            path.push_str("h0.1");
        }
    }
    let _ = write!(out, "\n<path class=\"line\" d=\"{path}\"/>\n</svg>\n</figure>\n");
    out
}

/// The curve between its gaps, thinned: runs of neighbours are replaced by their mean.
fn parts(points: &[[f64; 2]]) -> Vec<Vec<[f64; 2]>> {
    let run = points.len().div_ceil(POINTS).max(1);
    points
        .split(|p| !p.iter().all(|v| v.is_finite()))
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.chunks(run)
                .map(|chunk| {
                    [0, 1].map(|axis| chunk.iter().map(|p| p[axis]).sum::<f64>() / chunk.len() as f64)
                })
                .collect()
        })
        .collect()
}

/// About `count` round values from at most `low` to at least `high`.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return vec![low];
    }
    let raw = span / count as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= raw * 0.999).unwrap_or(raw);
    if !(step.is_finite() && step > 0.0) {
        return vec![low, high];
    }
    let (from, to) = ((low / step).floor(), (high / step).ceil());
    if !(from.is_finite() && to.is_finite() && to - from <= 4.0 * count as f64) {
        return vec![low, high];
    }
    (0..=(to - from) as usize).map(|i| (from + i as f64) * step).collect()
}

/// A number in four digits or so.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e6).contains(&size) {
        let digits = if size >= 100.0 || size == 0.0 {
            0
        } else if size >= 1.0 {
            2
        } else {
            4
        };
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::{parts, short, ticks};

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(30.0, 9_970.0, 5), [0.0, 2000.0, 4000.0, 6000.0, 8000.0, 10000.0]);
        assert_eq!(ticks(3.0, 3.0, 5), [3.0]);
        assert_eq!(ticks(1e300, f64::MAX, 4).len(), 5);
        for (low, high) in [(-7.3, 12.9), (1e-9, 3e-9), (-1e-300, 1e-300), (1.0, 1.0 + f64::EPSILON)] {
            let found = ticks(low, high, 4);
            assert!(found[0] <= low && found[found.len() - 1] >= high && found.len() <= 17, "{found:?}");
        }
    }

    #[test]
    fn curves_are_thinned_by_means_and_broken_at_gaps() {
        let mut points: Vec<[f64; 2]> = (0..3200).map(|i| [f64::from(i), f64::from(i % 10)]).collect();
        let thin = parts(&points);
        assert_eq!((thin.len(), thin[0].len(), thin[0][0]), (1, 320, [4.5, 4.5]));
        points[1600][1] = f64::NAN;
        assert_eq!(parts(&points).len(), 2);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.011, 1.5, 2000.0, 1e-8, -0.25, 123.4].map(short);
        assert_eq!(texts, ["0", "0.011", "1.5", "2000", "1.00e-8", "-0.25", "123"]);
    }
}
