//! A picture of RGB pixels: rectangles, text, blending, PNG.

use crate::{Error, font};

/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// An RGB picture, rows from the top.
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize, colour: Rgb) -> Self {
        Self { width, height, pixels: colour.repeat(width * height) }
    }

    /// Lays `colour` over a pixel; `share` is its opacity in 0..=1. Pixels outside the picture are passed over.
    pub(crate) fn blend(&mut self, x: usize, y: usize, colour: Rgb, share: f32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        if let Some(pixel) = self.pixels.get_mut(at..at + 3) {
            for (p, c) in pixel.iter_mut().zip(colour) {
                let (from, to) = (f32::from(*p), f32::from(c));
                *p = (from + (to - from) * share.clamp(0.0, 1.0)).round() as u8;
            }
        }
    }

    pub(crate) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb, share: f32) {
        for y in y..(y + height).min(self.height) {
            for x in x..(x + width).min(self.width) {
                self.blend(x, y, colour, share);
            }
        }
    }

    /// Writes `text` with capitals `cap` pixels high, the top left of its first capital at (x, y).
    pub(crate) fn text(&mut self, x: usize, y: usize, cap: f32, text: &str, colour: Rgb) {
        let unit = cap / font::CAP;
        let radius = cap / 15.0 + 0.25;
        // Coverage first, then one blend: pixels shared by two strokes must not be laid on twice.
        let (width, height) = (text_width(text, cap) + 4, (cap * 1.5) as usize + 4);
        let mut coverage = vec![0.0f32; width * height];
        font::strokes(text, |a, b| {
            let [ax, ay, bx, by] = [a[0], a[1], b[0], b[1]].map(|v| v * unit + 2.0);
            let low = |v: f32| (v - radius - 1.0).max(0.0) as usize;
            let high = |v: f32, end: usize| ((v + radius + 2.0) as usize).min(end);
            for py in low(ay.min(by))..high(ay.max(by), height) {
                for px in low(ax.min(bx))..high(ax.max(bx), width) {
                    let distance = to_segment([px as f32, py as f32], [ax, ay], [bx, by]);
                    let share = (radius + 0.5 - distance).clamp(0.0, 1.0);
                    let cell = &mut coverage[py * width + px];
                    *cell = cell.max(share);
                }
            }
        });
        for (i, &share) in coverage.iter().enumerate() {
            if share > 0.0 {
                let (px, py) = (x + i % width, y + i / width);
                if px >= 2 && py >= 2 {
                    self.blend(px - 2, py - 2, colour, share);
                }
            }
        }
    }

    /// The picture as a PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>, Error> {
        let fail = |source| Error::Png { width: self.width, height: self.height, source };
        let mut out = Vec::new();
        // Sides are checked where the layout is made; 0 would be refused by the encoder.
        let (width, height) =
            (u32::try_from(self.width).unwrap_or(0), u32::try_from(self.height).unwrap_or(0));
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Balanced);
        let mut writer = encoder.write_header().map_err(fail)?;
        writer.write_image_data(&self.pixels).map_err(fail)?;
        writer.finish().map_err(fail)?;
        Ok(out)
    }
}

/// The width of `text` in pixels with capitals `cap` pixels high.
pub(crate) fn text_width(text: &str, cap: f32) -> usize {
    (font::width(text) * cap / font::CAP).ceil() as usize
}

/// `text`, cut to `width` pixels with a final "…" written as dots.
pub(crate) fn fitted(text: &str, cap: f32, width: usize) -> String {
    if text_width(text, cap) <= width {
        return text.to_owned();
    }
    let mut kept: String = text.to_owned();
    while kept.pop().is_some() {
        let short = format!("{}...", kept.trim_end());
        if text_width(&short, cap) <= width {
            return short;
        }
    }
    String::new()
}

fn to_segment(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx * dx + dy * dy;
    let t =
        if length > 0.0 { (((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (p[0] - a[0] - t * dx).hypot(p[1] - a[1] - t * dy)
}
