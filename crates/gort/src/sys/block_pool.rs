//! Small blocks of memory on mappings of its own. Like [`map_vec`](super::map_vec), it never calls
//! the program's allocator. Blocks have no headers.

use super::map;

/// Sizes are multiples of this.
const STEP: usize = 16;
/// The largest block.
pub(crate) const MAX_BLOCK: usize = 16 << 10;
/// How much is mapped at once.
const CHUNK: usize = 256 << 10;

/// Free blocks by size, each list linked through the first word of its blocks.
pub(crate) struct Pool {
    free: [usize; MAX_BLOCK / STEP],
    next: usize,
    end: usize,
    in_use: usize,
}

impl Pool {
    pub(crate) const fn new() -> Pool {
        Pool { free: [0; MAX_BLOCK / STEP], next: 0, end: 0, in_use: 0 }
    }

    /// A block of at least `bytes`, aligned to 16. `None` if that is too large, or if the system
    /// has no memory.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let size = bytes.next_multiple_of(STEP);
        let free = self.free.get_mut((size / STEP).checked_sub(1)?)?;
        self.in_use += size;
        if *free != 0 {
            let block = *free;
            // SAFETY: a free block belongs to the pool, and its first word was written by `put`.
            *free = unsafe { *(block as *const usize) };
            return Some(block);
        }
        if self.end - self.next < size {
            // The rest of the old chunk, less than a block, is lost.
            let Ok(chunk) = map::reserve(CHUNK) else {
                self.in_use -= size;
                return None;
            };
            (self.next, self.end) = (chunk, chunk + CHUNK);
        }
        let block = self.next;
        self.next += size;
        Some(block)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It came from [`take`](Pool::take) with the same `bytes`, and is no longer used.
    pub(crate) unsafe fn put(&mut self, block: usize, bytes: usize) {
        let size = bytes.next_multiple_of(STEP);
        self.in_use -= size;
        let free = &mut self.free[size / STEP - 1];
        // SAFETY: the caller passes the block to the pool; it has room for a word.
        unsafe { (block as *mut usize).write(*free) };
        *free = block;
    }

    /// Bytes in blocks that are in use.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks do not overlap, keep what is written into them, and are used again.
    #[test]
    fn blocks_are_separate_and_are_used_again() {
        let mut pool = Pool::new();
        let sizes: Vec<usize> = (1..=3000).map(|i| i * 7 % MAX_BLOCK + 1).collect();
        let blocks: Vec<usize> = sizes.iter().map(|&size| pool.take(size).unwrap()).collect();
        // SAFETY: each block belongs to this test and has this many bytes.
        let bytes = |i: usize| unsafe { std::slice::from_raw_parts_mut(blocks[i] as *mut u8, sizes[i]) };
        (0..blocks.len()).for_each(|i| bytes(i).fill(i as u8));
        assert!((0..blocks.len()).all(|i| bytes(i).iter().all(|&b| b == i as u8)));
        assert!(blocks.iter().all(|block| block.is_multiple_of(STEP)));
        let (in_use, next) = (pool.in_use(), pool.next);
        for (&block, &size) in blocks.iter().zip(&sizes) {
            // SAFETY: taken above, not used below.
            unsafe { pool.put(block, size) };
        }
        assert_eq!(pool.in_use(), 0);
        sizes.iter().for_each(|&size| assert!(pool.take(size).is_some()));
        assert_eq!((pool.in_use(), pool.next), (in_use, next), "freed blocks are used again");
    }

    #[test]
    fn too_large_is_refused() {
        let mut pool = Pool::new();
        assert!(pool.take(MAX_BLOCK).is_some());
        assert_eq!(pool.take(MAX_BLOCK + 1), None);
        assert_eq!(pool.take(0), None);
        assert_eq!(pool.in_use(), MAX_BLOCK);
    }
}
