//! Connected components by union–find over lines.

use ndarray::{Array, ArrayView, Axis, Dimension, RemoveAxis};

/// Which elements are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// Elements sharing a face: 4 neighbours in 2-D, 6 in 3-D (SciPy's default).
    Face,
    /// Elements sharing at least a corner: 8 neighbours in 2-D, 26 in 3-D.
    Full,
}

/// Numbers the connected components of `mask`: 0 on the background, `1..=n` in the order in which a scan in C order
/// meets them; also returns `n`.
pub fn label_components<D: Dimension>(
    mask: ArrayView<'_, bool, D>,
    connectivity: Connectivity,
) -> (Array<u32, D>, usize) {
    let mut labels: Array<u32, D> = Array::zeros(mask.raw_dim());
    let mask = mask.as_standard_layout();
    let (Some(input), Some(output)) = (mask.as_slice(), labels.as_slice_mut()) else { return (labels, 0) };
    if input.is_empty() {
        return (labels, 0);
    }
    let shape = mask.shape();
    let length = shape.last().copied().unwrap_or(1);
    let outer = shape.get(..shape.len().saturating_sub(1)).unwrap_or(&[]);
    let offsets = earlier_lines(outer.len(), connectivity);
    // parents[0] is the background; a root is always the smallest number of its tree, so roots rank in scan order.
    let mut parents: Vec<u32> = vec![0];
    let mut position = vec![0_usize; outer.len()];
    let mut neighbours: Vec<usize> = Vec::new();
    for (number, line) in input.chunks_exact(length).enumerate() {
        neighbours.clear();
        neighbours.extend(offsets.iter().filter_map(|offset| line_at(&position, offset, outer)));
        let (before, rest) = output.split_at_mut(number * length);
        let current = &mut rest[..length];
        for x in (0..length).filter(|&x| line[x]) {
            let mut label = if x > 0 { current[x - 1] } else { 0 };
            let continues = label != 0;
            for &neighbour in &neighbours {
                let above = &before[neighbour * length..(neighbour + 1) * length];
                let near = match connectivity {
                    Connectivity::Face => &above[x..=x],
                    // What lies before x + 1 was joined to the element before this one, if that is set.
                    Connectivity::Full if continues => &above[(x + 1).min(length)..(x + 2).min(length)],
                    Connectivity::Full => &above[x.saturating_sub(1)..(x + 2).min(length)],
                };
                for &found in near.iter().filter(|&&found| found != 0) {
                    if label == 0 {
                        label = found;
                    } else if label != found {
                        label = unite(&mut parents, label, found);
                    }
                }
            }
            if label == 0 {
                // The contract's ids are u32; an array that held more components would not fit in memory.
                label = parents.len() as u32;
                parents.push(label);
            }
            current[x] = label;
        }
        advance(&mut position, outer);
    }
    let mut count = 0;
    let mut ids = vec![0_u32; parents.len()];
    for label in 1..parents.len() {
        let root = find(&mut parents, label as u32) as usize;
        if root == label {
            count += 1;
            ids[label] = count;
        } else {
            ids[label] = ids[root];
        }
    }
    for label in output.iter_mut() {
        *label = ids[*label as usize];
    }
    (labels, count as usize)
}

/// How many elements each component of `labels` has: `sizes[id]` for the ids `0..=count`, 0 being the background.
///
/// `labels` and `count` are what [`label_components`] returns; ids above `count` are not counted.
pub fn component_sizes<D: Dimension>(labels: ArrayView<'_, u32, D>, count: usize) -> Vec<usize> {
    let mut sizes = vec![0_usize; count + 1];
    for &label in &labels {
        if let Some(size) = sizes.get_mut(label as usize) {
            *size += 1;
        }
    }
    sizes
}

/// The component of `mask` with most elements (of several as large, the one met first); empty for an empty mask.
pub fn largest_component<D: Dimension>(
    mask: ArrayView<'_, bool, D>,
    connectivity: Connectivity,
) -> Array<bool, D> {
    let (labels, count) = label_components(mask, connectivity);
    let sizes = component_sizes(labels.view(), count);
    let largest = (1..=count).max_by(|&a, &b| sizes[a].cmp(&sizes[b]).then(b.cmp(&a))).unwrap_or(0);
    labels.mapv(|label| label != 0 && label as usize == largest)
}

/// `mask` with its holes filled: background that no way over faces joins to the array's border becomes object.
pub fn fill_holes<D: RemoveAxis>(mask: ArrayView<'_, bool, D>) -> Array<bool, D> {
    let (labels, count) = label_components(mask.mapv(|set| !set).view(), Connectivity::Face);
    let mut open = vec![false; count + 1];
    for axis in (0..labels.ndim()).map(Axis).filter(|&axis| labels.len_of(axis) > 0) {
        for face in [labels.index_axis(axis, 0), labels.index_axis(axis, labels.len_of(axis) - 1)] {
            face.iter().for_each(|&label| open[label as usize] = true);
        }
    }
    // Objects carry label 0, which is never open here.
    open[0] = false;
    labels.mapv(|label| !open[label as usize])
}

/// Offsets (in the outer axes) of the neighbouring lines that a scan meets before the current one.
fn earlier_lines(axes: usize, connectivity: Connectivity) -> Vec<Vec<isize>> {
    match connectivity {
        Connectivity::Face => {
            (0..axes).map(|axis| (0..axes).map(|other| -isize::from(other == axis)).collect()).collect()
        }
        Connectivity::Full => {
            let mut all: Vec<Vec<isize>> = vec![Vec::new()];
            for _ in 0..axes {
                all = all
                    .iter()
                    .flat_map(|head| (-1..=1).map(|step| head.iter().copied().chain([step]).collect()))
                    .collect();
            }
            all.retain(|offset| offset.iter().find(|&&step| step != 0) == Some(&-1));
            all
        }
    }
}

/// The number of the line at `position + offset`, `None` outside the array.
fn line_at(position: &[usize], offset: &[isize], outer: &[usize]) -> Option<usize> {
    let mut number = 0;
    for ((&at, &step), &extent) in position.iter().zip(offset).zip(outer) {
        let moved = at.checked_add_signed(step).filter(|&moved| moved < extent)?;
        number = number * extent + moved;
    }
    Some(number)
}

fn advance(position: &mut [usize], outer: &[usize]) {
    for (at, &extent) in position.iter_mut().zip(outer).rev() {
        *at += 1;
        if *at < extent {
            return;
        }
        *at = 0;
    }
}

fn find(parents: &mut [u32], label: u32) -> u32 {
    let mut label = label as usize;
    while parents[label] as usize != label {
        // Halving the path keeps the trees flat.
        parents[label] = parents[parents[label] as usize];
        label = parents[label] as usize;
    }
    label as u32
}

fn unite(parents: &mut [u32], one: u32, two: u32) -> u32 {
    let (one, two) = (find(parents, one), find(parents, two));
    let (low, high) = (one.min(two), one.max(two));
    parents[high as usize] = low;
    low
}
