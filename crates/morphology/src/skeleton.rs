//! Thinning of 2-D masks.

use ndarray::{Array2, ArrayView2};

/// Thins a 2-D mask to curves one pixel wide, exactly as `skimage.morphology.skeletonize` does.
///
/// Two passes alternate until neither removes a pixel; each removes at once all pixels whose eight neighbours form a
/// pattern on that pass's list. The lists are those of T. Y. Zhang and C. Y. Suen, "A fast parallel algorithm for
/// thinning digital patterns", Communications of the ACM 27 (1984), changed for the 25 patterns that
/// scikit-image treats otherwise (corners and diagonal steps, which the paper's rule leaves two pixels wide or wears
/// away). Outside the image is background.
pub fn skeletonize(mask: ArrayView2<'_, bool>) -> Array2<bool> {
    let (height, width) = mask.dim();
    let stride = width + 2;
    let mut padded = vec![0_u8; stride * (height + 2)];
    let mut pixels: Vec<usize> = Vec::new();
    for ((y, x), _) in mask.indexed_iter().filter(|&(_, &set)| set) {
        let pixel = (y + 1) * stride + x + 1;
        padded[pixel] = SET;
        pixels.push(pixel);
    }
    // A pass need only look at pixels around which something changed since it looked last; at first, at all that do
    // not lie amid others. So every pixel costs some looks, not one a round.
    pixels.retain(|&pixel| pattern(&padded, pixel, stride) != 255);
    let mut waiting = [pixels.clone(), pixels];
    for pass in [FIRST, SECOND] {
        for &pixel in &waiting[usize::from(pass == SECOND)] {
            padded[pixel] |= pass << WAITING;
        }
    }
    let around = [stride + 1, stride, stride - 1, 1];
    let mut removed: Vec<usize> = Vec::new();
    while !(waiting[0].is_empty() && waiting[1].is_empty()) {
        for pass in [FIRST, SECOND] {
            let list = &mut waiting[usize::from(pass == SECOND)];
            removed.clear();
            for pixel in list.drain(..) {
                padded[pixel] &= !(pass << WAITING);
                if padded[pixel] & SET != 0 && TABLE[pattern(&padded, pixel, stride)] & pass != 0 {
                    removed.push(pixel);
                }
            }
            // Only now: a pass looks at the image as it was when the pass began.
            for &pixel in &removed {
                padded[pixel] &= !SET;
            }
            for &pixel in &removed {
                for near in around.iter().flat_map(|step| [pixel - step, pixel + step]) {
                    if padded[near] & SET == 0 {
                        continue;
                    }
                    for (list, pass) in waiting.iter_mut().zip([FIRST, SECOND]) {
                        if padded[near] & pass << WAITING == 0 {
                            padded[near] |= pass << WAITING;
                            list.push(near);
                        }
                    }
                }
            }
        }
    }
    Array2::from_shape_fn((height, width), |(y, x)| padded[(y + 1) * stride + x + 1] & SET != 0)
}

/// Bit of a pixel that belongs to the object.
const SET: u8 = 1;
/// How far the bit of a pass is moved to mark pixels that wait for it.
const WAITING: u8 = 1;
/// Bit of a table entry: the first pass of a round removes the pattern.
const FIRST: u8 = 1;
/// Bit of a table entry: the second pass of a round removes the pattern.
const SECOND: u8 = 2;

/// The eight neighbours as one number: NW 1, N 2, NE 4, E 8, SE 16, S 32, SW 64, W 128.
fn pattern(padded: &[u8], pixel: usize, stride: usize) -> usize {
    let at = |pixel: usize| usize::from(padded[pixel] & SET);
    let (north, south) = (pixel - stride, pixel + stride);
    at(north - 1)
        | at(north) << 1
        | at(north + 1) << 2
        | at(pixel + 1) << 3
        | at(south + 1) << 4
        | at(south) << 5
        | at(south - 1) << 6
        | at(pixel - 1) << 7
}

const TABLE: [u8; 256] = table();

/// Where scikit-image departs from the paper's rule: pattern, and the passes that remove it.
///
/// `tests/fixtures/thinning_table.py` finds them from what scikit-image returns for small images. Those settle all
/// patterns but 10, which is removed but no image tells in which pass: it is treated as its mirror images 40, 130, 160.
const DEPARTURES: [(usize, u8); 25] = [
    (3, FIRST),
    (6, FIRST),
    (10, FIRST | SECOND),
    (11, FIRST),
    (12, FIRST),
    (14, FIRST),
    (24, SECOND),
    (26, SECOND),
    (40, FIRST | SECOND),
    (48, 0),
    (56, SECOND),
    (96, SECOND),
    (104, SECOND),
    (108, SECOND),
    (129, 0),
    (130, FIRST | SECOND),
    (131, FIRST),
    (134, FIRST),
    (160, FIRST | SECOND),
    (161, FIRST),
    (176, SECOND),
    (192, SECOND),
    (194, FIRST),
    (198, FIRST),
    (224, SECOND),
];

const fn table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut pattern = 0;
    while pattern < 256 {
        table[pattern] = zhang_suen(pattern);
        pattern += 1;
    }
    let mut departure = 0;
    while departure < DEPARTURES.len() {
        let (pattern, passes) = DEPARTURES[departure];
        table[pattern] = passes;
        departure += 1;
    }
    table
}

/// The paper's rule: two to six neighbours, one change from background to object around the ring, and the pixel lies
/// on the pass's sides (first: south, east or the north-west corner; second: north, west or the south-east corner).
const fn zhang_suen(pattern: usize) -> u8 {
    let neighbours = pattern.count_ones();
    let mut rises = 0;
    let mut bit = 0;
    while bit < 8 {
        let here = pattern >> bit & 1;
        let next = pattern >> ((bit + 1) % 8) & 1;
        if here == 0 && next == 1 {
            rises += 1;
        }
        bit += 1;
    }
    if neighbours < 2 || neighbours > 6 || rises != 1 {
        return 0;
    }
    let north = pattern >> 1 & 1;
    let east = pattern >> 3 & 1;
    let south = pattern >> 5 & 1;
    let west = pattern >> 7 & 1;
    let mut passes = 0;
    if north * east * south == 0 && east * south * west == 0 {
        passes |= FIRST;
    }
    if north * east * west == 0 && north * south * west == 0 {
        passes |= SECOND;
    }
    passes
}
