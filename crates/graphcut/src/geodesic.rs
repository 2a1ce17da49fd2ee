//! Paths over the region graph: how far each supervoxel is from the scribbles of either class.
//!
//! A step between neighbours is as long as the distance of their centroids in mm times `1 + g |Δ|`, with `|Δ|` the difference
//! of their mean intensities: edges of the image are far to cross, so near means near within the same tissue.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Flat adjacency lists with the length of each step.
pub(crate) struct Steps {
    first: Vec<usize>,
    to: Vec<(u32, f64)>,
}

impl Steps {
    /// From undirected steps `(a, b, length)` between `count` nodes.
    pub(crate) fn new(count: usize, steps: &[(u32, u32, f64)]) -> Self {
        let mut first = vec![0usize; count + 1];
        for &(a, b, _) in steps {
            first[a as usize + 1] += 1;
            first[b as usize + 1] += 1;
        }
        for i in 0..count {
            first[i + 1] += first[i];
        }
        let mut next = first.clone();
        let mut to = vec![(0, 0.0); 2 * steps.len()];
        for &(a, b, length) in steps {
            for (from, node) in [(a, b), (b, a)] {
                to[next[from as usize]] = (node, length);
                next[from as usize] += 1;
            }
        }
        Self { first, to }
    }

    /// The length of the shortest path from the nearest of `starts` to each node, infinite where none leads.
    pub(crate) fn distances(&self, starts: impl Iterator<Item = u32>) -> Vec<f64> {
        let mut distances = vec![f64::INFINITY; self.first.len() - 1];
        let mut heap = BinaryHeap::new();
        for node in starts {
            distances[node as usize] = 0.0;
            heap.push(Reached { distance: 0.0, node });
        }
        while let Some(Reached { distance, node }) = heap.pop() {
            let node = node as usize;
            if distance > distances[node] {
                continue;
            }
            for &(next, length) in &self.to[self.first[node]..self.first[node + 1]] {
                let there = distance + length;
                if there < distances[next as usize] {
                    distances[next as usize] = there;
                    heap.push(Reached { distance: there, node: next });
                }
            }
        }
        distances
    }
}

struct Reached {
    distance: f64,
    node: u32,
}

// The heap gives the largest first: the nearest, then the lowest number.
impl Ord for Reached {
    fn cmp(&self, other: &Self) -> Ordering {
        other.distance.total_cmp(&self.distance).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Reached {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Reached {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Reached {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_paths_equal_relaxing_every_step_until_nothing_changes() {
        // A ring with chords, and a node that nothing reaches.
        let steps: Vec<(u32, u32, f64)> = (0..12u32)
            .flat_map(|i| [(i, (i + 1) % 12, 1.0 + f64::from(i * 5 % 7)), (i, (i * 5 + 2) % 12, 3.5)])
            .filter(|s| s.0 != s.1)
            .collect();
        let found = Steps::new(13, &steps).distances([3, 8].into_iter());
        let mut slow = vec![f64::INFINITY; 13];
        (slow[3], slow[8]) = (0.0, 0.0);
        for _ in 0..13 {
            for &(a, b, length) in &steps {
                slow[a as usize] = slow[a as usize].min(slow[b as usize] + length);
                slow[b as usize] = slow[b as usize].min(slow[a as usize] + length);
            }
        }
        assert_eq!(found, slow);
        assert!(found[12].is_infinite());
    }
}
