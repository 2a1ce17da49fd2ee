//! The 95th percentile of surface distances as the BraTS 2023 tool takes it: by area, the larger of two directions.
//!
//! It is the definition of DeepMind's `surface-distance`
//! (<https://github.com/google-deepmind/surface-distance>), which that tool calls. Surfaces run between voxels: every
//! corner at which eight voxels meet, some in the mask and some not, carries one *surface element*, the polygons that
//! marching cubes lays through the cell of the eight. Each element of one surface has a distance to the nearest
//! element of the other. Of each direction the smallest distance is taken within which 95 % of the surface's *area*
//! lie, no interpolation; the result is the larger one.
//!
//! Elements are 0 apart where two surfaces share a corner, so that this figure is often a little smaller than
//! [`hd95`](crate::hd95) for masks that nearly agree, and larger where one direction is worse than the other.

use ndarray::{Array3, ArrayView3};
use scribseg_morphology::distance_transform;

use crate::crop::Bounds;
use crate::{Error, check_shapes, check_spacing};

/// The 95th percentile by area of the distances between two surfaces, in mm: the larger of the two directions.
///
/// `spacing` is in mm, `[z, y, x]`. `None` if either mask is empty. Errs if the shapes differ or a spacing is not
/// positive.
///
/// ```
/// use ndarray::{Array3, s};
/// let mut a = Array3::from_elem((4, 9, 9), false);
/// a.slice_mut(s![1..3, 2..6, 2..6]).fill(true);
/// let mut b = Array3::from_elem((4, 9, 9), false);
/// b.slice_mut(s![1..3, 2..6, 4..8]).fill(true); // two voxels to the left
/// assert_eq!(scribseg_metrics::hd95_by_area(a.view(), b.view(), [3.0, 1.0, 1.5])?, Some(3.0));
/// # Ok::<(), scribseg_metrics::Error>(())
/// ```
pub fn hd95_by_area(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
    spacing: [f64; 3],
) -> Result<Option<f64>, Error> {
    check_shapes(reference.shape(), prediction.shape())?;
    check_spacing(spacing)?;
    let Some((reference, prediction)) = Bounds::crop_pair(reference, prediction, 0) else { return Ok(None) };
    let areas = element_areas(spacing);
    let (reference, prediction) = (corners(&reference), corners(&prediction));
    let there = directed(&reference, &prediction, &areas, spacing)?;
    let back = directed(&prediction, &reference, &areas, spacing)?;
    Ok(there.zip(back).map(|(there, back)| there.max(back)))
}

/// Which of the eight voxels around each corner are in the mask, a bit each: `4·z + 2·y + x` of the voxel's place.
fn corners(mask: &Array3<bool>) -> Array3<u8> {
    let (depth, height, width) = mask.dim();
    let mut codes = Array3::zeros((depth + 1, height + 1, width + 1));
    let (row, plane) = (width + 1, (width + 1) * (height + 1));
    if let Some(codes) = codes.as_slice_mut() {
        for ((z, y, x), _) in mask.indexed_iter().filter(|(_, inside)| **inside) {
            let first = z * plane + y * row + x;
            for place in 0..8 {
                // The voxel is last on every axis for its first corner.
                codes[first + (place >> 2) * plane + (place >> 1 & 1) * row + (place & 1)] |=
                    1 << (7 - place);
            }
        }
    }
    codes
}

/// Whether the surface runs through a corner's cell.
fn on_surface(code: u8) -> bool {
    code != 0 && code != u8::MAX
}

/// The distance within which 95 % of the area of the surface `from` lie of the surface `to`; `None` if one has no
/// element.
fn directed(
    from: &Array3<u8>,
    to: &Array3<u8>,
    areas: &[f64; 256],
    spacing: [f64; 3],
) -> Result<Option<f64>, Error> {
    if !to.iter().any(|&code| on_surface(code)) {
        return Ok(None);
    }
    let distance = distance_transform(to.mapv(|code| !on_surface(code)).view(), &spacing)?;
    let mut elements: Vec<(f64, f64)> = (from.iter().zip(&distance))
        .filter(|(code, _)| on_surface(**code))
        .map(|(&code, &distance)| (distance, areas[usize::from(code)]))
        .collect();
    // By area too, so that the sum, and with it the last bit, does not depend on which way round the volume lies.
    elements.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let total: f64 = elements.iter().map(|&(_, area)| area).sum();
    let mut within = 0.0;
    for &(distance, area) in &elements {
        within += area;
        // 19 of 20 equal elements are 95 %, whatever their sum was rounded to.
        if within >= (0.95 - 1e-12) * total {
            return Ok(Some(distance));
        }
    }
    Ok(elements.last().map(|&(distance, _)| distance))
}

/// The area in mm² of the surface element of each code, for voxels of `spacing`.
///
/// The surface is laid around each group of voxels that hang together by faces, or around each gap where fewer than
/// half of the voxels are out, and has its corners in the middle of the edges between a voxel inside and one outside.
fn element_areas(spacing: [f64; 3]) -> [f64; 256] {
    std::array::from_fn(|code| {
        let code = code as u8;
        let mut rest = if code.count_ones() > 4 { !code } else { code };
        let mut area = 0.0;
        while rest != 0 {
            let group = group_of(rest.trailing_zeros(), rest);
            rest &= !group;
            area += group_area(group, spacing);
        }
        area
    })
}

/// The step to the neighbour along each axis, z, y, x, in the number of a voxel's place.
const STEPS: [u32; 3] = [4, 2, 1];

/// The voxels of `set` that hang together with the one at `place`.
fn group_of(place: u32, set: u8) -> u8 {
    let mut group = 1u8 << place;
    loop {
        let grown = (0..8)
            .filter(|place| group >> place & 1 == 1)
            .flat_map(|place| STEPS.map(|step| 1u8 << (place ^ step)))
            .fold(group, |grown, neighbour| grown | (neighbour & set));
        if grown == group {
            return group;
        }
        group = grown;
    }
}

/// The area of the polygons around one group, from their normals at unit spacing.
fn group_area(group: u8, spacing: [f64; 3]) -> f64 {
    let has = |place: u32| group >> place & 1 == 1;
    let neighbours = |place: u32| STEPS.iter().filter(|&&step| has(place ^ step)).count();
    let along =
        |axis: usize| (0..8).filter(|&p| p & STEPS[axis] == 0 && has(p) && has(p | STEPS[axis])).count();
    let [z, y, x] = spacing;
    let face = [y * x, z * x, z * y];
    let area = |normal: [f64; 3]| -> f64 {
        normal.iter().zip(face).map(|(n, face)| (n * face).powi(2)).sum::<f64>().sqrt()
    };
    let edges = [along(0), along(1), along(2)];
    // The axis along which no two of the group lie: the normal of the plane that three or four lie in.
    let flat = edges.iter().position(|&n| n == 0).unwrap_or(0);
    let across = |weight: f64| area(std::array::from_fn(|a| if a == flat { weight } else { 0.0 }));
    match (group.count_ones(), edges.iter().sum::<usize>()) {
        // A triangle that cuts a voxel off.
        (1, _) => area([0.125; 3]),
        // A rectangle beside two.
        (2, _) => area(edges.map(|along| if along == 1 { 0.0 } else { 0.5 })),
        // A pentagon bent along one diagonal.
        (3, _) => across(0.5) + area([0.375; 3]),
        (4, 4) => across(1.0),
        // A voxel with its three neighbours: a plane hexagon.
        _ if (0..8).any(|place| has(place) && neighbours(place) == 3) => area([0.75; 3]),
        // Four in a chain that turns twice: a hexagon bent about its middle edge.
        _ => {
            let middle = |axis: usize| {
                let inner = |place: u32| has(place) && neighbours(place) == 2;
                (0..8).any(|place| inner(place) && inner(place ^ STEPS[axis]))
            };
            let middle = (0..3).find(|&axis| middle(axis)).unwrap_or(0);
            let ends = (0..3)
                .filter(|&end| end != middle)
                .map(|end| area(std::array::from_fn(|a| if a == middle || a == end { 0.25 } else { 0.0 })));
            area([0.5; 3]) + ends.sum::<f64>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_of_a_large_box_have_its_area() {
        let mask = Array3::from_elem((20, 30, 40), true);
        let spacing = [2.0, 1.0, 0.5];
        let areas = element_areas(spacing);
        let found: f64 = corners(&mask).iter().map(|&code| areas[usize::from(code)]).sum();
        // What edges and corners lack is 1 − 1/√2 of a face width along each edge, at most.
        let (a, b, c) = (40.0, 30.0, 20.0);
        let whole = 2.0 * (a * b + b * c + c * a);
        assert!(found < whole && found > whole * 0.97, "{found} of {whole}");
    }

    #[test]
    fn a_mask_and_its_complement_have_one_surface() {
        let areas = element_areas([0.7, 1.3, 2.9]);
        for code in 0..256 {
            assert!((areas[code] - areas[255 - code]).abs() < 1e-12, "{code}");
        }
    }

    /// Areas that `surface_distance.lookup_tables.create_table_neighbour_code_to_surface_area` gives; its codes number
    /// the eight voxels the other way round.
    #[test]
    fn areas_are_those_of_deepminds_table() {
        let published: Vec<f64> = include_str!("../tests/fixtures/areas.txt")
            .split_whitespace()
            .map(|v| v.parse().unwrap())
            .collect();
        assert_eq!(published.len(), 256);
        let areas = element_areas([0.7, 1.3, 2.9]);
        for code in 0..=255u8 {
            let theirs = published[usize::from(code.reverse_bits())];
            assert!((areas[usize::from(code)] - theirs).abs() < 1e-6, "{code:08b}");
        }
    }
}
