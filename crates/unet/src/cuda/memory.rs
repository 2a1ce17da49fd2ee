//! Device memory that is used again at the next step, so that a training loop allocates nothing once it is under way.

use super::machine::{Machine, View};
use crate::Result;
use crate::init::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Memory waiting for its next use, all of it for one shape of input, by its size.
pub(crate) struct Pool<M: Machine> {
    pub(crate) machine: Arc<M>,
    shelf: Mutex<Shelf<M>>,
}

struct Shelf<M: Machine> {
    key: [usize; 3],
    free: HashMap<usize, Vec<M::Memory>>,
}

impl<M: Machine> Pool<M> {
    pub(crate) fn new(machine: Arc<M>) -> Arc<Self> {
        Arc::new(Self { machine, shelf: Mutex::new(Shelf { key: [0; 3], free: HashMap::new() }) })
    }

    /// Prepares for inputs of `key` = (images, rows, columns). Memory for another shape is given back.
    pub(crate) fn prepare(&self, key: [usize; 3]) {
        let mut shelf = lock(&self.shelf);
        if shelf.key != key {
            *shelf = Shelf { key, free: HashMap::new() };
        }
    }

    /// Memory with arbitrary contents. What another pass has just given back may still be in use on the device, by work that comes before
    /// whatever its new owner asks for: there is one stream.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Lent<M>> {
        let (kept, key) = {
            let mut shelf = lock(&self.shelf);
            (shelf.free.get_mut(&bytes).and_then(Vec::pop), shelf.key)
        };
        let memory = match kept {
            Some(memory) => memory,
            None => self.machine.allocate(bytes)?,
        };
        Ok(Lent { memory: Some(memory), bytes, key, pool: Arc::clone(self) })
    }

    /// Memory for that many values of an activation.
    pub(crate) fn values(self: &Arc<Self>, count: usize) -> Result<Lent<M>> {
        self.take(count * self.machine.size())
    }
}

/// Memory on loan from a [`Pool`], returned when dropped.
pub(crate) struct Lent<M: Machine> {
    /// There until it is dropped.
    memory: Option<M::Memory>,
    bytes: usize,
    key: [usize; 3],
    pool: Arc<Pool<M>>,
}

impl<M: Machine> Lent<M> {
    pub(crate) fn view(&self) -> View {
        let address = self.memory.as_ref().map_or(0, |memory| self.pool.machine.address(memory));
        View { address, bytes: self.bytes }
    }
}

impl<M: Machine> Drop for Lent<M> {
    fn drop(&mut self) {
        let mut shelf = lock(&self.pool.shelf);
        if shelf.key == self.key {
            shelf.free.entry(self.bytes).or_default().extend(self.memory.take());
        }
    }
}
