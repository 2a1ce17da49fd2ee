//! A stroke font of our own: glyphs are a few pen strokes on a small grid, drawn smooth at any size.
//!
//! A glyph is its width and its strokes. Each stroke is a kind and points of two base-36 digits, x then y, with y down:
//! 0 is the capital line, 3 the x-height, 8 the base line. Kind `-` is a polyline, `~` a curve from the first point
//! to the last bent towards those between, `o` a closed curve that touches the middle of each side of its polygon.

/// Units from the capital line to the base line.
pub(crate) const CAP: f32 = 8.0;
/// Units between glyphs.
const GAP: f32 = 2.0;

/// A glyph's width in units and its strokes.
fn glyph(c: char) -> (f32, &'static str) {
    match c {
        ' ' => (2.0, ""),
        'A' => (6.0, "-083068 -1555"),
        'B' => (5.5, "-0008 ~003050543404 ~043464683808"),
        'C' => (6.0, "~626000086866"),
        'D' => (6.0, "-0008 ~002060682808"),
        'E' => (5.0, "-50000858 -0444"),
        'F' => (5.0, "-500008 -0444"),
        'G' => (6.0, "~626000086864 -6434"),
        'H' => (6.0, "-0008 -6068 -0464"),
        'I' => (0.0, "-0008"),
        'J' => (4.0, "~4044480806"),
        'K' => (6.0, "-0008 -6005 -2368"),
        'L' => (5.0, "-000858"),
        'M' => (8.0, "-0800468088"),
        'N' => (6.0, "-08006860"),
        'O' => (6.0, "o00606808"),
        'P' => (5.5, "-0008 ~003060643404"),
        'Q' => (6.0, "o00606808 -4669"),
        'R' => (6.0, "-0008 ~003060643404 -3468"),
        'S' => (5.0, "~5250000454580806"),
        'T' => (6.0, "-0060 -3038"),
        'U' => (6.0, "~000408686460"),
        'V' => (6.0, "-003860"),
        'W' => (8.0, "-0028426880"),
        'X' => (6.0, "-0068 -6008"),
        'Y' => (6.0, "-003460 -3438"),
        'Z' => (6.0, "-00600868"),
        'a' => (4.0, "o03434808 -4348"),
        'b' => (4.0, "-0008 o03434808"),
        'c' => (4.0, "~444303084847"),
        'd' => (4.0, "-4048 o03434808"),
        'e' => (4.0, "-0545 ~454303084847"),
        'f' => (2.5, "~30101318 -0333"),
        'g' => (4.0, "o03434808 ~43484b0a"),
        'h' => (4.0, "-0008 ~0503434548"),
        'i' => (0.0, "-0308 -0101"),
        'j' => (1.0, "~13181a0a -1111"),
        'k' => (4.0, "-0008 -4306 -1548"),
        'l' => (0.0, "-0008"),
        'm' => (6.0, "-0308 ~0503333538 ~3533636568"),
        'n' => (4.0, "-0308 ~0503434548"),
        'o' => (4.0, "o03434808"),
        'p' => (4.0, "-030a o03434808"),
        'q' => (4.0, "-434a o03434808"),
        'r' => (2.5, "-0308 ~050333"),
        's' => (4.0, "~4443030546480807"),
        't' => (2.5, "~11161838 -0333"),
        'u' => (4.0, "~0306084846 -4348"),
        'v' => (4.0, "-032843"),
        'w' => (6.0, "-0318335863"),
        'x' => (4.0, "-0348 -4308"),
        'y' => (4.0, "-0328 -431a"),
        'z' => (4.0, "-03430848"),
        '0' => (5.0, "o00505808"),
        '1' => (5.0, "-123038"),
        '2' => (5.0, "~0200505308 -0858"),
        '3' => (5.0, "~0200505424 ~2454580806"),
        '4' => (5.0, "-48400656"),
        '5' => (5.0, "-500004 ~042353580807"),
        '6' => (5.0, "o03535808 ~400106"),
        '7' => (5.0, "-005028"),
        '8' => (5.0, "o00505404 o04545808"),
        '9' => (5.0, "o00505505 ~525718"),
        '.' => (0.0, "-0808"),
        ',' => (1.0, "-180a"),
        ':' => (0.0, "-0404 -0808"),
        ';' => (1.0, "-1414 -180a"),
        '-' => (3.0, "-0535"),
        '–' => (5.0, "-0555"),
        '—' => (8.0, "-0585"),
        '+' => (4.0, "-0646 -2428"),
        '×' => (4.0, "-0448 -4408"),
        '·' => (0.0, "-0505"),
        '*' => (4.0, "-2024 -0143 -4103"),
        '/' => (3.0, "-0930"),
        '\\' => (3.0, "-0039"),
        '(' => (2.0, "~20042a"),
        ')' => (2.0, "~00240a"),
        '[' => (2.0, "-20000a2a"),
        ']' => (2.0, "-00202a0a"),
        '{' => (2.0, "-2010140515 -151a2a"),
        '}' => (2.0, "-0010142515 -151a0a"),
        '=' => (4.0, "-0444 -0747"),
        '_' => (5.0, "-0959"),
        '%' => (6.0, "-6008 o00202303 o45656848"),
        '#' => (6.0, "-2018 -5048 -0363 -0666"),
        '<' => (4.0, "-420548"),
        '>' => (4.0, "-024508"),
        '\'' => (0.0, "-0002"),
        '"' => (2.0, "-0002 -2022"),
        '!' => (0.0, "-0005 -0808"),
        '?' => (5.0, "~0200505425 -2526 -2828"),
        '&' => (6.0, "-6802 ~02103033 ~3305084866"),
        '|' => (0.0, "-000a"),
        '~' => (4.0, "~0624364446"),
        '@' => (6.0, "o23535626 ~5355675460000868"),
        '^' => (4.0, "-032043"),
        '$' => (5.0, "~5250000454580806 -2029"),
        // A box: better than dropping a character that is not there.
        _ => (5.0, "-0050580800"),
    }
}

/// The width of `text` in units of the glyph grid.
pub(crate) fn width(text: &str) -> f32 {
    let glyphs: f32 = text.chars().map(|c| glyph(c).0 + GAP).sum();
    (glyphs - GAP).max(0.0)
}

/// Calls `draw` with every straight piece of `text`, in units, with the pen starting at x = 0 and y = 0 on the
/// capital line.
pub(crate) fn strokes(text: &str, mut draw: impl FnMut([f32; 2], [f32; 2])) {
    let mut pen = 0.0;
    for c in text.chars() {
        let (width, strokes) = glyph(c);
        for stroke in strokes.split(' ') {
            let Some(kind) = stroke.chars().next() else { continue };
            let digits: Vec<f32> =
                stroke.chars().skip(1).filter_map(|c| c.to_digit(36)).map(|v| v as f32).collect();
            let points: Vec<[f32; 2]> = digits.chunks_exact(2).map(|p| [p[0] + pen, p[1]]).collect();
            let line = match kind {
                'o' => curve(&points, true),
                '~' => curve(&points, false),
                _ => points,
            };
            for pair in line.windows(2) {
                draw(pair[0], pair[1]);
            }
        }
        pen += width + GAP;
    }
}

/// A chain of quadratic Bézier arcs with the points as handles and the middles between them as joints.
fn curve(points: &[[f32; 2]], closed: bool) -> Vec<[f32; 2]> {
    const PIECES: usize = 8;
    let n = points.len();
    if n < 3 {
        return points.to_vec();
    }
    let middle = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let mut out = Vec::new();
    let handles = if closed { 0..n } else { 1..n - 1 };
    for i in handles {
        let (before, handle, after) = (points[(i + n - 1) % n], points[i], points[(i + 1) % n]);
        let from = if !closed && i == 1 { before } else { middle(before, handle) };
        let to = if !closed && i == n - 2 { after } else { middle(handle, after) };
        for step in 0..=PIECES {
            let t = step as f32 / PIECES as f32;
            let s = 1.0 - t;
            out.push([0, 1].map(|k| s * s * from[k] + 2.0 * s * t * handle[k] + t * t * to[k]));
        }
    }
    out
}
