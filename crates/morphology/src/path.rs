//! Cutting a skeleton's branches: the one curve that is left.

use crate::{Connectivity, largest_component};
use ndarray::ArrayView2;
use std::f64::consts::SQRT_2;

/// Pixels that the searches of one call may visit in all, some tenths of a second of work. Components of up to 4096
/// pixels can be searched from every pixel within it.
const VISITS: usize = 1 << 24;

/// Lengths closer than this are equal: sums of 1 and √2 in another order.
const ROUNDING: f64 = 1e-9;

const NONE: u32 = u32::MAX;

/// Cuts the branches of a skeleton: the longest of the shortest paths between two pixels of its largest component.
///
/// Pixels are neighbours when they share at least a corner; a step to the side is 1 long, a diagonal one √2. The
/// pixels come in order from one end to the other as `[y, x]`, first the end that a scan meets first; no pixel, no
/// path. Of several paths as long always the same one is taken.
///
/// The path is the longest for every component of up to 4096 pixels, and for larger ones without many loops. Beyond
/// (noise, no slice of a body) the work is limited and the path may be slightly shorter.
pub fn longest_path(skeleton: ArrayView2<'_, bool>) -> Vec<[usize; 2]> {
    let component = largest_component(skeleton, Connectivity::Full);
    let (height, width) = component.dim();
    let pixels: Vec<[usize; 2]> =
        component.indexed_iter().filter(|&(_, &set)| set).map(|((y, x), _)| [y, x]).collect();
    if pixels.is_empty() {
        return Vec::new();
    }
    let mut index = vec![NONE; height * width];
    for (number, &[y, x]) in pixels.iter().enumerate() {
        index[y * width + x] = number as u32;
    }
    let graph: Vec<Near> = pixels
        .iter()
        .map(|&[y, x]| {
            let at = |dy: isize, dx: isize| {
                let v = y.checked_add_signed(dy).filter(|&v| v < height)?;
                let u = x.checked_add_signed(dx).filter(|&u| u < width)?;
                Some(index[v * width + u])
            };
            Near {
                side: [(-1, 0), (0, -1), (0, 1), (1, 0)].map(|(dy, dx)| at(dy, dx).unwrap_or(NONE)),
                corner: [(-1, -1), (-1, 1), (1, -1), (1, 1)].map(|(dy, dx)| at(dy, dx).unwrap_or(NONE)),
            }
        })
        .collect();
    let mut search = Search::new(graph.len());
    let (start, end) = farthest_pair(&graph, &mut search);
    // Searching from the end gives the path in order from the start.
    search.from(&graph, end);
    let mut path = vec![pixels[start]];
    let mut at = start;
    while at != end {
        at = search.parent[at] as usize;
        path.push(pixels[at]);
    }
    path
}

/// The two pixels farthest apart, the lower number first.
///
/// A search from pixel v finds its eccentricity e (the distance to the pixel farthest from it) and bounds all others
/// by the triangle inequality: max(d, e − d) ≤ e(w) ≤ e + d with d the distance from v to w. Pixels whose upper bound
/// does not exceed the longest distance found need no search of their own. Searches start in turn where most is
/// promised and in the middle, where the bounds are sharpest (Takes and Kosters, "Determining the diameter of small
/// world networks", CIKM 2011); a curve with branches takes a handful.
fn farthest_pair(graph: &[Near], search: &mut Search) -> (usize, usize) {
    let mut bounds = vec![(0.0_f64, f64::INFINITY); graph.len()];
    let mut done = vec![false; graph.len()];
    let mut longest = (0.0, 0, 0);
    let mut start = 0;
    for round in 0..(VISITS / graph.len()).max(4) {
        let end = search.from(graph, start);
        let eccentricity = search.length[end];
        if eccentricity > longest.0 + ROUNDING {
            longest = (eccentricity, start.min(end), start.max(end));
        }
        done[start] = true;
        for (bound, &length) in bounds.iter_mut().zip(&search.length) {
            bound.0 = bound.0.max(length).max(eccentricity - length);
            bound.1 = bound.1.min(eccentricity + length);
        }
        let open = (0..graph.len()).filter(|&pixel| !done[pixel] && bounds[pixel].1 > longest.0 + ROUNDING);
        let next = if round % 2 == 0 {
            open.max_by(|&a, &b| bounds[a].1.total_cmp(&bounds[b].1).then(b.cmp(&a)))
        } else {
            open.min_by(|&a, &b| bounds[a].0.total_cmp(&bounds[b].0))
        };
        match next {
            Some(next) => start = next,
            None => break,
        }
    }
    (longest.1, longest.2)
}

/// The neighbours of a pixel, [`NONE`] where there is none.
struct Near {
    side: [u32; 4],
    corner: [u32; 4],
}

/// Dijkstra's search with its memory kept between runs.
///
/// There are but two lengths of step, so two plain queues keep all that is open in order: what is reached by steps of
/// one length comes up in the order in which it was reached.
struct Search {
    length: Vec<f64>,
    parent: Vec<u32>,
    queues: [Vec<(f64, u32)>; 2],
}

impl Search {
    fn new(pixels: usize) -> Self {
        Self {
            length: vec![f64::INFINITY; pixels],
            parent: vec![NONE; pixels],
            queues: [Vec::with_capacity(pixels), Vec::with_capacity(pixels)],
        }
    }

    /// Finds the distance of every pixel from `start` and the way back to it; returns a pixel farthest away.
    fn from(&mut self, graph: &[Near], start: usize) -> usize {
        self.length.fill(f64::INFINITY);
        self.length[start] = 0.0;
        self.parent[start] = start as u32;
        let [by_side, by_corner] = &mut self.queues;
        by_side.clear();
        by_corner.clear();
        by_side.push((0.0, start as u32));
        let mut heads = [0, 0];
        let mut last = start;
        loop {
            let (length, at) = match (by_side.get(heads[0]), by_corner.get(heads[1])) {
                (Some(&one), Some(&two)) if two.0 < one.0 => {
                    heads[1] += 1;
                    two
                }
                (Some(&one), _) => {
                    heads[0] += 1;
                    one
                }
                (None, Some(&two)) => {
                    heads[1] += 1;
                    two
                }
                (None, None) => return last,
            };
            if length > self.length[at as usize] {
                // Reached by a shorter way meanwhile.
                continue;
            }
            last = at as usize;
            let near = &graph[at as usize];
            for (steps, step, queue) in
                [(&near.side, 1.0, &mut *by_side), (&near.corner, SQRT_2, &mut *by_corner)]
            {
                for &next in steps.iter().filter(|&&next| next != NONE) {
                    if length + step < self.length[next as usize] {
                        self.length[next as usize] = length + step;
                        self.parent[next as usize] = at;
                        queue.push((length + step, next));
                    }
                }
            }
        }
    }
}
