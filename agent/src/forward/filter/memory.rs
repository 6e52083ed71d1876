//! How much of answers is held at once: what is taken out of an answer is taken out of the whole of it.

use super::NotFilterable;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The bytes that all answers together may hold. Whoever finds too few left does without, since one that
/// waited would hold what others wait for.
#[derive(Clone, Debug)]
pub struct Memory {
    left: Arc<AtomicUsize>,
}

impl Memory {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// A share of it, empty so far.
    pub fn share(&self) -> Share {
        Share { left: Arc::clone(&self.left), bytes: 0 }
    }
}

/// One answer's share. Dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    left: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// Takes more.
    ///
    /// # Errors
    /// When not as much is left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NotFilterable> {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        taken.map_err(|_| NotFilterable::NoMemory)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what is above this.
    pub fn shrink_to(&mut self, bytes: usize) {
        let rest = self.bytes.saturating_sub(bytes);
        self.bytes -= rest;
        self.left.fetch_add(rest, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is() {
        let memory = Memory::new(10);
        let (mut first, mut second) = (memory.share(), memory.share());
        first.grow(7).unwrap();
        assert!(matches!(second.grow(4), Err(NotFilterable::NoMemory)));
        second.grow(3).unwrap();
        first.shrink_to(5);
        first.shrink_to(6);
        second.grow(2).unwrap();
        assert!(second.grow(1).is_err());
        drop(first);
        second.grow(5).unwrap();
        drop(second);
        memory.share().grow(10).unwrap();
    }
}
