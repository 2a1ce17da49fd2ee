//! Regions of a labelled volume: connected pieces, and the adjacency graph with the boundary each pair shares.

use petgraph::graphmap::UnGraphMap;
use rayon::prelude::*;

/// The region-adjacency graph: a node for each region number, an edge weight is the shared boundary in mm².
pub type RegionGraph = UnGraphMap<u32, f64>;

/// Builds the region-adjacency graph of a labelled volume.
///
/// `labels` is `[z, y, x]` in C order with `shape`, 0 for no region; `spacing` is in mm. Two regions are neighbours when
/// voxels of both share a face; the edge weight is the summed area of those faces. Nodes and edges come in ascending
/// order, so iterating them is reproducible. Labels beyond the shape are ignored.
pub fn region_graph(shape: [usize; 3], spacing: [f64; 3], labels: &[u32]) -> RegionGraph {
    let count = labels.iter().copied().max().unwrap_or(0);
    let edges = boundary_areas(shape, spacing, labels);
    let mut graph = RegionGraph::with_capacity(count as usize, edges.len());
    for node in 1..=count {
        graph.add_node(node);
    }
    for (a, b, area) in edges {
        graph.add_edge(a, b, area);
    }
    graph
}

/// The pairs of touching regions `a < b` with their shared boundary in mm², in ascending order.
pub(crate) fn boundary_areas(shape: [usize; 3], spacing: [f64; 3], labels: &[u32]) -> Vec<(u32, u32, f64)> {
    let [nz, ny, nx] = shape;
    let plane = ny * nx;
    let face = [spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]];
    // One key for each face between two regions, by axis: sorting them brings equal pairs together. A slice is counted by
    // itself first, which leaves little to sort at the end.
    let mut counted: Vec<(u64, [u32; 3])> = (0..nz)
        .into_par_iter()
        .flat_map_iter(|z| {
            let mut found: Vec<(u64, u8)> = Vec::new();
            let mut meet = |a: u32, b: u32, axis: u8| {
                if a != b && a != 0 && b != 0 {
                    found.push((u64::from(a.min(b)) << 32 | u64::from(a.max(b)), axis));
                }
            };
            let slice = labels.get(z * plane..(z + 1) * plane).unwrap_or_default();
            let above = labels.get((z + 1) * plane..(z + 2) * plane).unwrap_or_default();
            for (&a, &b) in slice.iter().zip(above) {
                meet(a, b, 0);
            }
            for (&a, &b) in slice.iter().zip(slice.get(nx..).unwrap_or_default()) {
                meet(a, b, 1);
            }
            for line in slice.chunks(nx.max(1)) {
                for pair in line.windows(2) {
                    meet(pair[0], pair[1], 2);
                }
            }
            found.sort_unstable();
            let count = |faces: &[(u64, u8)]| {
                let mut counts = [0u32; 3];
                faces.iter().for_each(|(_, axis)| counts[usize::from(*axis)] += 1);
                (faces.first().map_or(0, |f| f.0), counts)
            };
            found.chunk_by(|a, b| a.0 == b.0).map(count).collect::<Vec<_>>()
        })
        .collect();
    counted.par_sort_unstable();
    counted
        .chunk_by(|a, b| a.0 == b.0)
        .map(|slices| {
            let faces = |axis: usize| slices.iter().map(|(_, counts)| f64::from(counts[axis])).sum::<f64>();
            let area = (0..3).map(|axis| faces(axis) * face[axis]).sum();
            let key = slices.first().map_or(0, |s| s.0);
            ((key >> 32) as u32, key as u32, area)
        })
        .collect()
}

/// Numbers the face-connected pieces of equal label from 1 in scan order; label 0 stays 0.
pub(crate) fn components(shape: [usize; 3], labels: &[u32]) -> (Vec<u32>, usize) {
    let [_, ny, nx] = shape;
    let plane = ny * nx;
    let mut pieces = vec![0u32; labels.len()];
    let mut count = 0u32;
    let mut stack = Vec::new();
    for start in 0..labels.len() {
        if labels[start] == 0 || pieces[start] != 0 {
            continue;
        }
        count += 1;
        pieces[start] = count;
        stack.push(start);
        while let Some(at) = stack.pop() {
            for next in faces(shape, at, plane, nx) {
                if labels[next] == labels[start] && pieces[next] == 0 {
                    pieces[next] = count;
                    stack.push(next);
                }
            }
        }
    }
    (pieces, count as usize)
}

/// The face neighbours of a voxel inside the volume.
pub(crate) fn faces(
    shape: [usize; 3],
    at: usize,
    plane: usize,
    nx: usize,
) -> impl Iterator<Item = usize> + use<> {
    let (z, y, x) = (at / plane, at % plane / nx, at % nx);
    [
        (z > 0).then(|| at - plane),
        (y > 0).then(|| at - nx),
        (x > 0).then(|| at - 1),
        (x + 1 < shape[2]).then(|| at + 1),
        (y + 1 < shape[1]).then(|| at + nx),
        (z + 1 < shape[0]).then(|| at + plane),
    ]
    .into_iter()
    .flatten()
}
