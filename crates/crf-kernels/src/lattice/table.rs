//! Packed integer keys, and a table from keys to numbers in the order of first appearance.

/// "No such entry" in the slots of a table.
const EMPTY: u32 = u32::MAX;

/// How the d coordinates of a lattice point are packed: the first half of them into one word, the rest into another,
/// each biased to be non-negative. Moving a point by a vector is then one addition a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    pub(super) dimensions: usize,
    /// Coordinates in the first word.
    pub(super) half: usize,
    /// Bits of a coordinate.
    pub(super) bits: u32,
}

/// A lattice point.
pub(super) type Point = [u64; 2];

impl Packing {
    pub(super) fn new(dimensions: usize) -> Self {
        let half = dimensions.div_ceil(2);
        // A coordinate of more than 24 bits would not be exact in f32.
        Self { dimensions, half, bits: (64 / half as u32).min(24) }
    }

    /// What a coordinate is raised by.
    pub(super) fn bias(self) -> i32 {
        1 << (self.bits - 1)
    }

    /// The largest coordinate a point may have with room left for vertices within `steps` moves of it.
    pub(super) fn limit(self, steps: usize) -> i32 {
        let step = (self.dimensions + 1) as i32;
        self.bias().saturating_sub(1 + step.saturating_mul(1 + steps as i32))
    }

    /// The word of coordinate `i` and a 1 in its place there.
    pub(super) fn unit(self, i: usize) -> (usize, u64) {
        let (word, last) = if i < self.half { (0, self.half - 1) } else { (1, self.dimensions - 1) };
        (word, 1 << (self.bits as usize * (last - i)))
    }

    /// 1 in every coordinate.
    pub(super) fn ones(self) -> Point {
        let mut ones = [0; 2];
        for i in 0..self.dimensions {
            let (word, unit) = self.unit(i);
            ones[word] |= unit;
        }
        ones
    }

    /// The vector of one lattice direction: −1 in every coordinate, and d + 1 more in its own. The last direction's own
    /// coordinate is the one that is not stored.
    pub(super) fn direction(self, direction: usize) -> Point {
        let mut vector = self.ones().map(u64::wrapping_neg);
        if direction < self.dimensions {
            let (word, unit) = self.unit(direction);
            vector[word] = vector[word].wrapping_add(unit * (self.dimensions as u64 + 1));
        }
        vector
    }
}

/// `point` moved by `vector`.
pub(super) fn moved(point: Point, vector: Point) -> Point {
    [point[0].wrapping_add(vector[0]), point[1].wrapping_add(vector[1])]
}

/// `point` moved by −`vector`.
pub(super) fn moved_back(point: Point, vector: Point) -> Point {
    [point[0].wrapping_sub(vector[0]), point[1].wrapping_sub(vector[1])]
}

/// Open addressing with linear probing; at most half of the slots are taken.
pub(super) struct Table<const W: usize> {
    slots: Vec<u32>,
    shift: u32,
    pub(super) keys: Vec<[u64; W]>,
}

impl<const W: usize> Table<W> {
    pub(super) fn new() -> Self {
        const START: u32 = 12;
        Self { slots: vec![EMPTY; 1 << START], shift: 64 - START, keys: Vec::new() }
    }

    fn slot(&self, key: &[u64; W]) -> usize {
        let mut mixed = 0u64;
        for word in key {
            mixed = (mixed.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (mixed >> self.shift) as usize
    }

    /// The number of a key, or the slot where it would go.
    fn find(&self, key: &[u64; W]) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.slot(key);
        loop {
            match self.slots[at] {
                EMPTY => return Err(at),
                number if self.keys[number as usize] == *key => return Ok(number),
                _ => at = (at + 1) & mask,
            }
        }
    }

    pub(super) fn get(&self, key: &[u64; W]) -> Option<u32> {
        self.find(key).ok()
    }

    /// The number of a key, and whether it is new.
    pub(super) fn insert(&mut self, key: [u64; W]) -> (u32, bool) {
        match self.find(&key) {
            Ok(number) => (number, false),
            Err(at) => {
                let number = self.keys.len() as u32;
                self.keys.push(key);
                self.slots[at] = number;
                if self.keys.len() * 2 > self.slots.len() {
                    self.grow();
                }
                (number, true)
            }
        }
    }

    fn grow(&mut self) {
        self.shift -= 2;
        self.slots = vec![EMPTY; self.slots.len() * 4];
        for number in 0..self.keys.len() {
            // Keys are all different, so each finds a free slot.
            if let Err(at) = self.find(&self.keys[number]) {
                self.slots[at] = number as u32;
            }
        }
    }
}
