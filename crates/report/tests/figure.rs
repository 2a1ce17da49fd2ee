//! Pictures: size, colours at known pixels, layout and errors.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use ndarray::{Array2, s};
use scribseg_report::{Error, Figure, FigureCase, FigureKind, Panel, figure};

const SKY: [u8; 3] = [86, 180, 233];
const GREEN: [u8; 3] = [0, 158, 115];
const YELLOW: [u8; 3] = [240, 228, 66];
const VERMILLION: [u8; 3] = [213, 94, 0];

struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn of(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        Self { width: info.width as usize, height: info.height as usize, rgb }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y * self.width + x) * 3;
        [self.rgb[i], self.rgb[i + 1], self.rgb[i + 2]]
    }

    fn count(&self, colour: [u8; 3]) -> usize {
        self.rgb.chunks_exact(3).filter(|p| *p == colour).count()
    }
}

/// A slice of 50 × 50 pixels: enlarged six times, cropped nowhere (its corners differ).
fn slice(kind: FigureKind) -> Figure {
    let mut image = Array2::from_elem((50, 50), 0.5f32);
    image[[0, 0]] = 0.0;
    image[[0, 1]] = 1.0;
    let mut reference = Array2::zeros((50, 50));
    reference.slice_mut(s![10..30, 10..30]).fill(2);
    let mut prediction = Array2::zeros((50, 50));
    prediction.slice_mut(s![10..30, 20..40]).fill(3);
    let panels = vec![Panel { method: "SC".into(), prediction, dice: 0.5 }];
    let window = Some([0.0, 1.0]);
    let case = FigureCase { id: "phantom-001".into(), slice: 7, image, window, reference, panels };
    Figure { title: "Figure".into(), kind, cases: vec![case] }
}

/// Left and top of the panel in a column: the picture's margin, heading lines and gutters.
const fn panel(column: usize) -> (usize, usize) {
    (28 + column * 308, 28 + 34 + 6 + 30 + 22)
}

/// The middle of slice pixel (y, x) in a column.
fn pixel(column: usize, y: usize, x: usize) -> (usize, usize) {
    let (left, top) = panel(column);
    (left + 6 * x + 3, top + 6 * y + 3)
}

fn mixed(under: u8, over: [u8; 3]) -> [u8; 3] {
    over.map(|c| ((f32::from(under) + f32::from(c)) / 2.0).round() as u8)
}

#[test]
fn contours_and_errors_have_their_colours() {
    let picture = Picture::of(&figure(&slice(FigureKind::WholeTumour)).unwrap());
    assert_eq!(picture.width, 2 * 28 + 2 * 300 + 8);
    assert!(picture.height > panel(0).1 + 300);
    let at = |column, y, x| {
        let (px, py) = pixel(column, y, x);
        picture.at(px, py)
    };
    // 0.5 in a window from 0 to 1, lifted off black.
    assert_eq!(at(0, 40, 5), [133; 3]);
    // Inside both, the image shows; only in the reference: false negative; only in the prediction: false positive.
    assert_eq!(at(1, 20, 25), at(0, 40, 5));
    assert_eq!(at(1, 20, 15), mixed(133, SKY));
    assert_eq!(at(1, 20, 35), mixed(133, VERMILLION));
    // The contour is the outermost part of the mask, on both sides of nothing else.
    let (x, y) = (panel(0).0 + 6 * 10, panel(0).1 + 6 * 20);
    assert_eq!((picture.at(x, y), picture.at(x + 1, y)), (GREEN, GREEN));
    assert_ne!(picture.at(x - 1, y), GREEN);
    assert_ne!(picture.at(x + 2, y), GREEN);
    let (x, y) = (panel(1).0 + 6 * 20, panel(1).1 + 6 * 20);
    assert_eq!((picture.at(x, y), picture.at(x + 1, y)), (YELLOW, YELLOW));
    // The page is white and has text on it.
    assert_eq!(picture.at(3, 3), [255; 3]);
    assert!(picture.count([28, 30, 34]) > 200);
}

#[test]
fn sub_structures_are_filled_and_their_errors_hatched() {
    let picture = Picture::of(&figure(&slice(FigureKind::Substructures)).unwrap());
    let (x, y) = pixel(0, 20, 20);
    assert_eq!(picture.at(x, y), mixed(133, GREEN));
    let (left, top) = panel(1);
    let has = |x: std::ops::Range<usize>, wanted: &dyn Fn([u8; 3]) -> bool| {
        (top + 80..top + 170).any(|y| x.clone().any(|x| wanted(picture.at(left + x, y))))
    };
    // Blue stripes left, white dots where ED is called ET, orange stripes right.
    assert!(has(66..114, &|[r, g, b]| b > 200 && r < 110 && g > 150));
    assert!(has(126..174, &|p| p.iter().all(|&v| v > 240)));
    assert!(has(186..234, &|[r, g, b]| r > 200 && (140..190).contains(&g) && b < 40));
    // Neither stripes nor dots where nothing is.
    assert!(!has(250..290, &|p| p != [133; 3]));
}

#[test]
fn background_is_cropped_and_slices_are_centred() {
    let mut figure_ = slice(FigureKind::WholeTumour);
    let case = &mut figure_.cases[0];
    // A brain of 34 × 44 pixels in 200 × 200 of background; with its rim of 3 it is 40 × 50, six times enlarged.
    let mut image = Array2::from_elem((200, 200), -7.0f32);
    image.slice_mut(s![100..134, 20..64]).fill(1.0);
    case.image = image;
    case.window = None;
    case.reference = Array2::zeros((200, 200));
    case.reference.slice_mut(s![110..120, 30..40]).fill(1);
    case.panels[0].prediction = case.reference.clone();
    case.panels[0].dice = f64::NAN;
    let picture = Picture::of(&figure(&figure_).unwrap());
    assert_eq!(picture.width, 2 * 28 + 2 * 300 + 8);
    let (x, y) = pixel(0, 13, 13);
    assert_eq!(picture.at(panel(0).0 + 6 * 13, y), GREEN);
    assert_ne!(picture.at(x, y), GREEN);
    // Background is black whatever its value.
    let (x, y) = pixel(0, 1, 1);
    assert_eq!(picture.at(x, y), [0; 3]);
}

#[test]
fn the_same_data_give_the_same_bytes() {
    let data = slice(FigureKind::Substructures);
    assert_eq!(figure(&data).unwrap(), figure(&data).unwrap());
}

#[test]
fn odd_images_are_drawn() {
    let mut data = slice(FigureKind::WholeTumour);
    data.title = "Ünknøwn glyphs and a title that is far too long for the picture ".repeat(9);
    data.cases[0].id = "a".repeat(300);
    data.cases[0].window = Some([3.0, 3.0]);
    data.cases[0].image.fill(f32::NAN);
    let picture = Picture::of(&figure(&data).unwrap());
    assert!(picture.width < 1300);
    data.cases[0].image = Array2::zeros((1, 1));
    data.cases[0].reference = Array2::zeros((1, 1));
    data.cases[0].panels[0].prediction = Array2::ones((1, 1));
    data.cases[0].window = None;
    assert!(Picture::of(&figure(&data).unwrap()).width > 24);
}

#[test]
fn faults_are_told() {
    let good = slice(FigureKind::WholeTumour);
    let mut data = good.clone();
    data.cases.clear();
    assert!(matches!(figure(&data), Err(Error::Nothing { .. })));
    let mut data = good.clone();
    data.cases[0].panels.clear();
    assert!(matches!(figure(&data), Err(Error::Nothing { .. })));
    let mut data = good.clone();
    data.cases[0].panels[0].prediction = Array2::zeros((50, 49));
    let error = figure(&data).unwrap_err().to_string();
    assert!(error.contains("prediction of SC") && error.contains("[50, 49]"), "{error}");
    let mut data = good.clone();
    data.cases.push(good.cases[0].clone());
    data.cases[1].panels[0].method = "KM".into();
    assert!(matches!(figure(&data), Err(Error::Methods { .. })));
    let mut data = good.clone();
    data.cases[0].reference[[3, 3]] = 4;
    assert!(matches!(figure(&data), Err(Error::Label { found: 4, .. })));
    let mut data = good;
    data.cases[0].image = Array2::zeros((0, 50));
    assert!(matches!(figure(&data), Err(Error::Size { .. })));
}
